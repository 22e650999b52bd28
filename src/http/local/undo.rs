//! What was: what a tag named at a time, what became of names, and bringing it back.

use http::{Method, StatusCode, request};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    listings::linked,
    manifests,
    outcome::{Local, Outcome},
};
use crate::{
    admission::{Grants, Identity, Visible},
    http::{
        headers::is_known,
        reply::{Reply, next_page},
    },
    oci::{Action, Descriptor, Page, RepoName, Tag, Timestamp, Undo, paths},
    registry::{
        Left, MayBeAbsent, OfDeleted, RegistryError, Restore, Restored,
        changes::{HistoryPage, NameChange, TagMove, Why},
    },
};

impl Local {
    /// It counts as no pull: nobody keeps a tag by looking at what it was.
    pub(super) async fn manifest_at(
        &self,
        repository: &RepoName,
        tag: &Tag,
        at: Timestamp,
        head: &request::Parts,
        grants: &Grants,
    ) -> Outcome {
        let of_deleted = match [Action::Create, Action::Update, Action::Delete]
            .iter()
            .all(|action| grants.allows(repository, *action))
        {
            true => OfDeleted::Open,
            false => OfDeleted::Hidden,
        };
        let (named, document) = self
            .registry
            .manifest_at(repository, tag, at.as_ms(), of_deleted)
            .await?;
        if is_known(&head.headers, &named.digest)? {
            return Ok(manifests::described(StatusCode::NOT_MODIFIED, &named).empty());
        }
        let reply = manifests::typed(&named);
        Ok(match head.method {
            Method::HEAD => reply.head(named.size),
            _ => reply.bytes(document),
        })
    }

    /// Who did it is for those who might have done it.
    pub(super) async fn changes(
        &self,
        repository: &RepoName,
        tag: Option<&Tag>,
        limit: usize,
        before: Option<Timestamp>,
        grants: &Grants,
    ) -> Outcome {
        let tells_who = grants.allows(repository, Action::Update);
        let before_ms = before.map(Timestamp::as_ms);
        let (changes, more) = match (limit, tag) {
            (0, _) => (Vec::new(), false),
            (limit, None) => self.registry.history(repository, before_ms, limit).await?,
            (limit, Some(tag)) => self.changes_of(repository, tag, limit, before_ms).await?,
        };
        let mut reply = Reply::new(StatusCode::OK);
        if let Some(last) = changes.last().filter(|_| more) {
            let before = Timestamp::from_ms(last.at_ms).to_string();
            let limit = limit.to_string();
            let mut parameters = vec![("n", &*limit), ("before", &*before)];
            parameters.extend(tag.map(|tag| ("tag", tag.as_str())));
            reply = reply.header("link", next_page(paths::history(repository), &parameters));
        }
        let changes: Vec<_> = changes.iter().map(|change| told(change, tells_who)).collect();
        Ok(reply.json(&json!({ "repository": repository.as_str(), "changes": changes })))
    }

    /// What of a run the caller may see.
    pub(super) async fn run(&self, run: &str, page: &Page, visible: &Visible) -> Outcome {
        let included = |name: &RepoName| visible.includes(name);
        let names = self.registry.repositories_of_run(run, page, &included).await?;
        let reply = linked(
            Reply::new(StatusCode::OK),
            &paths::run(run),
            page,
            names.more,
            names.names.last(),
        );
        Ok(reply.json(&json!({ "run": run, "repositories": names.names })))
    }

    /// What a deleted manifest may lack: what it may have lacked when it was pushed, or when it was mirrored.
    fn may_be_absent(&self, repository: &RepoName) -> MayBeAbsent {
        let is_mirrored = self
            .mirror
            .as_ref()
            .is_some_and(|mirror| mirror.mirrors(repository));
        match is_mirrored {
            true => MayBeAbsent::Everything,
            false => self.absent_from_pushes(repository),
        }
    }

    /// What became of one tag, as changes of it alone.
    async fn changes_of(
        &self,
        repository: &RepoName,
        tag: &Tag,
        limit: usize,
        before_ms: Option<u64>,
    ) -> Result<(Vec<NameChange>, bool), RegistryError> {
        let page = HistoryPage {
            limit,
            before_ms,
            since_ms: None,
            digest: None,
        };
        let history = self.registry.tag_history(repository, tag, &page).await?;
        let changes = history.events.into_iter().map(|event| NameChange {
            repository: repository.clone(),
            at_ms: event.at_ms,
            by: event.by,
            why: event.why,
            tags: vec![TagMove {
                tag: tag.clone(),
                from: event.from,
                to: event.to,
            }],
            came: Vec::new(),
            went: Vec::new(),
            manifests_then: 0,
            taken: None,
        });
        Ok((changes.collect(), history.more))
    }

    pub(super) async fn restore(
        &self,
        repository: &RepoName,
        what: &Undo,
        identity: &Identity,
        grants: &Grants,
        deadline: Instant,
    ) -> Outcome {
        let restore = Restore {
            repository,
            what,
            deleted: match grants.allows(repository, Action::Delete) {
                true => OfDeleted::Open,
                false => OfDeleted::Hidden,
            },
            absent: self.may_be_absent(repository),
            by: identity.user.as_deref().unwrap_or_default(),
            deadline,
        };
        let Restored {
            manifests,
            tags,
            left,
        } = self.registry.restore(restore).await?;
        let tags: Vec<_> = tags
            .iter()
            .map(|(tag, digest)| json!({ "tag": tag.as_str(), "digest": digest.as_str() }))
            .collect();
        let manifests: Vec<_> = manifests.iter().map(|digest| digest.as_str()).collect();
        let left: Vec<_> = left.iter().map(left_alone).collect();
        Ok(Reply::new(StatusCode::OK).json(&json!({
            "repository": repository.as_str(),
            "manifests": manifests,
            "tags": tags,
            "left": left,
        })))
    }
}

fn left_alone(left: &Left) -> Value {
    let Left { tag, digest, why } = left;
    json!({
        "tag": tag.as_ref().map(Tag::as_str),
        "digest": digest.as_str(),
        "why": why.name(),
    })
}

fn told(change: &NameChange, tells_who: bool) -> Value {
    let digests = |all: &[Descriptor]| all.iter().map(|one| one.digest.to_string()).collect::<Vec<_>>();
    let named = |named: &Option<Descriptor>| named.as_ref().map(|named| named.digest.to_string());
    let tags: Vec<_> = change
        .tags
        .iter()
        .map(|moved| json!({ "tag": moved.tag.as_str(), "from": named(&moved.from), "to": named(&moved.to) }))
        .collect();
    let mut told = json!({
        "at": Timestamp::from_ms(change.at_ms).to_string(),
        "why": change.why.map(Why::name),
        "tags": tags,
        "came": digests(&change.came),
        "went": digests(&change.went),
    });
    match change.why {
        // Of retention that is the run.
        Some(Why::Retention) => told["run"] = json!(change.by),
        _ if tells_who && !change.by.is_empty() => told["by"] = json!(change.by),
        _ => {}
    }
    told
}
