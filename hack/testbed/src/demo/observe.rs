//! Views of the history that the watches of the demo or of a scenario recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::invariants::{COMPONENTS, Selection, is_terminating};
use crate::{Entry, History, Kind, State, Verb};

/// The resource of the demo.
pub const NAME: &str = "sample1";
/// Any moment after the recorded ones.
pub const NOW: u64 = u64::MAX;

/// The pods of a color by name, with their UIDs; terminating pods are left out.
pub fn pods(history: &History, app: &str, color: &str) -> BTreeMap<String, String> {
    let running = pods_at(history, app, color, NOW).into_iter().filter(|pod| !is_terminating(pod));
    running.map(|pod| (pod.name.clone(), pod.text("/metadata/uid").to_owned())).collect()
}

/// The pods of a color at a resourceVersion, including terminating ones.
pub(super) fn pods_at<'a>(history: &'a History, app: &str, color: &str, at: u64) -> Vec<&'a Arc<Entry>> {
    let all = history.all_live_at(Kind::Pod, at).into_iter();
    all.filter(|pod| pod.label("app") == Some(app) && pod.label("strategy") == Some(color)).collect()
}

/// The colors that a front Service selected, in order, without repetitions.
pub fn selected(history: &History, app: &str, component: &str) -> Vec<String> {
    let routes = routes(history, app, component, 0).into_iter();
    let mut colors: Vec<String> = routes.map(|(_, route)| route.color).collect();
    colors.dedup();
    colors
}

/// The routes of a front Service: at a resourceVersion, then each later state with another route.
pub(super) fn routes<'a>(
    history: &'a History,
    app: &str,
    component: &str,
    from: u64,
) -> Vec<(&'a Arc<Entry>, Selection)> {
    let states = since(history, Kind::Service, &format!("{app}-{component}"), from);
    let mut routes: Vec<_> = states.into_iter().map(|entry| (entry, Selection::of(entry))).collect();
    routes.dedup_by(|next, last| next.1 == last.1);
    routes
}

/// The state of an object at a resourceVersion, and all later ones.
fn since<'a>(history: &'a History, kind: Kind, name: &str, from: u64) -> Vec<&'a Arc<Entry>> {
    let first = history.live_at(kind, name, from);
    first.into_iter().chain(history.of(kind, name).filter(|entry| entry.resource_version > from)).collect()
}

/// The endpoints in the EndpointSlices of a front Service, counted by color and by `true` for "not ready".
pub(super) fn endpoints(
    history: &History,
    app: &str,
    component: &str,
    at: u64,
) -> BTreeMap<(String, bool), usize> {
    let service = format!("{app}-{component}");
    let slices = history.all_live_at(Kind::EndpointSlice, at).into_iter();
    let of_front = slices.filter(|slice| slice.label("kubernetes.io/service-name") == Some(&service));
    let mut counts = BTreeMap::new();
    for endpoint in of_front.filter_map(|slice| slice.get("/endpoints")?.as_array()).flatten() {
        let pod = endpoint.pointer("/targetRef/name").and_then(Value::as_str).unwrap_or_default();
        let color = history.latest(Kind::Pod, pod).and_then(|pod| pod.label("strategy")).unwrap_or("unknown");
        // An endpoint without the condition is ready.
        let unready = endpoint.pointer("/conditions/ready") == Some(&Value::Bool(false));
        *counts.entry((color.to_owned(), unready)).or_default() += 1;
    }
    counts
}

/// The endpoints of a front Service: `2 green, 1 blue not ready`.
pub(super) fn endpoints_text(history: &History, component: &str, at: u64) -> String {
    let counts = endpoints(history, NAME, component, at);
    let note = |unready: bool| if unready { " not ready" } else { "" };
    let texts = counts.iter().map(|((color, unready), count)| format!("{count} {color}{}", note(*unready)));
    if counts.is_empty() { "none".to_owned() } else { texts.collect::<Vec<_>>().join(", ") }
}

