//! Rules of the status: the machine's steps, and the history.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Moment;
use super::history_state::{RELEASE_VERSION, Selection, is_terminating};
use super::traffic::epoch_falls;
use crate::history::{Entry, Kind, Verb};
use crate::resource::State;

/// Largest status, in bytes.
const STATUS_MAX: usize = 16 * 1024;
/// Where a record says how its release went.
const OUTCOME: &str = "e6data.io/outcome";
/// Longest history.
const HISTORY_MAX: usize = 10;

/// The edges of the machine; an empty step is a status without one, which is new or was lost.
const EDGES: [(&str, &str); 18] = [
    ("", "Deploying"),
    ("", "Stable"),
    ("", "Prune"),
    ("", "Switching"),
    ("", "RollingBack"),
    ("Stable", "Deploying"),
    ("Stable", "Prune"),
    ("Deploying", "Switching"),
    ("Deploying", "Prune"),
    ("Switching", "Stable"),
    ("Switching", "Watching"),
    ("Switching", "RollingBack"),
    ("Switching", "Prune"),
    ("Watching", "Prune"),
    ("Watching", "RollingBack"),
    ("RollingBack", "Prune"),
    ("Prune", "Stable"),
    ("Prune", "Deploying"),
];

/// The resource as it is.
fn now<'a>(moment: &Moment<'a>) -> Option<State<'a>> {
    let entry = moment.entry;
    (entry.kind == Kind::MetadataServices && entry.verb != Verb::Deleted).then_some(State(entry))
}

/// The resource as it was and as it is.
fn change<'a>(moment: &Moment<'a>) -> Option<(State<'a>, State<'a>)> {
    Some((State(moment.before?), now(moment)?))
}

fn when(wrong: bool, text: impl FnOnce() -> String) -> Vec<String> {
    wrong.then(text).into_iter().collect()
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn versions<'a>(records: &'a [Value], status: &str) -> Vec<&'a str> {
    records.iter().filter(|one| text(one, "status") == status).map(|one| text(one, "version")).collect()
}

/// I12.
pub fn edges(moment: &Moment<'_>) -> Vec<String> {
    let Some((was, now)) = change(moment) else { return vec![] };
    let (from, to) = (was.step(), now.step());
    let lost = to.is_empty() && moment.waived.status;
    when(from != to && !lost && !EDGES.contains(&(from, to)), || format!("{from:?} to {to:?}"))
}

/// I13.
pub fn epochs(moment: &Moment<'_>) -> Vec<String> {
    let falls = change(moment)
        .filter(|_| !moment.waived.status)
        .filter(|(was, now)| !was.step().is_empty() && !now.step().is_empty() && now.epoch() < was.epoch());
    let status = falls.map(|(was, now)| format!("the epoch falls from {} to {}", was.epoch(), now.epoch()));
    status.into_iter().chain(epoch_falls(moment)).collect()
}

/// I14: the pending release is the last record, and the active release is the one before it.
pub fn history(moment: &Moment<'_>) -> Vec<String> {
    let Some(now) = now(moment) else { return vec![] };
    let records = now.records();
    let unique: BTreeSet<&str> = records.iter().map(|one| text(one, "version")).collect();
    let mut found = when(unique.len() != records.len() || records.len() > HISTORY_MAX, || {
        format!("{} records with {} versions", records.len(), unique.len())
    });
    let moving = matches!(now.step(), "Deploying" | "Switching");
    if moving && !now.active().is_empty() && now.pending() != now.active() {
        let last: Vec<&str> = records.iter().rev().take(2).map(|one| text(one, "version")).collect();
        found.extend(when(last != [now.pending(), now.active()], || {
            format!("order {:?} while {} is on its way", now.summary(), now.pending())
        }));
    }
    found
}

/// I15.
pub fn active(moment: &Moment<'_>) -> Vec<String> {
    let Some(now) = now(moment) else { return vec![] };
    let count = versions(now.records(), "Active").len();
    let served = !now.active().is_empty() || now.records().iter().any(|one| one.get("activatedAt").is_some());
    when(count > 1 || (now.step() == "Stable" && served && count != 1), || {
        format!("{count} Active in {:?}", now.summary())
    })
}

