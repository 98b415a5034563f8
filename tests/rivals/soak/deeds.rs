//! What users do with a resource in a soak, and where each deed must end.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{Kind, State, Timeline};

use super::trouble::Chance;
use super::{PATIENCE, Soak, chance};
use crate::bench::Stage;
use crate::story::serves;

/// Rollouts that one eye watches; then what it saw is judged and let go.
const CHAPTER: usize = 5;

/// One thing that a user does, which is one rollout (or more, where he changes his mind).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A good release.
    Upgrade,
    /// A release that never becomes ready.
    Bad,
    /// A release that breaks after the switch.
    Late,
    /// Another release before the first one serves.
    Supersede,
    /// Back to what serves, at any time.
    Abort,
    /// Back to the release before, by annotation.
    Rollback,
    /// The serving release anew.
    Restart,
    /// Deleted, and created anew.
    Anew,
}

/// The longest delay of a write, the longest stop of an operator, and some seconds for a busy machine.
const LATE: Duration = Duration::from_secs(6 + 8 + 4);

const DEEDS: [Deed; 12] = [
    Deed::Upgrade,
    Deed::Upgrade,
    Deed::Upgrade,
    Deed::Bad,
    Deed::Bad,
    Deed::Late,
    Deed::Supersede,
    Deed::Abort,
    Deed::Rollback,
    Deed::Rollback,
    Deed::Restart,
    Deed::Anew,
];

/// A resource in its namespace, from its creation to the end of the soak.
pub struct Life<'a> {
    soak: &'a Soak,
    stage: Stage,
    chance: Chance,
    /// It has a `ServiceAccount` of its own, and a budget.
    has_optional: bool,
    /// The tag that serves.
    good: String,
    /// The next tag.
    next: usize,
}

/// What became of a life.
#[derive(Default)]
pub struct Lived {
    /// What was wrong.
    pub violations: Vec<String>,
    /// How often each deed was done.
    pub deeds: BTreeMap<Deed, usize>,
    /// The longest that one took, in seconds.
    pub slowest: f64,
}

impl<'a> Life<'a> {
    pub async fn new(soak: &'a Soak, number: usize) -> Self {
        let mut stage = soak.bench.stage(&format!("soak-{number}")).await;
        stage.late_writes = LATE;
        let chance = chance(soak, u64::try_from(number).unwrap());
        let has_optional = number.is_multiple_of(3);
        stage.subject.create(&spec("1", has_optional)).await.unwrap();
        Self { soak, stage, chance, has_optional, good: "1".into(), next: 2 }
    }

    /// Does deeds until all rollouts are begun.
    pub async fn live(mut self) -> Lived {
        let mut lived = Lived::default();
        let good = self.good.clone();
        self.ends(&mut lived, "the first release", |state| serves(state, &good)).await;
        let mut seen = 0;
        while self.soak.ticket() {
            let deed = DEEDS[self.chance.below(DEEDS.len())];
            let start = Instant::now();
            self.act(deed, &mut lived).await;
            lived.slowest = lived.slowest.max(start.elapsed().as_secs_f64());
            *lived.deeds.entry(deed).or_default() += 1;
            self.soak.done.fetch_add(1, Ordering::Relaxed);
            seen += 1;
            if seen % CHAPTER == 0 {
                self.judge(&mut lived).await;
            }
        }
        self.judge(&mut lived).await;
        lived
    }

    /// Judges what the eye saw, when another one watches already.
    async fn judge(&mut self, lived: &mut Lived) {
        let rests = self.stage.rests(PATIENCE, |state| state.is_settled()).await;
        let namespace = &self.stage.namespace;
        if !rests {
            lived.violations.push(format!("{namespace}: I37: no rest; {}", self.stage.last()));
        }
        let next = Timeline::start(self.soak.bench.client.clone(), Some(namespace)).await.unwrap();
        let found = self.stage.violations().await;
        lived.violations.extend(found.into_iter().map(|text| format!("{namespace}: {text}")));
        self.stage.timeline = next;
    }

