//! The repositories in memory: their names, and of each what lists are sorted and filtered by. At most 100 bytes each, where names
//! have up to 32, and packed one after the other, for most questions look at all of them.

use std::{collections::HashMap, sync::Arc};

use crate::{
    oci::RepoName,
    registry::Summary,
    storage::{Version, rows},
};

/// Sets of platforms that are known at once.
const MAX_SETS: usize = 10_000;
/// By which part of its length the list grows, where it has to: so much of it may be empty.
const GROWTH: usize = 16;

/// What lists are sorted and filtered by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facet {
    /// Half of the version that it was found out under: it tells versions apart. 0 before anything was.
    version: u64,
    /// The last push of a tag, in milliseconds since the Unix epoch.
    pub(super) changed_ms: u64,
    /// What its images take together, in bytes, to seven digits: half of what a number without an error would take here.
    pub(super) size: f32,
    /// Which of the sets of platforms: there are [`MAX_SETS`].
    platforms: u16,
    /// Whether the newest image is signed.
    pub(super) is_signed: bool,
}

impl Facet {
    /// Whether it was found out under this version of the repository's row, as a store writes it.
    pub(super) fn is_of(&self, version: &[u8]) -> bool {
        self.version != 0 && self.version == half(version)
    }
}

fn half(version: &[u8]) -> u64 {
    let half = version.first_chunk().map_or(0, |half| u64::from_le_bytes(*half));
    // Of a version that isn't known nothing holds.
    if version.is_empty() { 0 } else { half.max(1) }
}

/// Operating system and architecture.
pub(super) type Platform = (String, String);

/// See above.
#[derive(Default)]
pub(super) struct Known {
    /// In byte order.
    repositories: Vec<(RepoName, Facet)>,
    /// Platforms that some repository has, each set once.
    sets: Vec<Arc<[Platform]>>,
    numbers: HashMap<Arc<[Platform]>, u16>,
    /// Nothing of what was found out before holds: everything is to be looked at again.
    is_forgotten: bool,
}

