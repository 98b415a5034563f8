//! The only resource of a namespace, and everything that happened in the namespace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;

use super::limits::{NAME, POLL_INTERVAL, TIME_LIMIT};
use crate::invariants::{self, Waived};
use crate::{Entry, History, Kind, State, Subject, Timeline, pace};

/// A namespace counts as quiet after so long without an event.
const QUIET: Duration = Duration::from_millis(1_200);

/// A resource named [`NAME`], and a timeline of its namespace. Its operators are separate ([`super::ProxiedOperator`]).
#[derive(Debug)]
pub struct WatchedResource {
    /// The namespace.
    pub namespace: String,
    /// Everything that happened in the namespace.
    pub timeline: Timeline,
    /// The resource.
    pub subject: Subject,
    /// Time after the deletion of the resource during which delayed writes may still arrive.
    pub late_writes: Duration,
}

impl WatchedResource {
    /// Watches an existing namespace.
    pub async fn watch(client: &Client, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            timeline: Timeline::start(client.clone(), Some(namespace)).await.unwrap(),
            subject: Subject::new(client, namespace, NAME),
            late_writes: Duration::ZERO,
        }
    }

    /// Replaces the timeline by a new one, which shows everything from now on.
    pub async fn restart_timeline(&mut self, client: &Client) {
        self.timeline = Timeline::start(client.clone(), Some(&self.namespace)).await.unwrap();
    }

    /// Waits until `check` holds for the resource. Returns false at the end of the time limit.
    pub async fn reaches(&self, limit: Duration, check: impl Fn(State<'_>) -> bool) -> bool {
        reaches(&self.timeline, &self.subject, "", limit, check).await.is_ok()
    }

    /// Waits until `check` holds for the resource. Fails with its status at the end of the time limit.
    pub async fn until(&self, what: &str, check: impl Fn(State<'_>) -> bool) {
        let seen = self.reaches(TIME_LIMIT, check).await;
        assert!(seen, "{}: {what} was not seen; {}", self.namespace, self.last());
    }

    /// Returns the last status, for messages.
    pub fn last(&self) -> String {
        last_status(&self.timeline, &self.subject)
    }

    /// Creates the resource and waits until it is Stable.
    pub async fn deploy(&self, spec: &serde_json::Value) {
        self.subject.create(spec).await.unwrap();
        self.until("Stable", |state| state.is_stable()).await;
    }

    /// Waits until `check` holds and the namespace is quiet. Returns false at the end of the time limit.
    pub async fn rests(&self, limit: Duration, check: impl Fn(State<'_>) -> bool) -> bool {
        let start = Instant::now();
        let mut quiet: Option<(usize, Instant)> = None;
        while pace::elapsed(start) < limit {
            let history = self.timeline.history();
            let holds = self.subject.state(&history).is_some_and(&check);
            let size = history.entries().len();
            match quiet.filter(|(seen, _)| holds && *seen == size) {
                Some((_, since)) if since.elapsed() > QUIET + pace::late_now() => return true,
                Some(_) => {}
                None => quiet = holds.then(|| (size, Instant::now())),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        false
    }

    /// Returns everything that happened until now.
    pub async fn history(&self) -> History {
        self.timeline.settle(TIME_LIMIT).await.unwrap();
        self.timeline.history()
    }

    /// Returns the violated invariants of a resource that is at rest now.
    pub async fn violations(&self) -> Vec<String> {
        let waived = Waived { late_writes: self.late_writes, ..Waived::default() };
        let mut found = violations(&self.history().await, &waived);
        if self.timeline.gaps() > 0 {
            found.push("the timeline has gaps: events in them were not checked".to_owned());
        }
        found
    }
}

/// Returns the violated invariants of a history at whose end all resources are at rest.
pub(super) fn violations(history: &History, waived: &Waived) -> Vec<String> {
    let found = invariants::check(history, waived).into_iter().chain(invariants::at_rest(history, waived));
    found.map(|violation| violation.to_string()).collect()
}

/// Waits until `check` holds for a resource, and returns that version of it.
pub(super) async fn reaches(
    timeline: &Timeline,
    subject: &Subject,
    what: &str,
    limit: Duration,
    check: impl Fn(State<'_>) -> bool,
) -> crate::Result<Arc<Entry>> {
    let found = |history: &History| {
        let state = subject.state(history)?;
        check(state).then(|| history.latest(Kind::MetadataServices, &subject.name).cloned())?
    };
    timeline.wait_until(what, limit, found).await
}

/// Returns the last status of a resource, for messages.
pub(super) fn last_status(timeline: &Timeline, subject: &Subject) -> String {
    let history = timeline.history();
    let state = subject.state(&history);
    state.map_or_else(
        || "the resource does not exist".into(),
        |state| format!("its status: {}", state.0.object["status"]),
    )
}
