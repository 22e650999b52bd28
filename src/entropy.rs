//! Random numbers: the operating system's, asked for here and nowhere else.
//!
//! Versions, names of uploads and of objects, and pauses come from here, so that a simulation can repeat a run: with debug
//! assertions a thread can be given a source of its own. A build without them, as every release is, has only the
//! operating system's.

/// Fills `bytes` with numbers that nobody can guess.
///
/// # Errors
/// The operating system has none. (Linux's never fail.)
pub fn fill(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    #[cfg(debug_assertions)]
    if simulated::fill(bytes) {
        return Ok(());
    }
    getrandom::fill(bytes)
}

#[cfg(debug_assertions)]
pub use simulated::{Source, simulate};

#[cfg(debug_assertions)]
mod simulated {
    use std::cell::RefCell;

    /// Fills bytes with numbers that follow from a seed.
    pub type Source = Box<dyn FnMut(&mut [u8])>;

    thread_local! {
        static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
    }

    /// Whatever this thread asks for comes from `source` from now on, or from the operating system again.
    pub fn simulate(source: Option<Source>) {
        SOURCE.set(source);
    }

    pub(super) fn fill(bytes: &mut [u8]) -> bool {
        SOURCE.with_borrow_mut(|source| source.as_mut().map(|fill| fill(bytes)).is_some())
    }
}
