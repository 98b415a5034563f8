//! The watcher: invariants of the operator that hold at every revision of the history, whatever the scenario.
//!
//! Objects of all kinds share one order of revisions, so the state of the world is known at each of them. The names
//! (I1 ...) are those of the specification of invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use testbed::{Entry, History, Kind, State, Verb};

/// Largest status, in bytes (I20).
const STATUS_MAX: usize = 16 * 1024;
/// Longest history (I14).
const HISTORY_MAX: usize = 10;
/// How soon damage by another hand is mended (I1).
const MENDED: Duration = Duration::from_secs(5);

/// What another hand did in a scenario, and the watcher overlooks.
#[derive(Clone, Debug, Default)]
pub struct Waived {
    /// Objects that another hand changed or deleted, by name.
    pub objects: Vec<String>,
    /// Another hand took away the status.
    pub status: bool,
    /// Another hand changed or deleted `ControllerRevisions`.
    pub records: bool,
    /// The CRD was changed, which breaks all watches of resources.
    pub gaps: bool,
}

impl Waived {
    /// Whether an object is overlooked.
    pub fn has(&self, name: &str) -> bool {
        self.objects.iter().any(|known| known == name)
    }
}

/// Steps that may follow each other (I12); an empty one is a status without a machine.
const EDGES: &[(&str, &str)] = &[
    ("", "Deploying"),
    ("", "Stable"),
    ("", "Prune"),
    ("", "Switching"),
    ("Stable", "Deploying"),
    ("Stable", "Prune"),
    ("Deploying", "Switching"),
    ("Deploying", "Prune"),
    ("Switching", "Stable"),
    ("Switching", "Grace"),
    ("Switching", "RollingBack"),
    ("Switching", "Prune"),
    ("Grace", "Prune"),
    ("Grace", "RollingBack"),
    ("RollingBack", "Prune"),
    ("Prune", "Stable"),
    ("Prune", "Deploying"),
];

/// Checks a history; answers what is broken.
pub fn check(history: &History, waived: &Waived) -> Vec<String> {
    let mut watcher = Watcher {
        world: BTreeMap::new(),
        full: BTreeSet::new(),
        dangling: BTreeMap::new(),
        waived,
        broken: vec![],
    };
    for entry in history.entries() {
        watcher.see(entry);
    }
    watcher.broken
}

type Key = (Kind, String);

struct Watcher<'a> {
    world: BTreeMap<Key, Arc<Entry>>,
    /// Deployments (uid, generation) that were complete at that generation.
    full: BTreeSet<(String, i64)>,
    /// Front Services that select a colour without a Deployment, and since when.
    dangling: BTreeMap<String, Duration>,
    waived: &'a Waived,
    broken: Vec<String>,
}

/// What a front Service carries.
fn triple(front: &Entry) -> (&str, Option<&str>, Option<&str>) {
    (
        front.text("/spec/selector/strategy"),
        front.annotation("e6data.io/release-version"),
        front.annotation("e6data.io/epoch"),
    )
}

/// Whether the operator made it.
pub fn is_ours(entry: &Entry) -> bool {
    entry.label("app.kubernetes.io/managed-by") == Some("e6-operator")
        && matches!(entry.kind, Kind::Service | Kind::Deployment | Kind::ConfigMap | Kind::ControllerRevision)
}

/// Whether it is being deleted.
pub fn is_terminating(entry: &Entry) -> bool {
    entry.get("/metadata/deletionTimestamp").is_some()
}

fn is_front(entry: &Entry) -> bool {
    entry.kind == Kind::Service && is_ours(entry) && entry.label("strategy").is_none()
}

