//! Which part of a list is asked for, in which order, and what must hold of what is in it.

use std::cmp::Ordering;

use memchr::memmem;

use super::{
    SearchError,
    schema::{Filter, PageInfo, PageInput, SortCriteria},
};

/// So many more than are wanted are gathered before they are sorted out.
const MARGIN: usize = 100;

/// The part of a list that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) offset: usize,
    pub(super) limit: usize,
    pub(super) order: SortCriteria,
}

impl Part {
    /// As it was asked for: at most `most`, and sorted by `order` where nothing is said.
    pub(super) fn of(
        asked: Option<PageInput>,
        order: SortCriteria,
        most: usize,
    ) -> Result<Self, SearchError> {
        let asked = asked.unwrap_or_default();
        let number = |number: Option<i32>, what| {
            usize::try_from(number.unwrap_or_default()).map_err(|_| SearchError::Negative(what))
        };
        let limit = number(asked.limit, "limit")?;
        Ok(Self {
            offset: number(asked.offset, "offset")?,
            limit: if limit == 0 { most } else { limit.min(most) },
            order: asked.sort_by.unwrap_or(order),
        })
    }

    /// This part of `all`, sorted by `compare`, with no more of them in memory than twice those up to its end.
    pub(super) fn take<T>(
        self,
        all: impl IntoIterator<Item = T>,
        compare: impl Fn(&T, &T) -> Ordering,
    ) -> (Vec<T>, PageInfo) {
        let end = self.offset.saturating_add(self.limit);
        let (mut first, mut total, mut is_cut) = (Vec::new(), 0, false);
        for one in all {
            total += 1;
            // Once it was cut, the last of those that stay is in its place.
            if is_cut && compare(&first[end - 1], &one) == Ordering::Less {
                continue;
            }
            first.push(one);
            if first.len() >= end.saturating_add(end.max(MARGIN)) {
                first.select_nth_unstable_by(end - 1, &compare);
                first.truncate(end);
                is_cut = true;
            }
        }
        let end = end.min(first.len());
        if self.offset >= end {
            return (Vec::new(), info(total, 0));
        }
        // However far behind the part is, only what is in it is sorted.
        if end < first.len() {
            first.select_nth_unstable_by(end - 1, &compare);
            first.truncate(end);
        }
        if self.offset > 0 {
            first.select_nth_unstable_by(self.offset, &compare);
            first.drain(..self.offset);
        }
        first.sort_by(compare);
        let count = first.len();
        (first, info(total, count))
    }
}

fn info(total: usize, count: usize) -> PageInfo {
    let number = |n| i32::try_from(n).unwrap_or(i32::MAX);
    PageInfo {
        total_count: number(total),
        item_count: number(count),
    }
}

/// What must hold of a result.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) os: Vec<String>,
    pub(super) architecture: Vec<String>,
    pub(super) is_signed: bool,
    pub(super) is_bookmarked: Option<bool>,
    pub(super) is_starred: Option<bool>,
}

impl Wanted {
    pub(super) fn of(filter: Option<Filter>) -> Self {
        let filter = filter.unwrap_or_default();
        let words = |words: Option<Vec<Option<String>>>| {
            let words = words.unwrap_or_default().into_iter().flatten();
            words.map(|word| word.to_lowercase()).collect()
        };
        Self {
            os: words(filter.os),
            architecture: words(filter.arch),
            is_signed: filter.has_to_be_signed.unwrap_or_default(),
            is_bookmarked: filter.is_bookmarked,
            is_starred: filter.is_starred,
        }
    }

    /// Whether something with these platforms is wanted, signed or not. As in zot the operating system of one platform and
    /// the architecture of another do, and an architecture is its whole name, with its variant.
    pub(super) fn takes_platforms<'a>(
        &self,
        platforms: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> bool {
        let is_among =
            |wanted: &[String], word: &str| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(word));
        let mut both = [platforms.clone(), platforms];
        (self.os.is_empty() || both[0].any(|(os, _)| is_among(&self.os, os)))
            && (self.architecture.is_empty() || both[1].any(|(_, name)| is_among(&self.architecture, name)))
    }

    /// Whether something with any platform is wanted.
    pub(super) fn takes_any_platform(&self) -> bool {
        self.os.is_empty() && self.architecture.is_empty()
    }

    /// Whether something is wanted that is signed, or isn't.
    pub(super) fn takes_signed(&self, is_signed: bool) -> bool {
        is_signed || !self.is_signed
    }

    /// Whether a repository of which the user thinks so is wanted.
    pub(super) fn takes_preference(&self, is_bookmarked: bool, is_starred: bool) -> bool {
        self.is_bookmarked.is_none_or(|wanted| wanted == is_bookmarked)
            && self.is_starred.is_none_or(|wanted| wanted == is_starred)
    }

    /// Whether that depends on who asks.
    pub(super) fn is_personal(&self) -> bool {
        self.is_bookmarked.is_some() || self.is_starred.is_some()
    }
}

/// What a name is searched by.
pub(super) struct Searched {
    text: String,
    /// Finds what stands after its last slash. Most names don't have it.
    finder: memmem::Finder<'static>,
}

impl Searched {
    pub(super) fn of(text: &str) -> Self {
        let text = text.trim_matches('/').to_lowercase();
        let word = text.rsplit_once('/').map_or(&*text, |(_, word)| word);
        Self {
            finder: memmem::Finder::new(word).into_owned(),
            text,
        }
    }

