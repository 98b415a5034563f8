//! What a client does although it should wait: it was asked to, or its caches are not filled yet.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::target::{Class, Target};
use super::{Proxy, Shared};

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
        tokio::time::sleep(late).await;
        self.state().haste.pending -= 1;
    }
}

impl Proxy {
    /// The requests that came in although the client should have waited.
    pub fn hasty(&self) -> Vec<String> {
        self.shared.state().haste.seen.clone()
    }
}