impl Watcher<'_> {
    fn say(&mut self, what: &str, entry: &Entry, why: impl std::fmt::Display) {
        let Entry { kind, name, resource_version, at, .. } = entry;
        let time = at.as_secs_f64();
        self.broken.push(format!("{what}: {kind:?} {name} at {resource_version} ({time:.2} s): {why}"));
    }

    fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Entry>> {
        self.world.get(&(kind, name.to_owned()))
    }

    /// The resource, if it is there and not being deleted.
    fn resource(&self, app: &str) -> Option<&Arc<Entry>> {
        self.get(Kind::MetadataServices, app).filter(|entry| !is_terminating(entry))
    }

    /// Whether an object is owned by the resource that is there now, and stays.
    fn belongs(&self, entry: &Entry, app: &str) -> bool {
        let owner = entry.text("/metadata/ownerReferences/0/uid");
        self.resource(app).is_some_and(|resource| resource.text("/metadata/uid") == owner)
    }

    fn fronts(&self, app: &str) -> [Option<&Arc<Entry>>; 2] {
        ["storage", "schema"].map(|component| self.get(Kind::Service, &format!("{app}-{component}")))
    }

    fn see(&mut self, entry: &Arc<Entry>) {
        let key = (entry.kind, entry.name.clone());
        let before = if entry.verb == Verb::Deleted {
            self.world.remove(&key)
        } else {
            self.world.insert(key, Arc::clone(entry))
        };
        let before = before.filter(|_| entry.verb != Verb::Added);
        if entry.kind == Kind::Deployment {
            self.note_full(entry);
        }
        if entry.kind == Kind::MetadataServices && entry.verb != Verb::Deleted {
            self.status(entry, before.as_deref());
        }
        if is_ours(entry) {
            self.object(entry, before.as_deref());
        }
    }

    fn note_full(&mut self, entry: &Entry) {
        let wanted = entry.number("/spec/replicas");
        let counts = ["updatedReplicas", "readyReplicas", "availableReplicas", "replicas"];
        let generation = entry.number("/metadata/generation");
        if wanted >= 1
            && entry.number("/status/observedGeneration") >= generation
            && counts.iter().all(|count| entry.number(&format!("/status/{count}")) == wanted)
        {
            self.full.insert((entry.text("/metadata/uid").to_owned(), generation));
        }
    }

    fn object(&mut self, entry: &Arc<Entry>, before: Option<&Entry>) {
        let app = entry.label("app").unwrap_or_default().to_owned();
        let by_hand = self.waived.has(&entry.name);
        if entry.verb == Verb::Added && !entry.listed && !by_hand {
            self.owned(entry, &app);
        }
        if !by_hand {
            self.selector(entry, &app);
            if let Some(before) = before {
                self.unchanged(entry, before, &app);
            }
        }
        let going = entry.verb == Verb::Deleted || is_terminating(entry);
        let was_going = before.is_some_and(is_terminating);
        if !self.belongs(entry, &app) {
            // What a deleted predecessor owned goes its own way.
            return;
        }
        if going && !was_going && !by_hand {
            self.deleted(entry, &app);
        }
        let comes_or_goes = entry.verb != Verb::Modified;
        if comes_or_goes && !by_hand && !is_front(entry) && entry.kind != Kind::ControllerRevision {
            self.agreed(entry, &app);
        }
        if let Some(before) = before.filter(|_| is_front(entry) && entry.verb == Verb::Modified && !by_hand) {
            self.switched(entry, before, &app);
        }
        if matches!(entry.kind, Kind::Service | Kind::Deployment) {
            self.routed(entry, &app);
        }
    }

    /// I32: what is created has an owner, which is there.
    fn owned(&mut self, entry: &Entry, app: &str) {
        let owner = entry.text("/metadata/ownerReferences/0/uid").to_owned();
        let living = self.get(Kind::MetadataServices, app).map(|one| one.text("/metadata/uid").to_owned());
        if living.as_ref() != Some(&owner) {
            self.say("I32", entry, format!("created for owner {owner:?}, there is {living:?}"));
        }
        // I28: nothing is created for a resource that is being deleted.
        if living.is_some() && self.resource(app).is_none() {
            self.say("I28", entry, "created although the resource is being deleted");
        }
    }

    /// I7: selectors are whole.
    fn selector(&mut self, entry: &Entry, app: &str) {
        let pointer = match entry.kind {
            Kind::Service => "/spec/selector",
            Kind::Deployment => "/spec/selector/matchLabels",
            _ => return,
        };
        let selector = entry.get(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
        let keys: Vec<&str> = selector.keys().map(String::as_str).collect();
        let right = selector.get("app").is_some_and(|value| value == app)
            && selector.get("component").and_then(Value::as_str) == entry.label("component")
            && selector.values().all(|value| value.as_str().is_some_and(|text| !text.is_empty()));
        if keys != ["app", "component", "strategy"] || !right {
            self.say("I7", entry, format!("selector {selector:?}"));
        }
    }

    /// I6, I8, I11: what never changes in an object's life.
    fn unchanged(&mut self, entry: &Entry, before: &Entry, app: &str) {
        let fixed: &[&str] = match entry.kind {
            Kind::Service => &["/spec/clusterIP", "/metadata/uid"],
            Kind::Deployment => &["/spec/template", "/spec/selector", "/metadata/uid"],
            Kind::ConfigMap | Kind::ControllerRevision => &["/data", "/metadata/uid"],
            _ => &[],
        };
        for pointer in fixed {
            if entry.get(pointer) != before.get(pointer) {
                self.say("I6 I8 I11", entry, format!("{pointer} changed"));
            }
        }
        let (now, was) = (entry.number("/spec/replicas"), before.number("/spec/replicas"));
        if entry.kind == Kind::Deployment && now < was {
            let component = entry.label("component").unwrap_or_default();
            let resource = self.get(Kind::MetadataServices, app);
            let asked = resource.and_then(|one| one.get(&format!("/spec/{component}/replicas"))?.as_i64());
            if now < asked.unwrap_or(1) {
                self.say("I6", entry, format!("replicas lowered from {was} to {now}, asked for {asked:?}"));
            }
        }
    }

    /// I8, I9: fronts stay; a colour goes only when both fronts agree on another, in Prune.
    fn deleted(&mut self, entry: &Entry, app: &str) {
        if is_front(entry) {
            self.say("I8", entry, "a front Service was deleted");
            return;
        }
        let step = self.resource(app).map(|one| State(one).step().to_owned()).unwrap_or_default();
        // A status that the test wipes in Prune is gone before the deletes that were decided on it have all arrived.
        let wiped = self.waived.status && step.is_empty();
        if step != "Prune" && !wiped {
            self.say("I9", entry, format!("deleted in step {step:?}"));
        }
        let Some(colour) = entry.label("strategy") else { return };
        if let [Some(one), Some(two)] = self.fronts(app)
            && (triple(one) != triple(two) || triple(one).0 == colour)
        {
            let why = format!("deleted while the fronts carry {:?} and {:?}", triple(one), triple(two));
            self.say("I9", entry, why);
        }
    }

    /// I4: while the fronts differ, nothing is created or deleted.
    fn agreed(&mut self, entry: &Entry, app: &str) {
        if let [Some(one), Some(two)] = self.fronts(app)
            && triple(one) != triple(two)
        {
            let why =
                format!("{:?} while the fronts carry {:?} and {:?}", entry.verb, triple(one), triple(two));
            self.say("I4", entry, why);
        }
    }

    /// I2, I5, I13: a selector changes with a new epoch only, and to a release that was complete.
    fn switched(&mut self, entry: &Entry, before: &Entry, app: &str) {
        let epoch =
            |entry: &Entry| entry.annotation("e6data.io/epoch").and_then(|text| text.parse::<i64>().ok());
        if epoch(entry) < epoch(before) {
            self.say("I13", entry, "the epoch went back");
        }
        let (colour, version, _) = triple(entry);
        if colour == triple(before).0 {
            return;
        }
        if epoch(entry) == epoch(before) {
            self.say("I5", entry, format!("{} to {colour} under one epoch", triple(before).0));
        }
        let forward = self.resource(app).is_some_and(|one| State(one).step() == "Switching");
        for component in ["storage", "schema"] {
            let name = format!("{app}-{component}-{colour}");
            let Some(deployment) = self.get(Kind::Deployment, &name) else { continue };
            let uid = deployment.text("/metadata/uid");
            let generation = deployment.number("/metadata/generation");
            let was_full = self.full.iter().any(|(of, at)| of == uid && (!forward || *at == generation));
            let right = deployment.annotation("e6data.io/release-version") == version;
            let complete = was_full && right;
            if !complete && !self.waived.has(&name) {
                self.say(
                    "I2",
                    entry,
                    format!("switched to {colour} {version:?}, but {name} was never complete"),
                );
            }
        }
    }

    /// I1: a front selects none, or a colour whose Deployment is there.
    fn routed(&mut self, entry: &Entry, app: &str) {
        for component in ["storage", "schema"] {
            let name = format!("{app}-{component}");
            let Some(front) = self.get(Kind::Service, &name).filter(|front| is_front(front)) else {
                continue;
            };
            let colour = triple(front).0.to_owned();
            let living = self.belongs(front, app);
            let target = format!("{name}-{colour}");
            let there =
                self.get(Kind::Deployment, &target).is_some_and(|deployment| !is_terminating(deployment));
            if colour == "none" || there || !living {
                let since = self.dangling.remove(&name);
                if since.is_some_and(|since| living && entry.at.saturating_sub(since) > MENDED) {
                    self.say(
                        "I1",
                        entry,
                        format!("{name} selected {colour} without a Deployment for too long"),
                    );
                }
                continue;
            }
            if !self.waived.has(&target) && !self.waived.has(&name) {
                self.say("I1", entry, format!("{name} selects {colour}, which has no Deployment"));
            }
            self.dangling.entry(name).or_insert(entry.at);
        }
    }

    fn status(&mut self, entry: &Entry, before: Option<&Entry>) {
        let now = State(entry);
        let size = entry.get("/status").map_or(0, |status| status.to_string().len());
        if size > STATUS_MAX {
            self.say("I20", entry, format!("the status has {size} bytes"));
        }
        let observed = entry.number("/status/observedGeneration");
        if observed > entry.number("/metadata/generation") {
            self.say("I19", entry, "observedGeneration is ahead");
        }
        self.records(entry);
        self.serving(entry);
        let Some(was) = before.map(State) else { return };
        if was.step().is_empty() || now.step().is_empty() {
            if !was.step().is_empty() && !self.waived.status {
                self.say("I12", entry, "the status lost its step");
            }
            return;
        }
        if now.step() != was.step() && !EDGES.contains(&(was.step(), now.step())) {
            self.say("I12", entry, format!("{} to {}", was.step(), now.step()));
        }
        if now.epoch() < was.epoch() {
            self.say("I13", entry, format!("epoch {} to {}", was.epoch(), now.epoch()));
        }
        self.trimmed(entry, was);
    }

    /// I14, I15: laws of the history.
    fn records(&mut self, entry: &Entry) {
        let now = State(entry);
        let records = now.records();
        let versions: BTreeSet<String> = records.iter().map(|one| one["version"].to_string()).collect();
        let active = records.iter().filter(|one| one["status"] == "Active").count();
        let served = records.iter().any(|one| one.get("activatedAt").is_some());
        if records.len() > HISTORY_MAX || versions.len() != records.len() {
            self.say("I14", entry, format!("history {:?}", now.summary()));
        }
        if active > 1 || (active == 0 && served && now.step() == "Stable") {
            self.say("I15", entry, format!("{active} Active in {:?}", now.summary()));
        }
        let moving = matches!(now.step(), "Deploying" | "Switching") && !now.active().is_empty();
        if moving && now.pending() != now.active() {
            let at = |back: usize| records.len().checked_sub(back).map(|at| records[at]["version"].clone());
            if at(1).as_ref() != Some(&now.pending().into()) || at(2).as_ref() != Some(&now.active().into()) {
                self.say(
                    "I14",
                    entry,
                    format!("order {:?} while {} is on its way", now.summary(), now.pending()),
                );
            }
        }
    }

    /// I16: in Stable, the fronts select what is Active.
    fn serving(&mut self, entry: &Entry) {
        let now = State(entry);
        if now.step() != "Stable" || is_terminating(entry) {
            return;
        }
        let active = now.records().iter().find(|one| one["status"] == "Active");
        if active.and_then(|one| one["version"].as_str()) != Some(now.active()) {
            self.say("I16", entry, format!("{} serves, the history says {:?}", now.active(), now.summary()));
        }
        let app = entry.name.clone();
        let wrong: Vec<String> = self
            .fronts(&app)
            .into_iter()
            .flatten()
            .filter(|front| !self.waived.has(&front.name))
            .filter(|front| triple(front).0 != now.colour() || triple(front).1 != Some(now.active()))
            .map(|front| format!("{} carries {:?}", front.name, triple(front)))
            .collect();
        for why in wrong {
            self.say("I16", entry, why);
        }
    }

    /// I17: neither an Active nor a Pending record is dropped.
    fn trimmed(&mut self, entry: &Entry, was: State<'_>) {
        let now = State(entry);
        let dropped: Vec<String> = was
            .records()
            .iter()
            .filter(|old| !now.records().iter().any(|one| one["version"] == old["version"]))
            .filter(|old| old["status"] == "Active" || old["status"] == "Pending")
            .map(|old| old["version"].to_string())
            .collect();
        if !dropped.is_empty() && !self.waived.status {
            self.say("I17", entry, format!("dropped {dropped:?}"));
        }
    }
}
