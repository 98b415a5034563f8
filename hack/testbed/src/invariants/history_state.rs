//! The objects at one moment of a history, and the facts about earlier moments that the invariants need.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{COLORS, COMPONENTS};
use crate::history::{Entry, History, Kind, Verb};

pub const RELEASE_VERSION: &str = "e6data.io/release-version";
pub const EPOCH: &str = "e6data.io/epoch";

/// Namespace and name of a resource.
pub type App<'a> = (&'a str, &'a str);

/// The color that a front Service selects, and the decision that it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub color: String,
    pub version: String,
    pub epoch: i64,
}

impl Selection {
    pub fn of(front: &Entry) -> Self {
        Self {
            color: front.text("/spec/selector/strategy").to_owned(),
            version: front.annotation(RELEASE_VERSION).unwrap_or_default().to_owned(),
            epoch: epoch(front),
        }
    }

    /// Returns whether both select the same color of the same release, in any decision.
    pub fn goes_where(&self, other: &Self) -> bool {
        (&self.color, &self.version) == (&other.color, &other.version)
    }

    /// Returns the decision of a status: the pending release while traffic switches to it, otherwise the active
    /// release.
    pub fn decided(owner: &Entry) -> Self {
        let target = owner.text("/status/rollout/step") == "Switching";
        let (color, version) = if target {
            ("/status/rollout/target/strategy", "/status/rollout/target/version")
        } else {
            ("/status/activeStrategy", "/status/activeReleaseVersion")
        };
        let color = owner.text(color);
        Self {
            color: if color.is_empty() { "none".into() } else { color.to_owned() },
            version: owner.text(version).to_owned(),
            epoch: owner.number("/status/rollout/epoch"),
        }
    }

    /// Returns whether color and release are the same, in any decision.
    pub fn same_side(&self, other: &Self) -> bool {
        self.color == other.color && self.version == other.version
    }
}

/// Returns the epoch of an object. 0 if it has none.
pub fn epoch(entry: &Entry) -> i64 {
    entry.annotation(EPOCH).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Returns whether the operator created or adopted the object.
pub fn is_ours(entry: &Entry) -> bool {
    entry.label("app.kubernetes.io/managed-by") == Some("e6-operator")
        && Kind::MADE.contains(&entry.kind)
        && is_stamped(entry)
}

/// Returns whether the object carries an annotation that only the operator writes.
pub fn is_stamped(entry: &Entry) -> bool {
    [RELEASE_VERSION, EPOCH, "e6data.io/settings"].iter().any(|stamp| entry.annotation(stamp).is_some())
}

/// Returns whether the object is being deleted.
pub fn is_terminating(entry: &Entry) -> bool {
    entry.get("/metadata/deletionTimestamp").is_some()
}

/// Returns whether the object is a front Service.
pub fn is_front(entry: &Entry) -> bool {
    entry.kind == Kind::Service && is_ours(entry) && entry.label("strategy").is_none()
}

/// Returns the resource that the labels of an object name.
pub fn app_of(entry: &Entry) -> App<'_> {
    (&entry.namespace, entry.label("app").unwrap_or_default())
}

/// Returns the UID of the controlling owner.
pub fn controller(entry: &Entry) -> Option<&str> {
    let owners = entry.get("/metadata/ownerReferences")?.as_array()?;
    let found = owners.iter().find(|one| one.get("controller") == Some(&Value::Bool(true)))?;
    found.get("uid")?.as_str()
}

type Key<'a> = (&'a str, Kind, &'a str);

