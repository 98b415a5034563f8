//! Workloads that do not drain, and Pods with readiness gates.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::json;
use testbed::{Cluster, Entry, History, Kind};
use traffic::record::{Record, RequestKind};

use crate::pod_faults::{self, ready, serving};
use crate::real_node::on_node;
use crate::resource_under_load::ResourceUnderLoad;

/// The workload exits at SIGTERM without draining.
const RUDE: [(&str, &str); 1] = [("DRAIN_SECONDS", "0")];

/// Number of streams of both clients at both front Services.
const STREAMS: u64 = 4;

/// Number of open connections, including streams. Each breaks once when its server exits.
const OPEN: u64 = (4 + 2) * 2 + STREAMS;

/// With the default `preStopSleepSeconds`.
#[test]
#[ignore = "`make e2e-all` runs it"]
fn a_server_that_does_not_drain_costs_no_new_connection() {
    on_node(async |cluster| {
        let mut resource = ResourceUnderLoad::open(cluster, "rude", &json!({})).await;
        resource.phase("to a server that does not drain");
        // A stream that starts here breaks in the next phase.
        resource.own_failures(60, STREAMS);
        let tag = resource.upgrade_with(&RUDE, &RUDE).await;
        resource.serves(tag).await;
        // After the old Pods have drained, all connections are to the new ones.
        resource.env.linger(9).await;
        resource.phase("from one to the next");
        resource.own_failures(60, OPEN);
        let tag = resource.upgrade_with(&RUDE, &RUDE).await;
        resource.serves(tag).await;
        // The preStop sleep of the Pods lasts longer than the rollout.
        resource.env.linger(6).await;
        for phase in ["a deleted pod", "an evicted pod"] {
            resource.phase(phase);
            resource.own_failures(60, OPEN);
            match phase {
                "a deleted pod" => pod_faults::delete_one(&resource, "storage").await,
                _ => pod_faults::evict_one(&resource, "schema").await,
            }
            resource.env.linger(7).await;
            ready(&resource, "storage", 2).await;
            ready(&resource, "schema", 2).await;
        }
        let records = resource.close().await;
        let failed = |kind: RequestKind| -> Vec<&Record> {
            records.iter().filter(|one| one.kind == kind && one.outcome.is_err()).collect()
        };
        assert_eq!((failed(RequestKind::Fresh), failed(RequestKind::Slow)), (vec![], vec![]));
        assert!(failed(RequestKind::Kept).len() >= 8, "the servers drained: {:?}", failed(RequestKind::Kept));
    });
}

/// The condition of the readiness gate.
const GATE: &str = "test/gate";

/// An admission policy adds the gate to Pods at their creation, as load balancers do. The template of the Deployment
/// does not contain it.
#[test]
#[ignore = "`make e2e-all` runs it"]
fn a_pod_is_ready_when_its_readiness_gates_say_so() {
    on_node(async |cluster| {
        let mut resource = ResourceUnderLoad::open(cluster, "gates", &json!({})).await;
        let (first, switches, color) = (resource.tag(), resource.switches(), serving(&resource));
        resource.phase("pods wait for their gates");
        install_gate(cluster, &resource.env.namespace).await;
        resource.upgrade().await;
        let waiting = |history: &History| {
            let pods = gated(history);
            let waits = |pod: &&Arc<Entry>| {
                pod.condition("ContainersReady") == "True" && pod.condition("Ready") == "False"
            };
            (pods.len() == 4 && pods.iter().all(waits)).then_some(())
        };
        resource.env.wait("pods that only wait for their gates", waiting).await;
        resource.env.linger(5).await;
        resource.step("Deploying").await;
        resource.phase("one component's gates are open");
        say(&resource, "storage", 2, "True").await;
        resource.env.linger(5).await;
        resource.step("Deploying").await;
        assert_eq!(resource.switches(), switches, "traffic never moved");
        resource.phase("all gates are open");
        say(&resource, "schema", 2, "True").await;
        resource.keep_old_pods(60).await;
        resource.step("Watching").await;
        assert_ne!(serving(&resource), color);
        resource.phase("a gate closes after the switch");
        resource.env.linger(2).await;
        say(&resource, "storage", 1, "False").await;
        resource.rolling_back().await;
        resource.rolled_back(first).await;
        assert_eq!(resource.switches(), switches + 2, "there and back");
        resource.close().await;
    });
}

/// Adds the gate to every Pod of storage and schema that is created in the namespace.
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
    // The admission plugin watches policies, and its progress is not visible.
    tokio::time::sleep(Duration::from_secs(3)).await;
}

fn gated(history: &History) -> Vec<&Arc<Entry>> {
    let pods = history.all_live(Kind::Pod).into_iter();
    pods.filter(|pod| pod.get("/spec/readinessGates/0").is_some()).collect()
}

/// Sets the gate of `count` Pods of a component to `status`.
async fn say(resource: &ResourceUnderLoad, component: &str, count: usize, status: &str) {
    let history = resource.env.history().await;
    let pods = gated(&history).into_iter().filter(|pod| pod.label("component") == Some(component));
    let pods: Vec<_> = pods.take(count).collect();
    assert_eq!(pods.len(), count);
    for pod in pods {
        let gate = json!({"status": {"conditions": [{"type": GATE, "status": status}]}});
        let api: Api<Pod> = resource.env.api();
        api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(&gate)).await.unwrap();
    }
}
