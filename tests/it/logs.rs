//! Log and audit of the real program: files that are renamed, a disk that is full, and signals that mean no end.

use std::{fs, os::unix::fs::symlink, path::Path};

use tokio::process::Command;

use crate::support::{
    client::{Ask as _, Http, Request},
    eventually,
    metrics::Metrics,
    process::{Dev, Process},
};

async fn signal(process: &Process, name: &str) {
    let pid = process.pid().to_string();
    let status = Command::new("kill").args([name, &pid]).status().await.unwrap();
    assert!(status.success());
}

/// A mesh whose log goes to `log` and whose audit goes to `audit`.
async fn start(folder: &Path, log: &Path, audit: &Path) -> Process {
    let config = folder.join("config.json");
    let text = serde_json::json!({
        "storage": { "rootDirectory": folder.join("unused") },
        "log": { "output": log, "audit": audit, "auditRequired": true },
    });
    fs::write(&config, text.to_string()).unwrap();
    Dev {
        config: Some(config),
        ..Dev::new(folder)
    }
    .start()
    .await
}

/// Starts an upload, which is a line of the audit.
async fn change(process: &Process, member: usize) {
    let upload = Request::post("/v2/a/blobs/uploads/").body("");
    process.client(member).ask(upload).await.unwrap().expect(202);
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_that_cant_be_written_is_said_and_none_of_it_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (log, audit) = (folder.path().join("out"), folder.path().join("audit"));
    let disk = folder.path().join("disk");
    // A full disk: whatever is written to this device fails like that.
    symlink("/dev/full", &audit).unwrap();
    let mut process = start(folder.path(), &log, &audit).await;
    for member in 0..3 {
        change(&process, member).await;
    }
    for member in 0..3 {
        for http in [Http::One, Http::Two] {
            let client = crate::support::client::Client::new(process.doors[member], http);
            let answer = client.ask(Request::get("/readyz")).await.unwrap().expect(503);
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(
                said.contains("the audit can't be written: No space left"),
                "{said}"
            );
        }
        let metrics = Metrics::ask(&process.client(member)).await;
        assert_eq!(
            metrics.sum("portolan_log_lines_waiting", &[("log", "audit")]),
            3.0
        );
        assert_eq!(metrics.sum("portolan_log_lines_lost_total", &[]), 0.0);
    }
    eventually("the log says it", || async {
        fs::read_to_string(&log)
            .unwrap()
            .contains("the audit can't be written")
    })
    .await;

    fs::remove_file(&audit).unwrap();
    symlink(&disk, &audit).unwrap();
    signal(&process, "-HUP").await;
    eventually("the members are ready again", || async {
        let answer = process.client(1).ask(Request::get("/readyz")).await.unwrap();
        answer.status == 200
    })
    .await;
    assert_eq!(lines(&disk), 3);
    assert!(
        fs::read_to_string(&disk)
            .unwrap()
            .lines()
            .all(|line| line.ends_with('}'))
    );
    let metrics = Metrics::ask(&process.client(0)).await;
    assert_eq!(metrics.sum("portolan_log_lines_waiting", &[]), 0.0);
    process.terminate().await;
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renamed_files_are_opened_anew_and_no_such_signal_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (log, audit) = (folder.path().join("out"), folder.path().join("audit"));
    let mut process = start(folder.path(), &log, &audit).await;
    for (n, name) in ["-HUP", "-USR1"].into_iter().enumerate() {
        change(&process, n).await;
        let old = [&log, &audit].map(|file| {
            let renamed = file.with_extension(n.to_string());
            fs::rename(file, &renamed).unwrap();
            renamed
        });
        signal(&process, name).await;
        eventually("both files are there again", || async {
            log.exists() && audit.exists()
        })
        .await;
        assert_eq!(lines(&old[1]), 1, "{name}");
        change(&process, n).await;
        eventually("the new files have the new lines", || async {
            lines(&log) > 0 && lines(&audit) == 1
        })
        .await;
        fs::remove_file(&audit).unwrap();
        signal(&process, name).await;
        eventually("the audit is there again", || async { audit.exists() }).await;
    }
    signal(&process, "-USR2").await;
    change(&process, 2).await;
    assert!(process.is_running());
    process.terminate().await;
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_files_signals_mean_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Dev::new(folder.path()).start().await;
    for name in ["-HUP", "-USR1", "-USR2", "-HUP"] {
        signal(&process, name).await;
        change(&process, 1).await;
    }
    process.says("SIGUSR2 asks for nothing").await;
    assert!(process.is_running());
    process.terminate().await;
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.said());
}
