//! What the S3 driver takes from the environment: credentials, certificates, AWS's endpoint.
//!
//! An environment is a process's, so each of these runs this test binary again, for [`the_child`] alone.

use std::{
    env,
    net::SocketAddr,
    path::Path,
    process::{Output, Stdio},
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use portolan::{
    config::{Limits, S3Config},
    storage::{BlobStore, ObjectKey, Part, PartNumber, Payload, S3Blobs, S3OpenError},
};
use tokio::{net::TcpListener, process::Command, task::JoinSet};

use super::{
    proxy::{Fault, Proxy},
    s3_config, s3_config_of_environment, s3_open, s3_server, told,
};
use crate::support::{PATIENCE, content::Random, mesh::certificates};

/// Tells the child what to open: an endpoint, or `aws` for the one of the environment.
const CHILD: &str = "PORTOLAN_TEST_CHILD";

#[tokio::test]
async fn the_child() {
    // By itself it has nothing to do.
    let Ok(endpoint) = env::var(CHILD) else { return };
    let config = S3Config {
        endpoint: Some(endpoint.clone()).filter(|endpoint| endpoint != "aws"),
        ..s3_config_of_environment(&endpoint)
    };
    let store = s3_open(&config).await;
    let key = ObjectKey::parse("large").unwrap();
    let bytes = Random::seeded(1).bytes((5 << 20) + 1000);
    let upload = store.begin(&key).await.unwrap();
    let mut parts = Vec::new();
    for (number, piece) in [(1, bytes.slice(..5 << 20)), (2, bytes.slice(5 << 20..))] {
        let (number, length) = (PartNumber::new(number).unwrap(), piece.len() as u64);
        let sent = store.part(&key, &upload, number, Payload::from(piece)).await;
        parts.push(Part {
            number,
            etag: sent.unwrap(),
            length,
        });
    }
    store.complete(&key, &upload, &parts).await.unwrap();
    let mut stream = store.get(&key, 0, bytes.len() as u64 - 1).await.unwrap().bytes;
    let mut found = Vec::new();
    while let Some(chunk) = stream.next().await {
        found.extend_from_slice(&chunk.unwrap());
    }
    assert!(found == bytes);
    store.delete(&key).await.unwrap();
}

/// Runs [`the_child`] with nothing of AWS in its environment but `variables`.
async fn child(endpoint: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "stores::s3_environment::the_child", "--nocapture"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    // Nobody's profile, and no instance to ask, unless `variables` say so.
    command
        .env(CHILD, endpoint)
        .env("AWS_CONFIG_FILE", "/nowhere")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied());
    let output = command.output();
    tokio::time::timeout(PATIENCE, output)
        .await
        .expect("it ends")
        .unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn a_certificate_is_checked_unless_somebody_says_not_to() {
    let proxy = Proxy::start_tls(&s3_server()).await;
    let mut config = s3_config(&proxy.url());
    let error = S3Blobs::open(&config, &Limits::default()).await.unwrap_err();
    assert!(matches!(error, S3OpenError::Failed { .. }), "{error:?}");
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains("certificate"), "{text}");
    assert_eq!(proxy.seen().len(), 0);
    config.verify_certificate = false;
    let store = s3_open(&config).await;
    let key = ObjectKey::parse("unverified").unwrap();
    store.put(&key, Payload::default()).await.unwrap();
    store.delete(&key).await.unwrap();
}

