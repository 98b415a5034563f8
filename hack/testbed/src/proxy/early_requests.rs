//! Requests that a client sends while it must wait: after a 429, or before its caches are filled.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::target::{Class, Target};
use super::{Fault, Proxy, Shared};
use crate::{invariants, pace};

/// The `Retry-After` of a 429.
pub const ASKED: Duration = Duration::from_secs(2);

/// Time after the answer during which requests sent earlier may still arrive.
const HEARD: Duration = Duration::from_millis(200);

/// Delay of the first list of a new client. Each further first list has one more.
const LATE: Duration = Duration::from_millis(500);

/// When the client must wait, and the requests it sent nevertheless.
#[derive(Debug, Default)]
pub(super) struct EarlyRequests {
    asked: Option<Instant>,
    slow: bool,
    /// Paths of the first lists of the client.
    lists: BTreeSet<String>,
    /// Number of first lists without an answer.
    pending: usize,
    seen: Vec<String>,
}

impl EarlyRequests {
    /// The client has just received a 429.
    pub fn ask(&mut self) {
        self.asked = Some(Instant::now());
    }

    /// Delays the first lists of the next client.
    pub fn slow_down(&mut self) {
        self.slow = true;
        self.lists.clear();
    }

    /// Notes a request of a reconcile: a read of the resource, or a write.
    pub fn note(&mut self, target: &Target) {
        let of_pass = target.class == Class::Write
            || (target.class == Class::Read
                && target.resource == "metadataservices"
                && !target.name.is_empty());
        let asked = self.asked.is_some_and(|at| (HEARD + pace::lateness(at)..ASKED).contains(&at.elapsed()));
        if of_pass && (asked || self.pending > 0) {
            let why = if asked { "asked to wait" } else { "caches not filled" };
            self.seen.push(format!("{} {} {} ({why})", target.verb, target.resource, target.name));
        }
    }

    /// Returns the delay of a list.
    fn late(&mut self, target: &Target) -> Option<Duration> {
        let path = target.uri.split('?').next().unwrap_or_default().to_owned();
        let first = self.slow && target.fills_cache() && target.resource != "metadataservices";
        if !first || !self.lists.insert(path) {
            return None;
        }
        self.pending += 1;
        u32::try_from(self.lists.len()).ok().map(|count| LATE * count)
    }
}

impl Shared {
    /// Delays a first list, if the plan says so.
    pub(super) async fn delay(&self, target: &Target) {
        let Some(late) = self.state().early.late(target) else { return };
        self.observe(Fault::SlowRestart);
        tokio::time::sleep(late).await;
        self.state().early.pending -= 1;
    }
}

impl Proxy {
    /// Returns the violations of a client of one resource: [`Self::undecided`], and requests that it sent while it
    /// had to wait.
    pub fn violations(&self, resource: &str) -> Vec<String> {
        let mut found = self.undecided(resource);
        let early = &self.shared.state().early.seen;
        found.extend(early.iter().map(|call| format!("I41, I43: too early: {call}")));
        found
    }

    /// Returns the writes without live reads (I41) or without a precondition (I40). Each namespace must hold one
    /// resource of this name.
    pub fn undecided(&self, resource: &str) -> Vec<String> {
        let state = self.shared.state();
        let looks = invariants::live_reads(state.calls.iter().cloned(), resource).into_iter();
        let bare = state.writes.iter().filter(|write| !write.target.guarded);
        let bare = bare.map(|write| format!("I40: without a precondition: {write}"));
        looks.map(|violation| violation.to_string()).chain(bare).collect()
    }
}
