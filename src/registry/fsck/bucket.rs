//! The other way round: objects that no row names.
//!
//! The bucket is listed in the order of keys, a window at a time that fits into memory. All rows that can name an object are
//! walked, and take what they name out of the window. What stays is looked at once more a while later, by another walk: a row
//! may have come, or moved, behind the first one's back.

use std::{collections::BTreeMap, time::SystemTime};

use super::{
    FaultKind, Fsck,
    finding::{Finding, Mend},
};
use crate::{
    clock,
    oci::UploadId,
    registry::{Result, row, upkeep::millis},
    storage::{
        Key, Listed, MAX_OPS, ObjectKey, Row, Space, keys,
        keys::Subject,
        rows,
        rows::{DueKind, manifest::Body},
    },
};

/// Objects of one window.
const WINDOW: usize = 200_000;

/// Objects that may be unnamed, by key.
#[derive(Default)]
struct Window {
    objects: BTreeMap<String, Seen>,
    /// Some row can't be read, so nobody knows what it names.
    is_unsure: bool,
}

struct Seen {
    listed: Listed,
    /// It is a multipart upload towards that key.
    is_upload: bool,
}

impl Fsck<'_> {
    /// Looks for what no row names.
    pub(super) async fn bucket(&mut self) -> Result<()> {
        let mut window = Window::default();
        for listed in self.all_objects.unfinished().await? {
            window.insert(listed, true);
        }
        let (mut after, mut names_some) = (None::<String>, false);
        loop {
            let page = self.all_objects.list(after.as_deref()).await?;
            self.report.objects += page.objects.len() as u64;
            self.tell("objects");
            after = page.objects.last().map(|last| last.key.clone());
            for listed in page.objects {
                window.insert(listed, false);
            }
            let is_over = !page.more || after.is_none();
            if is_over || window.objects.len() >= WINDOW {
                self.unnamed(std::mem::take(&mut window), &mut names_some).await?;
            }
            if is_over {
                return Ok(());
            }
        }
    }

    async fn unnamed(&mut self, mut window: Window, names_some: &mut bool) -> Result<()> {
        let all = window.objects.len();
        self.take_named(&mut window).await?;
        *names_some |= window.objects.len() < all;
        window.objects.retain(|_, seen| self.is_old(&seen.listed));
        if window.objects.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(self.options.pause).await;
        self.take_named(&mut window).await?;
        let is_sure = *names_some && !window.is_unsure;
        for (key, seen) in window.objects {
            let Some(object) = ours(&key) else {
                let finding = Finding::new(FaultKind::ObjectForeign, None, key);
                self.found(finding).await?;
                continue;
            };
            if !seen.is_upload && self.registry.blobs.head(&object).await?.is_none() {
                continue;
            }
            let delay_ms = millis(self.registry.settings.limits.object_delay);
            let (dues, at_ms) = (self.registry.dues, clock::now_ms().saturating_add(delay_ms));
            let (said, due) = match seen.is_upload {
                true => (
                    format!("an unfinished upload towards {key}"),
                    dues.trash(at_ms, &key, None),
                ),
                false => (
                    format!("{key} ({} bytes)", seen.listed.length),
                    dues.object(at_ms, &key, seen.listed.length),
                ),
            };
            let finding = Finding::new(FaultKind::ObjectUnnamed, None, said);
            // Rows that name nothing of a bucket may belong to another one.
            self.found(match is_sure {
                true => finding.mend(Mend::Ops(vec![due])),
                false => finding,
            })
            .await?;
        }
        Ok(())
    }

    /// Whether it is older than anything in flight. By the store's clock; where that isn't known, what is in flight has a row.
    fn is_old(&self, listed: &Listed) -> bool {
        let Some(written) = listed.written else {
            return true;
        };
        let age = SystemTime::now().duration_since(written);
        age.is_ok_and(|age| age >= self.options.min_age)
    }

    /// Takes out what rows name. A name goes from due-rows to manifests, and from records and manifests to due-rows: who is met
    /// nowhere for that reason is met by the next walk.
    async fn take_named(&self, window: &mut Window) -> Result<()> {
        for space in [Space::Blobs, Space::Links, Space::Manifests] {
            let mut piece = None;
            while self.walk(space, &mut piece).await? {
                for (key, found) in piece.iter().flat_map(|walked| &walked.rows) {
                    if window.take_named_by(key, found).is_err() {
                        window.is_unsure = true;
                    }
                }
            }
        }
        self.take_of_sessions(window).await
    }

    /// What lies below the prefix of an upload whose session is there is swept with it.
    async fn take_of_sessions(&self, window: &mut Window) -> Result<()> {
        let of = |key: &String| UploadId::parse(key.strip_prefix("uploads/")?.split_once('/')?.0).ok();
        let mut ids: Vec<UploadId> = window.objects.keys().filter_map(of).collect();
        ids.dedup();
        for ids in ids.chunks(MAX_OPS) {
            let wanted: Vec<_> = ids.iter().map(keys::session).collect();
            let found = self.registry.meta.get_many(&wanted).await?;
            for (id, _) in ids.iter().zip(found).filter(|(_, row)| row.is_some()) {
                window.take_below(&format!("uploads/{id}/"));
            }
        }
        Ok(())
    }
}

