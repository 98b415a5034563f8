//! Lines for the changes that the demo's own watches see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::observe::{self, NAME, NOW};
use crate::invariants::{COLORS, COMPONENTS, Selection, is_terminating};
use crate::{Entry, History, Kind, State, Verb};

/// A line: its time, its topic, its text.
pub type Line = (Duration, &'static str, String);

/// The memory of the lines so far.
#[derive(Default)]
pub struct Narrator {
    /// The last resourceVersion of each kind: each kind has a watch of its own, in its own order.
    seen: BTreeMap<Kind, u64>,
    before: BTreeMap<(Kind, String), Arc<Entry>>,
    sums: BTreeMap<String, String>,
}

impl Narrator {
    /// Returns the entries since the last call of [`Narrator::lines`].
    pub fn news(&self, history: &History) -> Vec<Arc<Entry>> {
        let last = |kind| self.seen.get(&kind).copied().unwrap_or_default();
        history.entries().iter().filter(|entry| entry.resource_version > last(entry.kind)).cloned().collect()
    }

    /// Returns the lines for the entries since the last call.
    pub fn lines(&mut self, history: &History) -> Vec<Line> {
        let (mut news, mut lines) = (self.news(history), vec![]);
        news.sort_by_key(|entry| entry.at);
        for entry in &news {
            self.seen.insert(entry.kind, entry.resource_version);
            let before = self.before.insert((entry.kind, entry.name.clone()), Arc::clone(entry));
            describe(entry, before.as_deref().filter(|before| before.verb != Verb::Deleted), &mut lines);
        }
        let mut add = |at, topic, name: &str, text: String| {
            let before = self.sums.insert(name.to_owned(), text.clone());
            if before.unwrap_or_else(|| "none".to_owned()) != text {
                lines.push((at, topic, format!("{name}: {text}")));
            }
        };
        let last = |kind| news.iter().rev().find(|entry| entry.kind == kind).map(|entry| entry.at);
        if let Some(at) = last(Kind::Pod).or_else(|| last(Kind::EndpointSlice)) {
            for color in COLORS {
                add(at, "pods", color, pods(history, color));
            }
            for component in COMPONENTS {
                let text = observe::endpoints_text(history, component, NOW);
                add(at, "endpoints", &format!("{NAME}-{component}"), text);
            }
        }
        lines
    }
}

fn describe(entry: &Entry, before: Option<&Entry>, lines: &mut Vec<Line>) {
    let (at, name, color) = (entry.at, &entry.name, entry.label("strategy"));
    match (entry.kind, entry.verb) {
        (Kind::MetadataServices, Verb::Added | Verb::Modified) => {
            resource(State(entry), before.map(State), lines);
        }
        (Kind::MetadataServices, Verb::Deleted) => lines.push((at, "resource", format!("{name} is deleted"))),
        (Kind::Service, Verb::Added | Verb::Modified) if color.is_none() => {
            let route = Selection::of(entry);
            let (color, version, epoch) = (route.color, route.version, route.epoch);
            let text = match before.map(Selection::of) {
                None => format!("created, selects {color}"),
                Some(old) if old.color != color => {
                    format!("{} -> {color}  ({version}, epoch {epoch})", old.color)
                }
                Some(old) if old.epoch != epoch => format!("stays on {color}, epoch {epoch}"),
                Some(_) => return,
            };
            lines.push((at, "service", format!("{name}: {text}")));
        }
        (Kind::Service | Kind::Deployment | Kind::ConfigMap, Verb::Added | Verb::Deleted) => {
            let Some(color) = color else { return };
            let topic = if entry.verb == Verb::Added { "created" } else { "deleted" };
            let (head, name) = (format!("{color}: "), format!("{:?} {name}", entry.kind));
            // Objects of a color come and go together.
            match lines.iter_mut().find(|line| line.1 == topic && line.2.starts_with(&head)) {
                Some((_, _, text)) => *text = format!("{text}, {name}"),
                None => lines.push((at, topic, format!("{head}{name}"))),
            }
        }
        (Kind::ControllerRevision, verb) => {
            let failed = |entry: &Entry| entry.annotation("e6data.io/outcome").is_some();
            let text = match (before.map(failed), failed(entry)) {
                _ if verb == Verb::Deleted => "deleted",
                (None, false) => "recorded",
                (None | Some(false), true) => "marked as Failed",
                (Some(true), false) => "no longer marked as Failed",
                (Some(_), _) => return,
            };
            let version = entry.annotation("e6data.io/release-version").unwrap_or("unknown");
            lines.push((at, "revision", format!("{version} {text} (ControllerRevision {name})")));
        }
        _ => {}
    }
}

fn resource(state: State<'_>, before: Option<State<'_>>, lines: &mut Vec<Line>) {
    let mut add = |topic, text: Option<String>| lines.extend(text.map(|text| (state.0.at, topic, text)));
    let arrow = |old: Option<String>, new: String, suffix: &str| {
        let old = old.filter(|old| !old.is_empty()).unwrap_or_else(|| "(none)".to_owned());
        (old != new && !new.is_empty()).then(|| format!("{old} -> {new}{suffix}"))
    };
    let tags = |state: State<'_>| observe::tags(state.0).replace(' ', ", ");
    add("spec", arrow(before.map(tags), tags(state), ""));
    let key = "e6data.io/rollback-to";
    add(
        "annotation",
        match (before.and_then(|old| old.0.annotation(key)), state.0.annotation(key)) {
            (None, Some(version)) => Some(format!("{key}={version}")),
            (Some(_), None) => Some(format!("{key} removed")),
            _ => None,
        },
    );
    let pending = format!("  ({} on {})", state.pending(), state.0.text("/status/pendingStrategy"));
    let pending = if state.pending().is_empty() { "" } else { &pending };
    let phase = before.map(|old| old.deployment_phase().to_owned());
    add("status", arrow(phase, state.deployment_phase().to_owned(), pending));
    // The phase mostly repeats deploymentPhase: then one line is enough.
    let phase = Some(state.phase()).filter(|phase| *phase != state.deployment_phase());
    add("phase", arrow(before.map(|old| old.phase().to_owned()), phase.unwrap_or_default().to_owned(), ""));
    let usual = "Ready=True SpecApplied=True Progressing=True Reconciling=False Stalled=False Drifted=False \
                 ImageCompatible=True";
    let turned = usual.split(' ').filter_map(|one| one.split_once('=')).filter(|(kind, usual)| {
        let (old, new) =
            (before.map_or("", |old| old.condition(kind, "status")), state.condition(kind, "status"));
        // At first only the unusual ones.
        old != new && !(old.is_empty() && new == *usual)
    });
    let turned: Vec<_> = turned.map(|(kind, _)| observe::condition(state, kind)).collect();
    add("condition", Some(turned.join(", ")).filter(|text| !text.is_empty()));
}

/// The pods of a color: `storage 1/1 ready, schema 0/1 ready (CrashLoopBackOff, 1 terminating)`.
fn pods(history: &History, color: &str) -> String {
    let all = observe::pods_at(history, NAME, color, NOW);
    let text = |component: &&str| {
        let pods = all.iter().filter(|pod| pod.label("component") == Some(component));
        let (ending, running): (Vec<&Arc<Entry>>, Vec<&Arc<Entry>>) =
            pods.partition(|pod| is_terminating(pod));
        if running.is_empty() {
            return (!ending.is_empty()).then(|| format!("{component} {} terminating", ending.len()));
        }
        let ready = running.iter().filter(|pod| pod.condition("Ready") == "True").count();
        let more = if ending.is_empty() { String::new() } else { format!(", {} terminating", ending.len()) };
        let mut waits =
            running.iter().map(|pod| pod.text("/status/containerStatuses/0/state/waiting/reason"));
        let waits = waits.find(|reason| !reason.is_empty()).map(|reason| format!(" ({reason})"));
        Some(format!("{component} {ready}/{} ready{more}{}", running.len(), waits.unwrap_or_default()))
    };
    let texts: Vec<String> = COMPONENTS.iter().filter_map(text).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}
