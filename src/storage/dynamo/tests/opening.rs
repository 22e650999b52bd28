//! What opening asks for and says.

use std::collections::BTreeSet;

use super::*;

/// A table as DynamoDB describes it.
fn described(status: &str, keys: &[(&str, &str, &str)]) -> Reply {
    let schema: Vec<Value> = keys
        .iter()
        .map(|(name, role, _)| json!({ "AttributeName": name, "KeyType": role }))
        .collect();
    let attributes: Vec<Value> = keys
        .iter()
        .map(|(name, _, kind)| json!({ "AttributeName": name, "AttributeType": kind }))
        .collect();
    Reply::Answer(
        200,
        json!({ "Table": {
            "TableStatus": status,
            "KeySchema": schema,
            "AttributeDefinitions": attributes,
        } }),
    )
}

/// What a server says to a transaction whose conditions don't hold, and to everything else that a start asks for.
fn started(target: &str) -> Reply {
    match target {
        "TransactWriteItems" => cancelled(&["ConditionalCheckFailed", "None", "None"]),
        _ => done(),
    }
}

const OURS: [(&str, &str, &str); 2] = [("pk", "HASH", "S"), ("sk", "RANGE", "S")];

async fn open(server: &Server, limits: &Limits) -> Result<DynamoMeta, TablesError> {
    let dynamo = Dynamo::from_config(config(&server.endpoint), limits);
    DynamoMeta::open_with(dynamo, &tables(), limits).await
}

#[tokio::test]
async fn a_start_on_tables_that_are_there_looks_at_each_once() {
    let server = Server::start(|target, _| match target {
        "DescribeTable" => described("ACTIVE", &OURS),
        target => started(target),
    })
    .await;
    open(&server, &limits()).await.unwrap();
    let asked: Vec<String> = server.asked().into_iter().map(|request| request.target).collect();
    assert_eq!(
        asked.iter().filter(|target| *target == "DescribeTable").count(),
        9
    );
    assert_eq!(&asked[9..], ["TransactWriteItems", "GetItem", "PutItem"]);
}

#[tokio::test]
async fn tables_without_transactions_are_refused_by_name_before_anything_is_written() {
    for (reply, reason) in [
        (
            error(400, "UnknownOperationException"),
            "UnknownOperationException",
        ),
        (
            Reply::Answer(501, Value::Null),
            "doesn't do what it was asked for",
        ),
        (done(), "whose conditions don't hold"),
        (error(400, "AccessDeniedException"), "denies access"),
    ] {
        let server = Server::start(move |target, _| match target {
            "DescribeTable" => described("ACTIVE", &OURS),
            "TransactWriteItems" => reply.clone(),
            _ => done(),
        })
        .await;
        let told = open(&server, &limits()).await.err().unwrap();
        assert!(matches!(told, TablesError::Transactions { .. }), "{told:?}");
        let told = format!("{:#}", anyhow::Error::from(told));
        for part in [
            "TransactWriteItems",
            "Version (storage.cacheDriver.versionTablename)",
            reason,
        ] {
            assert!(told.contains(part), "{told}");
        }
        let asked = server.asked();
        assert!(
            !asked.iter().any(|request| request.target == "PutItem"),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn a_table_that_is_being_made_is_waited_for_and_one_that_never_is_usable_is_named() {
    let looks = Mutex::new(0);
    let server = Server::start(move |target, _| {
        let mut looks = looks.lock();
        match target {
            "DescribeTable" if *looks < 12 => {
                *looks += 1;
                described("CREATING", &OURS)
            }
            "DescribeTable" => described("ACTIVE", &OURS),
            target => started(target),
        }
    })
    .await;
    open(&server, &limits()).await.unwrap();

    let server = scripted([described("ARCHIVED", &OURS)]).await;
    let mut impatient = limits();
    impatient.dynamo.create = Duration::from_millis(300);
    let told = open(&server, &impatient).await.err().unwrap().to_string();
    assert!(
        told.contains("Cache (storage.cacheDriver.cacheTablename) is ARCHIVED"),
        "{told}"
    );
}

#[tokio::test]
async fn without_the_right_to_make_tables_the_start_says_which_and_how() {
    let server = Server::start(|target, _| match target {
        "DescribeTable" => error(400, "ResourceNotFoundException"),
        _ => error(400, "AccessDeniedException"),
    })
    .await;
    let told = open(&server, &limits()).await.err().unwrap().to_string();
    for part in [
        "Cache",
        "storage.cacheDriver.cacheTablename",
        "dynamodb:CreateTable",
        "pk",
        "sk",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn the_sample_policy_grants_what_is_asked_for_and_no_more() {
    let server = Server::start(|target, _| match target {
        "DescribeTable" => error(400, "ResourceNotFoundException"),
        _ => done(),
    })
    .await;
    let mut impatient = limits();
    impatient.dynamo.create = Duration::ZERO;
    assert!(open(&server, &impatient).await.is_err());
    let store = store(&server.endpoint, &limits());
    store.get(&key("a")).await.unwrap();
    store.get_many(&[key("a")]).await.unwrap();
    store.range(Space::Links, "p", "", None, 1).await.unwrap();
    for ops in transactions() {
        store.transact(Version::random(), &ops).await.unwrap();
    }
    let asked: BTreeSet<String> = server
        .asked()
        .into_iter()
        .map(|request| match request.target.as_str() {
            // Its puts and deletes take the rights that they take alone.
            "TransactWriteItems" => "dynamodb:ConditionCheckItem".to_owned(),
            target => format!("dynamodb:{target}"),
        })
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/iam/dynamodb.json");
    let policy: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let granted: BTreeSet<String> = policy["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|statement| statement["Action"].as_array().unwrap())
        .filter_map(|action| action.as_str().filter(|action| action.starts_with("dynamodb:")))
        .map(str::to_owned)
        .collect();
    assert_eq!(granted, asked);
}
