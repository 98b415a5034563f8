//! Judges what an outside eye saw of a run.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use testbed::proxy::{Fault, Write};
use testbed::watcher::{self, Act, Call, Waived};
use testbed::{History, Kind};

use crate::end::{counts, differences, end, unnumbered};
use crate::run::{Reference, holds};
use crate::scenario::SECRET;

/// How long the operator waits for an answer.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// By how much the operator may have begun to wait before the proxy did.
const SLACK: Duration = Duration::from_millis(500);

/// What was seen of a run.
pub struct Seen<'a> {
    /// By the watch.
    pub history: &'a History,
    /// Where it was played.
    pub namespace: &'a str,
    /// What went wrong.
    pub faults: &'a [Fault],
    /// By the proxy: what is wrong with the requests.
    pub requests: Vec<String>,
    /// By the proxy: the writes.
    pub writes: Vec<Write>,
    /// By the proxy: by how much the API server was late.
    pub late: Duration,
    /// By the proxy: reads and writes.
    pub calls: Vec<Call>,
    /// What the operator wrote to its log.
    pub log: String,
    /// The Events of the namespace, as JSON.
    pub events: Vec<String>,
    /// The resource was deleted.
    pub deleted: bool,
}

/// All that must hold, with or without a fault.
pub fn invariants(seen: &Seen<'_>) -> Vec<String> {
    // A write that is held up may land after the resource is gone.
    let held = seen.faults.iter().filter_map(|fault| match fault {
        Fault::Delete => Some(Duration::ZERO),
        Fault::Delay(time) => Some(*time),
        _ => None,
    });
    let late_writes = held.max().map_or(Duration::ZERO, |held| held + GIVEN_UP + seen.late);
    let waived = Waived { late_writes, ..Waived::default() };
    let mut found = watcher::check(seen.history, &waived);
    found.extend(watcher::at_rest(seen.history, &waived));
    let mut texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    texts.extend(seen.requests.iter().cloned());
    texts.extend(after_deletion(seen));
    texts.extend(leaks(seen));
    if seen.log.contains("panicked") {
        texts.push("the operator panicked".to_owned());
    }
    // What passes by itself is no ERROR: that is for what a person must see.
    texts.extend(seen.log.lines().find(|line| line.contains(" ERROR ")).map(|line| format!("logged {line}")));
    texts
}

/// [`invariants`], and that the run ended as the undisturbed one did, by the same creates and deletes (I36).
pub fn judge(seen: &Seen<'_>, reference: &Reference) -> Vec<String> {
    let mut found = invariants(seen);
    let is = end(seen.history, seen.namespace);
    if seen.faults.contains(&Fault::Delete) && seen.deleted {
        let left = is.iter().filter(|(_, value)| **value != json!({}));
        found.extend(left.map(|(name, value)| format!("I28: {name} is left of what was deleted: {value}")));
        let uneven = counts(seen.history, seen.namespace).into_iter().filter(|(_, (made, gone))| made > gone);
        found.extend(uneven.map(|(name, (made, gone))| format!("I28: {name}: {made} made, {gone} gone")));
        return found;
    }
    let unlike = |should, is| differences(&should, &is).into_iter();
    let anew = is_begun_anew(seen);
    let (should, is) =
        if anew { (unnumbered(&reference.end), unnumbered(&is)) } else { (reference.end.clone(), is) };
    found.extend(unlike(json!(should), json!(is)).map(|text| format!("I36: {text}")));
    let mut counts = counts(seen.history, seen.namespace);
    let late = if anew { counts.keys().cloned().collect() } else { made_late(seen) };
    for name in late {
        if let Some(count) = counts.get_mut(&name)
            && let Some(&usual) = reference.counts.get(&name)
            && *count == (usual.0 + 1, usual.1 + 1)
        {
            *count = usual;
        }
    }
    let counts = json!(counts);
    found.extend(unlike(json!(reference.counts), counts).map(|text| format!("I36: created, deleted {text}")));
    found
}

/// What a held-up request may have made when it had been given up, made again and pruned already: the operator has to take
/// it away once more. Held up by a fault, or by an API server that took longer to carry it out than the operator waits.
fn made_late(seen: &Seen<'_>) -> BTreeSet<String> {
    let made = |write: &&Write| write.target.verb == "POST" && write.status == Some(201);
    let held =
        |write: &&Write| matches!(write.fault, Some(Fault::Delay(_))) || write.took + SLACK >= GIVEN_UP;
    let late = seen.writes.iter().filter(made).filter(held);
    // A record that is there stays.
    let kind =
        |write: &Write| Kind::named(&write.target.resource).filter(|kind| *kind != Kind::ControllerRevision);
    let name = |write: &Write| kind(write).map(|kind| format!("{kind:?} {}", write.target.name));
    late.filter_map(name).collect()
}

/// Whether a create that was held up met the next attempt: when that of its own attempt had been deleted, what it made was in
/// the way (409) of the next one's, which was taken away whole and begun anew, under later numbers.
fn is_begun_anew(seen: &Seen<'_>) -> bool {
    let of = |write: &Write| (write.target.resource.clone(), write.target.name.clone());
    let did =
        |write: &Write, verb: &str, status: u16| write.target.verb == verb && write.status == Some(status);
    let held = |write: &&Write| did(write, "POST", 201) && matches!(write.fault, Some(Fault::Delay(_)));
    seen.writes.iter().filter(held).any(|late| {
        let mut later =
            seen.writes.iter().filter(|write| write.number > late.number && of(write) == of(late));
        later.any(|write| did(write, "DELETE", 200)) && later.any(|write| did(write, "POST", 409))
    })
}

/// I28: once a read has shown that the resource is gone, nothing is written.
fn after_deletion(seen: &Seen<'_>) -> Option<String> {
    if !seen.faults.contains(&Fault::Delete) {
        return None;
    }
    let struck = seen.writes.iter().find(|write| write.fault.is_some())?.number;
    let mut writes = 0;
    let mut known = false;
    for call in &seen.calls {
        match call.act {
            Act::Write if known => {
                return Some(format!("I28: {} {} after the deletion", call.resource, call.name));
            }
            Act::Write => writes += 1,
            Act::Get => known |= writes >= struck && call.resource == "metadataservices",
            Act::List | Act::Start => {}
        }
    }
    None
}

/// I45: what a ConfigMap holds is in no log, no Event and no status.
fn leaks(seen: &Seen<'_>) -> Vec<String> {
    let mut found = vec![];
    if seen.log.contains(SECRET) {
        found.push("I45: a value of a ConfigMap is in the log".to_owned());
    }
    if seen.events.iter().any(|event| event.contains(SECRET)) {
        found.push("I45: a value of a ConfigMap is in an Event".to_owned());
    }
    let status = |entry: &&std::sync::Arc<testbed::Entry>| {
        entry.get("/status").is_some_and(|status| holds(status, SECRET))
    };
    if seen.history.of_kind(Kind::MetadataServices).any(|entry| status(&entry)) {
        found.push("I45: a value of a ConfigMap is in the status".to_owned());
    }
    found
}
