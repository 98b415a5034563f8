//! Invariants of traffic: what the front Services select, and what is never done to it.

use std::collections::BTreeMap;

use super::{
    COLOURS, COMPONENTS, RELEASE_VERSION, Selection, World, after, begins_to_go, is_part, is_terminating,
    replay,
};
use crate::history::{Entry, History, Kind, Verb};

/// I1: each front Service selects `none`, or a colour whose Deployment is there, is of the release that the Service
/// names, and is not being deleted. I7: its selector is whole.
pub fn fronts_select_what_is_there(history: &History, resource: &str) -> Vec<String> {
    replay(history, resource, |before, entry| {
        // An earlier state is looked at only when it can have changed.
        if !matches!(entry.kind, Kind::Service | Kind::Deployment) {
            return vec![];
        }
        let world = after(before, entry);
        if world.owner().is_none() {
            return vec![];
        }
        COMPONENTS.iter().filter_map(|component| dangling(&world, component)).collect()
    })
}

fn dangling(world: &World, component: &str) -> Option<String> {
    let front = world.front(component)?;
    let selection = Selection::of(front);
    let name = &front.name;
    let labels = [front.text("/spec/selector/app"), front.text("/spec/selector/component")];
    if labels != [world.resource, component] {
        return Some(format!("I7: {name} selects {labels:?}"));
    }
    if selection.colour == "none" {
        return None;
    }
    let Selection { colour, version, .. } = selection;
    match world.deployment(component, &colour) {
        None => Some(format!("I1: {name} selects {colour}, which has no Deployment")),
        Some(deployment) if is_terminating(deployment) => {
            Some(format!("I1: {name} selects {colour}, whose Deployment is being deleted"))
        }
        Some(deployment) if deployment.annotation(RELEASE_VERSION) != Some(&version) => Some(format!(
            "I1: {name} says {version} on {colour}, whose Deployment is of {:?}",
            deployment.annotation(RELEASE_VERSION)
        )),
        Some(_) => None,
    }
}

/// I4: while the front Services select different releases, nothing is created or deleted.
pub fn no_change_while_apart(history: &History, resource: &str) -> Vec<String> {
    replay(history, resource, |world, entry| {
        let selections = world.selections();
        let [one, other] = selections.as_slice() else { return vec![] };
        let changes = entry.verb == Verb::Added || begins_to_go(world, entry);
        if one.same_side(other) || !changes || world.owner().is_none() || !is_part(entry, resource) {
            return vec![];
        }
        let what = if entry.verb == Verb::Added { "created" } else { "deleted" };
        vec![format!(
            "I4: {:?} {} is {what} while the fronts say {one:?} and {other:?}",
            entry.kind, entry.name
        )]
    })
}

/// I5, I10: within one rollout each front goes at most once forth and once back, and never back after Prune. Told by
/// the decisions' numbers: a front's epoch never falls, and one epoch means one side.
pub fn switch_counts(history: &History, resource: &str) -> Vec<String> {
    let mut sides: BTreeMap<i64, Selection> = BTreeMap::new();
    replay(history, resource, |world, entry| {
        let is_front = COMPONENTS.iter().any(|component| entry.name == format!("{resource}-{component}"));
        if entry.kind != Kind::Service || !is_front || entry.verb == Verb::Deleted {
            return vec![];
        }
        let now = Selection::of(entry);
        let mut found = vec![];
        if let Some(was) = world.get(Kind::Service, &entry.name).map(Selection::of) {
            if now.epoch < was.epoch {
                found.push(format!(
                    "I13: the epoch of {} falls from {} to {}",
                    entry.name, was.epoch, now.epoch
                ));
            }
            if now.epoch == was.epoch && !now.same_side(&was) {
                found.push(format!("I5: {} goes from {was:?} to {now:?} without a decision", entry.name));
            }
        }
        if now.colour != "none" {
            let known = sides.entry(now.epoch).or_insert_with(|| now.clone());
            if !known.same_side(&now) {
                found.push(format!("I5: the fronts say {known:?} and {now:?}"));
            }
        }
        found
    })
}

/// I8: the front Services keep their UID and clusterIP.
pub fn fronts_keep_identity(history: &History, resource: &str) -> Vec<String> {
    let identity =
        |entry: &Entry| (entry.text("/metadata/uid").to_owned(), entry.text("/spec/clusterIP").to_owned());
    let owner = |entry: &Entry| entry.text("/metadata/ownerReferences/0/uid").to_owned();
    let mut known: BTreeMap<String, (String, (String, String))> = BTreeMap::new();
    replay(history, resource, |_, entry| {
        let is_front = COMPONENTS.iter().any(|component| entry.name == format!("{resource}-{component}"));
        if entry.kind != Kind::Service || !is_front || entry.verb == Verb::Deleted {
            return vec![];
        }
        let now = (owner(entry), identity(entry));
        let was = known.insert(entry.name.clone(), now.clone());
        // A resource that was deleted and made again has fronts of its own.
        let changed = was.is_some_and(|was| was.0 == now.0 && was.1 != now.1);
        changed.then(|| format!("I8: {} changed its UID or clusterIP", entry.name)).into_iter().collect()
    })
}

