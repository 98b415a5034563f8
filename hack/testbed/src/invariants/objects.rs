//! Invariants of the objects: immutable fields, owners, and the set of objects at rest.

use std::collections::BTreeSet;

use serde_json::Value;

use super::history_state::{EPOCH, RELEASE_VERSION, app_of, controller, is_front, is_ours, is_terminating};
use super::{COMPONENTS, Moment, Violation, Waived};
use crate::history::{Entry, History, Kind, Verb};
use crate::resource::State;

/// Returns the earlier version of an object of the operator that changed. None for objects in [`Waived`].
fn changed<'a>(moment: &Moment<'a>) -> Option<&'a Entry> {
    let Moment { entry, before, waived, .. } = moment;
    let same = |was: &&Entry| was.text("/metadata/uid") == entry.text("/metadata/uid");
    before.filter(|_| is_ours(entry) && entry.verb == Verb::Modified && !waived.has(&entry.name)).filter(same)
}

/// I6.
pub fn replicas(moment: &Moment<'_>) -> Vec<String> {
    let entry = moment.entry;
    let Some(was) = changed(moment).filter(|_| entry.kind == Kind::Deployment) else { return vec![] };
    let (was, now) = (was.number("/spec/replicas"), entry.number("/spec/replicas"));
    let component = entry.label("component").unwrap_or_default();
    let asked = moment.state.resource(app_of(entry)).map_or(1, |one| {
        one.get(&format!("/spec/{component}/replicas")).and_then(Value::as_i64).unwrap_or(1)
    });
    let text =
        || format!("replicas of {} are lowered from {was} to {now}, {asked} are asked for", entry.name);
    (now < was && now < asked).then(text).into_iter().collect()
}

/// I7.
pub fn selectors(moment: &Moment<'_>) -> Vec<String> {
    let Moment { entry, waived, .. } = moment;
    let pointer = match entry.kind {
        Kind::Service => "/spec/selector",
        Kind::Deployment | Kind::PodDisruptionBudget => "/spec/selector/matchLabels",
        _ => return vec![],
    };
    if !is_ours(entry) || waived.has(&entry.name) {
        return vec![];
    }
    let empty = serde_json::Map::new();
    let selector = entry.get(pointer).and_then(Value::as_object).unwrap_or(&empty);
    let of = |key: &str| selector.get(key).and_then(Value::as_str).unwrap_or_default();
    let color = of("strategy");
    let follows = is_front(entry) || entry.kind == Kind::PodDisruptionBudget;
    let right = selector.len() == 3
        && [of("app"), of("component")].map(Some) == [entry.label("app"), entry.label("component")]
        && if follows { !color.is_empty() } else { Some(color) == entry.label("strategy") };
    (!right).then(|| format!("{:?} {} selects {selector:?}", entry.kind, entry.name)).into_iter().collect()
}

/// I8.
pub fn identity(moment: &Moment<'_>) -> Vec<String> {
    let Moment { state, entry, before, waived } = moment;
    let Some(was) = before.filter(|was| is_front(was) && !waived.has(&was.name)) else { return vec![] };
    let going = entry.verb == Verb::Deleted || is_terminating(entry);
    let mut found = vec![];
    if going && !is_terminating(was) && state.owner_of(was).is_some() {
        found.push(format!("the front {} is deleted", entry.name));
    }
    if entry.verb == Verb::Modified {
        let moved =
            ["/metadata/uid", "/spec/clusterIP"].into_iter().filter(|at| was.get(at) != entry.get(at));
        found.extend(moved.map(|pointer| format!("{pointer} of {} changes", entry.name)));
    }
    found
}

