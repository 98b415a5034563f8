//! Servers that are less than well-behaved, and pods whose readiness others have a say in.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::json;
use testbed::{Cluster, Entry, History, Kind};
use traffic::record::{Record, Way};

use crate::ground::on_node;
use crate::moods::{self, ready, serving};
use crate::stage::Stage;

/// It exits the moment it is told to.
const RUDE: [(&str, &str); 1] = [("DRAIN_SECONDS", "0")];

/// The streams of both clients at both doors.
const STREAMS: u64 = 4;

/// The connections that stay open, streams among them: each breaks once when its server ends.
const OPEN: u64 = (4 + 2) * 2 + STREAMS;

/// With the default `preStopSleepSeconds`.
#[test]
#[ignore = "`make e2e-all` runs it"]
fn a_server_that_does_not_drain_costs_no_new_connection() {
    on_node(async |cluster| {
        let mut stage = Stage::open(cluster, "rude", &json!({})).await;
        stage.scene("to a server that does not drain");
        // A stream that begins here breaks in the next scene.
        stage.own_failures(60, STREAMS);
        let tag = stage.upgrade_with(&RUDE, &RUDE).await;
        stage.serves(tag).await;
        // Once the old pods have drained, all connections are with the new ones.
        stage.bed.linger(9).await;
        stage.scene("from one to the next");
        stage.own_failures(60, OPEN);
        let tag = stage.upgrade_with(&RUDE, &RUDE).await;
        stage.serves(tag).await;
        // Their sleep outlasts the rollout.
        stage.bed.linger(6).await;
        for scene in ["a deleted pod", "an evicted pod"] {
            stage.scene(scene);
            stage.own_failures(60, OPEN);
            match scene {
                "a deleted pod" => moods::delete_one(&stage, "storage").await,
                _ => moods::evict_one(&stage, "schema").await,
            }
            stage.bed.linger(7).await;
            ready(&stage, "storage", 2).await;
            ready(&stage, "schema", 2).await;
        }
        let records = stage.close().await;
        let failed = |way: Way| -> Vec<&Record> {
            records.iter().filter(|one| one.way == way && one.outcome.is_err()).collect()
        };
        assert_eq!((failed(Way::Fresh), failed(Way::Slow)), (vec![], vec![]));
        assert!(failed(Way::Kept).len() >= 8, "the servers drained: {:?}", failed(Way::Kept));
    });
}

/// The condition that the pods wait for.
const GATE: &str = "test/gate";

/// A gate is set on pods at their creation, as load balancers do, and is no part of the Deployment's template.
#[test]
#[ignore = "`make e2e-all` runs it"]
fn a_pod_is_ready_when_its_readiness_gates_say_so() {
    on_node(async |cluster| {
        let mut stage = Stage::open(cluster, "gates", &json!({})).await;
        let (first, switches, color) = (stage.tag(), stage.switches(), serving(&stage));
        stage.scene("pods wait for their gates");
        install_gate(cluster, &stage.bed.namespace).await;
        stage.upgrade().await;
        let waiting = |history: &History| {
            let pods = gated(history);
            let waits = |pod: &&Arc<Entry>| {
                pod.condition("ContainersReady") == "True" && pod.condition("Ready") == "False"
            };
            (pods.len() == 4 && pods.iter().all(waits)).then_some(())
        };
        stage.bed.wait("pods that only wait for their gates", waiting).await;
        stage.bed.linger(5).await;
        stage.step("Deploying").await;
        stage.scene("one component's gates are open");
        say(&stage, "storage", 2, "True").await;
        stage.bed.linger(5).await;
        stage.step("Deploying").await;
        assert_eq!(stage.switches(), switches, "traffic never moved");
        stage.scene("all gates are open");
        say(&stage, "schema", 2, "True").await;
        stage.warm(60).await;
        stage.step("Watching").await;
        assert_ne!(serving(&stage), color);
        stage.scene("a gate closes after the switch");
        stage.bed.linger(2).await;
        say(&stage, "storage", 1, "False").await;
        stage.returns().await;
        stage.rolled_back(first).await;
        assert_eq!(stage.switches(), switches + 2, "there and back");
        stage.close().await;
    });
}

/// From now on every pod of storage and schema in the namespace is created with the gate.
async fn install_gate(cluster: &Cluster, namespace: &str) {
    let policy = json!({
        "metadata": {"name": "gate"},
        "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "objectSelector": {"matchExpressions": [{"key": "strategy", "operator": "Exists"}]},
                "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                }],
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": format!(
                "[JSONPatch{{op: 'add', path: '/spec/readinessGates', \
                 value: [Object.spec.readinessGates{{conditionType: '{GATE}'}}]}}]"
            )}}],
        },
    });
    let binding = json!({"metadata": {"name": "gate"}, "spec": {"policyName": "gate"}});
    for (kind, object) in [("MutatingAdmissionPolicy", policy), ("MutatingAdmissionPolicyBinding", binding)] {
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        let api: Api<DynamicObject> = Api::all_with(cluster.client().unwrap(), &ApiResource::from_gvk(&kind));
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    // The API server's plugin follows by a watch, whose progress cannot be asked for.
    tokio::time::sleep(Duration::from_secs(3)).await;
}

fn gated(history: &History) -> Vec<&Arc<Entry>> {
    let pods = history.all_live(Kind::Pod).into_iter();
    pods.filter(|pod| pod.get("/spec/readinessGates/0").is_some()).collect()
}

/// Says `status` of the gate of so many pods of a component.
async fn say(stage: &Stage, component: &str, count: usize, status: &str) {
    let history = stage.bed.history().await;
    let pods = gated(&history).into_iter().filter(|pod| pod.label("component") == Some(component));
    let pods: Vec<_> = pods.take(count).collect();
    assert_eq!(pods.len(), count);
    for pod in pods {
        let gate = json!({"status": {"conditions": [{"type": GATE, "status": status}]}});
        let api: Api<Pod> = stage.bed.api();
        api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(&gate)).await.unwrap();
    }
}