/// I16.
pub fn serving(moment: &Moment<'_>) -> Vec<String> {
    let Some(now) = now(moment).filter(|now| now.step() == "Stable" && !is_terminating(now.0)) else {
        return vec![];
    };
    let active = versions(now.records(), "Active");
    if active.is_empty() && now.active().is_empty() {
        return vec![];
    }
    let decision = Selection::decided(now.0);
    let app = (now.0.namespace.as_str(), now.0.name.as_str());
    let fronts = moment.state.fronts(app).into_iter().filter(|front| !moment.waived.has(&front.name));
    // A rebuilt status raises the epoch first, and stamps it after that.
    let carries = |front: &Selection| {
        front.same_side(&decision) && (front.epoch == decision.epoch || moment.waived.status)
    };
    let fronts: Vec<Selection> = fronts.map(Selection::of).collect();
    if moment.waived.status && fronts.iter().all(|front| front.epoch > decision.epoch) {
        // The test has restored an older status.
        return vec![];
    }
    let wrong: Vec<&Selection> = fronts.iter().filter(|front| !carries(front)).collect();
    when(!wrong.is_empty() || active != [decision.version.as_str()], || {
        format!("Stable with {active:?} Active and {decision:?} decided, but a front says {wrong:?}")
    })
}

/// I17.
pub fn trimmed(moment: &Moment<'_>) -> Vec<String> {
    let Some((was, now)) = change(moment).filter(|_| !moment.waived.status) else { return vec![] };
    let kept: BTreeSet<&str> = now.records().iter().map(|one| text(one, "version")).collect();
    let precious = |one: &&Value| matches!(text(one, "status"), "Active" | "Pending");
    let dropped: Vec<&str> = was
        .records()
        .iter()
        .filter(precious)
        .map(|one| text(one, "version"))
        .filter(|version| !kept.contains(version))
        .collect();
    when(!dropped.is_empty(), || format!("dropped {dropped:?}"))
}

/// I18.
pub fn retried(moment: &Moment<'_>) -> Vec<String> {
    let mut found = vec![];
    if let Some(now) = now(moment).filter(|now| now.step() == "Stable") {
        let pending = versions(now.records(), "Pending");
        found.extend(when(!pending.is_empty() && !now.active().is_empty(), || {
            format!("{pending:?} Pending in Stable")
        }));
    }
    let Some((was, now)) = change(moment).filter(|_| !moment.waived.status) else { return found };
    let failed = versions(was.records(), "Failed");
    let again: Vec<&str> =
        versions(now.records(), "Pending").into_iter().filter(|version| failed.contains(version)).collect();
    found.extend(when(!again.is_empty() && !asked(was.0) && !asked(now.0), || {
        format!("{again:?} failed, and is Pending again unasked")
    }));
    found
}

/// I18: the mark outlives the status.
pub fn marked(moment: &Moment<'_>) -> Vec<String> {
    let Some((was, now)) = change(moment).filter(|_| !moment.waived.records) else { return vec![] };
    if was.step() != "Prune" || now.step() == "Prune" || now.step().is_empty() {
        return vec![];
    }
    let failed = versions(now.records(), "Failed");
    let unmarked: Vec<&str> = moment
        .state
        .records((&now.0.namespace, &now.0.name))
        .filter(|record| record.annotation(OUTCOME) != Some("Failed"))
        .filter_map(|record| record.annotation(RELEASE_VERSION))
        .filter(|version| failed.contains(version))
        .collect();
    when(!unmarked.is_empty(), || format!("{unmarked:?} failed, and the records do not say so"))
}

/// Returns whether the resource has a request of a user, by annotation or already in the status.
fn asked(entry: &Entry) -> bool {
    let annotations = ["rollback-to", "retry", "restart"];
    annotations.iter().any(|key| entry.annotation(&format!("e6data.io/{key}")).is_some())
        || entry.get("/status/rollout/request").is_some()
}

/// I19.
pub fn observed(moment: &Moment<'_>) -> Vec<String> {
    let Some(State(entry)) = now(moment) else { return vec![] };
    let (observed, there) =
        (entry.number("/status/observedGeneration"), entry.number("/metadata/generation"));
    when(observed > there, || format!("generation {observed} is observed, there is {there}"))
}

/// I20.
pub fn size(moment: &Moment<'_>) -> Vec<String> {
    let Some(State(entry)) = now(moment) else { return vec![] };
    let size = entry.get("/status").map_or(0, |status| status.to_string().len());
    when(size > STATUS_MAX, || format!("the status has {size} bytes"))
}
