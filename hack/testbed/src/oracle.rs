//! What must be true of everything that a [`crate::Timeline`] has seen of a resource, whatever was done to it
//! meanwhile: the invariants that an outside eye can check, by the numbers of the specification.
//!
//! Each function takes the history of one namespace and the name of a resource in it, and answers with what is wrong.
//! They replay the history in the order of the API server, so they see every state there ever was. After the
//! resource's deletion has begun nothing is checked: then the garbage collector takes things apart in any order.

mod records;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};

pub use self::records::{colours_settled, edges_of_the_machine, history_sound, owned, templates_fixed};
pub use self::traffic::{
    delete_only_in_prune, fronts_keep_identity, fronts_select_what_is_there, no_change_while_apart,
    pruned_only_when_proved, switch_counts,
};

use crate::history::{Entry, History, Kind, Verb};

/// The two components of a release.
pub const COMPONENTS: [&str; 2] = ["storage", "schema"];
/// The two colours.
pub const COLOURS: [&str; 2] = ["blue", "green"];

const RELEASE_VERSION: &str = "e6data.io/release-version";
const EPOCH: &str = "e6data.io/epoch";

/// All that holds in every history, barring another hand that changes the operator's objects.
pub fn check(history: &History, resource: &str) -> Vec<String> {
    let rules: [fn(&History, &str) -> Vec<String>; 10] = [
        fronts_select_what_is_there,
        no_change_while_apart,
        switch_counts,
        fronts_keep_identity,
        delete_only_in_prune,
        pruned_only_when_proved,
        templates_fixed,
        edges_of_the_machine,
        history_sound,
        owned,
    ];
    rules.iter().flat_map(|rule| rule(history, resource)).collect()
}

/// The objects of a resource as they are at one moment of a replay.
struct World<'a> {
    resource: &'a str,
    live: BTreeMap<(Kind, &'a str), &'a Entry>,
}

/// What a front Service says: whom it selects, and by which decision.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Selection {
    colour: String,
    version: String,
    epoch: i64,
}

impl Selection {
    fn of(front: &Entry) -> Self {
        Self {
            colour: front.text("/spec/selector/strategy").to_owned(),
            version: front.annotation(RELEASE_VERSION).unwrap_or_default().to_owned(),
            epoch: epoch(front),
        }
    }

    /// The same side, whatever the decision's number.
    fn same_side(&self, other: &Self) -> bool {
        self.colour == other.colour && self.version == other.version
    }
}

impl<'a> World<'a> {
    fn get(&self, kind: Kind, name: &str) -> Option<&'a Entry> {
        self.live.get(&(kind, name)).copied()
    }

    /// The resource itself, unless it is being deleted.
    fn owner(&self) -> Option<&'a Entry> {
        self.get(Kind::MetadataServices, self.resource).filter(|owner| !is_terminating(owner))
    }

    fn front(&self, component: &str) -> Option<&'a Entry> {
        self.get(Kind::Service, &format!("{}-{component}", self.resource))
    }

    fn selections(&self) -> Vec<Selection> {
        COMPONENTS.iter().filter_map(|component| self.front(component)).map(Selection::of).collect()
    }

    fn deployment(&self, component: &str, colour: &str) -> Option<&'a Entry> {
        self.get(Kind::Deployment, &format!("{}-{component}-{colour}", self.resource))
    }

    /// The endpoints of a front Service, ready ones and all, by the colour of their pods.
    fn endpoints(&self, component: &str) -> BTreeMap<String, (usize, usize)> {
        let service = format!("{}-{component}", self.resource);
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let slices = self.live.values().filter(|entry| {
            entry.kind == Kind::EndpointSlice && entry.label("kubernetes.io/service-name") == Some(&service)
        });
        let endpoints = slices.filter_map(|slice| slice.get("/endpoints")?.as_array()).flatten();
        for endpoint in endpoints {
            let pod =
                endpoint.pointer("/targetRef/name").and_then(serde_json::Value::as_str).unwrap_or_default();
            // Pods are named after their Deployment; one that is gone has no labels to look at.
            let colour = COLOURS.iter().find(|colour| pod.starts_with(&format!("{service}-{colour}-")));
            let ready =
                endpoint.pointer("/conditions/ready").and_then(serde_json::Value::as_bool) == Some(true);
            let count = counts.entry(colour.map_or_else(|| "other".into(), ToString::to_string)).or_default();
            count.0 += usize::from(ready);
            count.1 += 1;
        }
        counts
    }
}

/// Replays a history: `check` sees the world before and the entry that comes next; what it answers is collected,
/// each text once, with the resourceVersion of its first time.
fn replay<'a>(
    history: &'a History,
    resource: &'a str,
    mut check: impl FnMut(&World<'a>, &'a Entry) -> Vec<String>,
) -> Vec<String> {
    let mut world = World { resource, live: BTreeMap::new() };
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for entry in history.entries() {
        let entry = &**entry;
        for text in check(&world, entry) {
            if seen.insert(text.clone()) {
                found.push(format!(
                    "{text} (at {}, {:.3} s)",
                    entry.resource_version,
                    entry.at.as_secs_f64()
                ));
            }
        }
        apply(&mut world, entry);
    }
    found
}

fn apply<'a>(world: &mut World<'a>, entry: &'a Entry) {
    let key = (entry.kind, entry.name.as_str());
    if entry.verb == Verb::Deleted {
        world.live.remove(&key);
    } else {
        world.live.insert(key, entry);
    }
}

/// The world after an entry.
fn after<'a>(world: &World<'a>, entry: &'a Entry) -> World<'a> {
    let mut next = World { resource: world.resource, live: world.live.clone() };
    apply(&mut next, entry);
    next
}

fn is_terminating(entry: &Entry) -> bool {
    entry.get("/metadata/deletionTimestamp").is_some()
}

fn epoch(entry: &Entry) -> i64 {
    entry.annotation(EPOCH).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether an object is one of a resource's: one of the colours' objects, a front Service, or a record.
fn is_part(entry: &Entry, resource: &str) -> bool {
    matches!(entry.kind, Kind::Service | Kind::Deployment | Kind::ConfigMap | Kind::ControllerRevision)
        && entry.label("app") == Some(resource)
        && entry.label("app.kubernetes.io/managed-by") == Some("e6-operator")
}

/// Whether an object begins to go with this entry: deleted, or marked so for the first time.
fn begins_to_go(world: &World, entry: &Entry) -> bool {
    let before = world.get(entry.kind, &entry.name);
    let leaving = entry.verb == Verb::Deleted || is_terminating(entry);
    leaving && before.is_some_and(|before| !is_terminating(before))
}
