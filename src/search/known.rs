//! The repositories in memory: their names, and of each what lists are sorted and filtered by. At most 100 bytes each, where names
//! have up to 32, and packed one after the other, for most questions look at all of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    oci::RepoName,
    registry::Summary,
    storage::{Version, rows},
};

/// Different sets of platforms that are known at once, the empty one among them.
const MAX_SETS: usize = if cfg!(test) { 4 } else { 10_000 };
/// The empty set, which has its place always, and which a repository has before anything is known of it.
const NO_PLATFORMS: u16 = 0;
/// A set for which there was no place.
const UNKNOWN_PLATFORMS: u16 = u16::MAX;
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
    /// One more than how often its images were pulled; 0 before that is known.
    counted: u32,
    /// Which of the [`Sets`] of platforms.
    platforms: u16,
    /// Whether the newest image is signed.
    pub(super) is_signed: bool,
}

impl Facet {
    /// How often its images were pulled, as far as that is known.
    pub(super) fn downloads(&self) -> u64 {
        u64::from(self.counted.saturating_sub(1))
    }

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
    sets: Sets,
}

/// Platforms that some repository has, each set once and for as long as one has it.
struct Sets {
    /// By number, each with how many repositories have it.
    all: Vec<(Arc<[Platform]>, usize)>,
    numbers: HashMap<Arc<[Platform]>, u16>,
    /// Numbers of sets that nobody has any more.
    free: Vec<u16>,
}

impl Default for Sets {
    fn default() -> Self {
        let none: Arc<[Platform]> = Arc::new([]);
        Self {
            all: vec![(none.clone(), 0)],
            numbers: HashMap::from([(none, NO_PLATFORMS)]),
            free: Vec::new(),
        }
    }
}

impl Sets {
    /// The number of a set that one more repository has.
    fn take(&mut self, set: Arc<[Platform]>) -> u16 {
        if let Some(number) = self.numbers.get(&set) {
            self.all[usize::from(*number)].1 += 1;
            return *number;
        }
        let entry = (set.clone(), 1);
        let number = match self.free.pop() {
            Some(number) => {
                self.all[usize::from(number)] = entry;
                number
            }
            None if self.all.len() >= MAX_SETS => return UNKNOWN_PLATFORMS,
            None => {
                self.all.push(entry);
                u16::try_from(self.all.len() - 1).unwrap_or(UNKNOWN_PLATFORMS)
            }
        };
        self.numbers.insert(set, number);
        number
    }

    /// One repository less has this one.
    fn give_back(&mut self, number: u16) {
        let Some((set, count)) = self.all.get_mut(usize::from(number)) else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count == 0 && number != NO_PLATFORMS {
            self.numbers.remove(set);
            self.free.push(number);
        }
    }
}

