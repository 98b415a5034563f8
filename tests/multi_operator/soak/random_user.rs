//! A user who starts random rollouts of one resource, and the state in which each rollout must end.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::harness::WatchedResource;
use testbed::resource::{merge, quick};
use testbed::{Kind, State, Timeline, UserAction};

use super::random_faults::Chance;
use super::{LIMIT, Soak, chance};
use crate::rollout_scenario::serves;

/// Number of rollouts that one timeline records. After them its history is checked and dropped.
const BATCH: usize = 5;

/// A rollout, or several where the user changes the spec again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rollout {
    /// A release that becomes ready.
    Upgrade,
    /// A release that never becomes ready.
    FailedRelease,
    /// A release that fails after the switch.
    LateFailure,
    /// A second release before the first one is active.
    Supersede,
    /// Back to the active release at any time.
    Abort,
    /// A requested rollback to a previous release.
    Rollback,
    /// A requested restart of the active release.
    Restart,
    /// Deletion and new creation of the resource.
    Recreate,
}

/// The longest delay of a write, the longest pause of an operator, and some seconds for a busy machine.
const LATE: Duration = Duration::from_secs(6 + 8 + 4);

/// The rollouts to choose from; the frequent ones several times.
const ROLLOUTS: [Rollout; 12] = [
    Rollout::Upgrade,
    Rollout::Upgrade,
    Rollout::Upgrade,
    Rollout::FailedRelease,
    Rollout::FailedRelease,
    Rollout::LateFailure,
    Rollout::Supersede,
    Rollout::Abort,
    Rollout::Rollback,
    Rollout::Rollback,
    Rollout::Restart,
    Rollout::Recreate,
];

/// A user of one resource, from its creation to the end of the soak.
pub struct RandomUser<'a> {
    soak: &'a Soak,
    resource: WatchedResource,
    chance: Chance,
    /// The resource has its own `ServiceAccount` and a disruption budget.
    has_optional: bool,
    /// The tag of the active release.
    good: String,
    /// The next unused tag.
    next: usize,
}

/// The results of one user.
#[derive(Default)]
pub struct UserReport {
    /// The violations.
    pub violations: Vec<String>,
    /// The number of rollouts of each kind.
    pub rollouts: BTreeMap<Rollout, usize>,
    /// The duration of the slowest rollout in seconds.
    pub slowest: f64,
}

impl<'a> RandomUser<'a> {
    /// Creates a resource.
    pub async fn new(soak: &'a Soak, number: usize) -> Self {
        let mut resource = soak.cluster.resource(&format!("soak-{number}")).await;
        resource.late_writes = LATE;
        let chance = chance(soak, u64::try_from(number).unwrap());
        let has_optional = number.is_multiple_of(3);
        resource.subject.create(&spec("1", has_optional)).await.unwrap();
        Self { soak, resource, chance, has_optional, good: "1".into(), next: 2 }
    }

    /// Starts rollouts, one after another, until the soak has enough.
    pub async fn run(mut self) -> UserReport {
        let mut report = UserReport::default();
        let good = self.good.clone();
        self.ends(&mut report, "the first release", |state| serves(state, &good)).await;
        let mut unchecked = 0;
        while self.soak.ticket() {
            let rollout = ROLLOUTS[self.chance.below(ROLLOUTS.len())];
            let start = Instant::now();
            self.start(rollout, &mut report).await;
            report.slowest = report.slowest.max(start.elapsed().as_secs_f64());
            *report.rollouts.entry(rollout).or_default() += 1;
            self.soak.done.fetch_add(1, Ordering::Relaxed);
            unchecked += 1;
            if unchecked % BATCH == 0 {
                self.check(&mut report).await;
            }
        }
        self.check(&mut report).await;
        report
    }

