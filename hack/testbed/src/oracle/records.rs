//! Invariants of state and history: the machine's steps, the records, and what a release fixes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{COLOURS, COMPONENTS, EPOCH, Selection, World, after, is_part, replay};
use crate::history::{Entry, History, Kind, Verb};

/// The edges of design D7, and those into a rebuilt status. A step may also be left for itself.
const EDGES: [(&str, &str); 16] = [
    ("Stable", "Deploying"),
    ("Stable", "Prune"),
    ("Deploying", "Switching"),
    ("Deploying", "Prune"),
    ("Switching", "Grace"),
    ("Switching", "Stable"),
    ("Switching", "RollingBack"),
    ("Switching", "Prune"),
    ("Grace", "Prune"),
    ("Grace", "RollingBack"),
    ("RollingBack", "Prune"),
    ("Prune", "Stable"),
    ("Prune", "Deploying"),
    ("", "Deploying"),
    ("", "Prune"),
    ("", "Stable"),
];

/// I12, I13, I19: only the machine's edges occur, the epoch never falls, and no generation is observed before it is.
pub fn edges_of_the_machine(history: &History, resource: &str) -> Vec<String> {
    replay(history, resource, |world, entry| {
        let Some(was) = same_owner(world, entry) else { return vec![] };
        let step = |entry: &Entry| entry.text("/status/rollout/step").to_owned();
        let number = |entry: &Entry| entry.number("/status/rollout/epoch");
        let (from, to) = (step(was), step(entry));
        let mut found = vec![];
        let lost = to.is_empty();
        if from != to && !lost && !EDGES.contains(&(from.as_str(), to.as_str())) {
            found.push(format!("I12: the step goes from {from} to {to}"));
        }
        if !lost && number(entry) < number(was) {
            found.push(format!("I13: the epoch falls from {} to {}", number(was), number(entry)));
        }
        if entry.number("/status/observedGeneration") > entry.number("/metadata/generation") {
            found.push("I19: a generation is observed before it exists".to_owned());
        }
        found
    })
}

/// The resource as it was before this change of it.
fn same_owner<'a>(world: &World<'a>, entry: &Entry) -> Option<&'a Entry> {
    if entry.kind != Kind::MetadataServices || entry.name != world.resource || entry.verb != Verb::Modified {
        return None;
    }
    world.owner().filter(|was| was.text("/metadata/uid") == entry.text("/metadata/uid"))
}

