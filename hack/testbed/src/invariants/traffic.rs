//! Invariants of traffic: the selections of the front Services, and the Pods behind them.

use super::history_state::{Selection, app_of, controller, epoch, is_front, is_stamped, is_terminating};
use super::{COMPONENTS, Moment};
use crate::history::{Entry, Kind, Verb};
use crate::pace;

/// Seconds within which the operator repairs an external change.
const MENDED: f64 = 5.0;

/// What watches of different kinds may be apart, in seconds.
const SLACK: f64 = 0.3;

/// I1.
pub fn routed(moment: &Moment<'_>) -> Vec<String> {
    let Moment { state, entry, waived, .. } = moment;
    if !matches!(entry.kind, Kind::Service | Kind::Deployment) {
        return vec![];
    }
    let living = |front: &&Entry| state.owner_of(front).is_some();
    let mended = MENDED * pace::slower(entry.late);
    let late = state.mended.iter().filter(|(front, seconds)| living(front) && *seconds > mended).map(
        |(front, seconds)| format!("{} selected a color without a Deployment for {seconds:.1} s", front.name),
    );
    let fronts = state.fronts(app_of(entry)).into_iter().filter(living);
    let fronts = fronts.filter(|front| !waived.has(&front.name));
    late.chain(fronts.filter_map(|front| astray(moment, front))).collect()
}

fn astray(moment: &Moment<'_>, front: &Entry) -> Option<String> {
    let Selection { color, version, .. } = Selection::of(front);
    let name = &front.name;
    if color == "none" || moment.waived.has(&format!("{name}-{color}")) {
        return None;
    }
    let component = front.label("component").unwrap_or_default();
    match moment.state.deployment(app_of(front), component, &color) {
        None => Some(format!("{name} selects {color}, which has no Deployment")),
        Some(deployment) if is_terminating(deployment) => {
            Some(format!("{name} selects {color}, whose Deployment is being deleted"))
        }
        // The operator is about to adopt it.
        Some(deployment) if !is_stamped(deployment) => None,
        Some(deployment) => {
            let of = deployment.annotation(super::history_state::RELEASE_VERSION);
            (of != Some(&version))
                .then(|| format!("{name} says {version} on {color}, whose Deployment is of {of:?}"))
        }
    }
}

/// A selector change of the operator: the resource, the old and the new selection.
struct Change<'a> {
    front: &'a Entry,
    was: Selection,
    now: Selection,
    owner: &'a Entry,
}

impl<'a> Change<'a> {
    fn of(moment: &Moment<'a>) -> Option<Self> {
        let Moment { state, entry, before, waived } = moment;
        if !is_front(entry) || entry.verb != Verb::Modified || waived.has(&entry.name) {
            return None;
        }
        let (was, now) = (Selection::of((*before)?), Selection::of(entry));
        let owner = state.owner_of(entry)?;
        (was.color != now.color).then_some(Self { front: entry, was, now, owner })
    }

    /// Returns whether the present status contains the decision. A delayed write of an operator that lost its lease
    /// carries an older epoch.
    fn is_current(&self) -> bool {
        self.now.epoch >= self.owner.number("/status/rollout/epoch")
    }
}

/// I2.
pub fn to_the_complete(moment: &Moment<'_>) -> Vec<String> {
    let Some(Change { front, now, owner, .. }) = Change::of(moment) else { return vec![] };
    let forward = owner.text("/status/rollout/step") == "Switching";
    let incomplete = |component: &&str| {
        let name = format!("{}-{component}-{}", owner.name, now.color);
        let deployment = moment.state.deployment(app_of(front), component, &now.color);
        let right = deployment.is_some_and(|one| {
            moment.state.was_complete(one, forward)
                && one.annotation(super::history_state::RELEASE_VERSION) == Some(&now.version)
        });
        now.color != "none" && !right && !moment.waived.has(&name)
    };
    COMPONENTS
        .into_iter()
        .filter(incomplete)
        .map(|component| format!("{} goes to {now:?}, of which {component} was never complete", front.name))
        .collect()
}