/// The objects at one moment.
pub struct HistoryState<'a> {
    live: BTreeMap<Key<'a>, &'a Entry>,
    /// The latest possible time of each event, by its index. Events of different kinds arrive on separate watches: if
    /// a later event arrived first, this event happened before that arrival.
    happened: Vec<f64>,
    /// UID and generation of Deployments that were complete at that generation.
    complete: BTreeSet<(String, i64)>,
    /// The last time a front Service stopped selecting a color.
    left: BTreeMap<(App<'a>, String), f64>,
    /// The selection of the front Service that carried a decision first, by the UID of the owner and the epoch.
    sides: BTreeMap<(String, i64), Selection>,
    /// Number of changes of the selector of a front Service in this rollout.
    moves: BTreeMap<Key<'a>, usize>,
    /// The time when a resource was deleted or its deletion started, by UID.
    leaving: BTreeMap<String, f64>,
    /// Front Services that select a color without a Deployment, and the start of that time.
    dangling: BTreeMap<Key<'a>, f64>,
    /// Front Services for which that time ended with this event, and its length.
    pub mended: Vec<(&'a Entry, f64)>,
}

impl<'a> HistoryState<'a> {
    pub fn new(history: &History) -> Self {
        let mut earliest = f64::INFINITY;
        let backwards = history.entries().iter().rev().map(|entry| {
            earliest = earliest.min(entry.at.saturating_sub(entry.late).as_secs_f64());
            earliest
        });
        let mut happened: Vec<f64> = backwards.collect();
        happened.reverse();
        Self {
            live: BTreeMap::new(),
            happened,
            complete: BTreeSet::new(),
            left: BTreeMap::new(),
            sides: BTreeMap::new(),
            moves: BTreeMap::new(),
            leaving: BTreeMap::new(),
            dangling: BTreeMap::new(),
            mended: Vec::new(),
        }
    }

    /// Applies the next event, and returns the object before it.
    pub fn take(&mut self, index: usize, entry: &'a Entry) -> Option<&'a Entry> {
        let key = (entry.namespace.as_str(), entry.kind, entry.name.as_str());
        let before =
            if entry.verb == Verb::Deleted { self.live.remove(&key) } else { self.live.insert(key, entry) };
        let before = before.filter(|_| entry.verb != Verb::Added);
        let at = self.happened.get(index).copied().unwrap_or_default();
        match entry.kind {
            Kind::Deployment => self.note_deployment(entry),
            Kind::Service if is_front(entry) => self.note_front(entry, before, at),
            Kind::MetadataServices => self.note_owner(entry, before, at),
            _ => {}
        }
        self.mended.clear();
        if matches!(entry.kind, Kind::Service | Kind::Deployment) {
            self.note_routes(entry, at);
        }
        before
    }

    fn note_deployment(&mut self, entry: &'a Entry) {
        let wanted = entry.number("/spec/replicas");
        let counts = ["updatedReplicas", "readyReplicas", "availableReplicas", "replicas"];
        let generation = entry.number("/metadata/generation");
        if wanted >= 1
            && entry.number("/status/observedGeneration") >= generation
            && counts.iter().all(|count| entry.number(&format!("/status/{count}")) == wanted)
        {
            self.complete.insert((entry.text("/metadata/uid").to_owned(), generation));
        }
        if entry.verb == Verb::Added {
            let color = entry.label("strategy").unwrap_or_default().to_owned();
            self.left.remove(&(app_of(entry), color));
        }
    }

    fn note_front(&mut self, entry: &'a Entry, before: Option<&'a Entry>, at: f64) {
        if entry.verb == Verb::Deleted {
            return;
        }
        let now = Selection::of(entry);
        if now.color != "none" {
            let owner = controller(entry).unwrap_or_default().to_owned();
            self.sides.entry((owner, now.epoch)).or_insert_with(|| now.clone());
        }
        let Some(was) = before.map(Selection::of).filter(|was| was.color != now.color) else { return };
        *self.moves.entry((&entry.namespace, entry.kind, &entry.name)).or_default() += 1;
        if was.color != "none" {
            self.left.insert((app_of(entry), was.color), at);
        }
    }

    /// A rollout starts and ends with these steps.
    fn note_owner(&mut self, entry: &'a Entry, before: Option<&'a Entry>, at: f64) {
        if entry.verb == Verb::Deleted || is_terminating(entry) {
            self.leaving.entry(entry.text("/metadata/uid").to_owned()).or_insert(at);
        }
        let step = |entry: &'a Entry| entry.text("/status/rollout/step");
        if before.map(step) == Some(step(entry)) && entry.verb == Verb::Modified {
            return;
        }
        if matches!(step(entry), "" | "Stable" | "Deploying") {
            let fronts = COMPONENTS.map(|component| format!("{}-{component}", entry.name));
            self.moves.retain(|(namespace, _, name), _| {
                *namespace != entry.namespace || !fronts.iter().any(|front| front == name)
            });
        }
    }

    /// Updates which front Services select a color without a Deployment. Front Services of a deleted resource do not
    /// count: the garbage collector deletes their Deployments.
    fn note_routes(&mut self, entry: &'a Entry, at: f64) {
        let app = app_of(entry);
        if entry.verb == Verb::Deleted {
            self.dangling.remove(&(entry.namespace.as_str(), entry.kind, entry.name.as_str()));
        }
        for front in self.fronts(app) {
            let key = (front.namespace.as_str(), front.kind, front.name.as_str());
            if self.owner_of(front).is_none() {
                self.dangling.remove(&key);
            } else if self.dangles(front) {
                self.dangling.entry(key).or_insert(at);
            } else if let Some(since) = self.dangling.remove(&key) {
                self.mended.push((front, at - since));
            }
        }
    }

    /// Returns whether a front Service selects a color whose Deployment is missing or being deleted.
    pub fn dangles(&self, front: &Entry) -> bool {
        let color = front.text("/spec/selector/strategy");
        let component = front.label("component").unwrap_or_default();
        let deployment = self.deployment(app_of(front), component, color);
        color != "none" && deployment.is_none_or(is_terminating)
    }

    /// Returns the seconds between the deletion of a resource and an event. None if the resource exists.
    pub fn gone_for(&self, uid: &str, entry: &Entry) -> Option<f64> {
        self.leaving.get(uid).map(|since| entry.at.as_secs_f64() - since)
    }

    pub fn get(&self, namespace: &str, kind: Kind, name: &str) -> Option<&'a Entry> {
        self.live.get(&(namespace, kind, name)).copied()
    }

    /// Returns the resource, even if it is being deleted.
    pub fn resource(&self, app: App<'_>) -> Option<&'a Entry> {
        self.get(app.0, Kind::MetadataServices, app.1)
    }

    /// Returns the resource, unless it is being deleted.
    pub fn owner(&self, app: App<'_>) -> Option<&'a Entry> {
        self.resource(app).filter(|owner| !is_terminating(owner))
    }

    /// Returns the resource that controls the object now, unless it is being deleted.
    pub fn owner_of(&self, entry: &Entry) -> Option<&'a Entry> {
        let owner = self.owner(app_of(entry))?;
        (is_ours(entry) && controller(entry) == Some(owner.text("/metadata/uid"))).then_some(owner)
    }

    pub fn front(&self, app: App<'_>, component: &str) -> Option<&'a Entry> {
        self.get(app.0, Kind::Service, &format!("{}-{component}", app.1)).filter(|front| is_front(front))
    }

    pub fn fronts(&self, app: App<'_>) -> Vec<&'a Entry> {
        COMPONENTS.iter().filter_map(|component| self.front(app, component)).collect()
    }

    /// Returns the ControllerRevisions of a resource.
    pub fn records<'w>(&'w self, app: App<'w>) -> impl Iterator<Item = &'a Entry> + use<'a, 'w> {
        let all = self.live.values().copied().filter(|entry| entry.kind == Kind::ControllerRevision);
        all.filter(move |entry| is_ours(entry) && app_of(entry) == app)
    }

    pub fn selections(&self, app: App<'_>) -> Vec<Selection> {
        self.fronts(app).into_iter().map(Selection::of).collect()
    }

    pub fn deployment(&self, app: App<'_>, component: &str, color: &str) -> Option<&'a Entry> {
        self.get(app.0, Kind::Deployment, &format!("{}-{component}-{color}", app.1))
    }

    /// Returns whether a Deployment was complete at its present generation, or at any generation.
    pub fn was_complete(&self, deployment: &Entry, at_present: bool) -> bool {
        let uid = deployment.text("/metadata/uid");
        let generation = deployment.number("/metadata/generation");
        self.complete.iter().any(|(of, at)| of == uid && (!at_present || *at == generation))
    }

    /// Returns the last time a front Service stopped selecting this color. None if the color has been deployed again
    /// since.
    pub fn left(&self, app: App<'a>, color: &str) -> Option<f64> {
        self.left.get(&(app, color.to_owned())).copied()
    }

    /// Returns the selection of the front Service that carried the same decision first.
    pub fn side(&self, front: &Entry) -> Option<&Selection> {
        self.sides.get(&(controller(front).unwrap_or_default().to_owned(), epoch(front)))
    }

    /// Returns the number of selector changes in this rollout.
    pub fn moves(&self, front: &Entry) -> usize {
        let key = (front.namespace.as_str(), front.kind, front.name.as_str());
        self.moves.get(&key).copied().unwrap_or_default()
    }

    /// Returns the ready endpoints and all endpoints of a front Service, by the color of their Pods.
    pub fn endpoints(&self, app: App<'_>, component: &str) -> BTreeMap<String, (usize, usize)> {
        let service = format!("{}-{component}", app.1);
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let slices = self.live.values().filter(|entry| {
            entry.kind == Kind::EndpointSlice
                && entry.namespace == app.0
                && entry.label("kubernetes.io/service-name") == Some(&service)
        });
        for endpoint in slices.filter_map(|slice| slice.get("/endpoints")?.as_array()).flatten() {
            let pod = endpoint.pointer("/targetRef/name").and_then(Value::as_str).unwrap_or_default();
            // A deleted Pod has no labels, but its name starts with the name of its Deployment.
            let color = COLORS.iter().find(|color| pod.starts_with(&format!("{service}-{color}-")));
            let ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool) == Some(true);
            let count = counts.entry(color.map_or_else(|| "other".into(), ToString::to_string)).or_default();
            count.0 += usize::from(ready);
            count.1 += 1;
        }
        counts
    }
}