    /// How well a repository's name fits, as in zot: 0 is the name itself, then comes where the last component contains what is
    /// searched, then where the first does. `None` if it doesn't fit.
    pub(super) fn rank(&self, name: &str) -> Option<u32> {
        const FIRST_COMPONENT: usize = 10;
        self.finder.find(name.as_bytes())?;
        let searched = self.text.as_str();
        if searched == name {
            return Some(0);
        }
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
        let Some((above, word)) = searched.rsplit_once('/') else {
            if let Some(at) = last.find(searched) {
                return Some(place(at + 1));
            }
            let first = folder.split('/').next().unwrap_or_default();
            let at = first.find(searched).filter(|_| !folder.is_empty());
            return at.map(|at| place((at + 1) * FIRST_COMPONENT));
        };
        // What stands before the last slash is where the name begins.
        let is_below = folder == above
            || folder
                .strip_prefix(above)
                .is_some_and(|rest| rest.starts_with('/'));
        let at = last.find(word).filter(|_| is_below)?;
        Some(place(at + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn ranks_are_those_of_zot() {
        for (searched, name, expected) in [
            ("web", "team/web", Some(1)),
            ("TEAM", "team/web", Some(10)),
            ("team/web", "team/web", Some(0)),
            ("eb", "team/web", Some(2)),
            ("e", "team/multi", Some(20)),
            ("", "zz-last", Some(1)),
            ("z", "zz-last", Some(1)),
            ("nothing", "zz-last", None),
            ("and", "deep/er/and/deeper", None),
            ("deep/er/dee", "deep/er/and/deeper", Some(1)),
            ("deep/e/dee", "deep/er/and/deeper", None),
            ("a/b/c", "b/c", None),
            ("/team/", "team/web", Some(10)),
        ] {
            assert_eq!(
                Searched::of(searched).rank(name),
                expected,
                "{searched} in {name}"
            );
        }
    }

    #[test]
    fn a_part_is_what_sorting_all_would_give() {
        for total in [0, 1, 2, 3, 4, 5, 6, 7, 8, 1000_usize] {
            // 7919 is a prime: each number comes once.
            let all: Vec<usize> = (0..total).map(|n| (n * 7919) % total).collect();
            let mut sorted = all.clone();
            sorted.sort_unstable();
            for offset in 0..10 {
                for limit in 0..10 {
                    let asked = PageInput {
                        limit: Some(limit),
                        offset: Some(i32::try_from(offset).unwrap()),
                        sort_by: None,
                    };
                    let part = Part::of(Some(asked), SortCriteria::Relevance, 5).unwrap();
                    let (found, info) = part.take(all.clone(), usize::cmp);
                    let limit = if limit == 0 {
                        5
                    } else {
                        usize::try_from(limit).unwrap().min(5)
                    };
                    let expected: Vec<usize> = sorted.iter().skip(offset).take(limit).copied().collect();
                    assert_eq!(found, expected);
                    assert_eq!(info.total_count, i32::try_from(total).unwrap());
                    assert_eq!(info.item_count, i32::try_from(expected.len()).unwrap());
                }
            }
        }
        for (limit, offset) in [(-1, 0), (0, -1)] {
            let asked = PageInput {
                limit: Some(limit),
                offset: Some(offset),
                sort_by: None,
            };
            assert!(Part::of(Some(asked), SortCriteria::Relevance, 5).is_err());
        }
    }

    /// Comparisons of taking five of so many in the worst order, from there on.
    fn comparisons(total: usize, offset: i32) -> usize {
        let asked = PageInput {
            limit: Some(5),
            offset: Some(offset),
            sort_by: None,
        };
        let part = Part::of(Some(asked), SortCriteria::Relevance, 5).unwrap();
        let count = Cell::new(0);
        let (found, info) = part.take((0..total).map(|n| (n * 7919) % total), |a, b| {
            count.set(count.get() + 1);
            a.cmp(b)
        });
        let from = usize::try_from(offset).unwrap();
        let expected: Vec<usize> = (from.min(total)..total).take(5).collect();
        assert_eq!(
            (found, info.total_count),
            (expected, i32::try_from(total).unwrap())
        );
        count.get()
    }

    #[test]
    fn wherever_a_part_is_it_costs_no_sorting_of_all() {
        const TOTAL: usize = 100_000;
        for offset in [0, 1, 90, 50_000, 99_990, 99_999] {
            let took = comparisons(TOTAL, offset);
            // Sorting them takes seventeen for each.
            assert!(took < 10 * TOTAL, "{took} from {offset}");
        }
        for offset in [100_000, i32::MAX] {
            assert_eq!(comparisons(TOTAL, offset), 0);
        }
    }

    #[test]
    fn platforms_fit_by_halves_and_by_their_whole_names() {
        let wanted = |os: &[&str], arch: &[&str]| {
            let words = |words: &[&str]| Some(words.iter().map(|word| Some((*word).to_owned())).collect());
            Wanted::of(Some(Filter {
                os: words(os),
                arch: words(arch),
                ..Filter::default()
            }))
        };
        let platforms = [("linux", "arm64/v8"), ("windows", "amd64")];
        for (os, arch, fits) in [
            (&["Linux"][..], &[][..], true),
            (&[], &["arm64"], false),
            (&["linux"], &["amd64"], true),
            (&["plan9"], &["amd64"], false),
            (&["plan9", "windows"], &[], true),
            (&[], &[], true),
        ] {
            let takes = wanted(os, arch).takes_platforms(platforms.iter().copied());
            assert_eq!(takes, fits, "{os:?} {arch:?}");
        }
    }
}
