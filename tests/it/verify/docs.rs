//! The whole configurations of docs/logins.md are good.

use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use super::Trial;

/// Where the document says that things lie.
const FOLDERS: [&str; 4] = [
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "/etc/portolan",
    "/run/secrets",
    "/var/lib/portolan",
];

/// What stands between fences of JSON in a document.
fn configurations(document: &str) -> Vec<&str> {
    let fenced = document.split("\n```json\n").skip(1);
    fenced.map(|rest| rest.split("\n```\n").next().unwrap()).collect()
}

/// Files of the names that the document uses, with what belongs into them.
fn fill(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["registry.example".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let users = format!("root:{}\n", bcrypt::hash("secret", 4).unwrap());
    for (name, text) in [
        ("users", users.as_str()),
        ("tls.crt", &certificate),
        ("tls.key", &key.serialize_pem()),
        ("ca.crt", &certificate),
        ("directory-ca.pem", &certificate),
        ("corp-ca.pem", &certificate),
        (
            "ldap.json",
            r#"{"bindDN": "cn=search,dc=example,dc=org", "bindPassword": "secret"}"#,
        ),
        ("keycloak", "secret"),
        ("entra", "secret"),
        ("google", "secret"),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
}

#[tokio::test]
async fn every_whole_configuration_of_the_documentation_is_good() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/logins.md");
    let document = fs::read_to_string(file).unwrap();
    let all = configurations(&document);
    assert_eq!(
        all.len(),
        document.matches("\n## ").count(),
        "each chapter has one"
    );
    for text in all {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        let here = folder.path().to_str().unwrap().to_owned();
        let text = FOLDERS
            .iter()
            .fold(text.to_owned(), |text, there| text.replace(there, &here));
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["storage"]["rootDirectory"] = Value::from(format!("{here}/data"));
        config["http"]["address"] = Value::from("127.0.0.1");
        config["http"]["port"] = Value::from(0);
        let said = Trial { folder, config }.verify_here().await;
        assert!(said.good, "{text}\n{}", said.text);
        assert!(!said.text.contains("warning"), "{text}\n{}", said.text);
    }
}