/// I9, I3, first half: an object of a colour begins to go only in step Prune, when it is not the active colour's, and
/// both fronts carry exactly the decision that stands in the status.
pub fn delete_only_in_prune(history: &History, resource: &str) -> Vec<String> {
    replay(history, resource, |world, entry| {
        let Some(owner) = world.owner() else { return vec![] };
        if !is_part(entry, resource) || !begins_to_go(world, entry) {
            return vec![];
        }
        let what = format!("{:?} {}", entry.kind, entry.name);
        let mut found = vec![];
        if owner.text("/status/rollout/step") != "Prune" {
            found.push(format!("I9: {what} is deleted in {}", owner.text("/status/rollout/step")));
        }
        let active = owner.text("/status/activeStrategy");
        if entry.kind != Kind::ControllerRevision && entry.label("strategy") == Some(active) {
            found.push(format!("I9: {what} of the active colour is deleted"));
        }
        let decision = Selection {
            colour: if active.is_empty() { "none".into() } else { active.to_owned() },
            version: owner.text("/status/activeReleaseVersion").to_owned(),
            epoch: owner.number("/status/rollout/epoch"),
        };
        let carried = |front: &Selection| {
            // Before anything served, the fronts keep the epoch they were made with.
            front.same_side(&decision) && (active.is_empty() || front.epoch == decision.epoch)
        };
        let fronts = world.selections();
        if fronts.len() != 2 || !fronts.iter().all(carried) {
            found.push(format!(
                "I9: {what} is deleted while {decision:?} is decided and the fronts say {fronts:?}"
            ));
        }
        found
    })
}

/// I9, second half: a colour that had traffic begins to go only after the `EndpointSlices` of both fronts showed
/// ready endpoints of the other colour and none of it, and after the delay. (Where design D7 waives the proof to get
/// out of a dead end, do not ask this.)
pub fn pruned_only_when_proved(history: &History, resource: &str) -> Vec<String> {
    let mut left: BTreeMap<String, f64> = BTreeMap::new();
    replay(history, resource, |world, entry| {
        note_departures(world, entry, &mut left);
        if world.owner().is_none() || entry.kind != Kind::Deployment || !begins_to_go(world, entry) {
            return vec![];
        }
        let Some(colour) = COLOURS.iter().find(|colour| entry.label("strategy") == Some(**colour)) else {
            return vec![];
        };
        // A colour that never had traffic needs no proof.
        let Some(at) = left.get(*colour) else { return vec![] };
        let mut found = vec![];
        for component in COMPONENTS {
            let endpoints = world.endpoints(component);
            let alone = !endpoints.contains_key(*colour) && endpoints.values().any(|(ready, _)| *ready > 0);
            // The second Deployment may go when the pods of the first are listed nowhere: it is looked at alike.
            if !alone {
                found.push(format!(
                    "I9: {} is deleted while {component} has endpoints {endpoints:?}",
                    entry.name
                ));
            }
        }
        let due = world.owner().map_or(0, delay);
        #[allow(clippy::cast_precision_loss, reason = "seconds of a test")]
        let short = entry.at.as_secs_f64() + 0.3 < at + due as f64;
        if short {
            let waited = entry.at.as_secs_f64() - at;
            found.push(format!("I9: {} is deleted {waited:.1} s after the switch, not {due} s", entry.name));
        }
        found
    })
}

/// Notes when a front left a colour, and forgets a colour that is gone.
fn note_departures(world: &World, entry: &Entry, left: &mut BTreeMap<String, f64>) {
    if entry.kind == Kind::Deployment && entry.verb == Verb::Added {
        left.retain(|colour, _| entry.label("strategy") != Some(colour));
    }
    let is_front = COMPONENTS.iter().any(|component| entry.name == format!("{}-{component}", world.resource));
    if entry.kind != Kind::Service || !is_front {
        return;
    }
    let Some(was) = world.get(Kind::Service, &entry.name).map(Selection::of) else { return };
    if was.colour != "none" && was.colour != Selection::of(entry).colour {
        left.insert(was.colour, entry.at.as_secs_f64());
    }
}

/// The seconds between a switch and Prune by the spec, which has at least 3.
fn delay(owner: &Entry) -> i64 {
    let seconds = |pointer: &str, default: i64| {
        owner.get(pointer).and_then(serde_json::Value::as_i64).unwrap_or(default)
    };
    seconds("/spec/rollout/switchDwellSeconds", 10) + seconds("/spec/rollout/cleanupDelaySeconds", 30)
}
