//! Certificates that end: each member says so of its own and of the authorities it trusts, in its log and as a metric,
//! days ahead. Deliberately absent: renewing them.

use std::{path::PathBuf, sync::Arc};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    config::{MeshTls, PairSource, limits::CertificateLimits},
    net::{ClientCertificates, Life, Phase, ServerSpec, TlsError},
    telemetry::Metrics,
};

/// A file of certificates.
#[derive(Clone, Debug)]
pub(super) struct CertificateFile {
    /// The key of the configuration that names it.
    pub(super) key: &'static str,
    pub(super) file: PathBuf,
    holds: Holds,
}

#[derive(Clone, Copy, Debug)]
enum Holds {
    /// A certificate and its intermediates.
    Chain,
    /// Certificates of authorities.
    Authorities,
}

impl CertificateFile {
    pub(super) fn life(&self) -> Result<Life, TlsError> {
        match self.holds {
            Holds::Chain => Life::of_chain(&self.file),
            Holds::Authorities => Life::of_authorities(&self.file),
        }
    }
}

/// All files of certificates that a member uses, each once.
pub(super) fn files(public: Option<&ServerSpec>, mesh: Option<&MeshTls>) -> Vec<CertificateFile> {
    let file = |key, file: &PathBuf, holds| CertificateFile {
        key,
        file: file.clone(),
        holds,
    };
    let mut files = Vec::new();
    if let Some(public) = public {
        files.push(file("http.tls.cert", &public.files.certificate, Holds::Chain));
        match &public.clients {
            ClientCertificates::Ignored => {}
            ClientCertificates::Optional(ca) | ClientCertificates::Required(ca) => {
                files.push(file("http.tls.cacert", ca, Holds::Authorities));
            }
        }
    }
    if let Some(mesh) = mesh {
        match mesh.pair {
            PairSource::Cluster => files.push(file("cluster.tls.cert", &mesh.cert, Holds::Chain)),
            // That of http.tls.
            PairSource::Public => {}
        }
        files.push(file("cluster.tls.cacert", &mesh.ca, Holds::Authorities));
    }
    files
}

/// A time as people and programs read it.
pub(super) fn stamp(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// Looks at the files until `ended`.
pub(super) async fn watch(
    files: Vec<CertificateFile>,
    metrics: Arc<Metrics>,
    limits: CertificateLimits,
    ended: CancellationToken,
) {
    let mut said: Vec<Option<(Phase, Instant)>> = vec![None; files.len()];
    loop {
        for (file, said) in files.iter().zip(&mut said) {
            // A file that can't be read now has been said by whoever reads it again.
            let Ok(life) = file.life() else { continue };
            metrics.certificate_ends(file.key, life.until.unix_timestamp());
            let phase = life.phase(now(), limits.soon);
            let is_news =
                said.is_none_or(|(former, when)| former != phase || when.elapsed() >= limits.warn_every);
            if is_news {
                say(file, life, phase);
                *said = Some((phase, Instant::now()));
            }
        }
        if ended
            .run_until_cancelled(sleep(limits.look_every))
            .await
            .is_none()
        {
            return;
        }
    }
}

fn now() -> OffsetDateTime {
    let seconds = i64::try_from(clock::now_ms() / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn say(file: &CertificateFile, life: Life, phase: Phase) {
    let (key, path) = (file.key, file.file.display());
    let (from, until) = (stamp(life.from), stamp(life.until));
    match phase {
        Phase::Valid => {}
        Phase::EndsSoon => tracing::warn!(key, file = %path, until, "a certificate ends soon: renew it"),
        Phase::Ended => tracing::error!(key, file = %path, until, "a certificate has ended: renew it"),
        Phase::NotYet => {
            tracing::error!(key, file = %path, from, "a certificate isn't valid yet: is the clock right?");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, path::Path};

    use parking_lot::Mutex;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A file of certificates that end so many days from now.
    fn written(path: &Path, days: &[i64]) {
        let pem = days.iter().map(|days| {
            let mut params = CertificateParams::new(vec!["m".to_owned()]).unwrap();
            params.not_before = OffsetDateTime::now_utc() - time::Duration::days(100);
            params.not_after = OffsetDateTime::now_utc() + time::Duration::days(*days);
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
        });
        fs::write(path, pem.collect::<String>()).unwrap();
    }

    #[tokio::test]
    async fn ends_of_certificates_are_a_metric_and_a_line_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let file = |key, name: &str, holds, days: &[i64]| {
            let file = folder.path().join(name);
            written(&file, days);
            CertificateFile { key, file, holds }
        };
        let files = vec![
            // The first of a chain to end ends it, the last of several authorities.
            file("http.tls.cert", "public", Holds::Chain, &[90, 5]),
            file("http.tls.cacert", "clients", Holds::Authorities, &[-5, 90]),
            file("cluster.tls.cert", "member", Holds::Chain, &[90]),
            file("cluster.tls.cacert", "members", Holds::Authorities, &[-1]),
        ];
        let (lines, metrics) = (Lines::default(), Arc::new(Metrics::new()));
        let log = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || log.clone())
            .with_ansi(false)
            .finish();
        let ended = CancellationToken::new();
        ended.cancel();
        let pace = CertificateLimits::default();
        {
            let _guard = tracing::subscriber::set_default(subscriber);
            watch(files, metrics.clone(), pace, ended).await;
        }
        let said = String::from_utf8(lines.0.lock().clone()).unwrap();
        let said: Vec<&str> = said.lines().collect();
        assert_eq!(said.len(), 2, "{said:#?}");
        assert!(
            said[0].contains("WARN") && said[0].contains("ends soon") && said[0].contains("http.tls.cert")
        );
        assert!(
            said[1].contains("ERROR") && said[1].contains("has ended"),
            "{said:#?}"
        );
        assert!(said[1].contains("cluster.tls.cacert"), "{said:#?}");
        let text = metrics.render();
        for (key, days) in [
            ("http.tls.cert", 5),
            ("http.tls.cacert", 90),
            ("cluster.tls.cert", 90),
            ("cluster.tls.cacert", -1),
        ] {
            let name = format!("portolan_certificate_end_timestamp_seconds{{certificate=\"{key}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
            let until: i64 = line.parse().unwrap();
            let left = until - OffsetDateTime::now_utc().unix_timestamp();
            assert_eq!((left + 43_200).div_euclid(86_400), days, "{key}: {left} s");
        }
    }
}
