//! How far it is: a line that is drawn again and again on a terminal, and what is said in the end.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, interval};

use crate::cli::output::{self, bytes as size};

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(200);

/// What was moved so far. Counted by who moves it.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    images: usize,
    images_done: AtomicUsize,
    // Bytes of what is known to be needed, of what is there of that, and of what of it was moved by this run.
    known: AtomicU64,
    there: AtomicU64,
    moved: AtomicU64,
}

impl Progress {
    pub(super) fn new(images: usize) -> Self {
        Self {
            began: Instant::now(),
            images,
            images_done: AtomicUsize::new(0),
            known: AtomicU64::new(0),
            there: AtomicU64::new(0),
            moved: AtomicU64::new(0),
        }
    }

    /// An image is done, whatever came of it.
    pub(super) fn image(&self) {
        self.images_done.fetch_add(1, Relaxed);
    }

    /// So many bytes more are needed.
    pub(super) fn needs(&self, bytes: u64) {
        self.known.fetch_add(bytes, Relaxed);
    }

    /// So many of them were there.
    pub(super) fn has(&self, bytes: u64) {
        self.there.fetch_add(bytes, Relaxed);
    }

    /// So many of them were moved now.
    pub(super) fn moved(&self, bytes: u64) {
        self.there.fetch_add(bytes, Relaxed);
        self.moved.fetch_add(bytes, Relaxed);
    }

    /// Does the work, and draws meanwhile where somebody looks.
    pub(super) async fn along<T>(&self, work: impl Future<Output = T>) -> T {
        if !output::is_watched() {
            return work.await;
        }
        let mut work = std::pin::pin!(work);
        let mut ticks = interval(EVERY);
        let done = loop {
            tokio::select! {
                biased;
                done = work.as_mut() => break done,
                _ = ticks.tick() => output::draw(&self.line()),
            }
        };
        output::draw("");
        done
    }

    fn line(&self) -> String {
        let (there, known) = (self.there.load(Relaxed), self.known.load(Relaxed).max(1));
        let speed = self.moved.load(Relaxed) as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        format!(
            "{} {} of {} images, {} of {}, {}/s",
            output::bar(there as f64 / known as f64),
            self.images_done.load(Relaxed),
            self.images,
            size(there),
            size(known),
            size(speed as u64),
        )
    }

    /// What it came to.
    pub(super) fn summary(&self, verb: &str) -> String {
        let moved = self.moved.load(Relaxed);
        let there = self.there.load(Relaxed) - moved;
        format!(
            "{} images, {} {verb}, {} there already, {:.1} s",
            self.images_done.load(Relaxed),
            size(moved),
            size(there),
            self.began.elapsed().as_secs_f64(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_there_and_what_was_moved_are_told_apart() {
        let progress = Progress::new(2);
        progress.needs(3 << 20);
        progress.has(1 << 20);
        progress.moved(512 << 10);
        progress.image();
        let line = progress.line();
        assert!(
            line.starts_with("[============            ] 1 of 2 images, 1.5 MiB of 3.0 MiB, "),
            "{line}"
        );
        let summary = progress.summary("sent");
        assert!(
            summary.starts_with("1 images, 512.0 KiB sent, 1.0 MiB there already, "),
            "{summary}"
        );
    }
}
