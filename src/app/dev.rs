//! `portolan dev`: a whole mesh on one machine, in one process.
//!
//! Its members differ from those of a real mesh in nothing but that they share a process: each has its own listeners,
//! certificate, counters and view, and they talk over TCP. The stores are opened once, for all of them.

use std::{
    fmt::Write as _,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    App, DevCertificates, MemberSpec, MeshSpec, StartError, certificates::OPERATOR, serve::until_told,
    signals::Signals, spec::public_tls,
};
use crate::{
    auth::GateSpec,
    config::{
        Collecting, Delivery, Extensions, Limits, MeshTls, PairSource, RateLimits, Replicate, Retention,
        Searching, Storage, Sync, TlsFiles, UserInterface,
    },
    oci::RepoPattern,
    ownership::{Membership, SharedSettings},
    placement::{HashKey, MemberId},
    registry::{Immutable, Quotas},
    storage,
};

/// The placement key of every `dev` mesh: fixed, so that repositories keep their owners over restarts. It protects
/// nothing here, since everyone who can reach 127.0.0.1 may do everything anyway.
pub const HASH_KEY: [u8; 16] = *b"portolan-dev-key";

/// Where it keeps everything unless it is told otherwise, as does a member without a configuration.
pub const DATA: &str = "./portolan-data";

/// The mesh port of every `dev` mesh that isn't told otherwise.
pub const MESH_PORT: u16 = 9443;

/// What `portolan dev` is told.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// How many members, on 127.0.0.1, 127.0.0.2, and so on.
    pub members: u8,
    /// The public port of each.
    pub port: u16,
    /// The mesh port of each.
    pub mesh_port: u16,
    /// Where everything is kept.
    pub data: PathBuf,
    /// How one logs in, and who may do what.
    pub gate: GateSpec,
    /// How long shared caches may keep what everybody may read; `None` is the default of [`Limits`].
    pub public_max_age: Option<Duration>,
    /// Where clients may push an index whose entries aren't there.
    pub sparse_indexes: Vec<RepoPattern>,
    /// What is mirrored from elsewhere.
    pub sync: Option<Sync>,
    /// What is sent on to other registries; nothing if there is none.
    pub replicate: Option<Replicate>,
    /// The certificate of the public listeners; `None` is plain HTTP.
    pub tls: Option<TlsFiles>,
}

