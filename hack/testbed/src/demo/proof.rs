//! What must be true of a switch, judged by the recorded history of Services, `EndpointSlices` and pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use testbed::{Entry, History, Kind, Verb};

use super::checks::Checks;
use super::view::{self, COMPONENTS, NAME};

/// The waits of the demo's resource, in seconds; see `scenes::APPLY`.
pub const GRACE: u64 = 4;
/// How long the new release is watched after the switch.
pub const DWELL: u64 = 2;
/// How long the old release is kept warm after that.
pub const CLEANUP: u64 = 4;

/// A switch from one color to the other, after a moment.
#[derive(Debug, Clone, Copy)]
pub struct Switch<'a> {
    /// Everything that was seen.
    pub history: &'a History,
    /// The moment before it began.
    pub from: u64,
    /// The color that served.
    pub old: &'a str,
    /// The color that serves.
    pub new: &'a str,
    /// The release that serves.
    pub version: &'a str,
}

impl<'a> Switch<'a> {
    /// Everything that must be true of a switch. `what` names it in the summary.
    pub fn prove(self, checks: &Checks, what: &str) {
        let phases = view::phases(self.history, self.from).join(" -> ");
        checks.same(
            &format!("{what}: deploymentPhase"),
            "Deploying -> Switching -> Cleanup -> Stable",
            phases,
        );
        self.prove_order(checks, what);
        self.prove_together(checks, what);
        self.prove_traffic(checks, what);
        self.prove_pruned(checks, what);
    }

    /// The intent is durable before anything is created.
    fn prove_order(self, checks: &Checks, what: &str) {
        let said = self
            .after(Kind::MetadataServices)
            .find(|entry| entry.name == NAME && entry.text("/status/deploymentPhase") == "Deploying");
        let made = self.history.entries().iter().find(|entry| {
            entry.resource_version > self.from && entry.verb == Verb::Added && view::of_color(entry, self.new)
        });
        let (said, made) =
            (said.map(|entry| entry.resource_version), made.map(|entry| entry.resource_version));
        checks.holds(
            &format!("{what}: the status said Deploying before anything was created"),
            said.is_some() && made.is_some() && said < made,
            "a status write with Deploying, then the objects",
            format!("resourceVersions {} and {}", or_none(said), or_none(made)),
        );
    }

    /// Both front Services switch once, to the same decision, side by side.
    fn prove_together(self, checks: &Checks, what: &str) {
        let [storage, schema] = COMPONENTS.map(|one| view::switches(self.history, one, self.from));
        checks.same(
            &format!("{what}: switches of the two front Services"),
            "1 and 1",
            format!("{} and {}", storage.len(), schema.len()),
        );
        let (Some((a, one)), Some((b, other))) = (storage.last(), schema.last()) else { return };
        checks.same(&format!("{what}: both carry the same decision"), one, other);
        checks.same(&format!("{what}: both select"), format!("{} {}", self.new, self.version), one.route());
        let apart = a.at.abs_diff(b.at);
        checks.holds(
            &format!("{what}: the two switches apart in time"),
            apart < Duration::from_secs(1),
            "less than 1 s",
            format!("{:.0} ms", apart.as_secs_f64() * 1000.0),
        );
    }

    /// Traffic goes to pods that are ready, is proved before anything is deleted, and never has nowhere to go.
    fn prove_traffic(self, checks: &Checks, what: &str) {
        let switched = COMPONENTS.map(|one| view::switches(self.history, one, self.from));
        let Some(first) =
            switched.iter().flatten().map(|(entry, _)| entry).min_by_key(|one| one.resource_version)
        else {
            return;
        };
        let at = first.resource_version;
        let pods = view::pods(self.history, self.new, at);
        let ready: Vec<_> = pods.iter().filter(|pod| pod.condition("Ready") == "True").collect();
        checks.holds(
            &format!("{what}: pods of {} ready at the switch", self.new),
            pods.len() >= 2 && ready.len() == pods.len(),
            "all, at least one for each component",
            format!("{} of {}", ready.len(), pods.len()),
        );
        prove_wait(
            checks,
            &format!("{what}: ready before the switch"),
            self.ready_since(at),
            first.at,
            GRACE,
        );
        let Some(deleted) = self.first_deletion() else {
            checks.same(&format!("{what}: the old release"), "deleted", "not deleted");
            return;
        };
        let before = deleted.resource_version - 1;
        for component in COMPONENTS {
            let shown = view::endpoints(self.history, component, before);
            checks.holds(
                &format!(
                    "{what}: EndpointSlices of {} before anything old is deleted",
                    view::front(component)
                ),
                !shown.is_empty() && shown.iter().all(|one| one.ready && one.color == self.new),
                format!("ready pods of {} only", self.new),
                view::say_endpoints(&shown),
            );
        }
        let last = switched.iter().flatten().map(|(entry, _)| entry.at).max();
        let name = format!("{what}: old release kept after the switch");
        prove_wait(checks, &name, last, deleted.at, DWELL + CLEANUP);
        self.prove_served(checks, what);
    }

