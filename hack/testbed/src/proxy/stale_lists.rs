//! An API server that returns stale lists to a new client.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::body::Bytes;

/// Duration of the stale lists, from the first list on.
const BEHIND: Duration = Duration::from_secs(3);

/// The first answer to each list, and whether lists get it again.
#[derive(Debug, Default)]
pub struct StaleLists {
    lists: BTreeMap<String, Bytes>,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Off,
    /// Starts at the next list.
    Armed,
    Until(Instant),
}

impl StaleLists {
    /// Returns stale lists from the next list on, for a while.
    pub fn begin(&mut self) {
        self.phase = Phase::Armed;
    }

    /// Keeps the first answer to a list.
    pub fn remember(&mut self, uri: &str, answer: &Bytes) {
        self.lists.entry(uri.to_owned()).or_insert_with(|| answer.clone());
    }

    /// Returns the stale answer to a list while lists are stale.
    pub fn list(&mut self, uri: &str) -> Option<Bytes> {
        if matches!(self.phase, Phase::Armed) {
            self.phase = Phase::Until(Instant::now() + BEHIND);
        }
        (!self.behind().is_zero()).then(|| self.lists.get(uri).cloned()).flatten()
    }

    /// Returns the rest of the time with stale lists. Watches open after it, and then report everything.
    pub fn behind(&self) -> Duration {
        match self.phase {
            Phase::Until(end) => end.saturating_duration_since(Instant::now()),
            Phase::Off | Phase::Armed => Duration::ZERO,
        }
    }
}
