//! What a client does although it should wait: it was asked to, or its caches are not filled yet.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::target::{Class, Target};
use super::{Fault, Proxy, Shared};
use crate::watcher;

/// How long a client is asked to wait by a 429.
pub const ASKED: Duration = Duration::from_secs(2);

/// What was under way when the answer was given may still come.
const HEARD: Duration = Duration::from_millis(200);

/// How late the first list of the first kind is; each further one is later by as much.
const LATE: Duration = Duration::from_millis(500);

/// When to wait, and what came in nevertheless.
#[derive(Debug, Default)]
pub(super) struct Haste {
    asked: Option<Instant>,
    slow: bool,
    /// The paths of first lists that were asked for since the client began.
    lists: BTreeSet<String>,
    /// First lists that are not answered yet.
    pending: usize,
    seen: Vec<String>,
}

impl Haste {
    /// The client has just been asked to wait.
    pub fn ask(&mut self) {
        self.asked = Some(Instant::now());
    }

    /// The next client's first lists of objects are late.
    pub fn slow_down(&mut self) {
        self.slow = true;
        self.lists.clear();
    }

    /// Notes a request that belongs to a pass: each begins with the resource, and writes.
    pub fn note(&mut self, target: &Target) {
        let of_pass = target.class == Class::Write
            || (target.class == Class::Read
                && target.resource == "metadataservices"
                && !target.name.is_empty());
        let asked = self.asked.is_some_and(|at| (HEARD..ASKED).contains(&at.elapsed()));
        if of_pass && (asked || self.pending > 0) {
            let why = if asked { "asked to wait" } else { "caches not filled" };
            self.seen.push(format!("{} {} {} ({why})", target.verb, target.resource, target.name));
        }
    }

    /// By how much a list is late.
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
    /// Holds a first list up, if it is to be late.
    pub(super) async fn delay(&self, target: &Target) {
        let Some(late) = self.state().haste.late(target) else { return };
        self.feel(Fault::SlowRestart);
        tokio::time::sleep(late).await;
        self.state().haste.pending -= 1;
    }
}

impl Proxy {
    /// What is wrong with the requests that came in, where the client works for one resource: [`Self::undecided`], and
    /// what came although the client should have waited.
    pub fn findings(&self, resource: &str) -> Vec<String> {
        let mut found = self.undecided(resource);
        let early = &self.shared.state().haste.seen;
        found.extend(early.iter().map(|call| format!("I41, I43: too early: {call}")));
        found
    }

    /// Writes that rest on no live look (I41), or say not on what they were decided (I40), where the client works for
    /// resources of this name, one in a namespace.
    pub fn undecided(&self, resource: &str) -> Vec<String> {
        let state = self.shared.state();
        let looks = watcher::live_reads(state.calls.iter().cloned(), resource).into_iter();
        let bare = state.writes.iter().filter(|write| !write.target.guarded);
        let bare = bare.map(|write| format!("I40: without a precondition: {write}"));
        looks.map(|finding| finding.to_string()).chain(bare).collect()
    }
}
