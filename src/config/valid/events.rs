//! `extensions.events`.

use std::{path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue, Uri};

use super::nodes::member;
use crate::config::{
    EventSink, Events, Secret, SinkKind, SinkLogin, SinkTls,
    check::{Checked, Setting, read},
    fault::FaultKind,
    keys::Kind,
    secret,
    tree::{Node, Value},
};

const SINKS: &str = "extensions.events.sinks";
/// zot's.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Each follows the changes by itself.
const MAX_SINKS: usize = 16;

pub(super) fn events(c: &mut Checked) -> Events {
    if c.bool("extensions.events.enable") == Some(false) {
        return Events::default();
    }
    let elements = c.elements(SINKS);
    if let Some(beyond) = elements.get(MAX_SINKS) {
        let problem = format!("expected at most {MAX_SINKS} sinks: let one of them pass events on");
        c.refuse_at(FaultKind::Value, SINKS, beyond.line, problem);
    }
    let sinks = elements.iter().enumerate().filter_map(|(i, node)| {
        let path = format!("{SINKS}[{i}]");
        Reader { c, path, node }.sink()
    });
    let sinks = sinks.collect();
    Events {
        source: c.text("extensions.events.source"),
        type_prefix: c.text("extensions.events.typePrefix"),
        sinks,
    }
}

/// One sink as it stands in the file. What has another type than the table says has its fault already.
struct Reader<'a> {
    c: &'a mut Checked,
    path: String,
    node: &'a Node,
}

impl Reader<'_> {
    fn sink(mut self) -> Option<EventSink> {
        let kind = match text(member(self.node, "type"))?.to_ascii_lowercase().as_str() {
            "http" => SinkKind::Http,
            "nats" => SinkKind::Nats,
            "" => return self.missing("type", "http or nats"),
            _ => return None,
        };
        let address = self.address(kind);
        let channel = text(member(self.node, "channel")).filter(|channel| !channel.is_empty());
        if kind == SinkKind::Nats {
            let is_subject = |channel: &String| {
                !channel.contains(|c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>')
                    && channel.split('.').all(|token| !token.is_empty())
            };
            match &channel {
                None => return self.missing("channel", "the subject on which events are published"),
                Some(channel) if is_subject(channel) => {}
                Some(_) => self.refuse(
                    "channel",
                    "expected a subject such as registry.events, without wildcards",
                ),
            }
        }
        let timeout = member(self.node, "timeout").map(|node| read(Kind::Duration, &node.value));
        let timeout = match timeout {
            Some(Ok(Setting::Duration(Some(timeout)))) => timeout,
            Some(_) | None => TIMEOUT,
        };
        let (headers, login, tls) = (self.headers(kind), self.login(kind), self.tls());
        Some(EventSink {
            kind,
            address: address?,
            channel,
            timeout,
            headers,
            login,
            tls,
        })
    }

    fn address(&mut self, kind: SinkKind) -> Option<String> {
        let address = text(member(self.node, "address")).unwrap_or_default();
        let (expected, schemes): (_, &[&str]) = match kind {
            SinkKind::Http => (
                "a URL such as https://hooks.example.org/events",
                &["http", "https"],
            ),
            SinkKind::Nats => (
                "an address such as nats://nats.example.org:4222",
                &["nats", "tls"],
            ),
        };
        if address.is_empty() {
            return self.missing("address", expected);
        }
        let is_right = |address: &str| {
            address.parse::<Uri>().is_ok_and(|uri| {
                let names_scheme = uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme));
                let has_login = uri
                    .authority()
                    .is_some_and(|authority| authority.as_str().contains('@'));
                names_scheme && !has_login
            })
        };
        let is_right = match kind {
            SinkKind::Http => is_right(&address),
            SinkKind::Nats => address.split(',').all(|address| is_right(address.trim())),
        };
        if !is_right {
            self.refuse(
                "address",
                &format!("expected {expected}; a login belongs below credentials"),
            );
            return None;
        }
        Some(address)
    }

    fn headers(&mut self, kind: SinkKind) -> Vec<(String, Secret)> {
        let Some(Value::Object(members)) = member(self.node, "headers").map(|node| &node.value) else {
            return Vec::new();
        };
        if kind == SinkKind::Nats && !members.is_empty() {
            self.refuse("headers", "are sent over HTTP only");
            return Vec::new();
        }
        let mut headers = Vec::new();
        for (name, node) in members {
            let Some(value) = secret(Some(node)) else { continue };
            match (HeaderName::try_from(name), HeaderValue::try_from(value.expose())) {
                (Ok(_), Ok(_)) => headers.push((name.clone(), value)),
                (Err(_), _) | (_, Err(_)) => {
                    let path = format!("{}.headers.{name:?}", self.path);
                    let problem = "expected the name and the value of an HTTP header".to_owned();
                    self.c.refuse_at(FaultKind::Value, &path, node.line, problem);
                }
            }
        }
        headers
    }

    fn login(&mut self, kind: SinkKind) -> SinkLogin {
        let Some(node) = member(self.node, "credentials") else {
            return SinkLogin::None;
        };
        let said = |name| text(member(node, name)).filter(|text| !text.is_empty());
        let (username, file) = (said("username"), said("file"));
        let (password, token) = (secret(member(node, "password")), secret(member(node, "token")));
        let ways = [username.is_some(), file.is_some(), token.is_some()];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            self.refuse(
                "credentials",
                "expected one way to log in: username and password, token, or file",
            );
        }
        match (username, token, file) {
            (Some(username), ..) => {
                SinkLogin::Password(username, password.unwrap_or_else(|| Secret::new("")))
            }
            (None, Some(token), _) => SinkLogin::Token(token),
            (None, None, Some(_)) if kind == SinkKind::Http => {
                self.refuse(
                    "credentials.file",
                    "is a file of NATS: over HTTP say token: {file: PATH}",
                );
                SinkLogin::None
            }
            (None, None, Some(file)) => SinkLogin::File(file.into()),
            (None, None, None) => SinkLogin::None,
        }
    }

    fn tls(&mut self) -> SinkTls {
        let Some(node) = member(self.node, "tlsConfig") else {
            return SinkTls::default();
        };
        let file = |name| {
            text(member(node, name))
                .filter(|file| !file.is_empty())
                .map(PathBuf::from)
        };
        let shown = match (file("certFile"), file("keyFile")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                self.refuse("tlsConfig", "expected certFile and keyFile, or neither");
                None
            }
        };
        SinkTls {
            authorities: file("caCertFile"),
            shown,
        }
    }

    fn refuse(&mut self, key: &str, problem: &str) {
        let path = format!("{}.{key}", self.path);
        self.c
            .refuse_at(FaultKind::Value, &path, self.node.line, problem.to_owned());
    }

    fn missing<T>(&mut self, key: &str, what: &str) -> Option<T> {
        let path = format!("{}.{key}", self.path);
        let problem = format!("is required: {what}");
        self.c
            .refuse_at(FaultKind::Missing, &path, self.node.line, problem);
        None
    }
}

/// Nothing where it isn't there; of another type is a fault that it has already.
fn text(node: Option<&Node>) -> Option<String> {
    match node.map(|node| read(Kind::Text, &node.value)) {
        None => Some(String::new()),
        Some(Ok(Setting::Text(text))) => Some(text),
        Some(_) => None,
    }
}

fn secret(node: Option<&Node>) -> Option<Secret> {
    match &node?.value {
        Value::Str(secret) if !secret.is_empty() => Some(Secret::new(secret.clone())),
        Value::Object(members) => secret::pointed_to(members).ok().map(Secret::new),
        _ => None,
    }
}
