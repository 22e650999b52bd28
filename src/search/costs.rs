//! What questions cost, with few repositories and with many: requests to the metadata store, and memory.

use std::sync::Arc;

use futures_util::stream;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Asker, Question, Search,
    catalogue::{Completeness, Wants},
    tests::requests,
};
use crate::{
    admission::Visible,
    config::limits::SearchLimits,
    oci::{self, Algorithm, Digest},
    ownership::Incarnation,
    registry::{Holder, Registry, Settings, Stores},
    storage::{self, MemoryBlobs, MemoryMeta, MetaStore, MeteredMeta},
    telemetry::Metrics,
};

#[path = "../../benches/search/many.rs"]
mod many;

/// As zot's page asks: for a part of a name, for a repository, for what was pushed last.
const QUESTIONS: [(&str, &str, &str); 3] = [
    (
        "GlobalSearch of a name's part",
        "GlobalSearch",
        "query:\"service-0007\" requestedPage:{limit:30 offset:0 sortBy:RELEVANCE}",
    ),
    (
        "ExpandedRepoInfo",
        "ExpandedRepoInfo",
        "repo:\"team-007/service-000007\"",
    ),
    (
        "RepoListWithNewestImage by update time",
        "RepoListWithNewestImage",
        "requestedPage:{limit:30 offset:0 sortBy:UPDATE_TIME}",
    ),
];

const IMAGE: &str = "RepoName Tag Digest LastUpdated PushedBy DownloadCount LastPullTimestamp Size IsSigned \
    SignatureInfo{Tool IsTrusted Author} Description Licenses Labels Title Source Documentation Vendor Authors \
    Vulnerabilities{MaxSeverity Count}";
const REPOSITORY: &str =
    "Name LastUpdated Size Platforms{Os Arch} Vendors DownloadCount StarCount IsBookmarked IsStarred";

fn document(question: &str, arguments: &str) -> String {
    let page = "Page{TotalCount ItemCount}";
    let shown = match question {
        "GlobalSearch" => format!("{page} Repos{{{REPOSITORY} NewestImage{{{IMAGE}}}}} Images{{{IMAGE}}}"),
        "ExpandedRepoInfo" => format!(
            "Images{{{IMAGE} Manifests{{Digest Platform{{Os Arch}} Size}}}} Summary{{{REPOSITORY} NewestImage{{{IMAGE}}}}}"
        ),
        _ => format!("{page} Results{{{REPOSITORY} NewestImage{{{IMAGE}}}}}"),
    };
    format!("{{{question}({arguments}){{{shown}}}}}")
}

/// Of one number of repositories.
struct Figures {
    /// Requests of each question, the first time and again.
    requests: Vec<[u64; 2]>,
    /// Bytes of memory for each repository.
    memory: f64,
}

