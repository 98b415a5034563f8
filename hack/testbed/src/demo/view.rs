//! What the watches show of the demo's resource, at any moment of the recorded history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use testbed::{Entry, History, Kind};

/// The namespace of the upgrade guide.
pub const NAMESPACE: &str = "autoscalingv2";
/// The resource of the upgrade guide.
pub const NAME: &str = "sample1";
/// The two services that move together.
pub const COMPONENTS: [&str; 2] = ["storage", "schema"];
/// The two sides.
pub const COLORS: [&str; 2] = ["blue", "green"];

/// Any moment after everything that is recorded.
pub const NOW: u64 = u64::MAX;

/// The name of the Service that clients of a component use.
pub fn front(component: &str) -> String {
    format!("{NAME}-{component}")
}

/// What a front Service says and does: the color that its selector names, and the decision it is stamped with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triple {
    /// The `strategy` of the selector.
    pub color: String,
    /// The annotation `e6data.io/release-version`.
    pub version: String,
    /// The annotation `e6data.io/epoch`.
    pub epoch: String,
}

impl Triple {
    /// Reads a Service.
    pub fn of(service: &Entry) -> Self {
        let annotation = |name| service.annotation(name).unwrap_or_default().to_owned();
        Self {
            color: service.text("/spec/selector/strategy").to_owned(),
            version: annotation("e6data.io/release-version"),
            epoch: annotation("e6data.io/epoch"),
        }
    }

    /// Where traffic goes, whatever the decision's number.
    pub fn route(&self) -> String {
        format!("{} {}", self.color, self.version)
    }
}

impl fmt::Display for Triple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} epoch {}", self.color, self.version, self.epoch)
    }
}

/// The front Service of a component.
pub fn triple_at(history: &History, component: &str, at: u64) -> Option<Triple> {
    history.live_at(Kind::Service, &front(component), at).map(|service| Triple::of(service))
}

/// The states of a front Service after a moment in which its triple differs from the state before.
pub fn switches(history: &History, component: &str, from: u64) -> Vec<(Arc<Entry>, Triple)> {
    let mut last = triple_at(history, component, from);
    let mut found = Vec::new();
    for entry in history.of(Kind::Service, &front(component)).filter(|entry| entry.resource_version > from) {
        let triple = Triple::of(entry);
        if last.as_ref() != Some(&triple) {
            found.push((Arc::clone(entry), triple.clone()));
            last = Some(triple);
        }
    }
    found
}

/// One address behind a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The color of its pod.
    pub color: String,
    /// Whether traffic is sent to it.
    pub ready: bool,
}

/// What the `EndpointSlices` of a component's front Service hold.
pub fn endpoints(history: &History, component: &str, at: u64) -> Vec<Endpoint> {
    let service = front(component);
    let slices = history.all_live_at(Kind::EndpointSlice, at).into_iter();
    let mine = slices.filter(|slice| slice.label("kubernetes.io/service-name") == Some(&service));
    let listed = mine.filter_map(|slice| slice.get("/endpoints")?.as_array()).flatten();
    listed
        .map(|endpoint| {
            let pod = endpoint.pointer("/targetRef/name").and_then(Value::as_str).unwrap_or_default();
            let color = history.latest(Kind::Pod, pod).and_then(|pod| pod.label("strategy"));
            // "Not said" counts as ready.
            let ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
            Endpoint { color: color.unwrap_or("unknown").to_owned(), ready }
        })
        .collect()
}

/// `2 green, 1 blue not ready`, or `none`.
pub fn say_endpoints(endpoints: &[Endpoint]) -> String {
    let mut counts: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    for endpoint in endpoints {
        *counts.entry((&endpoint.color, !endpoint.ready)).or_default() += 1;
    }
    let say = |((color, unready), count): (&(&str, bool), &usize)| {
        format!("{count} {color}{}", if *unready { " not ready" } else { "" })
    };
    let said: Vec<String> = counts.iter().map(say).collect();
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

/// The pods of a color, those that are ending included.
pub fn pods<'a>(history: &'a History, color: &str, at: u64) -> Vec<&'a Arc<Entry>> {
    let all = history.all_live_at(Kind::Pod, at).into_iter();
    all.filter(|pod| pod.label("app") == Some(NAME) && pod.label("strategy") == Some(color)).collect()
}

/// The UIDs of the pods of a color.
pub fn uids(history: &History, color: &str, at: u64) -> BTreeSet<String> {
    pods(history, color, at).iter().map(|pod| pod.text("/metadata/uid").to_owned()).collect()
}

/// True for an object that is on its way out.
pub fn ending(entry: &Entry) -> bool {
    entry.get("/metadata/deletionTimestamp").is_some()
}

