//! Pods come and go under a release: scaling, changes in place, deletions, evictions.

use serde_json::json;

use crate::ground::on_node;
use crate::moods::{self, ready};
use crate::stage::Stage;

#[test]
#[ignore = "`make e2e-all` runs it"]
fn scaled_and_changed_in_place() {
    on_node(async |cluster| {
        let mut stage = Stage::open(cluster, "in-place", &json!({"cleanupDelaySeconds": 4})).await;
        stage.scene("scaled up while stable");
        let switches = stage.switches();
        scale(&stage, 4).await;
        ready(&stage, "storage", 4).await;
        stage.scene("scaled down while stable");
        scale(&stage, 2).await;
        ready(&stage, "storage", 2).await;
        stage.scene("Service and budget changed while stable");
        let change = json!({
            "service": {"annotations": {"test/changed": "yes"}}, "podDisruptionBudget": {"enabled": true},
        });
        stage.subject.edit(&json!({"storage": change, "schema": change})).await.unwrap();
        stage.serves(stage.tag()).await;
        stage.scene("a pod deleted while stable");
        moods::delete_one(&stage, "storage").await;
        stage.bed.linger(3).await;
        ready(&stage, "storage", 2).await;
        stage.scene("a pod evicted while stable");
        moods::evict_one(&stage, "schema").await;
        stage.bed.linger(3).await;
        ready(&stage, "schema", 2).await;
        assert_eq!(stage.switches(), switches, "nothing of this is a release");
        for (step, replicas) in [("Deploying", 3), ("Switching", 2), ("Watching", 3)] {
            stage.scene(&format!("scaled to {replicas} in {step}"));
            let tag = stage.upgrade().await;
            stage.step(step).await;
            scale(&stage, replicas).await;
            stage.serves(tag).await;
            ready(&stage, "storage", replicas).await;
        }
        stage.close().await;
    });
}

async fn scale(stage: &Stage, replicas: usize) {
    let size = json!({"replicas": replicas});
    stage.subject.edit(&json!({"storage": size, "schema": size})).await.unwrap();
}