impl Known {
    /// The repositories in byte order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RepoName, &Facet)> {
        self.after(None)
    }

    /// Those after this one, in byte order.
    pub(super) fn after(&self, last: Option<&RepoName>) -> impl Iterator<Item = (&RepoName, &Facet)> {
        let those = self.repositories[self.beyond(last)..].iter();
        those.map(|(name, facet)| (name, facet))
    }

    /// The names of the first of them, so many.
    pub(super) fn names_after(&self, last: Option<&RepoName>, most: usize) -> Vec<RepoName> {
        self.after(last)
            .take(most)
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub(super) fn get(&self, name: &RepoName) -> Option<&Facet> {
        let at = self.place(name).ok()?;
        Some(&self.repositories[at].1)
    }

    /// Its platforms; `None` where more different sets of them were known than have a place.
    pub(super) fn platforms(&self, facet: &Facet) -> Option<&[Platform]> {
        let (set, _) = self.sets.all.get(usize::from(facet.platforms))?;
        Some(set)
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
        for (name, facet) in &self.repositories[begin..end] {
            if names.binary_search(name).is_err() {
                self.sets.give_back(facet.platforms);
            }
        }
        self.make_room(these.len().saturating_sub(end - begin));
        self.repositories.splice(begin..end, these);
    }

    /// What was found out about repositories: `None` of one that is gone. However many come and go, the list is moved once for
    /// each of both, for each step would move all that comes after it.
    pub(super) fn settle<'a>(
        &mut self,
        found: impl IntoIterator<Item = (&'a RepoName, Option<&'a Summary>)>,
    ) {
        // In the order of the list, each once.
        let found: BTreeMap<&RepoName, Option<&Summary>> = found.into_iter().collect();
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        for (name, summary) in found {
            let place = self.place(name);
            if let Ok(at) = place {
                self.sets.give_back(self.repositories[at].1.platforms);
            }
            match (place, summary.map(|summary| self.facet(summary))) {
                (Ok(at), Some(facet)) => {
                    let known = &mut self.repositories[at].1;
                    *known = Facet {
                        counted: known.counted,
                        ..facet
                    };
                }
                (Ok(at), None) => gone.push(at),
                // Where it will be when those before it are gone.
                (Err(at), Some(facet)) => new.push((at - gone.len(), (name.clone(), facet))),
                (Err(_), None) => {}
            }
        }
        self.take_out(&gone);
        self.put_in(new);
    }

    /// Those of which it isn't known how often they were pulled.
    pub(super) fn uncounted(&self) -> Vec<RepoName> {
        let those = self.iter().filter(|(_, facet)| facet.counted == 0);
        those.map(|(name, _)| name.clone()).collect()
    }

    /// Of none it is known.
    pub(super) fn forget_counts(&mut self) {
        self.repositories
            .iter_mut()
            .for_each(|(_, facet)| facet.counted = 0);
    }

    /// How often a repository was pulled.
    pub(super) fn count(&mut self, name: &RepoName, downloads: u64) {
        if let Ok(at) = self.place(name) {
            let counted = downloads.saturating_add(1);
            self.repositories[at].1.counted = u32::try_from(counted).unwrap_or(u32::MAX);
        }
    }

    fn facet(&mut self, summary: &Summary) -> Facet {
        let platform = |platform: &rows::Platform| (platform.os.clone(), platform.architecture.clone());
        Facet {
            version: half(&summary.version),
            changed_ms: summary.changed_ms,
            size: summary.size as f32,
            counted: 0,
            platforms: self.sets.take(summary.platforms.iter().map(platform).collect()),
            is_signed: !summary.newest_signatures.is_empty(),
        }
    }

    /// Those at these places, which ascend.
    fn take_out(&mut self, gone: &[usize]) {
        if gone.is_empty() {
            return;
        }
        let mut gone = gone.iter().peekable();
        let mut at = 0..;
        self.repositories.retain(|_| {
            let place = at.next();
            gone.next_if(|gone| Some(**gone) == place).is_none()
        });
    }

    /// New ones, each with the place that it comes before, in their order.
    fn put_in(&mut self, new: Vec<(usize, (RepoName, Facet))>) {
        self.make_room(new.len());
        let mut end = self.repositories.len();
        let (places, new): (Vec<usize>, Vec<_>) = new.into_iter().unzip();
        self.repositories.extend(new);
        // From the end on: what comes after the last of the new ones changes sides with all that are new. Then the last is in its
        // place, and the others stand where what comes before them ends.
        for (before, place) in places.into_iter().enumerate().rev() {
            self.repositories[place..=end + before].rotate_right(before + 1);
            end = place;
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn name(n: u8) -> RepoName {
        RepoName::parse(&format!("r{n:03}")).unwrap()
    }

    /// What was found out the `of`-th time: repositories have one of seven sets of platforms.
    fn summary(n: u8, of: u64) -> Summary {
        let platform = |n: u64| rows::Platform {
            os: "linux".to_owned(),
            architecture: n.to_string(),
        };
        Summary {
            version: vec![n.max(1); 16].into(),
            changed_ms: of,
            platforms: (0..(u64::from(n) + of) % 7).map(platform).collect(),
            ..Summary::default()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// What was found out: whether they are there.
        Settle(Vec<(u8, bool)>),
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
            4 => prop::collection::vec((any::<u8>(), any::<bool>()), 0..40).prop_map(Step::Settle),
            1 => page.prop_map(|(after, names, more)| {
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
        fn it_is_a_sorted_map(steps in prop::collection::vec(step(), 0..30)) {
            let (mut known, mut map) = (Known::default(), BTreeMap::<RepoName, Summary>::new());
            for (of, step) in (1..).zip(steps) {
                match step {
                    Step::Settle(found) => {
                        let found: Vec<(RepoName, Option<Summary>)> = found
                            .into_iter()
                            .map(|(n, is_there)| (name(n), is_there.then(|| summary(n, of))))
                            .collect();
                        known.settle(found.iter().map(|(name, summary)| (name, summary.as_ref())));
                        for (name, summary) in found {
                            match summary {
                                Some(summary) => map.insert(name, summary),
                                None => map.remove(&name),
                            };
                        }
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
                let expected: Vec<_> = map.iter().map(|(name, of)| (name.clone(), of.changed_ms)).collect();
                prop_assert_eq!(found, expected);
                let mut held = BTreeSet::from([NO_PLATFORMS]);
                for ((_, facet), summary) in known.iter().zip(map.values()) {
                    let of = |platform: &rows::Platform| (platform.os.clone(), platform.architecture.clone());
                    let platforms: Vec<Platform> = summary.platforms.iter().map(of).collect();
                    // What is said is right; where nothing is, there was no place.
                    match known.platforms(facet) {
                        Some(found) => prop_assert_eq!(found, platforms.as_slice()),
                        None => prop_assert!(!platforms.is_empty()),
                    }
                    held.insert(facet.platforms);
                }
                // Places are those of sets that some repository has.
                let places: BTreeSet<u16> = known.sets.numbers.values().copied().collect();
                held.remove(&UNKNOWN_PLATFORMS);
                prop_assert_eq!(&places, &held);
                prop_assert!(places.len() <= MAX_SETS);
                for n in [0, 100, 255] {
                    let found = known.get(&name(n)).map(|facet| facet.changed_ms);
                    prop_assert_eq!(found, map.get(&name(n)).map(|of| of.changed_ms));
                    let after: Vec<_> = map.keys().filter(|other| **other > name(n)).take(3).cloned().collect();
                    prop_assert_eq!(known.names_after(Some(&name(n)), 3), after);
                }
            }
        }
    }

    /// Whoever finds no place keeps nobody else from theirs, and there is one again when others are gone.
    #[test]
    fn platforms_that_have_no_place_are_unknown_and_others_stay() {
        let mut known = Known::default();
        // Six with different sets, of which three have a place.
        let numbers: Vec<u8> = (1..=6).collect();
        let all: Vec<_> = numbers.iter().map(|n| (name(*n), summary(*n, 0))).collect();
        known.settle(all.iter().map(|(name, summary)| (name, Some(summary))));
        let count = |known: &Known| -> Vec<Option<usize>> {
            let sets = known
                .iter()
                .map(|(_, facet)| known.platforms(facet).map(<[_]>::len));
            sets.collect()
        };
        assert_eq!(count(&known), [Some(1), Some(2), Some(3), None, None, None]);
        known.settle([(&all[0].0, None), (&all[3].0, Some(&all[3].1))]);
        assert_eq!(count(&known), [Some(2), Some(3), Some(4), None, None]);
    }
}