/// Names the first moment after a resourceVersion at which a front Service had no ready endpoint.
pub fn unserved(history: &History, app: &str, from: u64) -> Option<String> {
    let changes = history.of_kind(Kind::EndpointSlice).map(|entry| entry.resource_version);
    changes.filter(|at| *at > from).find_map(|at| {
        let served = |component| endpoints(history, app, component, at).keys().any(|(_, unready)| !unready);
        let component = COMPONENTS.into_iter().find(|component| !served(component))?;
        Some(format!("{app}-{component} had none at resourceVersion {at}"))
    })
}

/// Returns whether an object belongs to one color: Deployment, Service, ConfigMap.
pub(super) fn is_of_color(entry: &Entry, color: &str) -> bool {
    matches!(entry.kind, Kind::Deployment | Kind::Service | Kind::ConfigMap)
        && entry.label("app") == Some(NAME)
        && entry.label("strategy") == Some(color)
}

/// A condition as text: `Stalled=True RolledBack`.
pub(super) fn condition(state: State<'_>, kind: &str) -> String {
    format!("{kind}={} {}", state.condition(kind, "status"), state.condition(kind, "reason"))
}

/// The image tags of the spec: `storage schema`.
pub(super) fn tags(entry: &Entry) -> String {
    COMPONENTS.map(|component| entry.text(&format!("/spec/{component}/imageTag"))).join(" ")
}

/// Joins texts by commas; no texts are `nothing`.
pub(super) fn list(items: &[String]) -> String {
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

/// The history as a scene sees it at its end.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub(super) history: &'a History,
    /// The resource.
    pub(super) state: State<'a>,
    /// The resourceVersion before the command of the scene.
    pub(super) from: u64,
    /// The pod templates of the first release.
    pub(super) first: &'a str,
}

impl<'a> Seen<'a> {
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Arc<Entry>> {
        let from = self.from;
        self.history.entries().iter().filter(move |entry| entry.resource_version > from)
    }

