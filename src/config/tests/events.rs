//! `extensions.events`.

use std::{path::Path, time::Duration};

use super::super::*;

fn events(text: &str) -> Result<Events, String> {
    let text = format!("storage: {{rootDirectory: /d}}\nextensions:\n  events: {text}\n");
    match parse(Path::new("c.yaml"), &text) {
        Ok(config) => Ok(config.extensions.events),
        Err(faults) => Err(faults.to_string()),
    }
}

#[test]
fn sinks_are_what_they_are_in_zot() {
    let found = events(
        "{source: here, typePrefix: org.example, sinks: [{type: HTTP, address: 'http://h/x', timeout: 5s, \
         credentials: {username: jane, password: p}, headers: {X-A: b}}, \
         {type: nats, address: 'nats://a:4222, tls://b', channel: a.b, credentials: {file: /f}, \
         tlsConfig: {caCertFile: /ca, certFile: /c, keyFile: /k}}]}",
    )
    .unwrap();
    assert_eq!(found.source.as_deref(), Some("here"));
    assert_eq!(found.type_prefix.as_deref(), Some("org.example"));
    let [http, nats] = found.sinks.try_into().unwrap();
    assert_eq!((http.kind, http.address.as_str()), (SinkKind::Http, "http://h/x"));
    assert_eq!(http.timeout, Duration::from_secs(5));
    assert_eq!(
        http.login,
        SinkLogin::Password("jane".to_owned(), Secret::new("p"))
    );
    assert_eq!(http.headers, [("X-A".to_owned(), Secret::new("b"))]);
    assert_eq!(
        (nats.kind, nats.channel.as_deref()),
        (SinkKind::Nats, Some("a.b"))
    );
    assert_eq!(nats.timeout, Duration::from_secs(30));
    assert_eq!(nats.login, SinkLogin::File("/f".into()));
    let tls = SinkTls {
        authorities: Some("/ca".into()),
        shown: Some(("/c".into(), "/k".into())),
    };
    assert_eq!(nats.tls, tls);
    for nobody in [
        "{}",
        "{enable: true}",
        "{sinks: []}",
        "{enable: false, sinks: [{type: http, address: 'http://h'}]}",
    ] {
        assert_eq!(events(nobody), Ok(Events::default()), "{nobody}");
    }
}

#[test]
fn sinks_that_could_not_be_told_are_refused_by_name() {
    for (sink, expected) in [
        ("{address: 'http://h'}", "sinks[0].type: is required"),
        (
            "{type: kafka, address: 'http://h'}",
            "sinks[0].type: expected one of http, nats",
        ),
        ("{type: http}", "sinks[0].address: is required"),
        (
            "{type: http, address: 'nats://h'}",
            "sinks[0].address: expected a URL",
        ),
        (
            "{type: http, address: 'http://u:p@h'}",
            "a login belongs below credentials",
        ),
        (
            "{type: http, address: 'http://h', proxy: 'http://p'}",
            "sinks[0].proxy: sinks are asked directly",
        ),
        (
            "{type: http, address: 'http://h', credentials: {file: /f}}",
            "sinks[0].credentials.file: is a file of NATS",
        ),
        (
            "{type: http, address: 'http://h', credentials: {token: t, username: u}}",
            "sinks[0].credentials: expected one way",
        ),
        (
            "{type: http, address: 'http://h', tlsConfig: {certFile: /c}}",
            "sinks[0].tlsConfig: expected certFile and keyFile",
        ),
        (
            "{type: http, address: 'http://h', headers: {'a b': c}}",
            "expected the name and the value of an HTTP header",
        ),
        (
            "{type: nats, address: 'nats://h'}",
            "sinks[0].channel: is required",
        ),
        (
            "{type: nats, address: 'nats://h', channel: 'a.*'}",
            "sinks[0].channel: expected a subject",
        ),
        (
            "{type: nats, address: 'nats://h', channel: 'a..b'}",
            "sinks[0].channel: expected a subject",
        ),
        (
            "{type: nats, address: 'nats://h', channel: a, headers: {a: b}}",
            "sinks[0].headers: are sent over HTTP only",
        ),
        (
            "{type: nats, address: 'nats://h', channel: a, tls: {}}",
            "sinks[0].tls: unknown key",
        ),
    ] {
        let said = events(&format!("{{sinks: [{sink}]}}")).unwrap_err();
        assert!(said.contains(expected), "{sink}: {said}");
    }
    let many = vec!["{type: http, address: 'http://h'}"; 17].join(", ");
    assert!(
        events(&format!("{{sinks: [{many}]}}"))
            .unwrap_err()
            .contains("at most 16 sinks")
    );
}
