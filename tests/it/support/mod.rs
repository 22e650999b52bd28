//! What the tests stand on: content to push, a client to push it with, and meshes to push it to.

pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod content;
pub(crate) mod door;
pub(crate) mod issuer;
pub(crate) mod mesh;
pub(crate) mod metrics;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod raw;

/// How long a test waits for something that must happen. Only a guard against a test that never ends: nothing asserts
/// that it happened soon.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Whether tests that go over much, again and again, are to go over all of it: `tests/run everything` says so. Else they do
/// enough of it for what they are about to be seen if it were there.
pub(crate) fn thorough() -> bool {
    std::env::var_os("PORTOLAN_TEST_THOROUGH").is_some()
}

/// The stores in a directory, as a member by itself has them.
pub(crate) async fn embedded(root: &std::path::Path) -> portolan::storage::OpenStores {
    use portolan::{
        config::{Limits, Storage},
        storage::open,
    };
    open(&Storage::embedded(root.to_owned()), &Limits::default())
        .await
        .unwrap()
}

/// The gate that `http` of a configuration makes.
pub(crate) fn gate(http: &str) -> portolan::auth::GateSpec {
    use portolan::{auth::GateSpec, config};
    let text = format!("storage: {{rootDirectory: /unused}}\nhttp: {http}\n");
    let config = config::parse(std::path::Path::new("c.yaml"), &text).unwrap();
    // There is no such file to read again.
    GateSpec {
        source: None,
        ..GateSpec::from(&config)
    }
}

/// Waits for `what`, asking `holds` again and again.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
