//! Checks of expected against observed states, and the proof of a switch from the recorded history.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use super::observe::{self, NAME, Seen, is_of_color, pods_at};
use crate::invariants::{COMPONENTS, Selection, is_terminating};
use crate::{Entry, Kind, Verb};

/// The timers of the demo's resource, in seconds: grace period, and the delays between switch and deletion.
const TIMERS: (u64, u64) = (4, 2 + 4);

/// An observation that held, or did not.
#[derive(Debug)]
pub struct Check {
    /// True if the observation is as expected.
    pub held: bool,
    /// The text for the reader, with the expected state if the check failed.
    pub text: String,
}

impl Check {
    pub(super) fn new(held: bool, what: impl Display, expected: impl Display, seen: impl Display) -> Self {
        let failure = format!("{what}\nexpected: {expected}\nseen:     {seen}");
        Self { held, text: if held { format!("{what}: {seen}") } else { failure } }
    }

    /// Compares the observed text with the expected one, or with alternatives: `CrashLoop or ImagePullFailed`.
    pub(super) fn same(what: impl Display, expected: &str, seen: &str) -> Self {
        Self::new(expected.split(" or ").any(|one| one == seen), what, expected, seen)
    }
}

/// Checks a switch from one color to another, by the history of Services, EndpointSlices and pods.
pub fn prove(seen: &Seen<'_>, old: &str, new: &str) -> Vec<Check> {
    let phases = "Deploying -> Switching -> Cleanup -> Stable";
    let mut checks = vec![Check::same("deploymentPhase", phases, &seen.phases()), intent(seen, new)];
    let routes = |component| observe::routes(seen.history, NAME, component, seen.from).into_iter().skip(1);
    let [storage, schema] = COMPONENTS.map(|component| routes(component).collect::<Vec<_>>());
    let counts = format!("{} and {}", storage.len(), schema.len());
    checks.push(Check::same("switches of the two front Services", "1 and 1", &counts));
    let ([.., (storage, decision)], [.., (schema, other)]) = (&*storage, &*schema) else { return checks };
    let text = |route: &Selection| format!("{} {} epoch {}", route.color, route.version, route.epoch);
    checks.push(Check::same("both carry the same decision", &text(decision), &text(other)));
    let route = format!("{} {}", decision.color, decision.version);
    checks.push(Check::same("both select", &format!("{new} {}", seen.state.active()), &route));
    let apart = storage.at.abs_diff(schema.at).as_secs_f64();
    let text = format!("{:.0} ms", apart * 1000.0);
    checks.push(Check::new(apart < 1.0, "the two switches apart in time", "less than 1 s", text));
    let storage_first = storage.resource_version < schema.resource_version;
    checks.extend(ready(seen, new, if storage_first { storage } else { schema }));
    checks.extend(deletion(seen, old, new, storage.at.max(schema.at)));
    let (changes, every) = (seen.after(Kind::EndpointSlice).count(), "at every change of the EndpointSlices");
    let unserved = observe::unserved(seen.history, NAME, seen.from);
    let held = unserved.is_none();
    let text = unserved.unwrap_or_else(|| format!("at each of {changes} changes"));
    checks.push(Check::new(held, "a ready endpoint behind both Services", every, text));
    checks.push(Check::same(format!("left of {old}"), "nothing", &seen.left_of(old)));
    checks
}

/// The operator persists its intent before it creates an object.
fn intent(seen: &Seen<'_>, new: &str) -> Check {
    let mut changes = seen.after(Kind::MetadataServices);
    let status = changes.find(|entry| entry.text("/status/deploymentPhase") == "Deploying");
    let object = seen.all().find(|entry| entry.verb == Verb::Added && is_of_color(entry, new));
    let [status, object] = [status, object].map(|entry| entry.map_or(0, |entry| entry.resource_version));
    let text = format!("resourceVersions {status} and {object}");
    let what = "the status said Deploying before anything was created";
    Check::new(0 < status && status < object, what, "a status write with Deploying, then the objects", text)
}

/// All pods of the new color stay ready for the grace period before the first switch.
fn ready(seen: &Seen<'_>, new: &str, switch: &Entry) -> [Check; 2] {
    let at = switch.resource_version;
    let pods = pods_at(seen.history, NAME, new, at);
    let since = |pod: &&Arc<Entry>| {
        let states = seen.history.of(Kind::Pod, &pod.name).filter(|state| state.resource_version <= at);
        states.rev().take_while(|state| state.condition("Ready") == "True").last().map(|state| state.at)
    };
    let since: Vec<Duration> = pods.iter().filter_map(since).collect();
    let text = format!("{} of {}", since.len(), pods.len());
    let held = since.len() == pods.len() && pods.len() >= COMPONENTS.len();
    let what = format!("pods of {new} ready at the switch");
    let all = Check::new(held, what, "all, at least one for each component", text);
    [all, waited("ready before the switch", since.into_iter().max(), switch.at, TIMERS.0)]
}

/// EndpointSlices list only the new pods, and the delays have passed, before the first deletion.
fn deletion(seen: &Seen<'_>, old: &str, new: &str, switched: Duration) -> Vec<Check> {
    let deleted = seen.all().find(|entry| {
        let is_pod = entry.kind == Kind::Pod && entry.label("strategy") == Some(old);
        (entry.verb == Verb::Deleted || is_terminating(entry)) && (is_pod || is_of_color(entry, old))
    });
    let Some(deleted) = deleted else {
        return vec![Check::same("the old release", "deleted", "not deleted")];
    };
    let mut checks = vec![];
    for component in COMPONENTS {
        let before = deleted.resource_version - 1;
        let endpoints = observe::endpoints(seen.history, NAME, component, before);
        let held = !endpoints.is_empty() && endpoints.keys().all(|(color, unready)| color == new && !unready);
        let what = format!("EndpointSlices of {NAME}-{component} before anything old is deleted");
        let expected = format!("ready pods of {new} only");
        let text = observe::endpoints_text(seen.history, component, before);
        checks.push(Check::new(held, what, expected, text));
    }
    checks.push(waited("old release kept after the switch", Some(switched), deleted.at, TIMERS.1));
    checks
}

/// Checks a minimum delay, in seconds. Watches of different kinds may be 100 ms apart.
fn waited(what: &str, since: Option<Duration>, until: Duration, least: u64) -> Check {
    let waited = since.map_or(-1.0, |since| until.saturating_sub(since).as_secs_f64());
    let held = Duration::try_from_secs_f64(waited + 0.1).is_ok_and(|waited| waited.as_secs() >= least);
    Check::new(held, what, format!("at least {least} s"), format!("{waited:.1} s"))
}
