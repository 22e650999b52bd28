//! Which member am I, table by table.

use std::cell::RefCell;

use super::*;
use crate::{
    config::{MeshTls, PairSource},
    placement::HashKey,
};

const LAN: &[&str] = &["127.0.0.1", "10.0.0.2", "fe80::2"];

fn cluster(members: &[&str]) -> Cluster {
    let members = members.iter().map(|member| member.parse().unwrap()).collect();
    Cluster {
        members: Some(members),
        hash_key: HashKey::new([0; 16]),
        mesh_port: 9443,
        mesh_address: None,
        tls: MeshTls {
            ca: "ca".into(),
            cert: "cert".into(),
            key: "key".into(),
            pair: PairSource::Cluster,
            operators: Vec::new(),
            administrators: Vec::new(),
            member_san: None,
        },
    }
}

fn listen(address: &str, port: u16) -> Listen {
    let address = address
        .parse()
        .map_or_else(|_| ListenAddress::Name(address.to_owned()), ListenAddress::Ip);
    Listen { address, port }
}

struct Ask<'a> {
    cluster: Cluster,
    listen: Listen,
    hostname: &'a str,
    names: &'a [(&'a str, &'a str)],
    explicit: Option<&'a str>,
}

impl Ask<'_> {
    /// The answer, and the names that were resolved for it.
    fn ask(&self) -> (Result<String, IdentityError>, Vec<String>) {
        let asked = RefCell::new(Vec::new());
        let resolve = |host: &str| {
            asked.borrow_mut().push(host.to_owned());
            match self.names.iter().find(|(name, _)| *name == host) {
                Some((_, ip)) => Ok(vec![ip.parse().unwrap()]),
                None => Err(io::Error::other("no such host")),
            }
        };
        let interfaces: Vec<IpAddr> = LAN.iter().map(|ip| ip.parse().unwrap()).collect();
        let me = who_am_i(
            &self.cluster,
            &self.listen,
            self.hostname,
            &interfaces,
            &resolve,
            self.explicit,
        );
        (me.map(|me| me.as_str().to_owned()), asked.into_inner())
    }
}

fn ask<'a>(members: &[&str], address: &str, hostname: &'a str, names: &'a [(&'a str, &'a str)]) -> Ask<'a> {
    Ask {
        cluster: cluster(members),
        listen: listen(address, 9000),
        hostname,
        names,
        explicit: None,
    }
}

const NAMED: &[&str] = &["r1:9000", "r2:9000", "r3:9000"];

#[test]
fn one_address_or_name_is_the_entry_with_that_host_and_nothing_is_resolved() {
    let (me, asked) = ask(&["127.0.0.1:9000", "127.0.0.2:9000"], "127.0.0.2", "x", &[]).ask();
    assert_eq!((me.unwrap().as_str(), asked.len()), ("127.0.0.2:9000", 0));
    let (me, asked) = ask(NAMED, "r3", "x", &[]).ask();
    assert_eq!((me.unwrap().as_str(), asked.len()), ("r3:9000", 0));
}

#[test]
fn one_address_is_also_the_entry_that_resolves_to_it() {
    let (me, _) = ask(NAMED, "10.0.0.2", "x", &[("r2", "10.0.0.2"), ("r1", "10.0.0.1")]).ask();
    assert_eq!(me.unwrap(), "r2:9000");
}

#[test]
fn with_all_addresses_the_host_name_decides_and_nothing_is_resolved() {
    for hostname in ["r2", "R2", "r2.", "r2.example.com"] {
        let (me, asked) = ask(NAMED, "0.0.0.0", hostname, &[]).ask();
        assert_eq!((me.unwrap().as_str(), asked.len()), ("r2:9000", 0), "{hostname}");
    }
    let pods = ["p-0.p.ns.svc:9000", "p-1.p.ns.svc:9000"];
    let (me, asked) = ask(&pods, "::", "p-1", &[]).ask();
    assert_eq!((me.unwrap().as_str(), asked.len()), ("p-1.p.ns.svc:9000", 0));
}

