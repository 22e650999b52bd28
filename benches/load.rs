//! A client that pulls and pushes as fast as it is let, and says what that cost the processes it is told of.
//!
//! Plain HTTP/1.1 by hand on blocking sockets, a thread a client: it takes little of the machine from whom it measures.
//! Bodies are made from a seed, so a digest is known without keeping anything. Every answer's status and length are checked.
//!
//! ```text
//! load seed     HOST:PORT REPOSITORY                                    pushes three blobs and a manifest, prints what to pull
//! load pull     HOST:PORT PATH CLIENTS REQUESTS [NAME=PID[+PID]...]     GETs a path
//! load push     HOST:PORT REPOSITORY put|patch BYTES TIMES [NAME=PID...]
//! load logins   HOST:PORT PATH CLIENTS REQUESTS RATE [NAME=PID...]      the same as pull, and beside it so many logins a second
//! ```
//!
//! `AUTHORIZATION` is shown with every request, if there is any; `LOGIN` is what logins exchange for a token, if there are any.

#![allow(clippy::disallowed_methods, reason = "its threads are for blocking")]

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What `patch` sends at a time.
const CHUNK: u64 = 16 << 20;
const SIZES: [u64; 3] = [1 << 10, 1 << 20, 100 << 20];
/// What a login asks for, when it shows what it is to be exchanged for that.
const TOKEN: &str = "/zot/auth/token?service=registry&scope=repository:public/x:pull";
/// Connections by which clients log in.
const LOGGING_IN: usize = 32;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["seed", at, repository] => seed(at, repository),
        ["pull", at, path, clients, requests, ref pids @ ..] => pull(at, path, clients, requests, pids),
        ["logins", at, path, clients, requests, rate, ref pids @ ..] => {
            pull_beside_logins(at, path, clients, requests, rate, pids)
        }
        ["push", at, repository, how, bytes, times, ref pids @ ..] => {
            push_often(at, repository, how, bytes, times, pids)
        }
        _ => Err("see the head of benches/load.rs".into()),
    };
    match done {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A connection that is kept.
struct Client {
    at: String,
    /// A field of every request, if there is one.
    shown: String,
    reader: BufReader<TcpStream>,
}

/// The head of an answer.
struct Answer {
    status: u16,
    length: u64,
    location: Option<String>,
}

impl Client {
    fn connect(at: &str) -> Result<Self> {
        Self::showing(at, std::env::var("AUTHORIZATION").ok())
    }

    /// One who shows this.
    fn showing(at: &str, authorization: Option<String>) -> Result<Self> {
        let stream = TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self {
            at: at.to_owned(),
            shown: authorization.map_or(String::new(), |shown| format!("authorization: {shown}\r\n")),
            reader: BufReader::with_capacity(256 << 10, stream),
        })
    }

    /// Sends a request, whose body `body` writes, and reads the answer to its end.
    fn ask(
        &mut self,
        method: &str,
        path: &str,
        fields: &str,
        body: impl FnOnce(&mut TcpStream) -> io::Result<()>,
    ) -> Result<Answer> {
        let Self { at, shown, reader } = self;
        let stream = reader.get_mut();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {at}\r\n{shown}{fields}\r\n"
        )?;
        body(stream)?;
        let answer = self.head()?;
        let mut left = answer.length;
        while left > 0 {
            let there = self.reader.fill_buf()?.len();
            if there == 0 {
                return Err(format!("{left} bytes of {} are missing", answer.length).into());
            }
            let taken = there.min(usize::try_from(left).unwrap_or(there));
            self.reader.consume(taken);
            left -= taken as u64;
        }
        Ok(answer)
    }

    fn head(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).ok_or("no status")?.parse()?;
        let (mut length, mut location) = (None, None);
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = Some(value.trim().parse()?),
                "location" => location = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let length = length
            .or((status == 204).then_some(0))
            .ok_or("an answer without a length")?;
        Ok(Answer {
            status,
            length,
            location,
        })
    }
}

/// A body: a random block again and again, stamped with its number.
struct Content {
    block: Vec<u8>,
    size: u64,
}

