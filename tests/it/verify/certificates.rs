//! This member's own certificate.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use super::{Trial, stores::put_on};
use crate::{
    stores::{dynamo_config, dynamo_server, s3_config, s3_server},
    support::ports::{free_port, loopback},
};

use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

/// What is special about a certificate.
pub(super) struct Made {
    pub(super) sans: &'static [&'static str],
    pub(super) usages: &'static [ExtendedKeyUsagePurpose],
    pub(super) from: Duration,
    pub(super) until: Duration,
    pub(super) is_foreign: bool,
    pub(super) authority_until: Duration,
}

pub(super) const GOOD: Made = Made {
    sans: &["127.0.0.1"],
    usages: &[ServerAuth, ClientAuth],
    from: Duration::days(-10),
    until: Duration::days(90),
    is_foreign: false,
    authority_until: Duration::days(900),
};

fn authority(made: &Made) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.not_before = OffsetDateTime::now_utc() - Duration::days(100);
    params.not_after = OffsetDateTime::now_utc() + made.authority_until;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
        .distinguished_name
        .push(DnType::CommonName, "authority of a test");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params, KeyPair::generate().unwrap())
}

/// A member with this certificate, for http.tls and the mesh.
pub(super) fn trial(made: &Made) -> Trial {
    let mut trial = Trial::alone(loopback(1), free_port(1), free_port(1));
    let (params, key) = authority(made);
    fs::write(trial.path("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = match made.is_foreign {
        true => Issuer::new(params, KeyPair::generate().unwrap()),
        false => Issuer::new(params, key),
    };
    let mut params =
        CertificateParams::new(made.sans.iter().map(|san| (*san).to_owned()).collect::<Vec<_>>()).unwrap();
    params.extended_key_usages = made.usages.to_vec();
    params.not_before = OffsetDateTime::now_utc() + made.from;
    params.not_after = OffsetDateTime::now_utc() + made.until;
    let key = KeyPair::generate().unwrap();
    fs::write(
        trial.path("m.crt"),
        params.signed_by(&key, &issuer).unwrap().pem(),
    )
    .unwrap();
    fs::write(trial.path("m.key"), key.serialize_pem()).unwrap();
    let (ca, cert, key) = (trial.path("ca.crt"), trial.path("m.crt"), trial.path("m.key"));
    trial.tls(&ca, &cert, &key);
    trial
}

#[tokio::test]
async fn a_good_certificate_is_good() {
    let said = trial(&GOOD).verify().await;
    said.is_good()
        .has("ok", &["this member", "127.0.0.1"])
        .has("ok", &["certificate of the mesh", "until 2"])
        .has("ok", &["certificate of the mesh", "chains to", "names 127.0.0.1"])
        .has("ok", &["http.address", "is free"])
        .has("ok", &["mesh address", "is free"]);
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_with_what_to_change() {
    let day = Duration::days(1);
    for (made, words) in [
        (Made { until: -day, ..GOOD }, &["expired on", "renew it"][..]),
        (Made { from: day, ..GOOD }, &["is valid from", "clock"]),
        (
            Made {
                is_foreign: true,
                ..GOOD
            },
            &["doesn't chain to", "cluster.tls.cacert"],
        ),
        (
            Made {
                sans: &["127.0.0.2", "m1"],
                ..GOOD
            },
            &["doesn't name 127.0.0.1", "SAN"],
        ),
        (
            Made {
                usages: &[ServerAuth],
                ..GOOD
            },
            &["lacks", "clientAuth", "serverAuth and clientAuth"],
        ),
        (
            Made {
                usages: &[ClientAuth],
                ..GOOD
            },
            &["lacks", "usage serverAuth"],
        ),
    ] {
        trial(&made)
            .verify()
            .await
            .is_bad()
            .has("FAIL  certificate of the mesh", words);
    }
    let both = Made {
        usages: &[ServerAuth],
        sans: &["m1"],
        ..GOOD
    };
    let said = trial(&both).verify().await;
    said.is_bad()
        .has("FAIL", &["clientAuth"])
        .has("FAIL", &["doesn't name"]);
}

#[tokio::test]
async fn a_certificate_that_expires_soon_is_a_warning() {
    let soon = Made {
        until: Duration::days(5),
        ..GOOD
    };
    let said = trial(&soon).verify().await;
    said.is_good().has(
        "warn",
        &["certificate of the mesh", "expires on", "renew it soon"],
    );
}

#[tokio::test]
async fn an_authority_that_ends_is_told_too() {
    for (days, verdict, words) in [
        (5, "warn", "expires on"),
        (-5, "FAIL", "expired on"),
        (50, "ok  ", "until 2"),
    ] {
        let made = Made {
            authority_until: Duration::days(days),
            ..GOOD
        };
        let said = trial(&made).verify().await;
        said.has(&format!("{verdict}  authority of the mesh"), &["ca.crt", words]);
    }
}

#[tokio::test]
async fn files_that_are_no_pair_are_named() {
    let mut trial = trial(&GOOD);
    fs::write(trial.path("m.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    trial.config["http"]["tls"] =
        serde_json::json!({ "cert": trial.path("m.crt"), "key": trial.path("none.key") });
    let said = trial.verify().await;
    said.is_bad()
        .has(
            "FAIL  certificate of the mesh",
            &["m.crt", "m.key", "can't be used together"],
        )
        .has("FAIL  certificate of http.tls", &["none.key", "can't be read"]);
}

#[tokio::test]
async fn addresses_that_are_not_here_are_named() {
    let mut trial = trial(&GOOD);
    // Documentation's, so nobody has it.
    trial.config["http"]["address"] = "192.0.2.1".into();
    trial.config["cluster"]["members"][0] = format!("192.0.2.1:{}", trial.config["http"]["port"]).into();
    let said = trial.verify().await;
    said.is_bad()
        .has("FAIL  http.address", &["192.0.2.1", "no address of this machine"])
        .has("FAIL  mesh address", &["192.0.2.1", "no address of this machine"])
        .has("FAIL  certificate of the mesh", &["doesn't name 192.0.2.1"]);
}

#[tokio::test]
async fn without_a_list_of_members_the_san_makes_a_members_certificate() {
    for (san, is_good) in [
        ("m1.mesh.internal", true),
        ("*.mesh.internal", true),
        ("mesh.internal", false),
    ] {
        // It needn't name its host, which nobody lists.
        let mut trial = trial(&Made {
            sans: &["m1.mesh.internal"],
            ..GOOD
        });
        put_on(
            &mut trial,
            &s3_config(&s3_server()),
            &dynamo_config(&dynamo_server()),
        );
        let cluster = &mut trial.config["cluster"];
        cluster.as_object_mut().unwrap().remove("members");
        cluster["tls"]["memberSan"] = san.into();
        let said = trial.verify().await;
        match is_good {
            true => said
                .is_good()
                .has("ok    certificate of the mesh", &["names m1.mesh.internal"]),
            false => said.is_bad().has(
                "FAIL  certificate of the mesh",
                &["cluster.tls.memberSan", "mesh.internal", "issue it anew"],
            ),
        };
    }
}
