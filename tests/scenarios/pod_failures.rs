//! Failures of running Pods at a chosen moment: the test writes the status that a kubelet would write.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::Kind;

use testbed::harness::TestEnv;

/// The failure of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It runs but is not ready.
    Unready,
    /// Its container exited once and waits for its restart.
    Crashed,
}

/// Makes all Pods of a component and color fail.
pub async fn break_pods(env: &TestEnv, app: &str, component: &str, color: &str, damage: Damage) {
    let api: Api<Pod> = env.api();
    let history = env.history().await;
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

/// Returns the status that a kubelet would write.
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
