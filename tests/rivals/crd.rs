//! The CRD is replaced by an older one in mid-rollout, and put back.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, PostParams};
use serde_json::Value;
use testbed::proxy::{Fault, Halt};
use testbed::watcher::{self, Waived};

use crate::bench::{Bench, LOOK, PATIENCE};
use crate::plane::{Player, all_held};

const CRD: &str = "metadataservices.e6data.io";

/// What older CRDs may lack: a field that nobody uses here and what the status has gained; the whole memory of the
/// machine; all but the fields of the first release's guide. Each with a tag to roll out.
pub const OLDER: [(&str, &[&str]); 3] = [
    (
        "8",
        &[
            "/spec/properties/karpenterNodePool",
            "/status/properties/rollout/properties/timers",
            "/status/properties/rollout/properties/switchedAt",
            "/status/properties/releaseHistory/items/properties/activatedAt",
        ],
    ),
    ("9", &["/status/properties/rollout"]),
    (
        "10",
        &[
            "/status/properties/rollout",
            "/status/properties/conditions",
            "/status/properties/observedGeneration",
            "/status/properties/releaseHistory/items/properties/hash",
            "/status/properties/releaseHistory/items/properties/activatedAt",
        ],
    ),
];

/// Replaces the CRD by one without some fields, or by the operator's own.
async fn replace(bench: &Bench, without: &[&str]) {
    let api: Api<CustomResourceDefinition> = Api::all(bench.client.clone());
    let mut crd = serde_json::to_value(api::crd::crd()).unwrap();
    let root = "/spec/versions/0/schema/openAPIV3Schema/properties";
    for path in without {
        let (parent, field) = path.rsplit_once('/').unwrap();
        let parent = crd.pointer_mut(&format!("{root}{parent}")).unwrap().as_object_mut().unwrap();
        parent.remove(field).unwrap_or_else(|| panic!("the CRD has no {path}"));
        // A field that is not there cannot be required.
        let holder = path.rsplit_once("/properties/").map(|(holder, _)| format!("{root}{holder}"));
        let required =
            holder.and_then(|holder| crd.pointer_mut(&holder)?.get_mut("required")?.as_array_mut());
        if let Some(required) = required {
            required.retain(|name| name != field);
        }
    }
    let there = api.get(CRD).await.unwrap();
    crd["metadata"]["resourceVersion"] = Value::from(there.metadata.resource_version.unwrap());
    let crd = serde_json::from_value(crd).unwrap();
    api.replace(CRD, &PostParams::default(), &crd).await.unwrap();
}

/// At every write of an upgrade: no release starts, nothing that serves is touched, nobody writes in a loop; and all
/// goes on when the CRD is whole again.
pub async fn outdated_at_any_write(bench: &Bench, players: &mut [Player]) {
    for (tag, without) in OLDER {
        let held = all_held(players, tag, Fault::HoldBefore).await;
        replace(bench, without).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        held.into_iter().for_each(Halt::done);
        // What was under way may finish. An edit of the user stores what the CRD has left of the object.
        tokio::time::sleep(Duration::from_secs(8)).await;
        for player in players.iter() {
            player.stage.subject.annotate("example.com/touched", tag).await.unwrap();
        }
        if !without.contains(&"/status/properties/conditions") {
            for player in players.iter() {
                told(bench, player, tag).await;
            }
        }
        quiet(players, without).await;
        for player in players.iter_mut() {
            unharmed(player, without).await;
        }
        replace(bench, &[]).await;
        whole_again(players, tag).await;
        for player in players.iter_mut() {
            unharmed(player, without).await;
        }
        println!("plane: CRD without {without:?}: all at rest");
    }
}

/// All rest on the release when the CRD has all its fields. Told by reads: a watch that was begun under the older CRD
/// goes on to leave fields out.
async fn whole_again(players: &[Player], tag: &str) {
    let start = Instant::now();
    for player in players {
        loop {
            let object = player.stage.subject.get().await.unwrap();
            let image = object["status"]["storage"]["image"].as_str().unwrap_or_default();
            let seen = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            if object["status"]["rollout"]["step"] == "Stable" && seen && image.ends_with(&format!(":{tag}"))
            {
                break;
            }
            let name = &player.stage.namespace;
            assert!(start.elapsed() < PATIENCE, "{name}: {tag} does not serve: {}", object["status"]);
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whatever the status says, or does not: what serves is there, fronts lead to it, and nothing is taken or made anew. Of
/// the watcher's rules these are the ones that ask no status.
async fn unharmed(player: &mut Player, without: &[&str]) {
    let rules = ["I1", "I6", "I7", "I8", "I11", "I28", "I32"];
    let waived = Waived { status: true, ..Waived::default() };
    let mut found = watcher::check(&player.stage.history().await, &waived);
    found.retain(|finding| rules.contains(&finding.invariant));
    let mut found: Vec<String> = found.iter().map(ToString::to_string).collect();
    found.extend(player.actor.trouble(false));
    let name = &player.stage.namespace;
    assert!(found.is_empty(), "{name} with {without:?} gone: {found:#?}");
}

/// A release that is wanted and not on its way is held back with the reason: in a condition where the machine is still to
/// be seen, else in an Event, for a condition would be a write through the older CRD.
async fn told(bench: &Bench, player: &Player, tag: &str) {
    let name = &player.stage.namespace;
    let start = Instant::now();
    loop {
        let object = player.stage.subject.get().await.unwrap();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let applied = conditions.iter().find(|one| one["type"] == "SpecApplied");
        let reason = applied.and_then(|one| one["reason"].as_str()).unwrap_or_default();
        let image = object["status"]["storage"]["image"].as_str().unwrap_or_default();
        if image.ends_with(&format!(":{tag}")) || reason == "CRDOutdated" || has_event(bench, name).await {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{name}: {tag} does not serve, the reason is {reason:?} and no Event tells why: {}",
            object["status"]
        );
        tokio::time::sleep(LOOK).await;
    }
}

async fn has_event(bench: &Bench, namespace: &str) -> bool {
    let events: Api<Event> = Api::namespaced(bench.client.clone(), namespace);
    let events = events.list(&ListParams::default()).await.unwrap();
    events.items.iter().any(|event| {
        event.reason.as_deref() == Some("CRDOutdated")
            && event.message.as_deref().unwrap_or_default().contains("kubectl apply")
    })
}

/// Nobody writes any more: five quiet seconds come, within the time that a slow machine needs.
async fn quiet(players: &[Player], without: &[&str]) {
    let writes = || players.iter().map(|player| player.actor.proxy.writes().len()).collect::<Vec<_>>();
    let start = Instant::now();
    loop {
        let before = writes();
        tokio::time::sleep(Duration::from_secs(5)).await;
        if writes() == before {
            return;
        }
        for (player, before) in players.iter().zip(before) {
            let late: Vec<String> =
                player.actor.proxy.writes()[before..].iter().map(ToString::to_string).collect();
            assert!(
                late.is_empty() || start.elapsed() < PATIENCE,
                "{} writes on with {without:?} gone: {late:#?}",
                player.stage.namespace
            );
        }
    }
}
