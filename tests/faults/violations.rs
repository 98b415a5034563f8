//! Checks a run: by its timeline, its requests, its log and its Events.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use testbed::harness::NAME;
use testbed::invariants::{self, Call, RequestKind, Waived};
use testbed::proxy::{Fault, Write};
use testbed::{History, Kind, State, Verb};

use crate::final_state::{counts, differences, end, unnumbered};
use crate::run::Reference;
use crate::scenario::{SECRET, Scenario};

/// Time that the operator waits for an answer.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// Maximum time between the start of the wait in the operator and in the proxy.
const SLACK: Duration = Duration::from_millis(500);

/// The observations of a run.
pub struct Seen<'a> {
    /// The scenario.
    pub scenario: Scenario,
    /// The history of the timeline.
    pub history: &'a History,
    /// The namespace.
    pub namespace: &'a str,
    /// The injected faults.
    pub faults: &'a [Fault],
    /// The violations that the proxy found in the requests.
    pub requests: Vec<String>,
    /// The writes at the proxy.
    pub writes: Vec<Write>,
    /// The delays of the API server, by the proxy.
    pub late: Duration,
    /// The reads and writes at the proxy.
    pub calls: Vec<Call>,
    /// The log of the operator.
    pub log: String,
    /// The Events of the namespace, as JSON.
    pub events: Vec<String>,
    /// The resource was deleted.
    pub deleted: bool,
}

/// Returns the violated invariants, with or without a fault.
pub fn invariants(seen: &Seen<'_>) -> Vec<String> {
    // A delayed write may arrive after the deletion of the resource.
    let held = seen.faults.iter().filter_map(|fault| match fault {
        Fault::Delete => Some(Duration::ZERO),
        Fault::Delay(time) => Some(*time),
        _ => None,
    });
    let late_writes = held.max().map_or(Duration::ZERO, |held| held + GIVEN_UP + seen.late);
    let waived = Waived { late_writes, status: seen.scenario == Scenario::Adopt, ..Waived::default() };
    let mut found = invariants::check(seen.history, &waived);
    found.extend(invariants::at_rest(seen.history, &waived));
    let mut texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    texts.extend(seen.requests.iter().cloned());
    texts.extend(after_deletion(seen));
    texts.extend(leaks(seen));
    if seen.log.contains("panicked") {
        texts.push("the operator panicked".to_owned());
    }
    // An ERROR requires a person. A problem that resolves itself must not log one.
    texts.extend(seen.log.lines().find(|line| line.contains(" ERROR ")).map(|line| format!("logged {line}")));
    texts
}

/// Returns the violated invariants, and the differences to the run without faults (I36): in the final state, and in
/// the created and deleted objects.
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

/// Returns the objects that a delayed create may have created after the operator canceled, repeated and pruned them.
/// The operator deletes them once more. A fault or a slow API server may cause the delay.
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

/// Returns whether a delayed create blocked a later attempt: its object, of an earlier epoch, appeared while that attempt was
/// being deployed. The attempt finds it by a read, or by a 409 to its own create. The operator then deletes the object and
/// starts the attempt again, with a higher epoch.
fn is_begun_anew(seen: &Seen<'_>) -> bool {
    let held = |write: &&Write| {
        let created = write.target.verb == "POST" && write.status == Some(201);
        created && matches!(write.fault, Some(Fault::Delay(_)))
    };
    seen.writes.iter().filter(held).any(|late| {
        let Some(kind) = Kind::named(&late.target.resource) else { return false };
        let mut created =
            seen.history.of(kind, &late.target.name).filter(|one| one.verb == Verb::Added && !one.listed);
        created.any(|one| {
            let owner = seen.history.live_at(Kind::MetadataServices, NAME, one.resource_version);
            let epoch = one.annotation("e6data.io/epoch").and_then(|text| text.parse::<i64>().ok());
            owner.zip(epoch).is_some_and(|(owner, epoch)| {
                State(owner).step() == "Deploying" && epoch < State(owner).epoch()
            })
        })
    })
}

/// I28: after a read has shown that the resource is gone, the operator writes nothing.
fn after_deletion(seen: &Seen<'_>) -> Option<String> {
    if !seen.faults.contains(&Fault::Delete) {
        return None;
    }
    let struck = seen.writes.iter().find(|write| write.fault.is_some())?.number;
    let mut writes = 0;
    let mut known = false;
    for call in &seen.calls {
        match call.kind {
            RequestKind::Write if known => {
                return Some(format!("I28: {} {} after the deletion", call.resource, call.name));
            }
            RequestKind::Write => writes += 1,
            RequestKind::Get => known |= writes >= struck && call.resource == "metadataservices",
            RequestKind::List | RequestKind::Start => {}
        }
    }
    None
}

/// I45: values of a ConfigMap appear in no log, no Event and no status.
fn leaks(seen: &Seen<'_>) -> Vec<String> {
    let mut found = vec![];
    if seen.log.contains(SECRET) {
        found.push("I45: a value of a ConfigMap is in the log".to_owned());
    }
    if seen.events.iter().any(|event| event.contains(SECRET)) {
        found.push("I45: a value of a ConfigMap is in an Event".to_owned());
    }
    let status = |entry: &&std::sync::Arc<testbed::Entry>| {
        entry.get("/status").is_some_and(|status| status.to_string().contains(SECRET))
    };
    if seen.history.of_kind(Kind::MetadataServices).any(|entry| status(&entry)) {
        found.push("I45: a value of a ConfigMap is in the status".to_owned());
    }
    found
}