    /// Waits until a deed has come to its end.
    async fn ends(&self, lived: &mut Lived, what: &str, check: impl Fn(State<'_>) -> bool) {
        if !self.stage.reaches(PATIENCE, check).await {
            let Stage { namespace, .. } = &self.stage;
            lived.violations.push(format!("{namespace}: I37: {what} did not end; {}", self.stage.last()));
        }
    }

    fn tag(&mut self) -> String {
        self.next += 1;
        (self.next - 1).to_string()
    }

    async fn upgrade(&self, tag: &str) {
        let schema = tag.split('-').next().unwrap_or(tag).to_owned();
        self.stage.subject.upgrade(tag, &schema).await.unwrap();
    }

    async fn act(&mut self, deed: Deed, lived: &mut Lived) {
        match deed {
            Deed::Upgrade => {
                let tag = self.tag();
                self.upgrade(&tag).await;
                self.serves(lived, deed, tag).await;
            }
            Deed::Bad => {
                let kind = ["crash", "nopull", "noconfig"][self.chance.below(3)];
                let tag = format!("{}-{kind}", self.tag());
                self.upgrade(&tag).await;
                self.falls_back(lived, deed, &tag).await;
            }
            Deed::Late => self.late(lived).await,
            Deed::Supersede => {
                let (first, second) = (format!("{}-slow", self.tag()), self.tag());
                self.upgrade(&first).await;
                tokio::time::sleep(self.chance.time(Duration::from_secs(4))).await;
                self.upgrade(&second).await;
                self.serves(lived, deed, second).await;
            }
            Deed::Abort => {
                let (tag, good) = (self.tag(), self.good.clone());
                self.upgrade(&tag).await;
                tokio::time::sleep(self.chance.time(Duration::from_secs(5))).await;
                self.upgrade(&good).await;
                self.serves(lived, deed, good).await;
            }
            Deed::Rollback => self.rollback(lived).await,
            Deed::Restart => self.restart(lived).await,
            Deed::Anew => self.anew(lived).await,
        }
    }

    async fn serves(&mut self, lived: &mut Lived, deed: Deed, tag: String) {
        self.ends(lived, &format!("{deed:?} to {tag}"), |state| serves(state, &tag)).await;
        self.good = tag;
    }

    /// The release fails, what served still serves.
    async fn falls_back(&self, lived: &mut Lived, deed: Deed, tag: &str) {
        let failed = |state: State<'_>| {
            let record = state.record_of_tag(tag);
            state.is_settled()
                && state.phase() == "Degraded"
                && state.active() == state.version_of_tag(&self.good)
                && record.is_some_and(|record| record["status"] == "Failed")
        };
        self.ends(lived, &format!("{deed:?} to {tag}"), failed).await;
    }

    /// The old release stays warm until the new one has broken.
    async fn late(&mut self, lived: &mut Lived) {
        let kind = ["flaky", "latecrash"][self.chance.below(2)];
        let tag = format!("{}-{kind}", self.tag());
        self.stage.subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 60}})).await.unwrap();
        self.upgrade(&tag).await;
        // Back before the switch or after it: what serves is the release before.
        let failed = |state: State<'_>| {
            let record = state.record_of_tag(&tag);
            record.is_some_and(|record| record["status"] == "Failed")
        };
        self.ends(lived, &format!("the failure of {tag}"), failed).await;
        self.stage.subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 2}})).await.unwrap();
        self.falls_back(lived, Deed::Late, &tag).await;
    }

    /// Back to the newest other release that has served; without one, an upgrade.
    async fn rollback(&mut self, lived: &mut Lived) {
        let history = self.stage.history().await;
        let state = self.stage.subject.state(&history).unwrap();
        let served =
            |record: &&Value| record["status"] == "Superseded" && record.get("activatedAt").is_some();
        let record = state.records().iter().rev().find(served);
        let Some((tag, version)) = record.map(|record| (text(record, "storageTag"), text(record, "version")))
        else {
            let tag = self.tag();
            self.upgrade(&tag).await;
            return self.serves(lived, Deed::Rollback, tag).await;
        };
        self.stage.subject.annotate("e6data.io/rollback-to", &version).await.unwrap();
        self.serves(lived, Deed::Rollback, tag).await;
    }

    /// What serves is started anew on the other color, whether or not the spec asks for something that failed.
    async fn restart(&mut self, lived: &mut Lived) {
        let history = self.stage.history().await;
        let before = self.stage.subject.state(&history).unwrap().color();
        self.stage.subject.annotate("e6data.io/restart", "now").await.unwrap();
        let again = |state: State<'_>| {
            state.is_settled()
                && state.color() != before
                && state.active() == state.version_of_tag(&self.good)
        };
        self.ends(lived, "a restart", again).await;
    }

    async fn anew(&mut self, lived: &mut Lived) {
        let tag = self.tag();
        let old = self.stage.subject.get().await.unwrap()["metadata"]["uid"].clone();
        self.stage.subject.delete().await.unwrap();
        self.stage.subject.create(&spec(&tag, self.has_optional)).await.unwrap();
        let again = |state: State<'_>| serves(state, &tag) && state.0.object["metadata"]["uid"] != old;
        self.ends(lived, "a new life", again).await;
        self.good = tag;
    }
}

/// A resource with a release.
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

/// Deletes all resources and answers what of their objects is left when the garbage collector had its time.
pub async fn left_over(soak: &Soak) -> Vec<String> {
    let timeline = Timeline::start(soak.bench.client.clone(), None).await.unwrap();
    let history = timeline.history();
    for entry in history.all_live(Kind::MetadataServices) {
        let subject = testbed::Subject::new(&soak.bench.client, &entry.namespace, &entry.name);
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
    match timeline.wait_until("", PATIENCE, gone).await {
        Ok(()) => vec![],
        Err(_) => ours(&timeline.history()),
    }
}