    /// At every moment both Services have a ready endpoint.
    fn prove_served(self, checks: &Checks, what: &str) {
        let moments: Vec<u64> = self.after(Kind::EndpointSlice).map(|entry| entry.resource_version).collect();
        let nowhere = moments.iter().find_map(|at| {
            COMPONENTS.iter().find(|component| {
                !view::endpoints(self.history, component, *at).iter().any(|endpoint| endpoint.ready)
            })
        });
        checks.holds(
            &format!("{what}: a ready endpoint behind both Services"),
            nowhere.is_none(),
            "at every change of the EndpointSlices",
            nowhere.map_or_else(
                || format!("at each of {} changes", moments.len()),
                |component| format!("{} had none for a moment", view::front(component)),
            ),
        );
    }

    /// Nothing of the old color is left.
    fn prove_pruned(self, checks: &Checks, what: &str) {
        let left: Vec<String> = left_of(self.history, self.old);
        checks.same(&format!("{what}: left of {}", self.old), "nothing", list(&left));
    }

    /// Since when every pod that was there at a moment had been ready.
    fn ready_since(self, at: u64) -> Option<Duration> {
        let pods = view::pods(self.history, self.new, at);
        let since = pods.iter().map(|pod| {
            let states = self.history.of(Kind::Pod, &pod.name).filter(|state| state.resource_version <= at);
            let unready = |state: &&Arc<Entry>| state.condition("Ready") != "True";
            let mut ready: Vec<_> = states.rev().take_while(|state| !unready(state)).collect();
            ready.pop().map(|state| state.at)
        });
        since.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The first sign that something of the old color goes: an object or a pod.
    fn first_deletion(&self) -> Option<&'a Arc<Entry>> {
        self.history.entries().iter().filter(|entry| entry.resource_version > self.from).find(|entry| {
            let pod = entry.kind == Kind::Pod && entry.label("strategy") == Some(self.old);
            let goes = entry.verb == Verb::Deleted || view::ending(entry);
            goes && (pod || view::of_color(entry, self.old))
        })
    }

    fn after(&self, kind: Kind) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.history.of_kind(kind).filter(|entry| entry.resource_version > self.from)
    }
}

/// A wait that must not be cut short. Watches of different kinds may be some tens of milliseconds apart.
fn prove_wait(checks: &Checks, name: &str, since: Option<Duration>, until: Duration, least: u64) {
    let waited = since.map(|since| until.saturating_sub(since));
    let slack = Duration::from_millis(100);
    checks.holds(
        name,
        waited.is_some_and(|waited| waited + slack >= Duration::from_secs(least)),
        format!("at least {least} s"),
        waited.map_or_else(|| "unknown".to_owned(), |waited| format!("{:.1} s", waited.as_secs_f64())),
    );
}

/// What is left of a color, as `Deployment sample1-storage-blue`; pods that are ending do not count.
pub fn left_of(history: &History, color: &str) -> Vec<String> {
    let kinds = [Kind::Deployment, Kind::Service, Kind::ConfigMap];
    let objects = kinds.into_iter().flat_map(|kind| history.all_live(kind));
    let objects = objects.filter(|entry| view::of_color(entry, color));
    let pods = view::pods(history, color, view::NOW).into_iter().filter(|pod| !view::ending(pod));
    objects.chain(pods).map(|entry| format!("{:?} {}", entry.kind, entry.name)).collect()
}

/// The whole pod templates of a color, by component.
pub fn templates(history: &History, color: &str) -> BTreeMap<&'static str, Value> {
    let template = |component| {
        let name = format!("{NAME}-{component}-{color}");
        Some((component, history.live(Kind::Deployment, &name)?.get("/spec/template")?.clone()))
    };
    COMPONENTS.into_iter().filter_map(template).collect()
}

/// How many objects of each kind and color were created and deleted after a moment.
pub fn made_and_gone(history: &History, from: u64) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for entry in history.entries().iter().filter(|entry| entry.resource_version > from) {
        let Some(color) = view::COLORS.iter().find(|color| view::of_color(entry, color)) else {
            continue;
        };
        if entry.verb != Verb::Modified {
            *counts.entry(format!("{color} {:?} {:?}", entry.kind, entry.verb)).or_default() += 1;
        }
    }
    let said: Vec<String> =
        counts.iter().map(|(what, count)| format!("{count} {}", what.to_lowercase())).collect();
    list(&said)
}

/// `a, b`, or `nothing`.
pub fn list(items: &[String]) -> String {
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

fn or_none(version: Option<u64>) -> String {
    version.map_or_else(|| "none".to_owned(), |version| version.to_string())
}