    /// Checks the history so far, after a new timeline has started.
    async fn check(&mut self, report: &mut UserReport) {
        let rests = self.resource.rests(LIMIT, |state| state.is_settled()).await;
        let namespace = &self.resource.namespace;
        if !rests {
            report.violations.push(format!("{namespace}: I37: not at rest; {}", self.resource.last()));
        }
        let next = Timeline::start(self.soak.cluster.client.clone(), Some(namespace)).await.unwrap();
        let found = self.resource.violations().await;
        report.violations.extend(found.into_iter().map(|text| format!("{namespace}: {text}")));
        self.resource.timeline = next;
    }

    /// Waits until a rollout is complete.
    async fn ends(&self, report: &mut UserReport, what: &str, check: impl Fn(State<'_>) -> bool) {
        if !self.resource.reaches(LIMIT, check).await {
            let (namespace, last) = (&self.resource.namespace, self.resource.last());
            report.violations.push(format!("{namespace}: I37: {what} did not end; {last}"));
        }
    }

    fn tag(&mut self) -> String {
        self.next += 1;
        (self.next - 1).to_string()
    }

    async fn perform(&self, action: UserAction) {
        action.perform(&self.resource.subject).await.unwrap();
    }

    /// Asks for the release with this tag. Only its storage has the behavior that the tag names.
    async fn upgrade(&self, tag: &str) {
        let schema = tag.split('-').next().unwrap_or(tag).to_owned();
        self.perform(UserAction::SetImageTags(tag.to_owned(), schema)).await;
    }

    async fn start(&mut self, rollout: Rollout, report: &mut UserReport) {
        match rollout {
            Rollout::Upgrade => {
                let tag = self.tag();
                self.upgrade(&tag).await;
                self.serves(report, rollout, tag).await;
            }
            Rollout::FailedRelease => {
                let kind = ["crash", "nopull", "noconfig"][self.chance.below(3)];
                let tag = format!("{}-{kind}", self.tag());
                self.upgrade(&tag).await;
                self.rolls_back(report, rollout, &tag).await;
            }
            Rollout::LateFailure => self.late_failure(report).await,
            Rollout::Supersede => {
                let (first, second) = (format!("{}-slow", self.tag()), self.tag());
                self.upgrade(&first).await;
                tokio::time::sleep(self.chance.time(Duration::from_secs(4))).await;
                self.upgrade(&second).await;
                self.serves(report, rollout, second).await;
            }
            Rollout::Abort => {
                let (tag, good) = (self.tag(), self.good.clone());
                self.upgrade(&tag).await;
                tokio::time::sleep(self.chance.time(Duration::from_secs(5))).await;
                self.upgrade(&good).await;
                self.serves(report, rollout, good).await;
            }
            Rollout::Rollback => self.rollback(report).await,
            Rollout::Restart => self.restart(report).await,
            Rollout::Recreate => self.recreate(report).await,
        }
    }

    async fn serves(&mut self, report: &mut UserReport, rollout: Rollout, tag: String) {
        self.ends(report, &format!("{rollout:?} to {tag}"), |state| serves(state, &tag)).await;
        self.good = tag;
    }

    /// The release fails, and the previous release is active.
    async fn rolls_back(&self, report: &mut UserReport, rollout: Rollout, tag: &str) {
        let failed = |state: State<'_>| {
            let record = state.record_of_tag(tag);
            state.is_settled()
                && state.phase() == "Degraded"
                && state.active() == state.version_of_tag(&self.good)
                && record.is_some_and(|record| record["status"] == "Failed")
        };
        self.ends(report, &format!("{rollout:?} to {tag}"), failed).await;
    }

