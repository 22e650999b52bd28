//! What `/metrics` says.

use std::collections::BTreeMap;

use super::client::{Ask as _, Client, Request};

/// One member's metrics: samples by name with labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// What the member that this client talks to has counted.
    pub(crate) async fn ask(client: &Client) -> Self {
        let answer = client.ask(Request::get("/metrics")).await.unwrap().expect(200);
        Self::parse(std::str::from_utf8(&answer.body).unwrap())
    }

    /// Reads the OpenMetrics text format.
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            });
        Self(samples.collect())
    }

    /// Whether there is any sample of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        let named = |sample: &String| sample.split('{').next() == Some(name);
        self.0.keys().any(named)
    }

    /// The sum of the samples called `name` that have all these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matches = |sample: &str| {
            let (found, rest) = sample.split_once('{').unwrap_or((sample, ""));
            found == name
                && labels
                    .iter()
                    .all(|(label, value)| rest.contains(&format!("{label}=\"{value}\"")))
        };
        self.0
            .iter()
            .filter(|(sample, _)| matches(sample))
            .map(|(_, value)| value)
            .sum()
    }
}

#[test]
fn samples_are_added_up_by_label() {
    let text = "# TYPE portolan_forwards counter\n\
        portolan_forwards_total{peer=\"127.0.0.2:1\",outcome=\"answered\"} 3\n\
        portolan_forwards_total{peer=\"127.0.0.3:1\",outcome=\"answered\"} 4\n\
        portolan_forwards_total{peer=\"127.0.0.3:1\",outcome=\"busy\"} 5\n\
        portolan_resumed_pulls_total 1\n# EOF\n";
    let metrics = Metrics::parse(text);
    let sum = |labels: &[(&str, &str)]| metrics.sum("portolan_forwards_total", labels);
    assert_eq!(sum(&[]), 12.0);
    assert_eq!(sum(&[("outcome", "answered")]), 7.0);
    assert_eq!(sum(&[("peer", "127.0.0.3:1"), ("outcome", "answered")]), 4.0);
    assert_eq!(metrics.sum("portolan_resumed_pulls_total", &[]), 1.0);
    assert_eq!(metrics.sum("portolan_nothing_total", &[]), 0.0);
}
