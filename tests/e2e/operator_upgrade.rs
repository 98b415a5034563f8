//! The operator as a Pod, installed by Helm or kustomize: its upgrade in every step of a rollout, and the loss of the
//! leader.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::node::{Image, static_programs};
use testbed::{Cluster, History, Kind, assets};

use crate::SUITE;
use crate::pod_faults::set_behavior;
use crate::real_node::on_node;
use crate::resource_under_load::{NAME, RATE, ResourceUnderLoad};

/// The namespace of the operator.
const SYSTEM: &str = "e6-operator-system";

/// The operator's Deployment.
const MANAGER: &str = "e6-operator-controller-manager";

/// Start time of Pods in seconds, longer than an upgrade of the operator.
const LONG: &str = "25";

/// Installs or upgrades the operator under a tag, for the resources of a namespace, and waits until it is ready.
type Install = fn(&Cluster, tag: &str, watched: &str);

#[test]
#[ignore = "`make e2e-all` runs it"]
fn the_operator_is_upgraded_by_helm_in_every_step() {
    // The build may download modules, which is impossible in the network of the node.
    assets::helm().unwrap();
    on_node(async |cluster| {
        let mut resource = installed(cluster, "helm", helm).await;
        in_every_step(cluster, &mut resource, helm).await;
        resource.phase("the leader's pod is killed in Switching");
        let release = resource.upgrade().await;
        resource.step("Switching").await;
        kill_leader(&resource).await;
        resource.serves(release).await;
        resource.close().await;
    });
}

#[test]
#[ignore = "`make e2e-all` runs it"]
fn the_operator_is_upgraded_by_kustomize_in_every_step() {
    on_node(async |cluster| {
        let mut resource = installed(cluster, "kustomize", kustomize).await;
        in_every_step(cluster, &mut resource, kustomize).await;
        resource.close().await;
    });
}

/// Returns a Stable resource, managed by an operator in a Pod.
async fn installed(cluster: &Cluster, label: &str, install: Install) -> ResourceUnderLoad {
    let operator = static_programs::operator().unwrap();
    let image = Image::of_program(&operator, &["e6data/e6-operator:one", "e6data/e6-operator:two"]);
    cluster.node().unwrap().import(&image).unwrap();
    let env = SUITE.env_on(cluster, label, &[]).await;
    install(cluster, "one", &env.namespace);
    ResourceUnderLoad::with(env, &json!({"switchDwellSeconds": 2}), NAME, RATE).await
}

/// Upgrades the operator at rest and in every step, which lasts until the new operator is ready.
async fn in_every_step(cluster: &Cluster, resource: &mut ResourceUnderLoad, install: Install) {
    let mut tags = ["two", "one"].into_iter().cycle();
    let mut replace = async |resource: &ResourceUnderLoad, step: &str, release: u32| {
        resource.step(step).await;
        let four = |history: &History| Some(pods(history, release)).filter(|pods| pods.len() == 4);
        let (before, since) = (resource.env.wait("four pods", four).await, Instant::now());
        install(cluster, tags.next().unwrap(), &resource.env.namespace);
        eprintln!("    replaced in {:.0?}", since.elapsed());
        if step == "Stable" {
            // The new operator has reconciled every resource.
            resource.env.linger(5).await;
        }
        resource.step_is(step);
        assert_eq!(pods(&resource.env.timeline.history(), release), before, "{step}: pods of {release}");
    };
    resource.phase("replaced while stable");
    replace(resource, "Stable", resource.tag()).await;
    let timer = |name: &str, seconds: u32| json!({"rollout": {name: seconds}});
    let patient = json!({"storage": {"livenessProbe": {"initialDelaySeconds": 60}}});
    for (step, hold, go_on) in [
        ("Deploying", patient, json!({})),
        ("Switching", timer("switchDwellSeconds", 90), timer("switchDwellSeconds", 2)),
        ("Watching", timer("cleanupDelaySeconds", 90), timer("cleanupDelaySeconds", 2)),
    ] {
        resource.phase(&format!("replaced in {step}"));
        resource.subject.edit(&hold).await.unwrap();
        let slow: &[_] = if step == "Deploying" { &[("START_SECONDS", LONG)] } else { &[] };
        let release = resource.upgrade_with(slow, &[]).await;
        replace(resource, step, release).await;
        resource.subject.edit(&go_on).await.unwrap();
        resource.serves(release).await;
    }
    resource.phase("replaced in Prune");
    hold(resource, &json!(["example.com/hold"])).await;
    let release = resource.upgrade().await;
    replace(resource, "Prune", release).await;
    hold(resource, &json!(null)).await;
    resource.serves(release).await;
    resource.phase("replaced in RollingBack");
    let good = resource.tag();
    resource.keep_old_pods(90).await;
    resource.upgrade().await;
    resource.step("Watching").await;
    set_behavior(resource, "storage", "unready", 1).await;
    replace(resource, "RollingBack", good).await;
    resource.keep_old_pods(2).await;
    resource.rolled_back(good).await;
}

/// Sets or removes finalizers of the present ReplicaSets, so that their deletion does not complete.
async fn hold(resource: &ResourceUnderLoad, finalizers: &Value) {
    let sets: Api<ReplicaSet> = resource.env.api();
    let ours = ListParams::default().labels(&format!("app={NAME}"));
    for set in sets.list(&ours).await.unwrap() {
        let patch = json!({"metadata": {"finalizers": finalizers}});
        let name = set.metadata.name.unwrap();
        sets.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }
}

/// Returns the UIDs of the Pods of a release.
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

/// Installs the chart, with rights in one namespace.
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

/// Applies an overlay of `overlays/production`, with rights everywhere.
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

/// Returns a relative path, since kustomize accepts no absolute paths.
fn relative(from: &Path, to: &Path) -> String {
    let common = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(common).map(|_| "..".to_owned());
    let down = to.components().skip(common).map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// Deletes the Pod of the leader without a grace period.
async fn kill_leader(resource: &ResourceUnderLoad) {
    let leases: Api<Lease> = Api::namespaced(resource.env.client.clone(), SYSTEM);
    let all = leases.list(&ListParams::default()).await.unwrap();
    let holder = all.items.into_iter().find_map(|lease| lease.spec?.holder_identity).expect("a leader");
    let pods: Api<Pod> = Api::namespaced(resource.env.client.clone(), SYSTEM);
    let name = pods.list(&ListParams::default()).await.unwrap().items.into_iter();
    let name = name.filter_map(|pod| pod.metadata.name).find(|name| holder.contains(name.as_str()));
    let now = DeleteParams::default().grace_period(0);
    pods.delete(&name.expect("the leader's pod"), &now).await.unwrap();
}