impl Window {
    fn insert(&mut self, listed: Listed, is_upload: bool) {
        let seen = Seen { listed, is_upload };
        self.objects.insert(seen.listed.key.clone(), seen);
    }

    /// Takes out what this row names. A newer release's may name what this one doesn't see.
    fn take_named_by(&mut self, key: &Key, found: &Row) -> Result<()> {
        match Subject::of(key) {
            Some(Subject::Blob(_)) => {
                let record: rows::Blob = row::read_to_rewrite(found)?;
                self.objects.remove(&record.object_key);
            }
            Some(Subject::Link(..)) => {
                let link: rows::Link = row::read_to_rewrite(found)?;
                self.objects.remove(&link.object_key);
            }
            Some(Subject::Manifest(..)) => {
                let manifest: rows::Manifest = row::read_to_rewrite(found)?;
                if let Some(Body::ObjectKey(key)) = manifest.body {
                    self.objects.remove(&key);
                }
            }
            None if key.space == Space::Blobs => self.take_due(&row::read_to_rewrite(found)?),
            _ => {}
        }
        Ok(())
    }

    /// What a due-row says is to be looked at, it names.
    fn take_due(&mut self, due: &rows::Due) {
        match due.kind() {
            DueKind::Trash => self.take_below(&due.key),
            DueKind::Object | DueKind::ManifestBody => {
                self.objects.remove(&due.key);
            }
            DueKind::Relink => {
                self.objects.remove(&due.object_key);
            }
            // Of a newer release.
            DueKind::Unspecified => self.is_unsure = true,
            DueKind::Session | DueKind::Link | DueKind::Digest | DueKind::Tombstone | DueKind::Manifest => {}
        }
    }

    fn take_below(&mut self, prefix: &str) {
        let begin = prefix.to_owned();
        let from = self.objects.range(begin..).map(|(key, _)| key);
        let below: Vec<String> = from.take_while(|key| key.starts_with(prefix)).cloned().collect();
        for key in below {
            self.objects.remove(&key);
        }
    }
}

/// The key, if it is one that this registry makes.
fn ours(key: &str) -> Option<ObjectKey> {
    let is_random = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_ours = match key.split_once('/')? {
        ("manifests", name) => is_random(name),
        ("uploads", rest) => rest
            .split_once('/')
            .is_some_and(|(id, name)| UploadId::parse(id).is_ok() && is_random(name)),
        _ => false,
    };
    ObjectKey::parse(key).filter(|_| is_ours)
}