impl Content {
    fn new(seed: u64, size: u64) -> Self {
        let mut state = seed | 1;
        let block = (0..(1 << 20) / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self {
            block: block.collect(),
            size,
        }
    }

    /// Gives the bytes from `from` to `to`, which is a multiple of the block's length or the end, to `take`.
    fn each(&mut self, from: u64, to: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut at = from;
        while at < to {
            self.block[..8].copy_from_slice(&(at ^ 0x9e37_79b9_7f4a_7c15).to_le_bytes());
            let count = self
                .block
                .len()
                .min(usize::try_from(to - at).unwrap_or(usize::MAX));
            take(&self.block[..count])?;
            at += count as u64;
        }
        Ok(())
    }

    fn digest(&mut self) -> Result<String> {
        let mut hasher = Sha256::new();
        self.each(0, self.size, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        Ok(named(hasher))
    }
}

fn named(hasher: Sha256) -> String {
    let hex: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// Pushes `content`, whole or in chunks.
fn push(
    client: &mut Client,
    repository: &str,
    content: &mut Content,
    digest: &str,
    in_chunks: bool,
) -> Result<()> {
    let begun = client.ask(
        "POST",
        &format!("/v2/{repository}/blobs/uploads/"),
        "content-length: 0\r\n",
        |_| Ok(()),
    )?;
    let mut at = expect(begun, 202)?.ok_or("an upload without a location")?;
    let mut sent = 0;
    while in_chunks && sent < content.size {
        let to = (sent + CHUNK).min(content.size);
        let fields = format!(
            "content-type: application/octet-stream\r\ncontent-range: {sent}-{}\r\ncontent-length: {}\r\n",
            to - 1,
            to - sent
        );
        let patched = client.ask("PATCH", &at, &fields, |stream| {
            content.each(sent, to, |bytes| stream.write_all(bytes))
        })?;
        at = expect(patched, 202)?.unwrap_or(at);
        sent = to;
    }
    let separator = if at.contains('?') { '&' } else { '?' };
    let fields = format!(
        "content-type: application/octet-stream\r\ncontent-length: {}\r\n",
        content.size - sent
    );
    let put = client.ask(
        "PUT",
        &format!("{at}{separator}digest={digest}"),
        &fields,
        |stream| content.each(sent, content.size, |bytes| stream.write_all(bytes)),
    )?;
    expect(put, 201).map(|_| ())
}

/// The path of the answer's location, which may be said with a host.
fn expect(answer: Answer, status: u16) -> Result<Option<String>> {
    if answer.status != status {
        return Err(format!("{} where {status} was expected", answer.status).into());
    }
    let path = |location: String| match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap_or(rest.len())..].to_owned(),
        None => location,
    };
    Ok(answer.location.map(path))
}

fn seed(at: &str, repository: &str) -> Result<String> {
    let mut client = Client::connect(at)?;
    let mut descriptors = Vec::new();
    let mut paths = Vec::new();
    for (seed, size) in (1..).zip(SIZES) {
        let mut content = Content::new(seed, size);
        let digest = content.digest()?;
        push(&mut client, repository, &mut content, &digest, false)?;
        descriptors.push(format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}"#
        ));
        paths.push(format!(r#""{size}":"/v2/{repository}/blobs/{digest}""#));
    }
    let config =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}"#;
    let digest = named(Sha256::new_with_prefix(config));
    let post = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    let fields = format!(
        "content-type: application/octet-stream\r\ncontent-length: {}\r\n",
        config.len()
    );
    let posted = client.ask("POST", &post, &fields, |stream| stream.write_all(config))?;
    // Not every registry takes a blob with the first request.
    if posted.status == 202 {
        let at = expect(posted, 202)?.ok_or("an upload without a location")?;
        let separator = if at.contains('?') { '&' } else { '?' };
        let put = client.ask(
            "PUT",
            &format!("{at}{separator}digest={digest}"),
            &fields,
            |stream| stream.write_all(config),
        )?;
        expect(put, 201)?;
    }
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":{}}},"layers":[{}]}}"#,
        config.len(),
        descriptors.join(",")
    );
    let path = format!("/v2/{repository}/manifests/latest");
    let fields = format!(
        "content-type: {MANIFEST}\r\ncontent-length: {}\r\n",
        manifest.len()
    );
    let put = client.ask("PUT", &path, &fields, |stream| {
        stream.write_all(manifest.as_bytes())
    })?;
    expect(put, 201)?;
    Ok(format!(r#"{{{},"manifest":"{path}"}}"#, paths.join(",")))
}

fn pull(at: &str, path: &str, clients: &str, requests: &str, pids: &[&str]) -> Result<String> {
    let (clients, requests): (usize, usize) = (clients.parse()?, requests.parse()?);
    let next = Arc::new(AtomicUsize::new(0));
    let took = Arc::new(Mutex::new((0, Vec::new())));
    let cost = Cost::begin(pids)?;
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let (at, path) = (at.to_owned(), path.to_owned());
            let (next, took) = (next.clone(), took.clone());
            thread::spawn(move || -> Result<()> {
                let mut client = Client::connect(&at)?;
                let fields = format!("accept: {MANIFEST}, */*\r\n");
                while next.fetch_add(1, Ordering::Relaxed) < requests {
                    let began = Instant::now();
                    let answer = client.ask("GET", &path, &fields, |_| Ok(()))?;
                    let mut took = took.lock();
                    took.0 += answer.length;
                    took.1.push(began.elapsed());
                    drop(took);
                    expect(answer, 200)?;
                }
                Ok(())
            })
        })
        .collect();
    for client in threads {
        client.join().map_err(|_| "a client panicked")??;
    }
    let mut took = took.lock();
    let (bytes, times) = &mut *took;
    cost.end(*bytes, times)
}