    pub(super) fn after(&self, kind: Kind) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.all().filter(move |entry| entry.kind == kind)
    }

    /// The values of `status.deploymentPhase` during the scene: `Deploying -> Cleanup -> Stable`.
    pub(super) fn phases(&self) -> String {
        let states = since(self.history, Kind::MetadataServices, NAME, self.from);
        let mut phases: Vec<&str> =
            states.iter().map(|state| state.text("/status/deploymentPhase")).collect();
        phases.dedup();
        phases.get(1..).unwrap_or_default().join(" -> ")
    }

    /// The storage tag of the release with this version; empty if there is none.
    pub(super) fn tag(&self, version: &str) -> &'a str {
        let record =
            self.state.records().iter().find(|record| record.get("version").is_some_and(|it| it == version));
        record.and_then(|record| record.get("storageTag")?.as_str()).unwrap_or_default()
    }

    /// The releases to which a front Service sent traffic during the scene: `none -> blue 1.0.437-old`.
    pub(super) fn traffic(&self, component: &str) -> String {
        let routes = routes(self.history, NAME, component, self.from).into_iter();
        let mut releases: Vec<_> = routes
            .map(|(_, it)| format!("{} {}", it.color, self.tag(&it.version)).trim_end().to_owned())
            .collect();
        releases.dedup();
        releases.join(" -> ")
    }

    /// `the same 2` if the pods of a color stayed, ready throughout the scene.
    pub(super) fn same_pods(&self, color: &str) -> String {
        let pods = |at| pods_at(self.history, NAME, color, at).into_iter();
        let uids = |at| pods(at).map(|pod| pod.text("/metadata/uid")).collect::<BTreeSet<_>>();
        let (before, after) = (uids(self.from), uids(NOW));
        let hurt = |pod: &&Arc<Entry>| is_terminating(pod) || pod.condition("Ready") != "True";
        let mut states = self.after(Kind::Pod).filter(|pod| before.contains(pod.text("/metadata/uid")));
        match states.find(hurt) {
            Some(pod) => format!("{} was not ready, or terminating", pod.name),
            None if before == after => format!("the same {}", before.len()),
            None => format!("others: {after:?} instead of {before:?}"),
        }
    }

    /// The remaining objects of a color, without terminating pods.
    pub(super) fn left_of(&self, color: &str) -> String {
        let kinds = [Kind::Deployment, Kind::Service, Kind::ConfigMap];
        let objects = kinds.into_iter().flat_map(|kind| self.history.all_live(kind));
        let objects = objects.filter(|entry| is_of_color(entry, color)).map(|entry| &entry.name).cloned();
        list(&objects.chain(pods(self.history, NAME, color).into_keys()).collect::<Vec<_>>())
    }

    /// A part of the message of the condition SpecApplied, else the whole message.
    pub(super) fn message(&self, start: &str, end: &str) -> String {
        let message = self.state.condition("SpecApplied", "message");
        let part = message.find(start).and_then(|at| message.get(at..)).filter(|part| part.contains(end));
        let part = part.and_then(|part| part.get(..part.find(end)? + end.len()));
        part.unwrap_or(message).to_owned()
    }

    /// The pod templates of the active color as JSON; empty without both Deployments.
    pub(super) fn templates(&self) -> String {
        let names = COMPONENTS.map(|component| format!("{NAME}-{component}-{}", self.state.color()));
        let templates = names.map(|name| self.history.live(Kind::Deployment, &name)?.get("/spec/template"));
        let templates: Option<Vec<String>> =
            templates.map(|one| one.map(ToString::to_string)).into_iter().collect();
        templates.unwrap_or_default().join("\n")
    }

    /// The conditions Ready, SpecApplied and Stalled.
    pub(super) fn conditions(&self) -> String {
        ["Ready", "SpecApplied", "Stalled"].map(|kind| condition(self.state, kind)).join(", ")
    }

    /// The release history, oldest first: `1.0.437-old Superseded, 1.0.500-new Active`.
    pub(super) fn records(&self) -> String {
        self.state.summary().join(", ")
    }

    /// The tags of the spec, with a note if the spec changed after the command.
    pub(super) fn spec(&self) -> String {
        let specs: Vec<_> = self.after(Kind::MetadataServices).map(|entry| entry.get("/spec")).collect();
        let same = specs.windows(2).all(|pair| pair.first() == pair.last());
        format!("{}{}", tags(self.state.0), if same { "" } else { " (changed)" })
    }

    /// The reason of the latest record.
    pub(super) fn reason(&self) -> String {
        let record = self.state.records().last();
        record.and_then(|record| record.get("reason")?.as_str()).unwrap_or_default().to_owned()
    }

    /// The objects created and deleted in the scene, counted by color and kind.
    pub(super) fn created_and_deleted(&self) -> String {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for entry in self.all().filter(|entry| entry.verb != Verb::Modified) {
            if let Some(color) = entry.label("strategy").filter(|color| is_of_color(entry, color)) {
                let text = format!("{color} {:?} {:?}", entry.kind, entry.verb).to_lowercase();
                *counts.entry(text).or_default() += 1;
            }
        }
        list(&counts.iter().map(|(text, count)| format!("{count} {text}")).collect::<Vec<_>>())
    }

    /// The changes of the annotation `rollback-to`: `set at generation 3, removed at generation 4`.
    pub(super) fn annotation(&self) -> String {
        let mut states = since(self.history, Kind::MetadataServices, NAME, self.from);
        states.dedup_by_key(|entry| entry.annotation("e6data.io/rollback-to").is_some());
        let text = |entry: &&Arc<Entry>| {
            let verb = entry.annotation("e6data.io/rollback-to").map_or("removed", |_| "set");
            format!("{verb} at generation {}", entry.number("/metadata/generation"))
        };
        list(&states.iter().skip(1).map(text).collect::<Vec<_>>())
    }

    /// Compares the pod templates with those of the first release.
    pub(super) fn same_templates(&self) -> String {
        let same = !self.first.is_empty() && self.templates() == self.first;
        if same { "those of the first release, to the letter" } else { "others" }.to_owned()
    }

    /// `status.lastRollback`: `Manual 1.0.500-new -> 1.0.437-old`.
    pub(super) fn last_rollback(&self) -> String {
        let [trigger, from, to] =
            ["trigger", "from", "to"].map(|name| self.state.0.text(&format!("/status/lastRollback/{name}")));
        format!("{trigger} {} -> {}", self.tag(from), self.tag(to))
    }
}
