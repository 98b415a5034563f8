//! The operator as a pod, installed by Helm and by kustomize: replaced in every step of a rollout, its leader lost.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::node::{Image, programs};
use testbed::{Cluster, History, Kind, assets};

use crate::bed::Bed;
use crate::ground::on_node;
use crate::moods::be;
use crate::stage::{NAME, RATE, Stage};

/// Where the operator is installed.
const SYSTEM: &str = "e6-operator-system";

/// The operator's Deployment.
const MANAGER: &str = "e6-operator-controller-manager";

/// Seconds that pods take to start: longer than an operator takes to be replaced.
const LONG: &str = "25";

/// Installs the operator under a tag, or replaces it, for the resources of a namespace; waits until it is ready.
type Install = fn(&Cluster, tag: &str, watched: &str);

#[test]
#[ignore = "`make e2e-all` runs it"]
fn the_operator_is_upgraded_by_helm_in_every_step() {
    // It may have to be downloaded, which cannot be done from the node's network.
    assets::helm().unwrap();
    on_node(async |cluster| {
        let mut stage = installed(cluster, "helm", helm).await;
        in_every_step(cluster, &mut stage, helm).await;
        stage.scene("the leader's pod is killed in Switching");
        let release = stage.upgrade().await;
        stage.step("Switching").await;
        kill_leader(&stage).await;
        stage.serves(release).await;
        stage.close().await;
    });
}

#[test]
#[ignore = "`make e2e-all` runs it"]
fn the_operator_is_upgraded_by_kustomize_in_every_step() {
    on_node(async |cluster| {
        let mut stage = installed(cluster, "kustomize", kustomize).await;
        in_every_step(cluster, &mut stage, kustomize).await;
        stage.close().await;
    });
}

/// A resource that serves, under an operator that runs as a pod.
async fn installed(cluster: &Cluster, label: &str, install: Install) -> Stage {
    let operator = programs::operator().unwrap();
    let image = Image::of_program(&operator, &["e6data/e6-operator:one", "e6data/e6-operator:two"]);
    cluster.node().unwrap().import(&image).unwrap();
    let bed = Bed::on(cluster, label, &[]).await;
    install(cluster, "one", &bed.namespace);
    Stage::with(bed, &json!({"switchDwellSeconds": 2}), NAME, RATE).await
}

/// Replaces the operator while nothing is under way, and in every step, which lasts until the new one is there.
async fn in_every_step(cluster: &Cluster, stage: &mut Stage, install: Install) {
    let mut tags = ["two", "one"].into_iter().cycle();
    let mut replace = async |stage: &Stage, step: &str, release: u32| {
        stage.step(step).await;
        let four = |history: &History| Some(pods(history, release)).filter(|pods| pods.len() == 4);
        let (before, since) = (stage.bed.wait("four pods", four).await, Instant::now());
        install(cluster, tags.next().unwrap(), &stage.bed.namespace);
        eprintln!("    replaced in {:.0?}", since.elapsed());
        if step == "Stable" {
            // The new one has had a look at everything.
            stage.bed.linger(5).await;
        }
        stage.step_is(step);
        assert_eq!(pods(&stage.bed.timeline.history(), release), before, "{step}: pods of {release}");
    };
    stage.scene("replaced while stable");
    replace(stage, "Stable", stage.tag()).await;
    let timer = |name: &str, seconds: u32| json!({"rollout": {name: seconds}});
    let patient = json!({"storage": {"livenessProbe": {"initialDelaySeconds": 60}}});
    for (step, hold, go_on) in [
        ("Deploying", patient, json!({})),
        ("Switching", timer("switchDwellSeconds", 90), timer("switchDwellSeconds", 2)),
        ("Watching", timer("cleanupDelaySeconds", 90), timer("cleanupDelaySeconds", 2)),
    ] {
        stage.scene(&format!("replaced in {step}"));
        stage.subject.edit(&hold).await.unwrap();
        let slow: &[_] = if step == "Deploying" { &[("START_SECONDS", LONG)] } else { &[] };
        let release = stage.upgrade_with(slow, &[]).await;
        replace(stage, step, release).await;
        stage.subject.edit(&go_on).await.unwrap();
        stage.serves(release).await;
    }
    stage.scene("replaced in Prune");
    hold(stage, &json!(["example.com/hold"])).await;
    let release = stage.upgrade().await;
    replace(stage, "Prune", release).await;
    hold(stage, &json!(null)).await;
    stage.serves(release).await;
    stage.scene("replaced in RollingBack");
    let good = stage.tag();
    stage.warm(90).await;
    stage.upgrade().await;
    stage.step("Watching").await;
    be(stage, "storage", "unready", 1).await;
    replace(stage, "RollingBack", good).await;
    stage.warm(2).await;
    stage.rolled_back(good).await;
}

/// Keeps what is there now from being gone when it is deleted, or no longer.
async fn hold(stage: &Stage, finalizers: &Value) {
    let sets: Api<ReplicaSet> = stage.bed.api();
    let ours = ListParams::default().labels(&format!("app={NAME}"));
    for set in sets.list(&ours).await.unwrap() {
        let patch = json!({"metadata": {"finalizers": finalizers}});
        let name = set.metadata.name.unwrap();
        sets.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }
}

/// The pods of a release, by their uids.
fn pods(history: &History, tag: u32) -> BTreeSet<String> {
    let image = format!(":{tag}");
    let pods = history.all_live(Kind::Pod).into_iter();
    pods.filter(|pod| {
        pod.text("/spec/containers/0/image").ends_with(&image) && pod.label("app") == Some(NAME)
    })
    .map(|pod| pod.text("/metadata/uid").to_owned())
    .collect()
}

/// Runs a command that must succeed.
fn run(cluster: &Cluster, program: &Path, args: &[&str]) {
    let answer = Command::new(program).args(args).env("KUBECONFIG", cluster.kubeconfig()).output().unwrap();
    assert!(answer.status.success(), "{args:?}: {}", String::from_utf8_lossy(&answer.stderr));
}

/// By the chart, with rights in one namespace.
fn helm(cluster: &Cluster, tag: &str, watched: &str) {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/e6-operator").display().to_string();
    let (image, watched) = (format!("image.tag={tag}"), format!("watchNamespaces={{{watched}}}"));
    let install =
        ["upgrade", "--install", "e6-operator", "--namespace", SYSTEM, "--create-namespace", "--wait"];
    run(
        cluster,
        &assets::helm().unwrap(),
        &[&install[..], &["--set", &image, "--set", &watched, &chart]].concat(),
    );
}

/// By an overlay of the one for production, with rights everywhere.
fn kustomize(cluster: &Cluster, tag: &str, _: &str) {
    let overlay = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-overlay");
    std::fs::create_dir_all(&overlay).unwrap();
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("overlays/production");
    let text = json!({
        "resources": [relative(&overlay, &base)], "images": [{"name": "e6data/e6-operator", "newTag": tag}],
    });
    std::fs::write(overlay.join("kustomization.yaml"), text.to_string()).unwrap();
    let kubectl = assets::kubectl().unwrap();
    run(cluster, &kubectl, &["apply", "-k", &overlay.display().to_string()]);
    run(cluster, &kubectl, &["rollout", "status", "deployment", MANAGER, "-n", SYSTEM, "--timeout=120s"]);
}

/// Kustomize takes no absolute paths.
fn relative(from: &Path, to: &Path) -> String {
    let common = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(common).map(|_| "..".to_owned());
    let down = to.components().skip(common).map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
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
