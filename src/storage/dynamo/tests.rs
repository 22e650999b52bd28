//! What this driver makes of DynamoDB's answers, of those in particular that no counterpart of DynamoDB gives: conflicts,
//! throttling, faults, silence. The contract is checked on a counterpart, dynoxide, by the integration tests.

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    client::Dynamo,
    server::{Reply, Server},
    *,
};
use crate::storage::StoreErrorKind;

mod opening;

fn tables() -> DynamoTables {
    let name = str::to_owned;
    DynamoTables {
        cache: name("Cache"),
        repo_meta: name("RepoMeta"),
        image_meta: name("ImageMeta"),
        repo_blobs_info: name("RepoBlobsInfo"),
        user_data: name("UserData"),
        api_key: name("ApiKey"),
        version: name("Version"),
        uploads: name("Uploads"),
        members: name("Members"),
    }
}

const ATTEMPTS: u32 = 4;

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.dynamo.attempts = ATTEMPTS;
    limits
}

fn config(endpoint: &str) -> aws_sdk_dynamodb::config::Builder {
    aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-2"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
}

fn store(endpoint: &str, limits: &Limits) -> DynamoMeta {
    DynamoMeta {
        dynamo: Dynamo::from_config(config(endpoint), limits),
        tables: tables(),
    }
}

fn key(sort: &str) -> Key {
    Key {
        space: Space::Links,
        partition: "p".to_owned(),
        sort: sort.to_owned(),
    }
}

/// A transaction of one item, and one of two.
fn transactions() -> [Vec<Op>; 3] {
    let put = key("a").put(Expect::Absent, "1");
    [
        vec![put.clone()],
        vec![key("a").delete(Expect::Version(Version::random()))],
        vec![put, key("b").check(Expect::Absent)],
    ]
}

fn error(status: u16, code: &str) -> Reply {
    let kind = format!("com.amazonaws.dynamodb.v20120810#{code}");
    Reply::Answer(status, json!({ "__type": kind, "message": "as scripted" }))
}

fn cancelled(reasons: &[&str]) -> Reply {
    let reasons: Vec<Value> = reasons.iter().map(|code| json!({ "Code": code })).collect();
    Reply::Answer(
        400,
        json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "Message": "as scripted",
            "CancellationReasons": reasons,
        }),
    )
}

fn done() -> Reply {
    Reply::Answer(200, json!({}))
}

/// The replies one by one, and then the last one again and again.
async fn scripted(replies: impl IntoIterator<Item = Reply>) -> Server {
    let replies: Vec<Reply> = replies.into_iter().collect();
    let next = Mutex::new(0);
    Server::start(move |_, _| {
        let mut next = next.lock();
        let reply = replies[(*next).min(replies.len() - 1)].clone();
        *next += 1;
        reply
    })
    .await
}

async fn transact(server: &Server, ops: &[Op]) -> Result<Outcome, StoreErrorKind> {
    let outcome = store(&server.endpoint, &limits())
        .transact(Version::random(), ops)
        .await;
    outcome.map_err(|error| error.kind())
}

