//! The history that a [`crate::Timeline`] records: every version of every object, in the order of the API server.
//!
//! All objects share one store, so resourceVersions order the events of all kinds: the state at each of them can be
//! restored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::core::ApiResource;
use serde_json::Value;

/// The watched kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Service.
    Service,
    /// `apps/v1` Deployment.
    Deployment,
    /// `v1` Pod.
    Pod,
    /// `discovery.k8s.io/v1` `EndpointSlice`.
    EndpointSlice,
    /// `v1` `ConfigMap`.
    ConfigMap,
    /// `apps/v1` `ControllerRevision`.
    ControllerRevision,
    /// `v1` `ServiceAccount`.
    ServiceAccount,
    /// `policy/v1` `PodDisruptionBudget`.
    PodDisruptionBudget,
    /// `e6data.io/v1alpha1` `MetadataServices`.
    MetadataServices,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Service,
        Self::Deployment,
        Self::Pod,
        Self::EndpointSlice,
        Self::ConfigMap,
        Self::ControllerRevision,
        Self::ServiceAccount,
        Self::PodDisruptionBudget,
        Self::MetadataServices,
    ];

    /// The kinds of objects that the operator creates.
    pub const MADE: [Self; 6] = [
        Self::Service,
        Self::Deployment,
        Self::ConfigMap,
        Self::ControllerRevision,
        Self::ServiceAccount,
        Self::PodDisruptionBudget,
    ];

    /// The kind with a plural name, as `services`.
    pub fn named(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.resource().plural == plural)
    }

    /// Where the API server keeps it.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = match self {
            Self::Service => ("", "v1", "Service", "services"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::ControllerRevision => ("apps", "v1", "ControllerRevision", "controllerrevisions"),
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::MetadataServices => ("e6data.io", "v1alpha1", "MetadataServices", "metadataservices"),
        };
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }
}

/// Type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// It came to be, or was there when the timeline began.
    Added,
    /// It changed.
    Modified,
    /// It is gone; the entry holds its last state.
    Deleted,
}

/// An event of a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The version the API server gave this state; for a deletion, the deletion's own.
    pub resource_version: u64,
    /// Kind of the object.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Type of the event.
    pub verb: Verb,
    /// The whole object, without managedFields.
    pub object: Value,
    /// When the event arrived here, since the start of the timeline.
    pub at: Duration,
    /// By how much the cluster was late then: the event happened at most so long before it arrived.
    pub late: Duration,
    /// It came from a list, not from a watch: it was there before, or fills a gap.
    pub listed: bool,
}

impl Entry {
    /// The value at a JSON pointer, as `/spec/selector`.
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.object.pointer(pointer)
    }

    /// The text at a JSON pointer; empty when there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.get(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number at a JSON pointer; 0 when there is none.
    pub fn number(&self, pointer: &str) -> i64 {
        self.get(pointer).and_then(Value::as_i64).unwrap_or_default()
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.get("/metadata/labels")?.get(name)?.as_str()
    }

    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.get("/metadata/annotations")?.get(name)?.as_str()
    }

    /// The status of a condition (`True`, `False`, `Unknown`); empty when it is not there.
    pub fn condition(&self, kind: &str) -> &str {
        let conditions = self.get("/status/conditions").and_then(Value::as_array);
        let found =
            conditions.and_then(|all| all.iter().find(|one| one.get("type").is_some_and(|it| it == kind)));
        found.and_then(|one| one.get("status")?.as_str()).unwrap_or_default()
    }
}

/// Events by resourceVersion. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct History {
    entries: Vec<Arc<Entry>>,
}

impl History {
    /// All events, oldest first.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Returns the events of one namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        let entries = self.entries.iter().filter(|entry| entry.namespace == namespace).cloned().collect();
        Self { entries }
    }

    /// Returns the events of one kind.
    pub fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Arc<Entry>> {
        self.entries.iter().filter(move |entry| entry.kind == kind)
    }

    /// Returns the events of one object.
    pub fn of(&self, kind: Kind, name: &str) -> impl DoubleEndedIterator<Item = &Arc<Entry>> {
        self.of_kind(kind).filter(move |entry| entry.name == name)
    }

    /// The last event of an object, its deletion included.
    pub fn latest(&self, kind: Kind, name: &str) -> Option<&Arc<Entry>> {
        self.of(kind, name).next_back()
    }

    /// The object as it is now, if it is.
    pub fn live(&self, kind: Kind, name: &str) -> Option<&Arc<Entry>> {
        self.live_at(kind, name, u64::MAX)
    }

    /// The object as it was at a resourceVersion, if it was.
    pub fn live_at(&self, kind: Kind, name: &str, resource_version: u64) -> Option<&Arc<Entry>> {
        let last =
            self.of(kind, name).take_while(|entry| entry.resource_version <= resource_version).last()?;
        (last.verb != Verb::Deleted).then_some(last)
    }

    /// All objects of a kind as they are now.
    pub fn all_live(&self, kind: Kind) -> Vec<&Arc<Entry>> {
        self.all_live_at(kind, u64::MAX)
    }

    /// All objects of a kind as they were at a resourceVersion.
    pub fn all_live_at(&self, kind: Kind, resource_version: u64) -> Vec<&Arc<Entry>> {
        let mut last = BTreeMap::new();
        for entry in self.of_kind(kind).take_while(|entry| entry.resource_version <= resource_version) {
            last.insert((entry.namespace.as_str(), entry.name.as_str()), entry);
        }
        last.into_values().filter(|entry| entry.verb != Verb::Deleted).collect()
    }

    /// Adds an event at its place.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let place = self.entries.partition_point(|other| other.resource_version <= entry.resource_version);
        self.entries.insert(place, Arc::new(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(version: u64, kind: Kind, name: &str, verb: Verb) -> Entry {
        let object = json!({"metadata": {"labels": {"v": version.to_string()}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let (namespace, name) = ("a".to_owned(), name.to_owned());
        Entry {
            resource_version: version,
            kind,
            namespace,
            name,
            verb,
            object,
            at: Duration::ZERO,
            late: Duration::ZERO,
            listed: false,
        }
    }

    #[test]
    fn the_state_at_any_version_can_be_read() {
        let mut history = History::default();
        // Kinds arrive by streams of their own: not in order.
        for event in [
            entry(10, Kind::Pod, "p", Verb::Added),
            entry(30, Kind::Pod, "p", Verb::Deleted),
            entry(5, Kind::Service, "s", Verb::Added),
            entry(20, Kind::Service, "s", Verb::Modified),
            entry(9, Kind::Pod, "q", Verb::Added),
        ] {
            history.insert(event);
        }
        let versions: Vec<u64> = history.entries().iter().map(|one| one.resource_version).collect();
        assert_eq!(versions, [5, 9, 10, 20, 30]);
        assert!(history.live_at(Kind::Pod, "p", 9).is_none());
        assert!(history.live_at(Kind::Pod, "p", 29).is_some());
        assert!(history.live(Kind::Pod, "p").is_none());
        assert_eq!(history.latest(Kind::Pod, "p").unwrap().verb, Verb::Deleted);
        assert_eq!(history.live_at(Kind::Service, "s", 19).unwrap().label("v"), Some("5"));
        assert_eq!(history.all_live_at(Kind::Pod, 10).len(), 2);
        assert_eq!(history.all_live(Kind::Pod).len(), 1);
        assert_eq!(history.live(Kind::Service, "s").unwrap().condition("Ready"), "True");
        assert!(history.in_namespace("b").entries().is_empty());
    }
}