/// I11.
pub fn fixed(moment: &Moment<'_>) -> Vec<String> {
    let entry = moment.entry;
    let Some(was) = changed(moment) else { return vec![] };
    let fixed: &[&str] = match entry.kind {
        Kind::Deployment => &["/spec/template", "/spec/selector"],
        Kind::ConfigMap | Kind::ControllerRevision => &["/data"],
        _ => &[],
    };
    let broken = fixed.iter().filter(|pointer| entry.get(pointer) != was.get(pointer));
    broken.map(|pointer| format!("{pointer} of {:?} {} changes in place", entry.kind, entry.name)).collect()
}

/// Returns whether the operator created an object with this event.
fn is_created(moment: &Moment<'_>) -> bool {
    moment.entry.verb == Verb::Added && !moment.entry.listed && is_ours(moment.entry)
}

/// I28.
pub fn left_alone(moment: &Moment<'_>) -> Vec<String> {
    let Moment { state, entry, before, waived } = moment;
    let leaving = state.resource(app_of(entry)).filter(|resource| is_terminating(resource));
    let Some(leaving) = leaving.filter(|_| !waived.has(&entry.name)) else { return vec![] };
    if state.gone_for(leaving.text("/metadata/uid"), entry).is_some_and(|seconds| waived.is_late(seconds)) {
        return vec![];
    }
    let selector = |entry: &Entry| entry.get("/spec/selector").cloned();
    let switched = is_front(entry)
        && entry.verb == Verb::Modified
        && before.is_some_and(|was| selector(was) != selector(entry));
    if is_created(moment) || switched {
        vec![format!("{:?} {} is written although the resource is being deleted", entry.kind, entry.name)]
    } else {
        vec![]
    }
}

/// I32, first half.
pub fn owned(moment: &Moment<'_>) -> Vec<String> {
    let Moment { state, entry, waived, .. } = moment;
    if !is_created(moment) || waived.has(&entry.name) {
        return vec![];
    }
    let mut found = vec![];
    let living = state.resource(app_of(entry)).map(|one| one.text("/metadata/uid"));
    let owner = controller(entry);
    let late = |owner| state.gone_for(owner, entry).is_some_and(|seconds| waived.is_late(seconds));
    let right = owner.is_some_and(|owner| living == Some(owner) || late(owner));
    if !right {
        found.push(format!("{:?} {} is created for {owner:?}, there is {living:?}", entry.kind, entry.name));
    }
    if entry.kind == Kind::Deployment && entry.annotation(EPOCH).is_none() {
        found.push(format!("Deployment {} is created without an epoch", entry.name));
    }
    found
}

/// I32, second half: the operator does not adopt an object of another owner.
pub fn not_taken(moment: &Moment<'_>) -> Vec<String> {
    let Moment { entry, before, waived, .. } = moment;
    let changed = entry.verb == Verb::Modified && !waived.has(&entry.name);
    let Some(was) = before.filter(|_| changed) else { return vec![] };
    // The operator adopts what an earlier operator made for the same resource, and restores its own labels.
    let adopted = controller(was).is_some() && controller(was) == controller(entry);
    let taken = !is_ours(was) && is_ours(entry) && !adopted;
    let other = controller(was).zip(controller(entry)).is_some_and(|(was, now)| was != now);
    (taken || (other && is_ours(entry)))
        .then(|| format!("{:?} {} is taken from {:?}", entry.kind, entry.name, controller(was)))
        .into_iter()
        .collect()
}

/// Returns the violations of I33 at rest: a settled resource owns exactly the objects it needs.
pub fn at_rest(history: &History, waived: &Waived) -> Vec<Violation> {
    let resources = history.all_live(Kind::MetadataServices).into_iter();
    let settled = resources.filter(|one| !is_terminating(one) && State(one).is_settled());
    let found = settled.flat_map(|resource| surplus(history, resource, waived));
    found.map(|text| Violation { invariant: "I33", text }).collect()
}

type Named = (Kind, String);

