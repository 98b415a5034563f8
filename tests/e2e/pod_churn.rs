//! Pods are created and deleted while the resource is Stable, and during rollouts.

use serde_json::json;

use crate::pod_faults::{self, ready};
use crate::real_node::on_node;
use crate::resource_under_load::ResourceUnderLoad;

#[test]
#[ignore = "`make e2e-all` runs it"]
fn scaled_and_changed_in_place() {
    on_node(async |cluster| {
        let mut resource =
            ResourceUnderLoad::open(cluster, "in-place", &json!({"cleanupDelaySeconds": 4})).await;
        resource.phase("scaled up while stable");
        let switches = resource.switches();
        scale(&resource, 4).await;
        ready(&resource, "storage", 4).await;
        resource.phase("scaled down while stable");
        scale(&resource, 2).await;
        ready(&resource, "storage", 2).await;
        resource.phase("Service and budget changed while stable");
        let change = json!({
            "service": {"annotations": {"test/changed": "yes"}}, "podDisruptionBudget": {"enabled": true},
        });
        resource.subject.edit(&json!({"storage": change, "schema": change})).await.unwrap();
        resource.serves(resource.tag()).await;
        resource.phase("a pod deleted while stable");
        pod_faults::delete_one(&resource, "storage").await;
        resource.env.linger(3).await;
        ready(&resource, "storage", 2).await;
        resource.phase("a pod evicted while stable");
        pod_faults::evict_one(&resource, "schema").await;
        resource.env.linger(3).await;
        ready(&resource, "schema", 2).await;
        assert_eq!(resource.switches(), switches, "nothing of this is a release");
        for (step, replicas) in [("Deploying", 3), ("Switching", 2), ("Watching", 3)] {
            resource.phase(&format!("scaled to {replicas} in {step}"));
            let tag = resource.upgrade().await;
            resource.step(step).await;
            scale(&resource, replicas).await;
            resource.serves(tag).await;
            ready(&resource, "storage", replicas).await;
        }
        resource.close().await;
    });
}

async fn scale(resource: &ResourceUnderLoad, replicas: usize) {
    let size = json!({"replicas": replicas});
    resource.subject.edit(&json!({"storage": size, "schema": size})).await.unwrap();
}