    /// The old Pods run until the new release has failed.
    async fn late_failure(&mut self, report: &mut UserReport) {
        let kind = ["flaky", "latecrash"][self.chance.below(2)];
        let tag = format!("{}-{kind}", self.tag());
        let cleanup_delay =
            |seconds: u32| UserAction::Edit(json!({"rollout": {"cleanupDelaySeconds": seconds}}));
        self.perform(cleanup_delay(60)).await;
        self.upgrade(&tag).await;
        // The operator rolls back before the switch or after it.
        let failed = |state: State<'_>| {
            let record = state.record_of_tag(&tag);
            record.is_some_and(|record| record["status"] == "Failed")
        };
        self.ends(report, &format!("the failure of {tag}"), failed).await;
        self.perform(cleanup_delay(2)).await;
        self.rolls_back(report, Rollout::LateFailure, &tag).await;
    }

    /// Requests a rollback to the newest other release that was active. Without one, upgrades.
    async fn rollback(&mut self, report: &mut UserReport) {
        let history = self.resource.history().await;
        let state = self.resource.subject.state(&history).unwrap();
        let served =
            |record: &&Value| record["status"] == "Superseded" && record.get("activatedAt").is_some();
        let record = state.records().iter().rev().find(served);
        let Some((tag, version)) = record.map(|record| (text(record, "storageTag"), text(record, "version")))
        else {
            let tag = self.tag();
            self.upgrade(&tag).await;
            return self.serves(report, Rollout::Rollback, tag).await;
        };
        self.perform(UserAction::RollBackToVersion(version)).await;
        self.serves(report, Rollout::Rollback, tag).await;
    }

    /// The active release restarts on the other color, even if the spec asks for a failed release.
    async fn restart(&mut self, report: &mut UserReport) {
        let history = self.resource.history().await;
        let before = self.resource.subject.state(&history).unwrap().color();
        self.perform(UserAction::Restart).await;
        let restarted = |state: State<'_>| {
            state.is_settled()
                && state.color() != before
                && state.active() == state.version_of_tag(&self.good)
        };
        self.ends(report, "a restart", restarted).await;
    }

    async fn recreate(&mut self, report: &mut UserReport) {
        let tag = self.tag();
        let old = self.resource.subject.get().await.unwrap()["metadata"]["uid"].clone();
        self.perform(UserAction::Delete).await;
        self.resource.subject.create(&spec(&tag, self.has_optional)).await.unwrap();
        let created = |state: State<'_>| serves(state, &tag) && state.0.object["metadata"]["uid"] != old;
        self.ends(report, "the new resource", created).await;
        self.good = tag;
    }
}

/// Returns the spec of a resource with a release.
fn spec(tag: &str, has_optional: bool) -> Value {
    let mut spec = quick(tag, tag);
    if has_optional {
        let optional = json!({
            "serviceAccount": {"create": true},
            "storage": {"podDisruptionBudget": {"enabled": true}},
        });
        merge(&mut spec, &optional);
    }
    spec
}

fn text(record: &Value, field: &str) -> String {
    record[field].as_str().unwrap_or_default().to_owned()
}

/// Deletes all resources, and returns those of their objects that the garbage collector does not delete in time.
pub async fn left_over(soak: &Soak) -> Vec<String> {
    let timeline = Timeline::start(soak.cluster.client.clone(), None).await.unwrap();
    let history = timeline.history();
    for entry in history.all_live(Kind::MetadataServices) {
        let subject = testbed::Subject::new(&soak.cluster.client, &entry.namespace, &entry.name);
        subject.delete().await.unwrap();
    }
    let ours = |history: &testbed::History| -> Vec<String> {
        let kinds = Kind::MADE.into_iter().chain([Kind::Pod]);
        let live = kinds.flat_map(|kind| history.all_live(kind));
        live.filter(|entry| entry.namespace.starts_with("soak-") && entry.label("app").is_some())
            .map(|entry| format!("orphan: {:?} {} in {}", entry.kind, entry.name, entry.namespace))
            .collect()
    };
    let gone = |history: &testbed::History| ours(history).is_empty().then_some(());
    match timeline.wait_until("", LIMIT, gone).await {
        Ok(()) => vec![],
        Err(_) => ours(&timeline.history()),
    }
}
