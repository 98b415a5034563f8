//! An older CRD replaces the CRD during a rollout, and is replaced again.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, PostParams};
use serde_json::Value;
use testbed::invariants::{self, Waived};
use testbed::pace;
use testbed::proxy::{Fault, Halt};

use crate::control_plane_faults::{ManagedResource, all_held};
use testbed::harness::{POLL_INTERVAL, TIME_LIMIT, TestCluster};

const CRD: &str = "metadataservices.e6data.io";

/// Fields that older CRDs lack, each with the tag of a release: fields added to spec and status; the whole
/// `status.rollout`; all fields that are newer than the first release. Each is tested by a rollout of the tag.
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

/// Replaces the CRD by one without some fields, or restores it.
async fn replace(cluster: &TestCluster, without: &[&str]) {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let mut crd = serde_json::to_value(api::crd::crd()).unwrap();
    let root = "/spec/versions/0/schema/openAPIV3Schema/properties";
    for path in without {
        let (parent, field) = path.rsplit_once('/').unwrap();
        let parent = crd.pointer_mut(&format!("{root}{parent}")).unwrap().as_object_mut().unwrap();
        parent.remove(field).unwrap_or_else(|| panic!("the CRD has no {path}"));
        // A missing field cannot be required.
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

/// At every write of an upgrade: no release starts, the active release is not touched, and no operator writes in a
/// loop. Everything continues with the complete CRD.
pub async fn outdated_at_any_write(cluster: &TestCluster, resources: &mut [ManagedResource]) {
    for (tag, without) in OLDER {
        let held = all_held(resources, tag, Fault::HoldBefore).await;
        replace(cluster, without).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        held.into_iter().for_each(Halt::done);
        // A started rollout may finish. An edit of the user then stores the object without the missing fields.
        tokio::time::sleep(Duration::from_secs(8)).await;
        for managed in resources.iter() {
            managed.resource.subject.annotate("example.com/touched", tag).await.unwrap();
        }
        if !without.contains(&"/status/properties/conditions") {
            for managed in resources.iter() {
                told(cluster, managed, tag).await;
            }
        }
        quiet(resources, without).await;
        for managed in resources.iter_mut() {
            unharmed(managed, without).await;
        }
        replace(cluster, &[]).await;
        whole_again(resources, tag).await;
        for managed in resources.iter_mut() {
            unharmed(managed, without).await;
        }
        println!("control plane: CRD without {without:?}: all at rest");
    }
}

/// Waits until all resources are at rest on the release with the complete CRD. It uses reads, since a watch that
/// started under the older CRD continues to omit fields.
async fn whole_again(resources: &[ManagedResource], tag: &str) {
    let start = Instant::now();
    for managed in resources {
        loop {
            let object = managed.resource.subject.get().await.unwrap();
            let image = object["status"]["storage"]["image"].as_str().unwrap_or_default();
            let seen = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            if object["status"]["rollout"]["step"] == "Stable" && seen && image.ends_with(&format!(":{tag}"))
            {
                break;
            }
            let name = &managed.resource.namespace;
            assert!(pace::elapsed(start) < TIME_LIMIT, "{name}: {tag} does not serve: {}", object["status"]);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Asserts that the Pods of the active release exist, that the front Services select them, and that no object was
/// adopted or replaced. These invariants do not use the status.
async fn unharmed(managed: &mut ManagedResource, without: &[&str]) {
    let rules = ["I1", "I6", "I7", "I8", "I11", "I28", "I32"];
    let waived = Waived { status: true, ..Waived::default() };
    let mut found = invariants::check(&managed.resource.history().await, &waived);
    found.retain(|violation| rules.contains(&violation.invariant));
    let mut found: Vec<String> = found.iter().map(ToString::to_string).collect();
    found.extend(managed.operator.trouble(false));
    let name = &managed.resource.namespace;
    assert!(found.is_empty(), "{name} with {without:?} gone: {found:#?}");
}

/// Waits until the operator reports why a requested release does not start: in a condition if the CRD has conditions,
/// otherwise in an Event, since the operator does not write through the older CRD.
async fn told(cluster: &TestCluster, managed: &ManagedResource, tag: &str) {
    let name = &managed.resource.namespace;
    let start = Instant::now();
    loop {
        let object = managed.resource.subject.get().await.unwrap();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let applied = conditions.iter().find(|one| one["type"] == "SpecApplied");
        let reason = applied.and_then(|one| one["reason"].as_str()).unwrap_or_default();
        let image = object["status"]["storage"]["image"].as_str().unwrap_or_default();
        if image.ends_with(&format!(":{tag}")) || reason == "CRDOutdated" || has_event(cluster, name).await {
            return;
        }
        assert!(
            pace::elapsed(start) < TIME_LIMIT,
            "{name}: {tag} does not serve, the reason is {reason:?} and no Event tells why: {}",
            object["status"]
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn has_event(cluster: &TestCluster, namespace: &str) -> bool {
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), namespace);
    let events = events.list(&ListParams::default()).await.unwrap();
    events.items.iter().any(|event| {
        event.reason.as_deref() == Some("CRDOutdated")
            && event.message.as_deref().unwrap_or_default().contains("kubectl apply")
    })
}

/// Waits for five seconds without a write.
async fn quiet(resources: &[ManagedResource], without: &[&str]) {
    let writes = || resources.iter().map(|managed| managed.operator.proxy.writes().len()).collect::<Vec<_>>();
    let start = Instant::now();
    loop {
        let before = writes();
        tokio::time::sleep(Duration::from_secs(5)).await;
        if writes() == before {
            return;
        }
        for (managed, before) in resources.iter().zip(before) {
            let late: Vec<String> =
                managed.operator.proxy.writes()[before..].iter().map(ToString::to_string).collect();
            assert!(
                late.is_empty() || pace::elapsed(start) < TIME_LIMIT,
                "{} writes on with {without:?} gone: {late:#?}",
                managed.resource.namespace
            );
        }
    }
}
