//! What was expected and what was seen.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::console::Console;

/// All checks so far.
#[derive(Debug)]
pub struct Checks {
    console: Arc<Console>,
    done: Mutex<Vec<Check>>,
}

#[derive(Debug, Clone)]
struct Check {
    what: String,
    /// Expected and seen, when they differ.
    failure: Option<(String, String)>,
}

impl Checks {
    /// None yet.
    pub fn new(console: Arc<Console>) -> Self {
        Self { console, done: Mutex::default() }
    }

    /// Something held, `seen` is the proof.
    pub fn ok(&self, what: &str, seen: impl Display) {
        self.add(format!("{what}: {seen}"), None);
    }

    /// Two things that must read the same.
    pub fn same(&self, what: &str, expected: impl Display, seen: impl Display) {
        let (expected, seen) = (expected.to_string(), seen.to_string());
        if expected == seen {
            self.ok(what, seen);
        } else {
            self.add(what.to_owned(), Some((expected, seen)));
        }
    }

    /// Something that must be true.
    pub fn holds(&self, what: &str, ok: bool, expected: impl Display, seen: impl Display) {
        if ok {
            self.ok(what, seen);
        } else {
            self.add(what.to_owned(), Some((expected.to_string(), seen.to_string())));
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.done().len()
    }

    /// True when there are some and all held.
    pub fn all_held(&self) -> bool {
        let done = self.done();
        !done.is_empty() && done.iter().all(|check| check.failure.is_none())
    }

    /// All of them, one a line.
    pub fn summary(&self) {
        for check in self.done().iter() {
            self.console.verdict(check.failure.is_none(), &check.what);
            self.explain(check);
        }
    }

    fn add(&self, what: String, failure: Option<(String, String)>) {
        let check = Check { what, failure };
        if check.failure.is_some() {
            self.console.verdict(false, &check.what);
            self.explain(&check);
        }
        self.done().push(check);
    }

    fn explain(&self, check: &Check) {
        if let Some((expected, seen)) = &check.failure {
            self.console.say(&format!("      expected: {expected}\n      seen:     {seen}"));
        }
    }

    fn done(&self) -> MutexGuard<'_, Vec<Check>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
