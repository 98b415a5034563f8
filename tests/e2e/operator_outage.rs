//! The operator or the API server fails during a rollout, in every step.

use std::time::Duration;

use serde_json::json;
use testbed::Cluster;

use crate::pod_faults::set_behavior;
use crate::real_node::on_node;
use crate::resource_under_load::ResourceUnderLoad;

const STEPS: [&str; 4] = ["Deploying", "Switching", "Watching", "Prune"];

/// Longer than every timer of the resource.
const LONG: u64 = 6;

#[test]
fn the_operator_is_killed_in_every_step() {
    on_node(async |cluster| {
        let mut resource =
            ResourceUnderLoad::open(cluster, "killed", &json!({"switchDwellSeconds": 2})).await;
        for (number, step) in STEPS.into_iter().enumerate() {
            resource.phase(&format!("killed in {step}"));
            let tag = resource.upgrade().await;
            resource.step(step).await;
            resource.env.kill().await;
            // In every second step the outage is longer than all timers.
            resource.env.linger(if number % 2 == 0 { LONG } else { 1 }).await;
            resource.env.start();
            resource.serves(tag).await;
        }
        resource.phase("killed in RollingBack");
        let good = resource.tag();
        resource.keep_old_pods(60).await;
        resource.upgrade().await;
        resource.step("Watching").await;
        // Only the first of two Pods: the second answers until an operator switches traffic back.
        set_behavior(&resource, "storage", "unready", 1).await;
        resource.step("RollingBack").await;
        resource.env.kill().await;
        resource.env.linger(LONG).await;
        resource.env.start();
        resource.keep_old_pods(2).await;
        resource.rolled_back(good).await;
        resource.close().await;
    });
}

#[test]
#[ignore = "`make e2e-all` runs it"]
fn the_leader_is_lost() {
    on_node(async |cluster| {
        let mut resource =
            ResourceUnderLoad::open(cluster, "leader", &json!({"switchDwellSeconds": 2})).await;
        let second = resource.env.second();
        resource.phase("the leader dies in Switching, its lease runs out");
        let tag = resource.upgrade().await;
        resource.step("Switching").await;
        resource.env.operator().kill();
        resource.serves(tag).await;
        resource.phase("the new leader works on alone");
        let tag = resource.upgrade().await;
        resource.serves(tag).await;
        drop(second);
        resource.close().await;
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
    // The outage of the API server and the recovery of the controllers count as deploy time.
    let patient = json!({"switchDwellSeconds": 2, "deployTimeoutSeconds": 300});
    let mut resource = ResourceUnderLoad::open(cluster, "no-api", &patient).await;
    resource.env.gaps = true;
    for step in steps {
        resource.phase(&format!("no API server for 30 s in {step}"));
        let tag = resource.upgrade().await;
        resource.step(step).await;
        cluster.kill_component("kube-apiserver").unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        cluster.start_component("kube-apiserver").await.unwrap();
        // The operator could not renew its lease and has ended. A kubelet would restart it.
        resource.env.start();
        resource.serves(tag).await;
    }
    resource.close().await;
}
