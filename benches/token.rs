//! What it costs a front to know who asks: the processor's time of one decision about a request with a token of the registry's own, and
//! how often the metadata store is asked for that. Fails where it takes longer than 60 microseconds, or asks at all.
//!
//! ```text
//! token [TIMES]     20,000 if none are given
//! ```

use std::{error::Error, fs, hint::black_box, path::Path, process::ExitCode, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use portolan::{
    auth::{Asked, Caller, Credentials, Gate, GateSpec, Origin, Pages, Right, Wanted},
    config::{self, Limits},
    oci::Route,
    storage::{MemoryMeta, MeteredMeta},
    telemetry::Metrics,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MOST: Duration = Duration::from_micros(60);
const PATH: &str =
    "/v2/team/app/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const BOUND: &str = "[{expression: \"req.client.ip.startsWith('192.0.2.')\"}, {expression: \"req.userAgent.contains('containerd')\"}]";

fn main() -> ExitCode {
    let given = std::env::args().skip(1).find(|argument| argument != "--bench");
    let times = given.map_or(Ok(20_000), |text| text.parse::<u32>());
    match times.map_err(Into::into).and_then(measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("token: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(times: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let folder = tempfile::tempdir()?;
    let users = folder.path().join("users");
    fs::write(&users, format!("ann:{}\n", bcrypt::hash("secret", 5)?))?;
    let mut is_good = true;
    for (what, conditions) in [("a decision", "[]"), ("with two conditions", BOUND)] {
        let metrics = Arc::new(Metrics::new());
        let gate = gate(&users, conditions, &metrics)?;
        let (took, asked) = runtime.block_on(of(&gate, &metrics, times))?;
        println!(
            "{what}: {:.1} us of a processor, {asked} requests to the store of {times}",
            took.as_secs_f64() * 1e6
        );
        is_good &= took <= MOST && asked < 1.0;
    }
    match is_good {
        true => Ok(()),
        false => Err(format!("expected at most {} us and no request", MOST.as_micros()).into()),
    }
}

fn gate(users: &Path, conditions: &str, metrics: &Arc<Metrics>) -> Result<Gate> {
    let text = format!(
        "storage: {{rootDirectory: /unused}}\nhttp:\n  auth: {{htpasswd: {{path: {}}}}}\n  accessControl: {{repositories: {{'team/**': {{policies: [{{users: [ann], actions: [read], conditions: {conditions}}}]}}}}}}\n",
        users.display()
    );
    let config = config::parse(Path::new("token.yaml"), &text)?;
    let spec = GateSpec {
        source: None,
        origin: Origin::Asked("http"),
        ..GateSpec::from(&config)
    };
    let meta = MeteredMeta::new(Arc::new(MemoryMeta::default()), metrics.clone());
    Ok(Gate::new(spec, Arc::new(meta), &Limits::default())?)
}

/// The time of a decision, and requests to the store during all of them.
async fn of(gate: &Gate, metrics: &Metrics, times: u32) -> Result<(Duration, f64)> {
    let (method, uri) = (Method::GET, Uri::from_static(PATH));
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("registry.example"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("containerd/2.1.4"));
    let shown = Credentials::Basic {
        user: "ann".to_owned(),
        password: "secret".to_owned(),
    };
    let decided = gate
        .decide(caller(&method, &uri, &headers), Wanted::Token(&shown), Pages::All)
        .await;
    let Right::Token(login) = decided.map_err(|refusal| refusal.error)?.right else {
        return Err("no token is given for a password".into());
    };
    let issuer = gate.issuer().ok_or("nobody gives tokens")?;
    let asked = Asked::parse(["repository:team/app:pull"])?;
    let token = issuer.issue(login, &asked).await?.token;
    headers.insert(
        header::AUTHORIZATION,
        HeaderValue::try_from(format!("Bearer {token}"))?,
    );

    let route = Route::parse(&method, PATH, None)?;
    // The first asks for the key that it is signed by.
    decide(gate, &method, &uri, &headers, &route).await?;
    let (before, begun) = (requests(metrics), processor()?);
    for _ in 0..times {
        black_box(decide(gate, &method, &uri, &headers, &route).await?);
    }
    Ok(((processor()? - begun) / times, requests(metrics) - before))
}

async fn decide(
    gate: &Gate,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    route: &Route,
) -> Result<Option<String>> {
    let decision = gate
        .decide(caller(method, uri, headers), Wanted::Route(route), Pages::All)
        .await;
    Ok(decision.map_err(|refusal| refusal.error)?.identity.user)
}

fn caller<'a>(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap) -> Caller<'a> {
    Caller {
        method,
        uri,
        headers,
        certificates: None,
        client: [192, 0, 2, 7].into(),
        tls: None,
    }
}

/// Requests to the store so far.
fn requests(metrics: &Metrics) -> f64 {
    let text = metrics.render();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("portolan_store_requests_total"));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// What this process has taken of processors so far, to a hundredth of a second (proc(5)).
fn processor() -> Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let mut times = after.split(' ').skip(11).map(str::parse::<u32>);
    let mut next = || times.next().ok_or("there is no time in /proc/self/stat");
    Ok(TICK * (next()?? + next()??))
}