/// I14, I15, I16, I20: at most ten records with unique versions, at most one Active and exactly one in Stable, where
/// both fronts carry it; the status is small.
pub fn history_sound(history: &History, resource: &str) -> Vec<String> {
    replay(history, resource, |world, entry| {
        if entry.kind != Kind::MetadataServices || entry.name != resource || entry.verb == Verb::Deleted {
            return vec![];
        }
        let Some(status) = entry.get("/status") else { return vec![] };
        let mut found = vec![];
        let records =
            entry.get("/status/releaseHistory").and_then(Value::as_array).cloned().unwrap_or_default();
        let field = |record: &Value, name: &str| {
            record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let versions: BTreeSet<String> = records.iter().map(|record| field(record, "version")).collect();
        if versions.len() != records.len() || records.len() > 10 {
            found.push(format!("I14: {} records with {} versions", records.len(), versions.len()));
        }
        let active: Vec<String> = records
            .iter()
            .filter(|record| field(record, "status") == "Active")
            .map(|record| field(record, "version"))
            .collect();
        let stable = entry.text("/status/rollout/step") == "Stable";
        if active.len() > 1 || (stable && active.len() != 1) {
            let step = entry.text("/status/rollout/step");
            found.push(format!("I15: {} records are Active in {step}", active.len()));
        }
        if stable {
            found.extend(stable_is_true(&after(world, entry), entry, active.first()));
        }
        if status.to_string().len() > 16 * 1024 {
            found.push("I20: the status has more than 16 KiB".to_owned());
        }
        found
    })
}

fn stable_is_true(world: &World, owner: &Entry, active: Option<&String>) -> Option<String> {
    let decision = Selection {
        colour: owner.text("/status/activeStrategy").to_owned(),
        version: owner.text("/status/activeReleaseVersion").to_owned(),
        epoch: owner.number("/status/rollout/epoch"),
    };
    let fronts = world.selections();
    let right = fronts.len() == 2 && fronts.iter().all(|front| *front == decision);
    (!right || active != Some(&decision.version)).then(|| {
        format!("I16: Stable with {active:?} Active and {decision:?} decided, but the fronts say {fronts:?}")
    })
}

/// I11: a release's `ConfigMaps` and pod templates never change in place.
pub fn templates_fixed(history: &History, resource: &str) -> Vec<String> {
    replay(history, resource, |world, entry| {
        let fixed = match entry.kind {
            Kind::ConfigMap => "/data",
            Kind::Deployment => "/spec/template",
            _ => return vec![],
        };
        let Some(was) = world.get(entry.kind, &entry.name).filter(|_| is_part(entry, resource)) else {
            return vec![];
        };
        let same = was.text("/metadata/uid") == entry.text("/metadata/uid");
        let changed = entry.verb == Verb::Modified && same && was.get(fixed) != entry.get(fixed);
        changed
            .then(|| format!("I11: {:?} {} changed in place", entry.kind, entry.name))
            .into_iter()
            .collect()
    })
}

/// I32: every object is created with the resource as its controller, and with the number of its decision.
pub fn owned(history: &History, resource: &str) -> Vec<String> {
    replay(history, resource, |world, entry| {
        let Some(owner) = world.owner().filter(|_| entry.verb == Verb::Added && is_part(entry, resource))
        else {
            return vec![];
        };
        let uid = owner.text("/metadata/uid");
        let mut found = vec![];
        let controller = entry.get("/metadata/ownerReferences/0/controller") == Some(&Value::Bool(true));
        if !controller || entry.text("/metadata/ownerReferences/0/uid") != uid {
            found.push(format!("I32: {:?} {} is created without its owner", entry.kind, entry.name));
        }
        if entry.kind == Kind::Deployment && entry.annotation(EPOCH).is_none() {
            found.push(format!("I32: Deployment {} is created without an epoch", entry.name));
        }
        found
    })
}

/// I33: what there is now is exactly the front Services, the active colour, and records of the history. To be asked of
/// a resource at rest.
pub fn colours_settled(history: &History, resource: &str) -> Vec<String> {
    let Some(owner) = history.live(Kind::MetadataServices, resource) else { return vec![] };
    let active = owner.text("/status/activeStrategy");
    let mut wanted: BTreeSet<(Kind, String)> = BTreeSet::new();
    for component in COMPONENTS {
        wanted.insert((Kind::Service, format!("{resource}-{component}")));
        for colour in COLOURS.iter().filter(|colour| **colour == active) {
            wanted.insert((Kind::Service, format!("{resource}-{component}-{colour}")));
            wanted.insert((Kind::Deployment, format!("{resource}-{component}-{colour}")));
            wanted.insert((Kind::ConfigMap, format!("{resource}-{component}-config-{colour}")));
        }
    }
    let there: BTreeSet<(Kind, String)> = [Kind::Service, Kind::Deployment, Kind::ConfigMap]
        .into_iter()
        .flat_map(|kind| history.all_live(kind))
        .filter(|entry| is_part(entry, resource))
        .map(|entry| (entry.kind, entry.name.clone()))
        .collect();
    let known = |entry: &Entry| {
        let records = owner.get("/status/releaseHistory").and_then(Value::as_array);
        let version = entry.annotation(super::RELEASE_VERSION);
        records.is_some_and(|all| all.iter().any(|one| one.get("version").and_then(Value::as_str) == version))
    };
    let strays = history
        .all_live(Kind::ControllerRevision)
        .into_iter()
        .filter(|entry| is_part(entry, resource) && !known(entry))
        .map(|entry| format!("I33: ControllerRevision {} is of no record", entry.name));
    let missing = wanted.difference(&there).map(|(kind, name)| format!("I33: {kind:?} {name} is missing"));
    let surplus = there.difference(&wanted).map(|(kind, name)| format!("I33: {kind:?} {name} is left over"));
    missing.chain(surplus).chain(strays).collect()
}