/// I3.
pub fn not_to_the_failed(moment: &Moment<'_>) -> Vec<String> {
    let Some(change) = Change::of(moment).filter(Change::is_current) else { return vec![] };
    let Change { front, now, owner, .. } = change;
    let records = owner.get("/status/releaseHistory").and_then(serde_json::Value::as_array);
    let record = records
        .and_then(|all| all.iter().find(|one| one.get("version") == Some(&now.version.clone().into())));
    let failed = record.is_some_and(|one| one.get("status") == Some(&"Failed".into()));
    let text = || format!("{} goes to {now:?}, which has failed", front.name);
    failed.then(text).into_iter().collect()
}

/// I4. For deletions, the front Services also differ while only one of them carries the new epoch. A create has no
/// precondition: an operator that lost a race may create an object between the two writes.
pub fn no_change_while_apart(moment: &Moment<'_>) -> Vec<String> {
    let Moment { state, entry, before, waived } = moment;
    let goes = begins_to_go(entry, *before);
    let comes = entry.verb == Verb::Added && !entry.listed;
    if !(goes || comes)
        || is_front(entry)
        || entry.kind == Kind::ControllerRevision
        || waived.has(&entry.name)
    {
        return vec![];
    }
    let subject = (if entry.verb == Verb::Deleted { *before } else { None }).unwrap_or(entry);
    if state.owner_of(subject).is_none() {
        return vec![];
    }
    let selections = state.selections(app_of(entry));
    match selections.as_slice() {
        [one, other] if one != other && !(comes && one.goes_where(other)) => {
            let what = if comes { "created" } else { "deleted" };
            vec![format!(
                "{:?} {} is {what} while the fronts say {one:?} and {other:?}",
                entry.kind, entry.name
            )]
        }
        _ => vec![],
    }
}

/// Whether an object begins to go with this event: it is deleted, or marked so for the first time.
pub fn begins_to_go(entry: &Entry, before: Option<&Entry>) -> bool {
    let leaving = entry.verb == Verb::Deleted || is_terminating(entry);
    leaving && before.is_some_and(|before| !is_terminating(before))
}

/// I4. A write of an operator that lost its lease carries an older epoch. The API server accepts it only if no newer
/// decision was written.
pub fn decided(moment: &Moment<'_>) -> Vec<String> {
    let Moment { state, entry, before, waived } = moment;
    let changed = is_front(entry) && entry.verb == Verb::Modified && !waived.has(&entry.name);
    let (Some(was), Some(owner)) = (before.filter(|_| changed), state.owner_of(entry)) else { return vec![] };
    let (was, now, decided) = (Selection::of(was), Selection::of(entry), Selection::decided(owner));
    let late = now.epoch < decided.epoch;
    if was == now || late || waived.status || now == decided {
        return vec![];
    }
    vec![format!("{} goes from {was:?} to {now:?}, while the status says {decided:?}", entry.name)]
}

/// I5.
pub fn moves(moment: &Moment<'_>) -> Vec<String> {
    let Moment { state, entry, before, waived } = moment;
    if !is_front(entry)
        || entry.verb == Verb::Deleted
        || waived.has(&entry.name)
        || controller(entry).is_none()
    {
        return vec![];
    }
    let now = Selection::of(entry);
    let mut found = vec![];
    if let Some(was) = before.map(Selection::of)
        && was.color != now.color
    {
        if was.epoch == now.epoch {
            found.push(format!("{} goes from {was:?} to {now:?} without a decision", entry.name));
        }
        let count = state.moves(entry);
        if count > 2 {
            found.push(format!("{} changes its selector {count} times in a rollout", entry.name));
        }
    }
    let known = state.side(entry).filter(|known| now.color != "none" && !known.same_side(&now));
    found.extend(known.map(|known| format!("by one decision the fronts say {known:?} and {now:?}")));
    found
}