impl Known {
    /// The repositories in byte order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RepoName, &Facet)> {
        self.repositories.iter().map(|(name, facet)| (name, facet))
    }

    /// The next names after this one, at most so many.
    pub(super) fn after(&self, last: Option<&RepoName>, most: usize) -> Vec<RepoName> {
        let names = self.repositories[self.beyond(last)..].iter();
        names.map(|(name, _)| name.clone()).take(most).collect()
    }

    pub(super) fn get(&self, name: &RepoName) -> Option<&Facet> {
        let at = self.place(name).ok()?;
        Some(&self.repositories[at].1)
    }

    pub(super) fn platforms(&self, facet: &Facet) -> &[Platform] {
        match self.sets.get(usize::from(facet.platforms)) {
            Some(set) if facet.version != 0 => set,
            Some(_) | None => &[],
        }
    }

    /// Whether something else is known of the repository than what this version of its row stands for.
    pub(super) fn differs(&self, name: &RepoName, version: Version) -> bool {
        !self
            .get(name)
            .is_some_and(|facet| facet.is_of(&version.to_bytes()))
    }

    /// The repositories after `after`, up to the last of `names`, are these, and where there are no `more`, none comes after them.
    pub(super) fn listed(&mut self, after: Option<&RepoName>, names: &[RepoName], more: bool) {
        let begin = self.beyond(after);
        let end = match names.last() {
            Some(last) if more => self.beyond(Some(last)),
            _ => self.repositories.len(),
        };
        let facet = |name: &RepoName| self.get(name).copied().unwrap_or_default();
        let these: Vec<_> = names.iter().map(|name| (name.clone(), facet(name))).collect();
        self.make_room(these.len().saturating_sub(end - begin));
        self.repositories.splice(begin..end, these);
    }

    /// What was found out about a repository.
    pub(super) fn put(&mut self, name: &RepoName, summary: &Summary) {
        let platform = |platform: &rows::Platform| (platform.os.clone(), platform.architecture.clone());
        let set: Arc<[Platform]> = summary.platforms.iter().map(platform).collect();
        let number = match self.numbers.get(&set) {
            Some(number) => *number,
            None => {
                if self.sets.len() >= MAX_SETS {
                    self.forget_sets();
                }
                let number = u16::try_from(self.sets.len()).unwrap_or(u16::MAX);
                self.sets.push(set.clone());
                self.numbers.insert(set, number);
                number
            }
        };
        let facet = Facet {
            version: half(&summary.version),
            changed_ms: summary.changed_ms,
            size: summary.size as f32,
            platforms: number,
            is_signed: !summary.newest_signatures.is_empty(),
        };
        match self.place(name) {
            Ok(at) => self.repositories[at].1 = facet,
            Err(at) => {
                self.make_room(1);
                self.repositories.insert(at, (name.clone(), facet));
            }
        }
    }

    /// The repository is gone.
    pub(super) fn remove(&mut self, name: &RepoName) {
        if let Ok(at) = self.place(name) {
            self.repositories.remove(at);
        }
    }

    /// Whether nothing holds any more of what was found out before: told once.
    pub(super) fn is_forgotten(&mut self) -> bool {
        std::mem::take(&mut self.is_forgotten)
    }

    /// Sets that no repository has any more would stay. The next look finds out anew which there are.
    fn forget_sets(&mut self) {
        self.is_forgotten = true;
        self.sets.clear();
        self.numbers.clear();
        for (_, facet) in &mut self.repositories {
            facet.version = 0;
        }
    }

    /// Where it is, or where it would be.
    fn place(&self, name: &RepoName) -> Result<usize, usize> {
        self.repositories.binary_search_by(|(other, _)| other.cmp(name))
    }

    /// The place of the first repository after this one.
    fn beyond(&self, after: Option<&RepoName>) -> usize {
        match after {
            None => 0,
            Some(after) => self.repositories.partition_point(|(name, _)| name <= after),
        }
    }

    /// A list that doubles, as others do, may take half of its memory for nothing.
    fn make_room(&mut self, more: usize) {
        let list = &mut self.repositories;
        if list.capacity() - list.len() < more {
            list.reserve_exact(more.max(list.len() / GROWTH));
        }
    }

    /// The memory that it takes, in bytes, as far as it grows with the repositories: the list, and a block for each name.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        /// Of an `Arc`: how often it is shared, strongly and weakly.
        const COUNTS: usize = 16;
        /// Allocators give multiples of this.
        const STEP: usize = 16;
        let list = self.repositories.capacity() * size_of::<(RepoName, Facet)>();
        let names = self.repositories.iter();
        let names = names.map(|(name, _)| (COUNTS + name.as_str().len()).next_multiple_of(STEP));
        list + names.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    fn name(n: u8) -> RepoName {
        RepoName::parse(&format!("r{n:03}")).unwrap()
    }

    fn summary(n: u8) -> Summary {
        Summary {
            version: vec![n.max(1); 16].into(),
            changed_ms: n.into(),
            ..Summary::default()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8),
        Remove(u8),
        /// Names of a page, after one of them, and whether there are more.
        Listed(Option<u8>, Vec<u8>, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let page = (
            prop::option::of(any::<u8>()),
            prop::collection::btree_set(any::<u8>(), 0..40),
            any::<bool>(),
        );
        prop_oneof![
            any::<u8>().prop_map(Step::Put),
            any::<u8>().prop_map(Step::Remove),
            page.prop_map(|(after, names, more)| {
                let names = names.into_iter().filter(|n| after.is_none_or(|after| *n > after));
                let names: Vec<u8> = names.collect();
                // There are no more after a page without names.
                let more = more && !names.is_empty();
                Step::Listed(after, names, more)
            }),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(steps in prop::collection::vec(step(), 0..100)) {
            let (mut known, mut map) = (Known::default(), BTreeMap::<RepoName, u64>::new());
            for step in steps {
                match step {
                    Step::Put(n) => {
                        known.put(&name(n), &summary(n));
                        map.insert(name(n), n.into());
                    }
                    Step::Remove(n) => {
                        known.remove(&name(n));
                        map.remove(&name(n));
                    }
                    Step::Listed(after, names, more) => {
                        let names: Vec<RepoName> = names.into_iter().map(name).collect();
                        let after = after.map(name);
                        known.listed(after.as_ref(), &names, more);
                        let is_inside = |other: &RepoName| {
                            let is_before = !more || names.last().is_some_and(|last| other <= last);
                            after.as_ref().is_none_or(|after| other > after) && is_before
                        };
                        map.retain(|other, _| !is_inside(other) || names.contains(other));
                        for name in names {
                            map.entry(name).or_default();
                        }
                    }
                }
                let found: Vec<_> = known.iter().map(|(name, facet)| (name.clone(), facet.changed_ms)).collect();
                let expected: Vec<_> = map.iter().map(|(name, at)| (name.clone(), *at)).collect();
                prop_assert_eq!(found, expected);
                for n in [0, 100, 255] {
                    prop_assert_eq!(known.get(&name(n)).map(|facet| facet.changed_ms), map.get(&name(n)).copied());
                    let after: Vec<_> = map.keys().filter(|other| **other > name(n)).take(3).cloned().collect();
                    prop_assert_eq!(known.after(Some(&name(n)), 3), after);
                }
            }
        }
    }
}