async fn figures(repositories: usize) -> Figures {
    let metrics = Arc::new(Metrics::new());
    let (meta, blobs) = (Arc::new(MemoryMeta::default()), Arc::new(MemoryBlobs::new()));
    let registry = |meta: Arc<dyn MetaStore>| {
        let stores = Stores {
            meta,
            blobs: blobs.clone(),
        };
        let holder = Holder {
            member: "127.0.0.1:5000".parse().unwrap(),
            incarnation: Incarnation::random(),
        };
        Arc::new(Registry::new(stores, holder, Settings::default()))
    };
    let config = Digest::of(Algorithm::Sha256, many::CONFIG);
    let body = stream::iter([Ok(many::CONFIG.into())]);
    let (pusher, pushed) = (registry(meta.clone()), "seed".parse().unwrap());
    pusher.push_blob(&pushed, &config, None, body).await.unwrap();
    many::fill(&*meta, 0..repositories).await.unwrap();

    let counted = registry(Arc::new(MeteredMeta::new(meta.clone(), metrics.clone())));
    let search = Arc::new(Search::new(counted.clone(), SearchLimits::default()));
    // What was written is what would have been found out.
    let some = many::name(repositories / 2).unwrap();
    let kept = counted.summaries(std::slice::from_ref(&some)).await.unwrap();
    let found = search.catalogue.find_out(&some).await.unwrap();
    assert_eq!(kept[0], found);
    assert!(found.is_some_and(|found| found.size > 60_000_000 && found.vendors.len() == 1));

    let (end, answers) = (CancellationToken::new(), TaskTracker::new());
    answers.spawn(search.clone().run(end.clone()));
    let ask = async |query: String| {
        let asker = Asker {
            user: Some("alice".to_owned()),
            sees: Visible::Everything,
            may_delete: Visible::Nothing,
        };
        let question = Question {
            query,
            ..Question::default()
        };
        let before = requests(&metrics);
        let answer = search.answer(asker, &question).await;
        assert!(
            !answer.is_partial && answer.body["errors"].is_null(),
            "{}",
            answer.body
        );
        (answer.body["data"].clone(), requests(&metrics) - before)
    };
    // The first look is at everything, however long that takes.
    let mut waited = 0;
    while search.catalogue.fresh(Wants::Repositories).await == Completeness::Partial {
        waited += 1;
        assert!(waited < 300, "the first look doesn't come to its end");
    }
    let mut costs = Vec::new();
    for (_, name, arguments) in QUESTIONS {
        let document = document(name, arguments);
        let (first, cold) = ask(document.clone()).await;
        let (again, warm) = ask(document).await;
        assert_eq!(first, again);
        assert_is_whole(name, &first, repositories);
        costs.push([cold, warm]);
    }
    let bytes = search.catalogue.read(|known| known.memory());
    end.cancel();
    answers.close();
    answers.wait().await;
    Figures {
        requests: costs,
        memory: bytes as f64 / repositories as f64,
    }
}

fn assert_is_whole(question: &str, data: &Value, repositories: usize) {
    let found = &data[question];
    let of_list = |list: &Value, total: usize| {
        assert_eq!(found["Page"]["TotalCount"], total, "{found}");
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), total.min(30));
        for shown in list {
            assert_eq!(shown["NewestImage"]["Vendor"], "Example Works", "{shown}");
            assert_eq!(shown["Platforms"][0]["Arch"], "amd64", "{shown}");
        }
    };
    match question {
        "GlobalSearch" => of_list(&found["Repos"], 100),
        "ExpandedRepoInfo" => {
            assert_eq!(found["Images"].as_array().unwrap().len(), many::TAGS);
            assert_eq!(found["Summary"]["Name"], "team-007/service-000007");
        }
        _ => {
            of_list(&found["Results"], repositories);
            let times = found["Results"].as_array().unwrap();
            let times: Vec<&str> = times
                .iter()
                .map(|shown| shown["LastUpdated"].as_str().unwrap())
                .collect();
            assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
        }
    }
}

/// With `PORTOLAN_TEST_THOROUGH` it takes 10,000 and 100,000 repositories instead of 1,000 and 10,000.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_takes_twelve_requests_at_most_however_many_repositories_there_are() {
    let numbers = match std::env::var_os("PORTOLAN_TEST_THOROUGH") {
        Some(_) => [10_000, 100_000],
        None => [1_000, 10_000],
    };
    let mut all = Vec::new();
    for repositories in numbers {
        let figures = figures(repositories).await;
        for ((what, ..), [cold, warm]) in QUESTIONS.into_iter().zip(&figures.requests) {
            println!("{repositories} repositories: {what} took {cold} requests the first time, then {warm}");
        }
        println!(
            "{repositories} repositories: {:.1} bytes each in a member's memory",
            figures.memory
        );
        all.push(figures);
    }
    let [of_few, of_many] = [0, 1].map(|n: usize| &all[n].requests);
    for [first, then] in of_few {
        assert!(*first <= 12 && then <= first, "{of_few:?}");
    }
    assert_eq!(of_few, of_many);
    for figures in &all {
        assert!((50.0..=100.0).contains(&figures.memory), "{}", figures.memory);
    }
}
