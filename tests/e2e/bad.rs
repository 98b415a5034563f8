//! Bad releases: rolled back before the switch and after it.

use serde_json::json;

use crate::ground::on_node;
use crate::moods::{self, be};
use crate::stage::{RATE, Stage};

#[test]
#[ignore = "`make e2e-all` runs it"]
fn rolled_back_before_the_switch() {
    on_node(async |cluster| {
        let mut stage = Stage::open(cluster, "before", &json!({"deployTimeoutSeconds": 8})).await;
        let good = stage.tag();
        let bad: [(&str, &[(&str, &str)]); 3] = [
            ("it crashes", &[("CRASH_SECONDS", "1")]),
            ("it is never ready", &[("NEVER_READY", "1")]),
            ("its liveness fails", &[("UNLIVE_SECONDS", "0"), ("DRAIN_SECONDS", "0")]),
        ];
        // Liveness fails two probes after a pod is ready: early enough for a release that has to stay ready for longer.
        stage.subject.edit(&json!({"schema": {"minReadySeconds": 4}})).await.unwrap();
        let switches = stage.switches();
        for (scene, variables) in bad {
            stage.scene(scene);
            stage.upgrade_with(&[], variables).await;
            stage.step("Deploying").await;
            stage.rolled_back(good).await;
        }
        stage.scene("its image is missing");
        stage.subject.edit(&json!({"schema": {"imageTag": "missing"}})).await.unwrap();
        stage.step("Deploying").await;
        stage.rolled_back(good).await;
        assert_eq!(stage.switches(), switches, "traffic never moved");
        stage.close().await;
    });
}

/// A release that loses its readiness, though it still answers, costs nothing. One that crashes breaks its own
/// connections: for each of its pods, what kubelet and kube-proxy need to notice.
#[test]
fn rolled_back_after_the_switch() {
    on_node(async |cluster| {
        let mut stage = Stage::open(cluster, "after", &json!({"switchDwellSeconds": 4})).await;
        let good = stage.tag();
        for step in ["Switching", "Watching"] {
            for (component, mood) in [("storage", "unready"), ("schema", "unlive"), ("storage", "gone")] {
                stage.scene(&format!("{component} is {mood} in {step}"));
                let switches = stage.switches();
                stage.warm(60).await;
                stage.upgrade().await;
                stage.step(step).await;
                // kube-proxy has followed, so that the broken pods are those that are asked.
                stage.bed.linger(1).await;
                if mood != "unready" {
                    // Half of the pods refuse for two seconds at most, and drop what they had.
                    stage.own_failures(15, u64::from(RATE) * 2);
                }
                be(&stage, component, mood, 1).await;
                stage.returns().await;
                stage.rolled_back(good).await;
                assert_eq!(stage.switches(), switches + 2, "there and back");
            }
        }
        stage.close().await;
    });
}

/// What looks like a failure and is none: the release stays.
#[test]
fn no_rollback_without_a_fault() {
    on_node(async |cluster| {
        let mut stage = Stage::open(cluster, "no-fault", &json!({"cleanupDelaySeconds": 12})).await;
        for scene in ["a deleted pod", "an evicted pod", "a scale-up"] {
            stage.scene(&format!("{scene} in Watching"));
            let switches = stage.switches();
            let tag = stage.upgrade().await;
            stage.step("Watching").await;
            match scene {
                "a deleted pod" => moods::delete_one(&stage, "storage").await,
                "an evicted pod" => moods::evict_one(&stage, "schema").await,
                _ => stage.subject.edit(&json!({"storage": {"replicas": 4}})).await.unwrap(),
            }
            stage.serves(tag).await;
            assert_eq!(stage.switches(), switches + 1, "no way back");
        }
        stage.close().await;
    });
}
