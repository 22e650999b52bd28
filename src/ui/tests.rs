//! That links lead where they say.

use super::{links, repositories::Order};
use crate::oci::{Reference, RepoName};

#[test]
fn links_name_one_thing() {
    let name: RepoName = "a/tag/b".parse().unwrap();
    let tag = Reference::parse("v1").unwrap();
    assert_eq!(links::image(&name, &tag), "/image/a/tag/b:v1");
    let digest = format!("sha256:{}", "0".repeat(64));
    let by_digest = Reference::parse(&digest).unwrap();
    assert_eq!(
        links::delete(&name, &by_digest),
        format!("/delete/a/tag/b@{digest}")
    );
    assert_eq!(
        links::with("/", &[("q", "a&b=\"<c>"), ("os", "")]),
        "/?q=a%26b%3D%22%3Cc%3E"
    );
    assert_eq!(Order::parse("name"), Order::Name);
    assert_eq!(Order::parse("\"><script>"), Order::Best);
}
