//! The state in the end: exactly what is needed is there (I33), and no write on the way was idle (I29).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use testbed::audit::AuditLog;
use testbed::{Entry, History, Kind, State, Verb};

use crate::invariants::{Waived, is_ours, is_terminating};

/// I33: in Stable, what a resource owns is what it needs.
pub fn owns_what_it_needs(history: &History, waived: &Waived) -> Vec<String> {
    let resources = history.all_live(Kind::MetadataServices).into_iter();
    let settled = resources.filter(|one| !is_terminating(one) && State(one).is_settled());
    settled.filter_map(|resource| surplus(history, resource, waived)).collect()
}

fn surplus(history: &History, resource: &Entry, waived: &Waived) -> Option<String> {
    let (now, name) = (State(resource), &resource.name);
    let mut wanted = BTreeSet::new();
    for component in ["storage", "schema"] {
        let colour = now.colour();
        wanted.insert((Kind::Service, format!("{name}-{component}")));
        wanted.insert((Kind::Service, format!("{name}-{component}-{colour}")));
        wanted.insert((Kind::Deployment, format!("{name}-{component}-{colour}")));
        wanted.insert((Kind::ConfigMap, format!("{name}-{component}-config-{colour}")));
    }
    wanted.retain(|(_, name)| !waived.has(name));
    let owned: Vec<&Arc<Entry>> =
        [Kind::Service, Kind::Deployment, Kind::ConfigMap, Kind::ControllerRevision]
            .into_iter()
            .flat_map(|kind| history.all_live(kind))
            .filter(|one| one.text("/metadata/ownerReferences/0/uid") == resource.text("/metadata/uid"))
            .filter(|one| is_ours(one) && !waived.has(&one.name))
            .collect();
    let (revisions, others): (Vec<_>, Vec<_>) =
        owned.into_iter().partition(|one| one.kind == Kind::ControllerRevision);
    let have: BTreeSet<_> = others.iter().map(|one| (one.kind, one.name.clone())).collect();
    let version = |one: &&Arc<Entry>| one.annotation("e6data.io/release-version").map(str::to_owned);
    let recorded: BTreeSet<String> = revisions.iter().filter_map(version).collect();
    // What served or failed is recorded; what was undone while traffic moved to it may be.
    let must = versions(now, |one| one.get("activatedAt").is_some() || one["status"] == "Failed");
    let may = versions(now, |_| true);
    let records = waived.records || (recorded.is_superset(&must) && recorded.is_subset(&may));
    let right = have == wanted && records;
    let why = || format!("I33: {name} has {have:?} and records {recorded:?}, wanted {wanted:?} and {must:?}");
    (!right).then(why)
}

fn versions(state: State<'_>, keep: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let kept = state.records().iter().filter(|one| keep(one));
    kept.filter_map(|one| one["version"].as_str()).map(str::to_owned).collect()
}

/// I29: the operator's successful writes to an object are not more than the versions that it had.
pub fn writes_changed_something(history: &History, audit: &AuditLog) -> Vec<String> {
    let kinds = [
        (Kind::Service, "services"),
        (Kind::ConfigMap, "configmaps"),
        (Kind::Deployment, "deployments"),
        (Kind::ControllerRevision, "controllerrevisions"),
        (Kind::MetadataServices, "metadataservices"),
    ];
    let mut writes: BTreeMap<(Kind, String), usize> = BTreeMap::new();
    for request in audit.requests().iter().filter(|request| request.succeeded()) {
        let kind = kinds.iter().find(|(_, resource)| *resource == request.resource).map(|(kind, _)| *kind);
        if let Some(kind) = kind.filter(|_| matches!(request.verb.as_str(), "patch" | "update")) {
            *writes.entry((kind, request.name.clone())).or_default() += 1;
        }
    }
    let idle = |((kind, name), count): ((Kind, String), usize)| {
        let versions = changes(history, kind, &name);
        (versions < count).then(|| format!("I29: {count} writes to {kind:?} {name} made {versions} versions"))
    };
    writes.into_iter().filter_map(idle).collect()
}

/// How often an object changed; what others write into the status of a Deployment is not counted.
fn changes(history: &History, kind: Kind, name: &str) -> usize {
    let states: Vec<_> = history.of(kind, name).collect();
    let of = |entry: &Entry| match kind {
        Kind::Deployment => ["/spec", "/metadata/annotations"].map(|part| entry.get(part).cloned()),
        _ => [Some(entry.resource_version.into()), None],
    };
    states.windows(2).filter(|pair| pair[1].verb == Verb::Modified && of(pair[0]) != of(pair[1])).count()
}
