//! The operator as a pod: installed by Helm, two replicas, upgraded in mid-rollout, its leader lost.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;
use testbed::node::{Image, programs};
use testbed::{Cluster, assets};

use crate::bed::Bed;
use crate::ground::on_node;
use crate::stage::{NAME, RATE, Stage};

/// Where the operator is installed.
const SYSTEM: &str = "e6-system";

#[test]
#[ignore = "`make e2e-all` runs it"]
fn the_operator_is_upgraded_by_helm_in_mid_rollout() {
    on_node(async |cluster| {
        let operator = programs::operator().unwrap();
        let image = Image::of_program(&operator, &["e6data/e6-operator:one", "e6data/e6-operator:two"]);
        cluster.node().unwrap().import(&image).unwrap();
        let bed = Bed::on(cluster, "helm", &[]).await;
        helm(cluster, "one", &bed.namespace);
        let mut stage = Stage::with(bed, &json!({"switchDwellSeconds": 2}), NAME, RATE).await;
        for (step, tag) in [("Deploying", "two"), ("Switching", "one"), ("Grace", "two")] {
            stage.scene(&format!("the operator is upgraded in {step}"));
            let release = stage.upgrade().await;
            stage.step(step).await;
            helm(cluster, tag, &stage.bed.namespace);
            stage.serves(release).await;
        }
        stage.scene("the leader's pod is killed in Switching");
        let release = stage.upgrade().await;
        stage.step("Switching").await;
        kill_leader(&stage).await;
        stage.serves(release).await;
        stage.close().await;
    });
}

/// Installs the chart, or upgrades it, and waits for it.
fn helm(cluster: &Cluster, tag: &str, watched: &str) {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/e6-operator");
    let answer = Command::new(assets::helm().unwrap())
        .args(["upgrade", "--install", "e6", "--namespace", SYSTEM, "--create-namespace", "--wait"])
        .args(["--set", &format!("image.tag={tag}"), "--set", &format!("watchNamespaces={{{watched}}}")])
        .arg(chart)
        .env("KUBECONFIG", cluster.kubeconfig())
        .output()
        .unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
}

/// Deletes the pod that holds the lease, without letting it say goodbye.
async fn kill_leader(stage: &Stage) {
    let leases: Api<Lease> = Api::namespaced(stage.bed.client.clone(), SYSTEM);
    let all = leases.list(&ListParams::default()).await.unwrap();
    let holder = all.items.into_iter().find_map(|lease| lease.spec?.holder_identity).expect("a leader");
    let pods: Api<Pod> = Api::namespaced(stage.bed.client.clone(), SYSTEM);
    let name = pods.list(&ListParams::default()).await.unwrap().items.into_iter();
    let name = name.filter_map(|pod| pod.metadata.name).find(|name| holder.contains(name.as_str()));
    let now = DeleteParams::default().grace_period(0);
    pods.delete(&name.expect("the leader's pod"), &now).await.unwrap();
}
