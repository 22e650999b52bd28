//! docs/metrics.md is what is exported.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    time::Duration,
};

use super::{
    Direction, EventOutcome, ForwardOutcome, LeaseOutcome, Metrics, ReplicationOutcome, ScrubOutcome,
    output::{LINES, LogLabels},
};

const BEGIN: &str =
    "<!-- metrics: written by UPDATE_DOCS=1 cargo test --lib telemetry::docs; don't edit -->\n";
const END: &str = "<!-- end of metrics -->\n";

/// One of everything, so that each family has a sample to read its labels from.
fn filled() -> Metrics {
    let metrics = Metrics::new();
    let (peer, took) = ("a:1".parse().unwrap(), Duration::ZERO);
    metrics.request("probe", 200, took);
    metrics.request_bytes(Direction::Upload, 1);
    metrics.forward(&peer, ForwardOutcome::Answered);
    metrics.forward_took(&peer, took);
    metrics.forward_bytes(&peer, Direction::Upload, 1);
    metrics.streams(&peer).inc();
    metrics.replay(&peer, ForwardOutcome::Answered);
    metrics.members(1, 0);
    metrics.lease_renewal(LeaseOutcome::Ok);
    metrics.lease_reading(LeaseOutcome::Ok);
    metrics.store("meta", "get", "ok", took);
    metrics.cache_read("hit");
    metrics.cache_failure("disk");
    metrics.upkeep_row("trash", "done");
    metrics.upkeep_overdue("upkeep", took);
    metrics.upkeep_round("upkeep", 0);
    metrics.scrubbed(ScrubOutcome::Whole, 1);
    metrics.scrub_ended(0, 0);
    metrics.certificate_ends("http.tls.cert", 0);
    metrics.mirror("blob", "hit");
    metrics.upstream("blob", "ok", took);
    metrics.upstream_read(1);
    metrics.events("sinks[0]", EventOutcome::Told, 1);
    metrics.events_waiting("sinks[0]", took);
    metrics.replicated("registries[0]", ReplicationOutcome::Sent, 1);
    metrics.replicated_bytes("registries[0]", 1);
    metrics.replication_waiting("registries[0]", took);
    let _ = LINES.waiting.get_or_create(&LogLabels { log: "audit" });
    let _ = LINES.lost.get_or_create(&LogLabels { log: "audit" });
    metrics
}

#[derive(Default)]
struct Family {
    help: String,
    kind: String,
    labels: BTreeSet<String>,
}

/// What an exposition in OpenMetrics has, by the names of families.
fn families(exposition: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    for line in exposition.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                name.clone_into(&mut current);
                help.clone_into(&mut families.entry(current.clone()).or_default().help);
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                kind.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
            }
            (Some("#"), ..) => {}
            _ => {
                let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
                let labels = labels.map_or("", |(labels, _)| labels);
                let names = labels.split(',').filter_map(|label| label.split_once('='));
                let names = names.map(|(name, _)| name.to_owned()).filter(|name| name != "le");
                let family = families.entry(current.clone()).or_default();
                family.labels.extend(names);
            }
        }
    }
    families
}

fn metrics_as_markdown() -> String {
    let mut table = "| metric | type | labels | is |\n|---|---|---|---|\n".to_owned();
    for (name, family) in families(&filled().render()) {
        let suffix = if family.kind == "counter" { "_total" } else { "" };
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let help = family.help.trim_end_matches('.');
        let _ = writeln!(
            table,
            "| `{name}{suffix}` | {} | {} | {help} |",
            family.kind,
            labels.join(", ")
        );
    }
    table
}

#[test]
fn every_metric_that_is_registered_has_a_sample_to_document() {
    let exposition = filled().render();
    let registrations = include_str!("metrics.rs").split("registry.register").skip(1);
    let names = registrations.filter_map(|rest| rest.split('"').nth(1));
    for name in names {
        let exported = format!("# TYPE portolan_{name}");
        assert!(exposition.contains(&exported), "record one of {name} in `filled`");
    }
}

#[test]
fn the_documentation_lists_every_metric_as_it_is_exported() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the table");
    let (table, after) = rest.split_once(END).expect("the mark after the table");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = format!("{before}{BEGIN}{}{END}{after}", metrics_as_markdown());
        fs::write(&path, text).unwrap();
        return;
    }
    assert!(
        table == metrics_as_markdown(),
        "docs/metrics.md is not what is exported: UPDATE_DOCS=1 cargo test --lib telemetry::docs"
    );
}
