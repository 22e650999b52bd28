//! What a directory does that no real one does when it is asked to: tests/ldap.sh has a real one.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

/// A server at a port, that does this with each connection; and how many there were.
async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections: Arc<AtomicUsize> = Arc::default();
    let counted = connections.clone();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tasks.spawn(serve(socket));
        }
    });
    (port, connections)
}

fn directory(port: u16) -> Arc<Directory> {
    let spec = Ldap {
        servers: vec!["127.0.0.1".to_owned()],
        port,
        security: LdapSecurity::Plain,
        authority: LdapAuthority::Machine,
        account: LdapAccount::Anonymous,
        base: "dc=example".to_owned(),
        subtree: true,
        user_attribute: "uid".to_owned(),
        group_attribute: None,
        user_filter: None,
    };
    let mut limits = Limits::default();
    limits.directory.connections = 1;
    limits.directory.request = Duration::from_secs(60);
    limits.passwords.patience = Duration::from_secs(60);
    Directory::load(spec, &limits).unwrap()
}

#[tokio::test]
async fn who_goes_away_makes_no_room_for_another_connection() {
    let (port, connections) = server(|socket| async move {
        let _silent = socket;
        std::future::pending::<()>().await;
    })
    .await;
    let directory = directory(port);
    for user in ["ann", "bob", "carl"] {
        let asked = timeout(Duration::from_millis(200), directory.groups(user)).await;
        assert!(asked.is_err(), "nobody answers about {user}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_ends_neither_a_look_nor_those_that_follow() {
    let (port, connections) = server(|mut socket| async move {
        let mut request = [0; 128];
        while let Ok(length @ 5..) = socket.read(&mut request).await {
            assert_eq!((request[0], request[2], length < 128), (0x30, 2, true));
            // The answer to a bind (RFC 4511, 4.2.2), with nothing of what it must have.
            let empty = [0x30, 5, 2, 1, request[4], 0x61, 0];
            socket.write_all(&empty).await.unwrap();
        }
    })
    .await;
    let directory = directory(port);
    let tasks = TaskTracker::new();
    let following = tasks.spawn(directory.clone().follow());
    let looks_again = async {
        while connections.load(Ordering::SeqCst) < 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), looks_again).await.unwrap();
    let said = directory.trouble();
    assert_eq!(said.as_deref(), Some("an answer of the directory can't be read"));
    following.abort();
}
