//! `extensions.scrub`.

use std::{path::Path, time::Duration};

use super::super::*;

#[test]
fn everything_is_read_as_often_as_in_zot() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    for (text, interval, noted) in [
        ("{}", Some(24 * HOUR), false),
        ("{enable: true}", Some(24 * HOUR), false),
        ("{enable: true, interval: 0s}", Some(24 * HOUR), false),
        ("{enable: true, interval: 168h}", Some(168 * HOUR), false),
        ("{interval: 2h}", Some(2 * HOUR), false),
        ("{enable: true, interval: 90m}", Some(2 * HOUR), true),
        ("{enable: false, interval: 1m}", None, false),
        ("", None, false),
    ] {
        let text = format!("storage: {{rootDirectory: /d}}\nextensions:\n  scrub: {text}\n");
        let config = parse(Path::new("c.yaml"), &text).unwrap();
        assert_eq!(config.extensions.scrub, interval, "{text}");
        let notes = config
            .warnings
            .iter()
            .filter(|note| note.starts_with("extensions.scrub.interval: two hours"));
        assert_eq!(notes.count(), usize::from(noted), "{text}");
    }
}