impl DevOptions {
    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// Runs a mesh until SIGTERM or SIGINT. `say` is given what a person wants to read.
///
/// # Errors
/// [`StartError`] before anything is served.
pub async fn dev(options: &DevOptions, say: impl Fn(&str)) -> Result<(), StartError> {
    let signals = Signals::catch().map_err(StartError::Machine)?;
    let opened = storage::open(&Storage::embedded(options.data.clone()), &Limits::default()).await?;
    let mut addresses: Vec<Ipv4Addr> = (1..=options.members)
        .map(|n| Ipv4Addr::new(127, 0, 0, n))
        .collect();
    if let Some(missing) = addresses.iter().copied().find(|address| !is_here(*address)) {
        say(&advice(missing));
        addresses.truncate(1);
    }
    let specs = specs(options, &addresses)?;
    let mut apps = Vec::new();
    for spec in specs.members {
        apps.push(App::bind(spec, opened.stores()).await?);
    }
    // Each then sees all others when it begins to serve, not with a later heartbeat.
    for app in &apps {
        app.announce().await;
    }
    let running = futures_util::future::join_all(apps.into_iter().map(App::serve)).await;
    say(&greeting(options, &addresses, &specs.certificates));
    until_told(running, signals, Limits::default().ending.drain).await;
    opened.close().await;
    Ok(())
}

/// Whether the address can be listened on. macOS has only 127.0.0.1 unless told otherwise.
fn is_here(address: Ipv4Addr) -> bool {
    match TcpListener::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

fn advice(missing: Ipv4Addr) -> String {
    let command = match cfg!(target_os = "macos") {
        true => format!("sudo ifconfig lo0 alias {missing} up"),
        false => format!("sudo ip addr add {missing}/8 dev lo"),
    };
    format!(
        "{missing} is no address of this machine, so this mesh has one member only.\n\
         For more, add the address (and those after it) and start again:\n\n  {command}\n"
    )
}

struct Specs {
    members: Vec<MemberSpec>,
    certificates: DevCertificates,
}

fn specs(options: &DevOptions, addresses: &[Ipv4Addr]) -> Result<Specs, StartError> {
    let ips: Vec<IpAddr> = addresses.iter().copied().map(IpAddr::V4).collect();
    let mut limits = Limits::default();
    if let Some(age) = options.public_max_age {
        limits.front.public_max_age = age;
    }
    let certificates = DevCertificates::mint(&options.data.join("tls"), &ips)?;
    let mut names = Vec::new();
    for ip in &ips {
        let address = SocketAddr::new(*ip, options.port);
        let id = MemberId::parse(&address.to_string()).map_err(|_| StartError::Name { address })?;
        names.push((id, SocketAddr::new(*ip, options.mesh_port).to_string()));
    }
    let members = ips
        .iter()
        .zip(&names)
        .zip(&certificates.members)
        .map(|((ip, (id, address)), pair)| MemberSpec {
            id: id.clone(),
            public: SocketAddr::new(*ip, options.port),
            public_tls: options.tls.as_ref().map(public_tls),
            gate: options.gate.clone(),
            mesh: Some(MeshSpec {
                listen: SocketAddr::new(*ip, options.mesh_port),
                address: address.clone(),
                membership: Membership::Listed(names.clone()),
                // One process has no two settings.
                shared: SharedSettings::new(),
                hash_key: HashKey::new(HASH_KEY),
                tls: MeshTls {
                    ca: certificates.ca.clone(),
                    cert: pair.cert.clone(),
                    key: pair.key.clone(),
                    pair: PairSource::Cluster,
                    operators: Vec::new(),
                    // Everybody may do everything here.
                    administrators: vec![OPERATOR.to_owned()],
                    member_san: None,
                },
            }),
            rate_limits: RateLimits::default(),
            // Some clients want scheme and host in a Location, and there is no proxy that would know better.
            external_url: Some(format!(
                "{}://{}",
                options.scheme(),
                SocketAddr::new(*ip, options.port)
            )),
            quotas: Quotas::default(),
            immutable: Immutable::default(),
            verify_reads: false,
            delivery: Delivery::default(),
            sparse_indexes: options.sparse_indexes.clone(),
            sync: options.sync.clone(),
            replicate: options.replicate.clone(),
            collecting: Collecting::On,
            extensions: Extensions {
                search: Searching::On,
                ui: UserInterface::On,
                ..Extensions::default()
            },
            retention: Retention::default(),
            limits,
        });
    Ok(Specs {
        members: members.collect(),
        certificates,
    })
}

/// What is printed when everything runs: lines that can be pasted.
fn greeting(options: &DevOptions, addresses: &[Ipv4Addr], certificates: &DevCertificates) -> String {
    let DevOptions {
        port,
        mesh_port,
        data,
        ..
    } = options;
    let scheme = options.scheme();
    let (first, last) = (addresses.first(), addresses.last());
    let first = first.copied().unwrap_or(Ipv4Addr::LOCALHOST);
    let last = last.copied().unwrap_or(Ipv4Addr::LOCALHOST);
    let middle = addresses.get(1).copied().unwrap_or(first);
    let ca = shown(&certificates.ca);
    let (cert, key) = (
        shown(&certificates.operator.cert),
        shown(&certificates.operator.key),
    );
    let door = door(options, first, certificates);
    let mut text = String::new();
    let members = match addresses.len() {
        1 => "one member, with its".to_owned(),
        n => format!("{n} members, each with its"),
    };
    // Writing to a String doesn't fail.
    let _ = writeln!(
        text,
        "One registry, {members} public and mesh address; data in {}\n",
        shown(data)
    );
    for address in addresses {
        let _ = writeln!(
            text,
            "  {scheme}://{address}:{port}   grpcs://{address}:{mesh_port}"
        );
    }
    let _ = write!(
        text,
        "
Push through one member, with whatever you have:

  skopeo copy --dest-tls-verify=false docker-daemon:alpine:3 docker://{first}:{port}/library/alpine:3
  crane copy --insecure alpine:3 {first}:{port}/library/alpine:3
  docker tag alpine:3 {first}:{port}/library/alpine:3 && docker push {first}:{port}/library/alpine:3

Pull through another:

  skopeo inspect --tls-verify=false docker://{middle}:{port}/library/alpine:3
  docker pull {last}:{port}/library/alpine:3

See it in a browser:

  {scheme}://{first}:{port}/

Ask the mesh who its members are, and where a repository lives and why; take a member out, and watch that elsewhere:

  portolan mesh members{door}
  portolan mesh locate library/alpine{door}
  portolan mesh watch{door}
  portolan mesh drain {last}:{port}{door}

The first two by grpcurl:

  grpcurl -cacert {ca} -cert {cert} -key {key} \\
      {first}:{mesh_port} portolan.mesh.v1.Diagnostics/Members
  grpcurl -cacert {ca} -cert {cert} -key {key} \\
      -d '{{\"repository\": \"library/alpine\"}}' {first}:{mesh_port} portolan.mesh.v1.Diagnostics/Locate

Ctrl-C ends it.
"
    );
    text
}

/// What `portolan mesh` has to be told to find this mesh: nothing, if that is where it looks by itself.
fn door(options: &DevOptions, first: Ipv4Addr, certificates: &DevCertificates) -> String {
    let mut door = String::new();
    if options.mesh_port != MESH_PORT {
        door.push_str(&format!(" --server {first}:{}", options.mesh_port));
    }
    if options.data != Path::new(DATA) {
        let DevCertificates { ca, operator, .. } = certificates;
        let (ca, cert, key) = (shown(ca), shown(&operator.cert), shown(&operator.key));
        door.push_str(&format!(" --cacert {ca} --cert {cert} --key {key}"));
    }
    door
}

/// A path for a shell's line: in quotes where it needs them.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_can_be_pasted() {
        let options = DevOptions {
            members: 3,
            port: 5000,
            mesh_port: 9443,
            data: "/tmp/a b".into(),
            gate: GateSpec::default(),
            public_max_age: None,
            sparse_indexes: Vec::new(),
            sync: None,
            replicate: None,
            tls: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let certificates = DevCertificates::mint(folder.path(), &[]).unwrap();
        let addresses = [1, 2, 3].map(|n| Ipv4Addr::new(127, 0, 0, n));
        let text = greeting(&options, &addresses, &certificates);
        assert!(text.contains("data in '/tmp/a b'"), "{text}");
        assert!(
            text.contains("docker pull 127.0.0.3:5000/library/alpine:3"),
            "{text}"
        );
        let (ca, key) = (&certificates.ca, &certificates.operator.key);
        let watch = format!("portolan mesh watch --cacert {} ", ca.display());
        assert!(text.contains(&watch), "{text}");
        let drain = "portolan mesh drain 127.0.0.3:5000 --cacert";
        assert!(
            text.contains(drain) && text.contains(&format!(" --key {}\n", key.display())),
            "{text}"
        );
        let at_home = DevOptions {
            data: DATA.into(),
            ..options
        };
        let text_at_home = greeting(&at_home, &addresses, &certificates);
        assert!(text_at_home.contains("  portolan mesh watch\n"), "{text_at_home}");
        assert!(
            text.contains("127.0.0.1:9443 portolan.mesh.v1.Diagnostics/Members"),
            "{text}"
        );
    }

    #[test]
    fn who_lacks_an_address_is_told_how_to_add_it() {
        assert!(is_here(Ipv4Addr::LOCALHOST));
        assert!(!is_here(Ipv4Addr::new(192, 0, 2, 1)));
        assert!(advice(Ipv4Addr::new(127, 0, 0, 2)).contains("127.0.0.2"));
    }
}
