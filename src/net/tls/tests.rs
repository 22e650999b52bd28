use super::*;
use crate::net::test_certificates::Authority;

fn later(tls: &ServerTls) {
    tls.0.state.lock().looked -= LOOK_EVERY;
}

#[tokio::test]
async fn new_certificates_are_used_and_unusable_ones_are_not() {
    let authority = Authority::new();
    let files = authority.issue("a", &["a"]);
    let tls = ServerTls::load(authority.server(files.clone())).unwrap();
    let first = tls.config();
    later(&tls);
    assert!(Arc::ptr_eq(&tls.config(), &first), "nothing changed");

    let former = fs::read(&files.certificate).unwrap();
    authority.issue("a", &["a"]);
    let renewed = fs::read(&files.certificate).unwrap();
    fs::write(&files.certificate, former).unwrap();
    later(&tls);
    assert!(
        Arc::ptr_eq(&tls.config(), &first),
        "the key doesn't belong to the certificate"
    );
    fs::remove_file(&files.certificate).unwrap();
    later(&tls);
    assert!(Arc::ptr_eq(&tls.config(), &first));

    fs::write(&files.certificate, renewed).unwrap();
    assert!(
        Arc::ptr_eq(&tls.config(), &first),
        "it isn't looked at on every handshake"
    );
    later(&tls);
    assert!(!Arc::ptr_eq(&tls.config(), &first));
}

#[test]
fn an_error_names_the_file_and_what_is_wrong() {
    let authority = Authority::new();
    let good = authority.issue("a", &["a"]);
    let other = authority.issue("b", &["b"]);
    let fault = |files: &CertificateFiles| {
        ServerTls::load(authority.server(files.clone()))
            .unwrap_err()
            .to_string()
    };

    let missing = CertificateFiles {
        key: "/nowhere/a.key".into(),
        ..good.clone()
    };
    assert!(
        fault(&missing).starts_with("/nowhere/a.key can't be read: No such file"),
        "{}",
        fault(&missing)
    );
    let mixed = CertificateFiles {
        key: other.key.clone(),
        ..good.clone()
    };
    assert!(
        fault(&mixed).contains("b.key can't be used together"),
        "{}",
        fault(&mixed)
    );
    let swapped = CertificateFiles {
        key: good.certificate.clone(),
        ..good.clone()
    };
    assert!(
        fault(&swapped).contains("a.crt holds no usable private key"),
        "{}",
        fault(&swapped)
    );
    let swapped = CertificateFiles {
        certificate: good.key.clone(),
        ..good
    };
    assert!(
        fault(&swapped).ends_with("a.key holds no certificate in PEM form"),
        "{}",
        fault(&swapped)
    );
}