#[test]
fn otherwise_the_interfaces_decide_and_peers_that_do_not_resolve_are_no_obstacle() {
    let (me, _) = ask(NAMED, "0.0.0.0", "box7", &[("r2", "10.0.0.2")]).ask();
    assert_eq!(me.unwrap(), "r2:9000");
    let (me, asked) = ask(&["10.0.0.1:9000", "10.0.0.2:9000"], "::", "box7", &[]).ask();
    assert_eq!((me.unwrap().as_str(), asked.len()), ("10.0.0.2:9000", 0));
    let (me, _) = ask(
        NAMED,
        "0.0.0.0",
        "box7",
        &[("r1", "10.0.0.1"), ("r3", "127.0.1.1")],
    )
    .ask();
    assert_eq!(me.unwrap(), "r3:9000", "Debian's own-name address");
}

#[test]
fn the_port_must_match() {
    let members = ["r2:9000", "other:9001"];
    let mut question = ask(&members, "0.0.0.0", "r2", &[]);
    question.listen.port = 9001;
    let (me, asked) = question.ask();
    let error = me.unwrap_err().to_string();
    assert!(
        error.contains("http.port is 9001") && error.contains("r2:9000, other:9001"),
        "{error}"
    );
    assert_eq!(asked, ["other"], "only candidates are resolved");
}

#[test]
fn nobody_and_several_name_the_candidates() {
    let (me, _) = ask(
        NAMED,
        "0.0.0.0",
        "box7",
        &[("r1", "10.9.9.9"), ("r3", "10.9.9.8")],
    )
    .ask();
    let error = me.unwrap_err();
    assert!(matches!(&error, IdentityError::Nobody { unresolved, .. } if unresolved.len() == 1));
    let text = error.to_string();
    for part in [
        "r1:9000, r2:9000, r3:9000",
        "box7",
        "10.0.0.2",
        "r2:9000 did not resolve",
        "--member",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    let (me, _) = ask(
        NAMED,
        "0.0.0.0",
        "box7",
        &[("r1", "10.0.0.2"), ("r3", "10.0.0.2")],
    )
    .ask();
    let text = me.unwrap_err().to_string();
    assert!(
        text.starts_with("r1:9000, r3:9000 of cluster.members are this machine"),
        "{text}"
    );
    let (me, _) = ask(&["a.x:9000", "a.y:9000"], "0.0.0.0", "a", &[("a.y", "10.0.0.2")]).ask();
    assert_eq!(
        me.unwrap(),
        "a.y:9000",
        "an ambiguous first label leaves it to the addresses"
    );
}

#[test]
fn an_explicit_name_decides() {
    let mut question = ask(NAMED, "0.0.0.0", "r1", &[]);
    for name in ["r3:9000", "r3", "R3"] {
        question.explicit = Some(name);
        let (me, asked) = question.ask();
        assert_eq!((me.unwrap().as_str(), asked.len()), ("r3:9000", 0));
    }
    question.explicit = Some("r9:9000");
    assert!(matches!(question.ask().0, Err(IdentityError::NotListed { .. })));
    question.explicit = Some("r3:9000");
    question.listen.port = 5000;
    assert!(matches!(
        question.ask().0,
        Err(IdentityError::OtherPort { port: 5000, .. })
    ));
}

#[test]
fn with_dynamic_membership_a_member_names_itself() {
    let mut question = ask(&["x:1"], "0.0.0.0", "box7", &[]);
    question.cluster.members = None;
    assert_eq!(question.ask().0.unwrap(), "box7:9000");
    question.explicit = Some("pod-1.svc");
    assert_eq!(question.ask().0.unwrap(), "pod-1.svc:9000");
    question.explicit = Some("pod-1.svc:9000");
    assert_eq!(question.ask().0.unwrap(), "pod-1.svc:9000");
    question.explicit = Some("pod-1.svc:1");
    assert!(matches!(question.ask().0, Err(IdentityError::OtherPort { .. })));
    question.explicit = None;
    question.listen = listen("10.0.0.2", 9000);
    assert_eq!(question.ask().0.unwrap(), "10.0.0.2:9000");
    question.listen = listen("::1", 9000);
    assert_eq!(question.ask().0.unwrap(), "[::1]:9000");
}

#[test]
fn the_machine_knows_its_loopback() {
    let machine = Machine::ask().unwrap();
    assert!(!machine.hostname.is_empty());
    assert!(machine.interfaces.iter().any(IpAddr::is_loopback), "{machine:?}");
    let me = machine.member(
        &cluster(&["localhost:9000", "192.0.2.1:9000"]),
        &listen("0.0.0.0", 9000),
        None,
    );
    assert_eq!(me.unwrap().as_str(), "localhost:9000");
}