/// Returns the objects that a settled resource needs, except ControllerRevisions.
fn needed(resource: &Entry) -> BTreeSet<Named> {
    let (state, name) = (State(resource), &resource.name);
    let mut needed: BTreeSet<Named> = BTreeSet::new();
    for component in COMPONENTS.iter().filter(|_| !state.active().is_empty()) {
        let color = state.color();
        needed.insert((Kind::Service, format!("{name}-{component}")));
        needed.insert((Kind::Service, format!("{name}-{component}-{color}")));
        needed.insert((Kind::Deployment, format!("{name}-{component}-{color}")));
        needed.insert((Kind::ConfigMap, format!("{name}-{component}-config-{color}")));
        let budget = format!("/spec/{component}/podDisruptionBudget/enabled");
        if resource.get(&budget) == Some(&Value::Bool(true)) {
            needed.insert((Kind::PodDisruptionBudget, format!("{name}-{component}")));
        }
    }
    let account = account(resource.get("/spec"), name);
    needed.extend(account.map(|name| (Kind::ServiceAccount, name.to_owned())));
    needed
}

fn surplus(history: &History, resource: &Entry, waived: &Waived) -> Vec<String> {
    let (state, name) = (State(resource), &resource.name);
    let mut wanted = needed(resource);
    wanted.retain(|(_, name)| !waived.has(name));
    let owned: Vec<_> = Kind::MADE
        .into_iter()
        .flat_map(|kind| history.all_live(kind))
        .filter(|one| {
            one.namespace == resource.namespace && controller(one) == Some(resource.text("/metadata/uid"))
        })
        .filter(|one| is_ours(one) && !waived.has(&one.name))
        .collect();
    let (revisions, others): (Vec<_>, Vec<_>) =
        owned.into_iter().partition(|one| one.kind == Kind::ControllerRevision);
    let have: BTreeSet<Named> = others.iter().map(|one| (one.kind, one.name.clone())).collect();
    // A rollback would need it.
    let kept: Vec<&str> =
        revisions.iter().filter_map(|one| account(one.get("/data/template"), name)).collect();
    let left = have
        .difference(&wanted)
        .filter(|(kind, name)| *kind != Kind::ServiceAccount || !kept.contains(&name.as_str()))
        .map(|(kind, name)| format!("{kind:?} {name} is left over"));
    let missing = wanted.difference(&have).map(|(kind, name)| format!("{kind:?} {name} is missing"));
    let budgets = others.iter().filter(|one| one.kind == Kind::PodDisruptionBudget);
    let astray = budgets
        .filter(|one| one.text("/spec/selector/matchLabels/strategy") != state.color())
        .map(|one| format!("{} does not select what serves", one.name));
    let recorded: BTreeSet<&str> =
        revisions.iter().filter_map(|one| one.annotation(RELEASE_VERSION)).collect();
    // A release that was active or failed must have a ControllerRevision. A release whose rollout was undone may have
    // one.
    let must = versions(state, |one| {
        let is_known = one.get("hash").is_some_and(|hash| hash != "");
        is_known && (one.get("activatedAt").is_some() || one.get("status") == Some(&"Failed".into()))
    });
    let may = versions(state, |_| true);
    let records = waived.records || (recorded.is_superset(&must) && recorded.is_subset(&may));
    let wrong = || format!("{name} has the records {recorded:?}, needs {must:?} and may have {may:?}");
    left.chain(missing).chain(astray).chain((!records).then(wrong)).collect()
}

/// The name of the `ServiceAccount` that a spec asks for.
fn account<'a>(spec: Option<&'a Value>, resource: &'a str) -> Option<&'a str> {
    let asked =
        spec?.get("serviceAccount").filter(|asked| asked.get("create") == Some(&Value::Bool(true)))?;
    Some(asked.get("name").and_then(Value::as_str).unwrap_or(resource))
}

fn versions(state: State<'_>, keep: impl Fn(&Value) -> bool) -> BTreeSet<&str> {
    let kept = state.records().iter().filter(|one| keep(one));
    kept.filter_map(|one| one.get("version")?.as_str()).collect()
}