/// I9, first half.
pub fn deleted_in_prune(moment: &Moment<'_>) -> Vec<String> {
    let Moment { state, entry, before, waived } = moment;
    let subject = before.unwrap_or(entry);
    if !begins_to_go(entry, *before) || waived.has(&entry.name) || is_front(subject) {
        return vec![];
    }
    let Some(owner) = state.owner_of(subject) else { return vec![] };
    if entry.kind == Kind::ControllerRevision && waived.records {
        return vec![];
    }
    let what = format!("{:?} {}", entry.kind, entry.name);
    let step = owner.text("/status/rollout/step");
    let fronts = state.selections(app_of(subject));
    let mut found = vec![];
    // Deletions decided in Prune may arrive after the status was deleted.
    let wiped = waived.status && step.is_empty();
    if step != "Prune" && !wiped {
        found.push(format!("{what} is deleted in {step:?}"));
    }
    let color = subject.label("strategy").filter(|_| entry.kind != Kind::ControllerRevision);
    if let Some(color) = color
        && fronts.iter().any(|front| front.color == color)
    {
        found.push(format!("{what} is deleted while the fronts say {fronts:?}"));
    }
    let decision = Selection::decided(owner);
    let carried = |front: &Selection| {
        // Before anything served, the fronts keep the epoch they were made with.
        front.same_side(&decision) && (decision.color == "none" || front.epoch == decision.epoch)
    };
    if !wiped && (fronts.len() != 2 || !fronts.iter().all(carried)) {
        found.push(format!("{what} is deleted while {decision:?} is decided and the fronts say {fronts:?}"));
    }
    found
}

/// I9, second half: the EndpointSlices of both fronts show ready endpoints of the other color and none of this one,
/// and the delay has passed.
pub fn deleted_when_proved(moment: &Moment<'_>) -> Vec<String> {
    let Moment { state, entry, before, waived } = moment;
    let subject = before.unwrap_or(entry);
    if entry.kind != Kind::Deployment || !begins_to_go(entry, *before) || waived.has(&entry.name) {
        return vec![];
    }
    let Some(owner) = state.owner_of(subject) else { return vec![] };
    let app = app_of(subject);
    let color = subject.label("strategy").unwrap_or_default();
    // A color that never had traffic needs no proof.
    let Some(left) = state.left(app, color) else { return vec![] };
    let mut found = vec![];
    for component in COMPONENTS {
        let endpoints = state.endpoints(app, component);
        // The second Deployment may be deleted once no EndpointSlice lists Pods of the first one. This check is the
        // same.
        if endpoints.contains_key(color) || !endpoints.values().any(|(ready, _)| *ready > 0) {
            found.push(format!("{} is deleted while {component} has endpoints {endpoints:?}", entry.name));
        }
    }
    let due = delay(owner);
    let waited = entry.at.as_secs_f64() - left;
    if waited + SLACK < due {
        found.push(format!("{} is deleted {waited:.1} s after the switch, not {due} s", entry.name));
    }
    found
}

/// The seconds between a switch and Prune by the spec.
#[allow(clippy::cast_precision_loss, reason = "seconds of a test")]
fn delay(owner: &Entry) -> f64 {
    let seconds = |pointer: &str, default: i64| {
        owner.get(pointer).and_then(serde_json::Value::as_i64).unwrap_or(default)
    };
    (seconds("/spec/rollout/switchDwellSeconds", 10) + seconds("/spec/rollout/cleanupDelaySeconds", 30))
        as f64
}

/// I10.
pub fn not_back_in_prune(moment: &Moment<'_>) -> Vec<String> {
    let Some(change) = Change::of(moment).filter(Change::is_current) else { return vec![] };
    let Change { front, was, now, owner } = change;
    let lost = now.color != owner.text("/status/activeStrategy");
    let text = || format!("{} goes from {was:?} to {now:?} in Prune", front.name);
    (owner.text("/status/rollout/step") == "Prune" && lost).then(text).into_iter().collect()
}

/// The fronts' part of I13.
pub fn epoch_falls(moment: &Moment<'_>) -> Option<String> {
    let Moment { entry, before, waived, .. } = moment;
    let before =
        before.filter(|_| is_front(entry) && entry.verb == Verb::Modified && !waived.has(&entry.name))?;
    let (was, now) = (epoch(before), epoch(entry));
    (now < was).then(|| format!("the epoch of {} falls from {was} to {now}", entry.name))
}
