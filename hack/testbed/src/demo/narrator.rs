//! Tells every change as it happens, from watches that are not the operator's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use testbed::{Entry, History, Kind, Timeline, Verb};
use tokio::sync::watch;

use super::console::Console;
use super::view::{self, COLORS, COMPONENTS, NOW, Triple};

/// Changes that arrive within this time are told together.
const TOGETHER: Duration = Duration::from_millis(60);

/// A line to be: when, what, the text.
type Line = (Duration, &'static str, String);

/// Remembers what was told.
struct Narrator {
    console: Arc<Console>,
    told: BTreeMap<Kind, u64>,
    before: BTreeMap<(Kind, String), Arc<Entry>>,
    summaries: BTreeMap<String, String>,
}

/// Tells until the task is aborted. `done` says how many events were told.
pub async fn tell(console: Arc<Console>, timeline: Arc<Timeline>, done: watch::Sender<usize>) {
    let mut narrator =
        Narrator { console, told: BTreeMap::new(), before: BTreeMap::new(), summaries: BTreeMap::new() };
    let mut count = 0;
    loop {
        let more = |history: &History| (history.entries().len() > count).then_some(());
        if timeline.wait_until("anything new", Duration::from_secs(3600), more).await.is_err() {
            continue;
        }
        tokio::time::sleep(TOGETHER).await;
        let history = timeline.history();
        narrator.tell(&history);
        count = history.entries().len();
        done.send_replace(count);
    }
}

impl Narrator {
    fn tell(&mut self, history: &History) {
        // Each kind arrives by a watch of its own, in its own order.
        let told = |entry: &Entry| self.told.get(&entry.kind).copied().unwrap_or_default();
        let mut news: Vec<Arc<Entry>> =
            history.entries().iter().filter(|entry| entry.resource_version > told(entry)).cloned().collect();
        news.sort_by_key(|entry| entry.at);
        let mut lines: Vec<Line> = Vec::new();
        for entry in &news {
            self.told.insert(entry.kind, entry.resource_version);
            let before = self.before.insert((entry.kind, entry.name.clone()), Arc::clone(entry));
            let before = before.filter(|before| before.verb != Verb::Deleted);
            describe(entry, before.as_deref(), &mut lines);
        }
        self.summarise(history, &news, &mut lines);
        lines.sort_by_key(|line| line.0);
        for (at, what, text) in lines {
            self.console.change(at, what, &text);
        }
    }

    /// Pods and endpoints are told as sums, when these have changed.
    fn summarise(&mut self, history: &History, news: &[Arc<Entry>], lines: &mut Vec<Line>) {
        let last = |kind| news.iter().rev().find(|entry| entry.kind == kind).map(|entry| entry.at);
        if let Some(at) = last(Kind::Pod) {
            for color in COLORS {
                let text = format!("{color}: {}", pods(history, color));
                self.sum(at, "pods", color, text, lines);
            }
        }
        if let Some(at) = last(Kind::EndpointSlice).or_else(|| last(Kind::Pod)) {
            for component in COMPONENTS {
                let name = view::front(component);
                let said = view::say_endpoints(&view::endpoints(history, component, NOW));
                self.sum(at, "endpoints", &name, format!("{name}: {said}"), lines);
            }
        }
    }

    fn sum(&mut self, at: Duration, what: &'static str, key: &str, text: String, lines: &mut Vec<Line>) {
        let nothing = text.ends_with(": none");
        match self.summaries.insert(key.to_owned(), text.clone()) {
            Some(before) if before == text => {}
            None if nothing => {}
            _ => lines.push((at, what, text)),
        }
    }
}

fn describe(entry: &Entry, before: Option<&Entry>, lines: &mut Vec<Line>) {
    match entry.kind {
        Kind::MetadataServices => resource(entry, before, lines),
        Kind::Service if entry.label("strategy").is_none() => service(entry, before, lines),
        Kind::Service | Kind::Deployment | Kind::ConfigMap => part(entry, lines),
        Kind::ControllerRevision => record(entry, before, lines),
        // The last two are not part of the story.
        Kind::Pod | Kind::EndpointSlice | Kind::ServiceAccount | Kind::PodDisruptionBudget => {}
    }
}

fn resource(entry: &Entry, before: Option<&Entry>, lines: &mut Vec<Line>) {
    let at = entry.at;
    if entry.verb == Verb::Deleted {
        lines.push((at, "resource", format!("{} is gone", entry.name)));
        return;
    }
    let was = |pointer: &str| before.map(|before| before.text(pointer).to_owned()).unwrap_or_default();
    let tags = |entry: &Entry| {
        ["storage", "schema"].map(|one| entry.text(&format!("/spec/{one}/imageTag")).to_owned()).join(", ")
    };
    let asked = tags(entry);
    match before.map(tags) {
        None => lines.push((at, "spec", format!("{} asks for {asked}", entry.name))),
        Some(earlier) if earlier != asked => lines.push((at, "spec", format!("{earlier} -> {asked}"))),
        Some(_) => {}
    }
    let request = |entry: &Entry| entry.annotation("e6data.io/rollback-to").map(str::to_owned);
    match (before.and_then(request), request(entry)) {
        (None, Some(to)) => lines.push((at, "annotation", format!("e6data.io/rollback-to={to}"))),
        (Some(_), None) => lines.push((at, "annotation", "e6data.io/rollback-to is gone again".to_owned())),
        _ => {}
    }
    for (pointer, what) in [("/status/deploymentPhase", "status"), ("/status/phase", "phase")] {
        let (old, new) = (was(pointer), entry.text(pointer));
        // The summary mostly repeats the phase of the deployment: then one line is enough.
        let repeats = what == "phase" && new == entry.text("/status/deploymentPhase");
        if old != new && !repeats {
            let old = if old.is_empty() { "(none)" } else { &old };
            lines.push((at, what, format!("{old} -> {new}{}", pending(entry, what))));
        }
    }
    let turned: Vec<String> = turned(entry, before);
    if !turned.is_empty() {
        lines.push((at, "condition", turned.join(", ")));
    }
}

/// What is on its way, for the line that announces it.
fn pending(entry: &Entry, what: &str) -> String {
    let version = entry.text("/status/pendingReleaseVersion");
    if what != "status" || version.is_empty() {
        return String::new();
    }
    format!("  ({version} on {})", entry.text("/status/pendingStrategy"))
}

/// The conditions whose status differs from before.
fn turned(entry: &Entry, before: Option<&Entry>) -> Vec<String> {
    ["Ready", "SpecApplied", "Progressing", "Reconciling", "Stalled", "Drifted", "ImageCompatible"]
        .into_iter()
        .filter(|kind| {
            let old = before.map_or("", |before| before.condition(kind));
            let usual = if matches!(*kind, "Drifted" | "Stalled" | "Reconciling") { "False" } else { "True" };
            // At first only what is not as usual.
            entry.condition(kind) != old && !(old.is_empty() && entry.condition(kind) == usual)
        })
        .map(|kind| view::say_condition(entry, kind))
        .collect()
}

fn service(entry: &Entry, before: Option<&Entry>, lines: &mut Vec<Line>) {
    if !COMPONENTS.iter().any(|component| view::front(component) == entry.name) {
        return;
    }
    let (new, old) = (Triple::of(entry), before.map(Triple::of));
    let text = match old {
        _ if entry.verb == Verb::Deleted => "deleted".to_owned(),
        None => format!("created, selects {}", new.color),
        Some(old) if old.color != new.color => {
            format!("{} -> {}  ({}, epoch {})", old.color, new.color, new.version, new.epoch)
        }
        Some(old) if old != new => format!("stays on {}, stamped with epoch {}", new.color, new.epoch),
        Some(_) => return,
    };
    lines.push((entry.at, "service", format!("{}: {text}", entry.name)));
}

/// Objects of a color come and go together: one line for those that do within a moment.
fn part(entry: &Entry, lines: &mut Vec<Line>) {
    let Some(color) = entry.label("strategy") else { return };
    let what = match entry.verb {
        Verb::Added => "created",
        Verb::Deleted => "deleted",
        Verb::Modified => return,
    };
    let head = format!("{color}: ");
    let name = format!("{:?} {}", entry.kind, entry.name);
    match lines.iter_mut().find(|line| line.1 == what && line.2.starts_with(&head)) {
        Some((_, _, text)) => {
            text.push_str(", ");
            text.push_str(&name);
        }
        None => lines.push((entry.at, what, format!("{head}{name}"))),
    }
}

fn record(entry: &Entry, before: Option<&Entry>, lines: &mut Vec<Line>) {
    let version = entry.annotation("e6data.io/release-version").unwrap_or("unknown");
    let failed = |entry: &Entry| entry.annotation("e6data.io/outcome").is_some();
    let text = match (entry.verb, before) {
        (Verb::Deleted, _) => "forgotten",
        (_, None) if failed(entry) => "recorded as Failed",
        (_, None) => "recorded",
        (_, Some(before)) if failed(entry) && !failed(before) => "marked as Failed",
        (_, Some(before)) if !failed(entry) && failed(before) => "no longer marked as Failed",
        _ => return,
    };
    lines.push((entry.at, "record", format!("{version} {text} (ControllerRevision {})", entry.name)));
}

/// `storage 1/1 ready, schema 0/1 ready (CrashLoopBackOff)`.
fn pods(history: &History, color: &str) -> String {
    let all = view::pods(history, color, NOW);
    if all.is_empty() {
        return "none".to_owned();
    }
    let said = COMPONENTS.iter().filter_map(|component| {
        let mine: Vec<_> = all.iter().filter(|pod| pod.label("component") == Some(*component)).collect();
        if mine.is_empty() {
            return None;
        }
        let ending = mine.iter().filter(|pod| view::ending(pod)).count();
        let ready = mine.iter().filter(|pod| !view::ending(pod) && pod.condition("Ready") == "True").count();
        let mut text = format!("{component} {ready}/{} ready", mine.len() - ending);
        if ending > 0 && ending == mine.len() {
            text = format!("{component} {ending} ending");
        } else if ending > 0 {
            text = format!("{text}, {ending} ending");
        }
        if let Some(pod) = mine.iter().find(|pod| !view::waits_for(pod).is_empty()) {
            text = format!("{text} ({})", view::waits_for(pod));
        }
        Some(text)
    });
    said.collect::<Vec<_>>().join(", ")
}
