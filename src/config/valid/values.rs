//! Values that several keys share: addresses, endpoints, names.

use http::Uri;

use crate::config::{
    check::Checked,
    fault::FaultKind,
    model::ListenAddress,
    tree::{Node, Value},
};

/// A number as the table reads it; what has another type has its fault already.
pub(super) fn int(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Int(int) => Some(*int),
        Value::Str(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Object(_) => None,
    }
}

/// An address or a name, without a port.
pub(super) fn listen_address(c: &mut Checked, path: &'static str, text: &str) -> Option<ListenAddress> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(ip) = bare.parse() {
        return Some(ListenAddress::Ip(ip));
    }
    if is_host_name(text) {
        return Some(ListenAddress::Name(text.to_ascii_lowercase()));
    }
    let port = match (path, text.rsplit_once(':')) {
        ("http.address", Some(_)) => "; the port belongs into http.port",
        (_, Some(_)) => "; the port belongs into cluster.meshPort",
        (_, None) => "",
    };
    c.refuse(
        FaultKind::Value,
        path,
        format!("expected an address or a host name, got {text:?}{port}"),
    );
    None
}

/// A host name by its letters; digits and dots alone are a broken address, not a name.
pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label) && !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// An endpoint with its scheme; `secure` is the scheme of one that has none.
pub(super) fn endpoint(c: &mut Checked, path: &'static str, text: &str, secure: bool) -> Option<String> {
    let text = text.trim_end_matches('/');
    let url = match text.split_once("://") {
        Some(_) => text.to_owned(),
        None if secure => format!("https://{text}"),
        None => format!("http://{text}"),
    };
    if url.parse::<Uri>().is_ok_and(|uri| is_bare_endpoint(&uri)) {
        return Some(url);
    }
    // What looks like credentials in a URL stays out of the message.
    let got = if text.contains('@') {
        "something with an @".to_owned()
    } else {
        format!("{text:?}")
    };
    c.refuse(
        FaultKind::Value,
        path,
        format!("expected host:port or http(s)://host:port, got {got}"),
    );
    None
}

/// Scheme, host and perhaps a port, and nothing else.
pub(super) fn is_bare_endpoint(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else {
        return false;
    };
    let (host, text) = (authority.host(), authority.as_str());
    let port = text.strip_prefix(host).and_then(|rest| rest.strip_prefix(':'));
    let sound_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let sound_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    sound_scheme
        && sound_port
        && !host.is_empty()
        && !text.contains('@')
        && uri.path() == "/"
        && uri.query().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_get_their_scheme_from_secure() {
        let read = |text, secure| {
            endpoint(
                &mut Checked::default(),
                "storage.storageDriver.regionendpoint",
                text,
                secure,
            )
        };
        assert_eq!(
            read("localhost:4566", false).as_deref(),
            Some("http://localhost:4566")
        );
        assert_eq!(
            read("s3.example.com", true).as_deref(),
            Some("https://s3.example.com")
        );
        assert_eq!(
            read("http://[::1]:9000/", true).as_deref(),
            Some("http://[::1]:9000")
        );
        for wrong in [
            "",
            "ftp://x",
            "http://",
            "a b",
            "http://x/path",
            "x:99999",
            "x:",
            "user:pw@x",
        ] {
            assert_eq!(read(wrong, true), None, "{wrong:?}");
        }
    }

    #[test]
    fn listening_addresses_are_addresses_or_names() {
        let read =
            |text| listen_address(&mut Checked::default(), "http.address", text).map(|a| a.to_string());
        assert_eq!(read("0.0.0.0").as_deref(), Some("0.0.0.0"));
        assert_eq!(read("[::1]").as_deref(), Some("::1"));
        assert_eq!(read("Registry.Example").as_deref(), Some("registry.example"));
        for wrong in ["1.2.3", "a:80", "-x", "a b", "a..b", "http://x"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
