//! An API server that is behind: it shows old lists to a client that has just begun.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::body::Bytes;

/// How long it is behind, from the first list on.
const BEHIND: Duration = Duration::from_secs(3);

/// Lists as they were when they were first asked for, and whether they are shown again.
#[derive(Debug, Default)]
pub struct Stale {
    lists: BTreeMap<String, Bytes>,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Off,
    /// From the next list on.
    Armed,
    Until(Instant),
}

impl Stale {
    /// From the next list on, old ones are shown for a while.
    pub fn begin(&mut self) {
        self.phase = Phase::Armed;
    }

    /// Keeps the first answer to a list.
    pub fn remember(&mut self, uri: &str, answer: &Bytes) {
        self.lists.entry(uri.to_owned()).or_insert_with(|| answer.clone());
    }

    /// The old answer to a list, if it is to be shown.
    pub fn list(&mut self, uri: &str) -> Option<Bytes> {
        if matches!(self.phase, Phase::Armed) {
            self.phase = Phase::Until(Instant::now() + BEHIND);
        }
        (!self.behind().is_zero()).then(|| self.lists.get(uri).cloned()).flatten()
    }

    /// For how long it is still behind: watches begin after that, and then tell all that has happened.
    pub fn behind(&self) -> Duration {
        match self.phase {
            Phase::Until(end) => end.saturating_duration_since(Instant::now()),
            Phase::Off | Phase::Armed => Duration::ZERO,
        }
    }
}