#[tokio::test]
async fn aws_is_sent_checksums_behind_unsigned_bodies() {
    let proxy = Proxy::start_tls(&s3_server()).await;
    let (url, ca) = (proxy.url(), certificates().ca);
    let output = child(
        "aws",
        &[
            ("AWS_ENDPOINT_URL_S3", &url),
            ("AWS_CA_BUNDLE", ca.to_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", &told("AWS_ACCESS_KEY_ID")),
            ("AWS_SECRET_ACCESS_KEY", &told("AWS_SECRET_ACCESS_KEY")),
        ],
    )
    .await;
    assert!(output.status.success(), "{}", said(&output));
    let begun = proxy.seen_of("CreateMultipartUpload");
    let last = begun.last().unwrap();
    assert_eq!(last.header("x-amz-checksum-algorithm"), Some("CRC64NVME"));
    assert_eq!(last.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    let mut sent = proxy.seen_of("UploadPart");
    // The start tries some, too.
    assert!(sent.len() >= 2, "{sent:?}");
    sent.extend(proxy.seen_of("PutObject"));
    for sent in sent {
        assert_eq!(
            sent.header("x-amz-content-sha256"),
            Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        );
        assert_eq!(sent.header("x-amz-trailer"), Some("x-amz-checksum-crc64nvme"));
    }
}

#[tokio::test]
async fn a_bundle_that_cannot_be_read_is_named() {
    let output = child("https://127.0.0.1:1", &[("AWS_CA_BUNDLE", "/nowhere.pem")]).await;
    assert!(!output.status.success());
    let text = said(&output);
    assert!(text.contains("AWS_CA_BUNDLE names /nowhere.pem"), "{text}");
}

#[tokio::test]
async fn without_credentials_that_is_what_is_said() {
    let output = child(&s3_server(), &[]).await;
    assert!(!output.status.success());
    let text = said(&output);
    assert!(text.contains("no valid credentials"), "{text}");
    assert!(text.contains("accesskey"), "{text}");
}

#[tokio::test]
async fn credentials_come_from_where_tools_of_aws_look() {
    let proxy = Proxy::start(&s3_server()).await;
    let (giver, _giving) = giver().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let profile = file(
        "profile",
        "[ours]\naws_access_key_id = AKPROFILE\naws_secret_access_key = s\n",
    );
    let program = file("program", PROGRAM);
    let process = file(
        "process",
        &format!("[default]\ncredential_process = sh {program}\n"),
    );
    let token = file("token", "a web identity");
    let [container, instance, sts] = ["/container", "", ""].map(|path| format!("http://{giver}{path}"));
    let sources: [(&str, &[(&str, &str)]); 6] = [
        (
            "AKENVIRONMENT",
            &[
                ("AWS_ACCESS_KEY_ID", "AKENVIRONMENT"),
                ("AWS_SECRET_ACCESS_KEY", "s"),
            ],
        ),
        (
            "AKPROFILE",
            &[("AWS_SHARED_CREDENTIALS_FILE", &profile), ("AWS_PROFILE", "ours")],
        ),
        ("AKPROCESS", &[("AWS_CONFIG_FILE", &process)]),
        (
            "AKCONTAINER",
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container)],
        ),
        (
            "AKINSTANCE",
            &[
                ("AWS_EC2_METADATA_DISABLED", "false"),
                ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &instance),
            ],
        ),
        (
            "AKWEB",
            &[
                ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/registry"),
                ("AWS_ENDPOINT_URL_STS", &sts),
            ],
        ),
    ];
    for (key, variables) in sources {
        // The server knows none of them: what matters is who signed.
        proxy.harm(|_| Fault::Answer(403, "InvalidAccessKeyId"));
        let output = child(&proxy.url(), variables).await;
        let seen = proxy.seen();
        let signed = seen.first().and_then(|seen| seen.header("authorization"));
        let expected = format!("Credential={key}/");
        assert!(
            signed.is_some_and(|signed| signed.contains(&expected)),
            "{key}: {signed:?}\n{}",
            said(&output)
        );
    }
}

/// What a `credential_process` may be.
const PROGRAM: &str = r#"echo '{"Version": 1, "AccessKeyId": "AKPROCESS", "SecretAccessKey": "s"}'
"#;

/// A server that gives credentials as a container's agent, an instance's metadata and STS do.
async fn giver() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let service = service_fn(|request| async move { Ok::<_, http::Error>(give(&request)) });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    (address, tasks)
}

fn give(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let keys = |key: &str| {
        format!(
            r#"{{"Code": "Success", "LastUpdated": "2020-01-01T00:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "{key}",
               "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z", "AccountId": "123456789012"}}"#
        )
    };
    let path = Path::new(request.uri().path());
    let text = match (request.method(), request.uri().path()) {
        (_, "/container") => keys("AKCONTAINER"),
        (&Method::PUT, "/latest/api/token") => "a-session".to_owned(),
        (&Method::POST, "/") => WEB_IDENTITY.to_owned(),
        // The list of roles, and one of them.
        (_, list) if list.ends_with("security-credentials/") || list.ends_with("extended/") => {
            "role".to_owned()
        }
        _ if path.ends_with("role") => keys("AKINSTANCE"),
        _ => return Response::builder().status(404).body(Full::default()).unwrap(),
    };
    Response::builder()
        .header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        .body(text.into())
        .unwrap()
}

const WEB_IDENTITY: &str = r#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKWEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/registry/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"#;