/// What the first container of a pod waits for, as `CrashLoopBackOff`; empty when it runs.
pub fn waits_for(pod: &Entry) -> &str {
    pod.text("/status/containerStatuses/0/state/waiting/reason")
}

/// The resource.
pub fn resource(history: &History) -> Option<&Arc<Entry>> {
    history.live(Kind::MetadataServices, NAME)
}

/// A text of the resource at a JSON pointer; empty when there is none.
pub fn text(history: &History, pointer: &str) -> String {
    resource(history).map(|entry| entry.text(pointer).to_owned()).unwrap_or_default()
}

/// The tags that the spec asks for, `storage schema`.
pub fn tags(history: &History) -> String {
    format!("{} {}", text(history, "/spec/storage/imageTag"), text(history, "/spec/schema/imageTag"))
}

/// A condition of the resource.
pub fn condition<'a>(entry: &'a Entry, kind: &str) -> Option<&'a Value> {
    let all = entry.get("/status/conditions")?.as_array()?;
    all.iter().find(|one| one.get("type").and_then(Value::as_str) == Some(kind))
}

/// `Stalled=True RolledBack`.
pub fn say_condition(entry: &Entry, kind: &str) -> String {
    let Some(condition) = condition(entry, kind) else { return format!("{kind} missing") };
    let part = |name| condition.get(name).and_then(Value::as_str).unwrap_or_default();
    format!("{kind}={} {}", part("status"), part("reason"))
}

/// The message of a condition.
pub fn message(history: &History, kind: &str) -> String {
    let found = resource(history).and_then(|entry| condition(entry, kind)?.get("message")?.as_str());
    found.unwrap_or_default().to_owned()
}

/// One record of `status.releaseHistory`.
#[derive(Debug, Clone)]
pub struct Record(Value);

impl Record {
    /// A text field; empty when there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// The release history, oldest first.
pub fn records(history: &History) -> Vec<Record> {
    let all = resource(history).and_then(|entry| entry.get("/status/releaseHistory")?.as_array());
    all.map(|all| all.iter().cloned().map(Record).collect()).unwrap_or_default()
}

/// A record counted from the end: 1 is `[-1]`.
pub fn record_from_end(history: &History, place: usize) -> Option<Record> {
    records(history).into_iter().nth_back(place.checked_sub(1)?)
}

/// The distinct values of `status.deploymentPhase` after a moment, in order, without the one it begins with.
pub fn phases(history: &History, from: u64) -> Vec<String> {
    let at = history.live_at(Kind::MetadataServices, NAME, from);
    let mut last = at.map(|entry| entry.text("/status/deploymentPhase").to_owned()).unwrap_or_default();
    let mut seen = Vec::new();
    for entry in history.of(Kind::MetadataServices, NAME).filter(|entry| entry.resource_version > from) {
        let phase = entry.text("/status/deploymentPhase");
        if phase != last {
            phase.clone_into(&mut last);
            seen.push(phase.to_owned());
        }
    }
    seen
}

/// The last moment that is recorded.
pub fn moment(history: &History) -> u64 {
    history.entries().last().map_or(0, |entry| entry.resource_version)
}

/// True for the objects that belong to one color: Deployment, Service, `ConfigMap`.
pub fn of_color(entry: &Entry, color: &str) -> bool {
    matches!(entry.kind, Kind::Deployment | Kind::Service | Kind::ConfigMap)
        && entry.label("app") == Some(NAME)
        && entry.label("strategy") == Some(color)
}

/// One paragraph on the resource as it is, for messages about what was seen instead of what was expected.
pub fn say(history: &History) -> String {
    let Some(entry) = resource(history) else { return "no resource".to_owned() };
    let field = |pointer| entry.text(pointer);
    let conditions: Vec<String> = ["Ready", "SpecApplied", "Progressing", "Stalled"]
        .iter()
        .map(|kind| {
            let message = condition(entry, kind).and_then(|one| one.get("message")?.as_str());
            format!("{} ({})", say_condition(entry, kind), message.unwrap_or_default())
        })
        .collect();
    format!(
        "phase {}, deploymentPhase {}, step {}, active {} {}, pending {} {}, generation {}, observed {}; {}",
        field("/status/phase"),
        field("/status/deploymentPhase"),
        field("/status/rollout/step"),
        field("/status/activeStrategy"),
        field("/status/activeReleaseVersion"),
        field("/status/pendingStrategy"),
        field("/status/pendingReleaseVersion"),
        entry.number("/metadata/generation"),
        entry.number("/status/observedGeneration"),
        conditions.join("; ")
    )
}
