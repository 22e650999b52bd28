//! What those are told who ask: pages of all feeds, from a place on that they keep themselves.

use std::fmt;

use futures_util::future::try_join_all;

use super::event::{CloudEvent, Naming, events_of};
use crate::{
    admission::Visible,
    registry::{
        RegistryError,
        changes::{Ends, Feed, PARTITIONS},
    },
};

/// How far somebody has come: the number of a batch of each feed. A text to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(Ends);

impl Cursor {
    /// Before everything that is kept.
    pub const BEGIN: Self = Self([0; PARTITIONS as usize]);

    /// Reads what was written once.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut cursor = Self::BEGIN;
        let mut numbers = text.split('-');
        for place in &mut cursor.0 {
            let number = numbers.next()?;
            let is_written = number.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
            *place = u64::from_str_radix(number, 16).ok().filter(|_| is_written)?;
        }
        numbers.next().is_none().then_some(cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, number) in self.0.iter().enumerate() {
            let dash = if i == 0 { "" } else { "-" };
            write!(f, "{dash}{number:x}")?;
        }
        Ok(())
    }
}

/// What comes after a cursor.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPage {
    /// Those of one repository in their order.
    pub events: Vec<CloudEvent>,
    /// From where to go on.
    pub next: Cursor,
    /// There is more by now.
    pub more: bool,
    /// Something after the cursor isn't kept any more.
    pub missed: bool,
}

/// Gives pages.
#[derive(Clone)]
pub struct Pages {
    feed: Feed,
    naming: Naming,
    batches: usize,
}

impl Pages {
    /// Of `feed`, so many batches of each at once.
    pub fn new(feed: Feed, naming: Naming, batches: usize) -> Self {
        Self {
            feed,
            naming,
            batches,
        }
    }

    /// After everything that is settled now.
    ///
    /// # Errors
    /// The store's.
    pub async fn end(&self) -> Result<Cursor, RegistryError> {
        Ok(Cursor(self.feed.ends().await?))
    }

    /// What comes after `after` and is of repositories that are to be seen; who did it, of those of which that is told.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(
        &self,
        after: Cursor,
        sees: &Visible,
        tells_who: &Visible,
    ) -> Result<EventPage, RegistryError> {
        let reads = (0..PARTITIONS).zip(after.0);
        let reads = reads.map(|(n, after)| self.feed.read_batches(n, after, self.batches));
        let mut page = EventPage {
            events: Vec::new(),
            next: after,
            more: false,
            missed: false,
        };
        let followed = try_join_all(reads).await?;
        for (next, followed) in page.next.0.iter_mut().zip(followed) {
            *next = followed.upto;
            page.more |= followed.more;
            page.missed |= followed.missed;
            let seen = followed
                .changes
                .iter()
                .filter(|change| sees.includes(&change.repository));
            for change in seen {
                let mut events = events_of(change, &self.naming);
                if !tells_who.includes(&change.repository) {
                    events.iter_mut().for_each(CloudEvent::hide_actor);
                }
                page.events.extend(events);
            }
        }
        // Between repositories nothing depends on it. It is stable, and within one they are so already.
        page.events.sort_by_key(|event| event.time);
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let cursor = Cursor([0, 1, 255, u64::MAX, 4, 5, 6, 7]);
        assert_eq!(cursor.to_string(), "0-1-ff-ffffffffffffffff-4-5-6-7");
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        for wrong in [
            "",
            "0",
            "0-0-0-0-0-0-0",
            "0-0-0-0-0-0-0-0-0",
            "0-0-0-0-0-0-0-",
            "0-0-0-0-0-0-0-+1",
            "0-0-0-0-0-0-0-F",
        ] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