#[tokio::test]
async fn a_write_that_was_cut_off_is_unknown_and_is_not_sent_again() {
    for ops in transactions() {
        let server = scripted([Reply::Cut]).await;
        assert_eq!(transact(&server, &ops).await, Ok(Outcome::Unknown));
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_write_that_is_not_answered_is_unknown_and_is_not_sent_again() {
    let mut impatient = limits();
    impatient.dynamo.answer = Duration::from_millis(300);
    for ops in transactions() {
        let server = scripted([Reply::Never]).await;
        let outcome = store(&server.endpoint, &impatient)
            .transact(Version::random(), &ops)
            .await;
        assert_eq!(outcome.unwrap(), Outcome::Unknown);
        assert!(server.asked().len() <= 1);
    }
}

#[tokio::test]
async fn a_write_that_met_a_fault_of_the_server_is_unknown() {
    let gibberish = Reply::Answer(200, Value::String("not what was asked for".to_owned()));
    for reply in [
        error(500, "InternalServerError"),
        error(503, "ServiceUnavailable"),
        Reply::Answer(502, Value::Null),
        gibberish,
    ] {
        for ops in transactions() {
            let server = scripted([reply.clone()]).await;
            assert_eq!(transact(&server, &ops).await, Ok(Outcome::Unknown), "{reply:?}");
            assert_eq!(server.asked().len(), 1);
        }
    }
}

#[tokio::test]
async fn an_answer_to_a_read_that_can_not_be_understood_is_said_with_its_reason() {
    let server = scripted([Reply::Answer(
        200,
        Value::String("not what was asked for".to_owned()),
    )])
    .await;
    let error = store(&server.endpoint, &limits())
        .get(&key("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported);
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("expected StartObject"), "{reason}");
}

#[tokio::test]
async fn a_write_that_was_never_sent_had_no_effect() {
    let refusing = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for ops in transactions() {
        let error = store(&refusing, &limits())
            .transact(Version::random(), &ops)
            .await;
        assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_write_without_credentials_had_no_effect() {
    let server = scripted([done()]).await;
    let nobody = ProfileFileCredentialsProvider::builder()
        .profile_name("there-is-no-such-profile")
        .build();
    let config = config(&server.endpoint).credentials_provider(nobody);
    let store = DynamoMeta {
        dynamo: Dynamo::from_config(config, &limits()),
        tables: tables(),
    };
    for ops in transactions() {
        let error = store.transact(Version::random(), &ops).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("credential"), "{source}");
    }
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn throttling_and_conflicts_are_tried_again() {
    for ops in transactions() {
        for refusal in [
            error(400, "ThrottlingException"),
            error(400, "ProvisionedThroughputExceededException"),
            error(400, "RequestLimitExceeded"),
            error(503, "ThrottlingException"),
            error(400, "TransactionConflictException"),
            error(400, "TransactionInProgressException"),
            Reply::Answer(429, Value::Null),
        ] {
            let server = scripted([refusal.clone(), refusal.clone(), done()]).await;
            assert_eq!(
                transact(&server, &ops).await,
                Ok(Outcome::Committed),
                "{refusal:?}"
            );
            let asked = server.asked();
            assert_eq!(asked.len(), 3);
            assert!(
                asked.iter().all(|request| *request == asked[0]),
                "the same request, with the same token"
            );
        }
    }
    let [.., several] = transactions();
    for code in [
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
    ] {
        let server = scripted([cancelled(&["None", code]), cancelled(&[code, "None"]), done()]).await;
        assert_eq!(
            transact(&server, &several).await,
            Ok(Outcome::Committed),
            "{code}"
        );
    }
}

#[tokio::test]
async fn attempts_are_bounded_and_end_with_the_reason() {
    let [one, _, several] = transactions();
    for (ops, reply, expected) in [
        (
            &one,
            error(400, "TransactionConflictException"),
            Err(StoreErrorKind::Contended),
        ),
        (
            &one,
            error(400, "ThrottlingException"),
            Err(StoreErrorKind::Throttled),
        ),
        (
            &several,
            cancelled(&["None", "TransactionConflict"]),
            Err(StoreErrorKind::Contended),
        ),
        (
            &several,
            cancelled(&["ThrottlingError", "TransactionConflict"]),
            Err(StoreErrorKind::Throttled),
        ),
        // An earlier sending of this very transaction is at work: it may yet be applied.
        (
            &several,
            error(400, "TransactionInProgressException"),
            Ok(Outcome::Unknown),
        ),
    ] {
        let server = scripted([reply.clone()]).await;
        assert_eq!(transact(&server, ops).await, expected, "{reply:?}");
        assert_eq!(server.asked().len(), ATTEMPTS as usize);
    }
}

#[tokio::test]
async fn refusals_that_are_final_are_not_tried_again() {
    for (code, kind, requests) in [
        ("ValidationException", StoreErrorKind::Misuse, 1),
        ("IdempotentParameterMismatchException", StoreErrorKind::Misuse, 1),
        ("ResourceNotFoundException", StoreErrorKind::Unavailable, 1),
        ("SomethingNewException", StoreErrorKind::Unavailable, 1),
        ("UnknownOperationException", StoreErrorKind::Unsupported, 1),
        // Once more: the answer told the time, and a wrong clock is one cause of these.
        ("AccessDeniedException", StoreErrorKind::Denied, 2),
        ("InvalidSignatureException", StoreErrorKind::Denied, 2),
    ] {
        for ops in transactions() {
            let server = scripted([error(400, code)]).await;
            assert_eq!(transact(&server, &ops).await, Err(kind), "{code}");
            assert_eq!(server.asked().len(), requests, "{code}");
        }
    }
}

#[tokio::test]
async fn a_busy_item_before_a_condition_that_fails_is_asked_for_again() {
    let [.., several] = transactions();
    let server = scripted([
        cancelled(&["TransactionConflict", "ConditionalCheckFailed"]),
        cancelled(&["ConditionalCheckFailed", "ConditionalCheckFailed"]),
    ])
    .await;
    let refused = Outcome::Refused {
        index: 0,
        current: None,
    };
    assert_eq!(transact(&server, &several).await, Ok(refused));
    let server = scripted([cancelled(&["ConditionalCheckFailed", "TransactionConflict"])]).await;
    let refused = transact(&server, &several).await;
    assert!(matches!(refused, Ok(Outcome::Refused { index: 0, .. })));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_refusal_that_shows_our_own_version_is_a_commit() {
    let version = Version::random();
    for (shown, committed) in [(version, true), (Version::random(), false)] {
        let item = json!({
            "pk": { "S": "p" },
            "sk": { "S": "a" },
            "v": { "B": base64(&shown.to_bytes()) },
            "d": { "B": base64(b"row") },
        });
        let single = json!({
            "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
            "message": "as scripted",
            "Item": item,
        });
        let several = json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "message": "as scripted",
            "CancellationReasons": [{ "Code": "ConditionalCheckFailed", "Item": item }, { "Code": "None" }],
        });
        let [put, delete, two] = transactions();
        for (ops, answer) in [(put, &single), (delete, &single), (two, &several)] {
            let server = scripted([Reply::Answer(400, answer.clone())]).await;
            let outcome = store(&server.endpoint, &limits()).transact(version, &ops).await;
            let expected = match committed {
                true => Outcome::Committed,
                false => Outcome::Refused {
                    index: 0,
                    current: Some(Row {
                        bytes: Bytes::from_static(b"row"),
                        version: shown,
                    }),
                },
            };
            assert_eq!(outcome.unwrap(), expected);
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, n| bits << 8 | u32::from(*group.get(n).unwrap_or(&0)));
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n)) as usize % 64];
            text.push(if n <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[tokio::test]
async fn reads_are_tried_again_whatever_went_wrong() {
    for fault in [
        Reply::Cut,
        error(500, "InternalServerError"),
        error(400, "ThrottlingException"),
        Reply::Answer(503, Value::Null),
    ] {
        let server = scripted([fault.clone(), fault.clone(), done()]).await;
        let store = store(&server.endpoint, &limits());
        assert_eq!(store.get(&key("a")).await.unwrap(), None, "{fault:?}");
        assert_eq!(server.asked().len(), 3);

        let server = scripted([fault.clone()]).await;
        let store = self::store(&server.endpoint, &limits());
        let error = store.range(Space::Links, "p", "a", None, 10).await.unwrap_err();
        let expected = match fault {
            Reply::Answer(400, _) => StoreErrorKind::Throttled,
            _ => StoreErrorKind::Unavailable,
        };
        assert_eq!(
            (error.kind(), server.asked().len()),
            (expected, ATTEMPTS as usize)
        );
    }
}

#[tokio::test]
async fn reads_are_strongly_consistent() {
    let server = scripted([done()]).await;
    let store = store(&server.endpoint, &limits());
    store.get(&key("a")).await.unwrap();
    store.range(Space::Links, "p", "a", None, 10).await.unwrap();
    store.get_many(&[key("a"), key("b")]).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].body["ConsistentRead"], true);
    assert_eq!(asked[1].body["ConsistentRead"], true);
    assert_eq!(
        asked[2].body["RequestItems"]["RepoBlobsInfo"]["ConsistentRead"],
        true
    );
}

#[tokio::test]
async fn keys_that_were_not_processed_are_asked_for_again() {
    let left = |sorts: &[&str]| {
        let keys: Vec<Value> = sorts
            .iter()
            .map(|sort| json!({ "pk": { "S": "p" }, "sk": { "S": sort } }))
            .collect();
        Reply::Answer(
            200,
            json!({ "UnprocessedKeys": { "RepoBlobsInfo": { "Keys": keys, "ConsistentRead": true } } }),
        )
    };
    let keys = ["a", "b", "c"].map(key);
    let server = scripted([left(&["b", "c"]), left(&["b", "c"]), left(&["c"]), done()]).await;
    let rows = store(&server.endpoint, &limits()).get_many(&keys).await.unwrap();
    assert_eq!(rows, [None, None, None]);
    let counts: Vec<usize> = server
        .asked()
        .iter()
        .map(|request| {
            let keys = &request.body["RequestItems"]["RepoBlobsInfo"]["Keys"];
            keys.as_array().unwrap().len()
        })
        .collect();
    assert_eq!(counts, [3, 2, 2, 1]);

    let server = scripted([left(&["a", "b", "c"])]).await;
    let error = store(&server.endpoint, &limits())
        .get_many(&keys)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Throttled);
}

#[tokio::test]
async fn a_range_that_can_hold_nothing_asks_for_nothing() {
    let server = scripted([done()]).await;
    let store = store(&server.endpoint, &limits());
    let page = store
        .range(Space::Links, "p", "t#", Some("t$"), 10)
        .await
        .unwrap();
    assert_eq!((page, server.asked().len()), (Page::default(), 0));
}

#[tokio::test]
async fn no_more_requests_are_on_their_way_than_allowed() {
    let server = scripted([done()]).await;
    let mut narrow = limits();
    narrow.dynamo.requests = 2;
    let store = store(&server.endpoint, &narrow);
    let gets = (0..20).map(|n| {
        let key = key(&n.to_string());
        let store = &store;
        async move { store.get(&key).await.unwrap() }
    });
    futures_util::future::join_all(gets).await;
    assert_eq!(server.asked().len(), 20);
    assert!(server.most_at_once() <= 2, "{}", server.most_at_once());
}
