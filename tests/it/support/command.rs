//! The real program's commands, which end by themselves.

use std::process::Output;

use tokio::process::Command;

use super::PATIENCE;

pub(crate) async fn run(mut command: Command) -> Output {
    let output = command.output();
    tokio::time::timeout(PATIENCE, output)
        .await
        .expect("it ends")
        .unwrap()
}

/// What it prints, and what it says besides, when all goes well.
pub(crate) async fn well(command: Command) -> (String, String) {
    let output = run(command).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}: {said}", output.status);
    (String::from_utf8(output.stdout).unwrap(), said)
}

/// What it complains of, by an exit status of 1, or 2 where its arguments are wrong.
pub(crate) async fn refused(command: Command) -> String {
    let output = run(command).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "{}: {said}",
        output.status
    );
    said
}