/// Pulls while others log in, one each so long after another whatever becomes of it: a late one is made up for.
fn pull_beside_logins(
    at: &str,
    path: &str,
    clients: &str,
    requests: &str,
    rate: &str,
    pids: &[&str],
) -> Result<String> {
    let every = Duration::from_secs(1) / rate.parse()?;
    let login = std::env::var("LOGIN")?;
    let (next, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let took = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    let threads: Vec<_> = (0..LOGGING_IN)
        .map(|_| {
            let (at, login) = (at.to_owned(), login.clone());
            let (next, is_over, took) = (next.clone(), is_over.clone(), took.clone());
            thread::spawn(move || -> Result<()> {
                let mut client = Client::showing(&at, Some(login))?;
                while !is_over.load(Ordering::Relaxed) {
                    let due = every * u32::try_from(next.fetch_add(1, Ordering::Relaxed))?;
                    thread::sleep(due.saturating_sub(began.elapsed()));
                    let asked = Instant::now();
                    let answer = client.ask("GET", TOKEN, "", |_| Ok(()))?;
                    took.lock().push(asked.elapsed());
                    expect(answer, 200)?;
                }
                Ok(())
            })
        })
        .collect();
    let pulls = pull(at, path, clients, requests, pids);
    is_over.store(true, Ordering::Relaxed);
    let elapsed = began.elapsed().as_secs_f64();
    for client in threads {
        client.join().map_err(|_| "who logs in panicked")??;
    }
    let mut took = took.lock();
    let rate = took.len() as f64 / elapsed;
    took.sort_unstable();
    Ok(format!(
        r#"{{"pulls":{},"logins":{{"per_s":{rate:.1},"p50_ms":{:.3},"p99_ms":{:.3}}}}}"#,
        pulls?,
        quantile(&took, 50),
        quantile(&took, 99)
    ))
}

/// In milliseconds, of what is sorted.
fn quantile(took: &[Duration], percent: usize) -> f64 {
    let found = took.get(took.len() * percent / 100).or(took.last());
    found.copied().unwrap_or_default().as_secs_f64() * 1e3
}

fn push_often(
    at: &str,
    repository: &str,
    how: &str,
    bytes: &str,
    times: &str,
    pids: &[&str],
) -> Result<String> {
    let (size, times): (u64, u64) = (bytes.parse()?, times.parse()?);
    // Never the same content twice: the second time nothing would be stored.
    let mut salt = [0; 8];
    fs::File::open("/dev/urandom")?.read_exact(&mut salt)?;
    let mut contents = Vec::new();
    for n in 0..times {
        let mut content = Content::new(u64::from_le_bytes(salt) ^ (n << 1), size);
        let digest = content.digest()?;
        contents.push((content, digest));
    }
    let mut client = Client::connect(at)?;
    let cost = Cost::begin(pids)?;
    let mut took = Vec::new();
    for (mut content, digest) in contents {
        let began = Instant::now();
        push(&mut client, repository, &mut content, &digest, how == "patch")?;
        took.push(began.elapsed());
    }
    cost.end(size * times, &mut took)
}

/// What processes took so far.
struct Cost {
    began: Instant,
    processes: Vec<(String, Vec<u32>, f64)>,
}

impl Cost {
    fn begin(named: &[&str]) -> Result<Self> {
        let mut processes = Vec::new();
        for process in named {
            let (name, pids) = process.split_once('=').ok_or("NAME=PID is expected")?;
            let pids = pids
                .split('+')
                .map(str::parse)
                .collect::<std::result::Result<Vec<u32>, _>>()?;
            for pid in &pids {
                // Forgets the peak of its memory. Of a process of another user that isn't ours to do.
                let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
            }
            processes.push((name.to_owned(), pids.clone(), seconds(&pids)?));
        }
        Ok(Self {
            began: Instant::now(),
            processes,
        })
    }

    /// One line of JSON about it all.
    fn end(self, bytes: u64, took: &mut [Duration]) -> Result<String> {
        let elapsed = self.began.elapsed().as_secs_f64();
        took.sort_unstable();
        let mut processes = Vec::new();
        for (name, pids, before) in &self.processes {
            let mut peak = 0;
            for pid in pids {
                peak += peak_of(*pid)?;
            }
            let cpu = seconds(pids)? - before;
            processes.push(format!(r#""{name}":{{"cpu_s":{cpu:.2},"peak_mib":{peak}}}"#));
        }
        Ok(format!(
            r#"{{"secs":{elapsed:.4},"bytes":{bytes},"requests":{},"p50_ms":{:.3},"p99_ms":{:.3},"processes":{{{}}}}}"#,
            took.len(),
            quantile(took, 50),
            quantile(took, 99),
            processes.join(",")
        ))
    }
}

/// Seconds of processors so far, in the kernel and out of it.
fn seconds(pids: &[u32]) -> Result<f64> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold anything.
        let fields = stat.rsplit_once(')').ok_or("no name")?.1;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        ticks += times.next().ok_or("no user time")?? + times.next().ok_or("no system time")??;
    }
    // Linux counts in hundredths, whatever it is built with.
    Ok(ticks as f64 / 100.0)
}

/// MiB it had at most.
fn peak_of(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no peak")?;
    Ok(line.split_whitespace().next().ok_or("no peak")?.parse::<u64>()? / 1024)
}
