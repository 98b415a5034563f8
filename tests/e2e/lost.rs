//! The operator or the API server is lost in mid-rollout, in every step.

use std::time::Duration;

use serde_json::json;
use testbed::Cluster;

use crate::ground::on_node;
use crate::moods::be;
use crate::stage::Stage;

const STEPS: [&str; 4] = ["Deploying", "Switching", "Watching", "Prune"];

/// Longer than every timer of the resource.
const LONG: u64 = 6;

#[test]
fn the_operator_is_killed_in_every_step() {
    on_node(async |cluster| {
        let mut stage = Stage::open(cluster, "killed", &json!({"switchDwellSeconds": 2})).await;
        for (number, step) in STEPS.into_iter().enumerate() {
            stage.scene(&format!("killed in {step}"));
            let tag = stage.upgrade().await;
            stage.step(step).await;
            stage.bed.kill().await;
            // Every second time for longer than any timer.
            stage.bed.linger(if number % 2 == 0 { LONG } else { 1 }).await;
            stage.bed.start();
            stage.serves(tag).await;
        }
        stage.scene("killed in RollingBack");
        let good = stage.tag();
        stage.warm(60).await;
        stage.upgrade().await;
        stage.step("Watching").await;
        // One of two: the other one serves while there is no operator to lead traffic back.
        be(&stage, "storage", "unready", 1).await;
        stage.step("RollingBack").await;
        stage.bed.kill().await;
        stage.bed.linger(LONG).await;
        stage.bed.start();
        stage.warm(2).await;
        stage.rolled_back(good).await;
        stage.close().await;
    });
}

#[test]
#[ignore = "`make e2e-all` runs it"]
fn the_leader_is_lost() {
    on_node(async |cluster| {
        let mut stage = Stage::open(cluster, "leader", &json!({"switchDwellSeconds": 2})).await;
        let second = stage.bed.second();
        stage.scene("the leader dies in Switching, its lease runs out");
        let tag = stage.upgrade().await;
        stage.step("Switching").await;
        stage.bed.operator().kill();
        stage.serves(tag).await;
        stage.scene("the new leader works on alone");
        let tag = stage.upgrade().await;
        stage.serves(tag).await;
        drop(second);
        stage.close().await;
    });
}

#[test]
#[ignore = "`make e2e-all` runs it"]
fn the_api_server_is_down_in_switching() {
    on_node(async |cluster| without_api_server(cluster, &["Switching"]).await);
}

#[test]
#[ignore = "`make e2e-all` runs it"]
fn the_api_server_is_down_in_every_step() {
    on_node(async |cluster| without_api_server(cluster, &STEPS).await);
}

async fn without_api_server(cluster: &Cluster, steps: &[&str]) {
    // The time without an API server, and the controllers' way back to it, count against the deploy timeout.
    let patient = json!({"switchDwellSeconds": 2, "deployTimeoutSeconds": 300});
    let mut stage = Stage::open(cluster, "no-api", &patient).await;
    stage.bed.gaps = true;
    for step in steps {
        stage.scene(&format!("no API server for 30 s in {step}"));
        let tag = stage.upgrade().await;
        stage.step(step).await;
        cluster.kill_component("kube-apiserver").unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        cluster.start_component("kube-apiserver").await.unwrap();
        // It could not renew its lease and ended; kubelet starts it again.
        stage.bed.start();
        stage.serves(tag).await;
    }
    stage.close().await;
}
