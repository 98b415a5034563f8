//! Running pods go bad, at a moment that the scenario chooses: the node's reports are written by hand.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::Kind;

use crate::bed::Bed;

/// How a pod goes bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It runs on, but is not ready any more.
    Unready,
    /// Its container ended once and waits to be started again.
    Crashed,
}

/// Makes all pods of a component on a color go bad.
pub async fn break_pods(bed: &Bed, app: &str, component: &str, color: &str, damage: Damage) {
    let api: Api<Pod> = bed.api();
    let history = bed.history().await;
    let all = history.all_live(Kind::Pod).into_iter();
    let pods: Vec<_> = all
        .filter(|pod| pod.label("app") == Some(app) && pod.label("component") == Some(component))
        .filter(|pod| pod.label("strategy") == Some(color))
        .collect();
    assert!(!pods.is_empty(), "no pod of {app} {component} {color}");
    for pod in pods {
        let status = pod.object["status"]["containerStatuses"][0].clone();
        let patch = json!({"status": report(status, damage)});
        api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(&patch)).await.unwrap();
    }
}

/// What a kubelet would write.
fn report(mut container: Value, damage: Damage) -> Value {
    container["ready"] = json!(false);
    if damage == Damage::Crashed {
        container["restartCount"] = json!(1);
        container["started"] = json!(false);
        container["state"] =
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}});
        container["lastState"] = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    }
    let condition = |kind: &str| json!({"type": kind, "status": "False", "reason": "ContainersNotReady"});
    json!({"conditions": [condition("Ready"), condition("ContainersReady")], "containerStatuses": [container]})
}
