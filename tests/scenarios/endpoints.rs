//! The proof of a switch: every EndpointSlice of both front Services counts, of both IP families and of any creator.

use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State, Subject};

use crate::SUITE;
use crate::demo::{pods, selected};
use testbed::harness::{TestEnv, case, together};

/// A slice of another client. Its name sorts after that of the controller's slice, so a check of the first slice only
/// would miss it.
const SLICE: &str = "a-storage-zz";

#[test]
fn every_slice_of_both_services_counts_for_the_proof() {
    together(vec![
        case("many", more_than_one_slice_each),
        case("family", two_families),
        case("never", || never_follows(true)),
        case("never-kept", || never_follows(false)),
    ]);
}

/// A slice of the controller contains at most a hundred endpoints.
async fn more_than_one_slice_each() {
    let env = SUITE.env("slices").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"storage": {"replicas": 120}, "schema": {"replicas": 101}}));
    let (subject, _) = env.deploy("a", &spec).await;
    has_two_slices_each(&env, "blue").await;
    let stale = of_storage(&env, "blue").await.pop().unwrap();
    keep(&env, "IPv4", &[stale]).await;
    subject.upgrade("2", "2").await.unwrap();
    held_in(&env, &subject, "Switching").await;
    has_two_slices_each(&env, "green").await;
    give_up(&env).await;
    env.serves(&subject, "2").await;
    assert_eq!(selected(&env.history().await, "a", "storage"), ["none", "blue", "green"]);
    env.finish().await;
}

async fn has_two_slices_each(env: &TestEnv, color: &str) {
    for (component, replicas) in [("storage", 120), ("schema", 101)] {
        let both = |history: &History| {
            let slices = listed(history, component);
            let pods: Vec<&String> = slices.iter().flatten().collect();
            let ours = pods.iter().all(|pod| pod.starts_with(&format!("a-{component}-{color}-")));
            (slices.len() >= 2 && pods.len() == replicas && ours).then_some(())
        };
        env.wait(&format!("{replicas} endpoints of {component} {color} in two slices"), both).await;
    }
}

/// A slice of the other IP family is late in Switching, and wrong again in Watching. Its endpoints need not be ready.
async fn two_families() {
    let env = SUITE.env("families").await;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    let blue = of_storage(&env, "blue").await;
    keep(&env, "IPv6", &blue).await;
    subject.upgrade("2", "2").await.unwrap();
    held_in(&env, &subject, "Switching").await;
    let green = of_storage(&env, "green").await;
    let both = [green.as_slice(), &blue].concat();
    relist(&env, &both, false).await;
    held_in(&env, &subject, "Switching").await;
    relist(&env, &green, true).await;
    env.step(&subject, "Watching").await;
    relist(&env, &both, false).await;
    held_in(&env, &subject, "Watching").await;
    assert_eq!(of_storage(&env, "blue").await, blue, "the old pods are untouched");
    relist(&env, &green, true).await;
    env.serves(&subject, "2").await;
    env.finish().await;
}

/// The wait ends at the deploy timeout: the operator rolls back, or reports the problem.
async fn never_follows(roll_back: bool) {
    let env = SUITE.env("stale").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"autoRollback": {"enabled": roll_back}}}));
    let (subject, first) = env.deploy("a", &spec).await;
    let blue = of_storage(&env, "blue").await;
    keep(&env, "IPv6", &blue).await;
    subject.upgrade("2", "2").await.unwrap();
    // A slow machine may need longer for the Pods: the timeout is short only for the switch.
    env.step(&subject, "Switching").await;
    subject.edit(&json!({"rollout": {"deployTimeoutSeconds": 6}})).await.unwrap();
    let text = "EndpointSlices of the front Services did not follow within the deploy timeout";
    if roll_back {
        let entry = env.rolled_back(&subject, "1").await;
        let state = State(&entry);
        assert_eq!(state.active(), first);
        assert_eq!(state.records().last().unwrap()["reason"], "SwitchUnproved");
        assert_eq!(state.condition("SpecApplied", "reason"), "RolledBack");
        let said = state.condition("SpecApplied", "message");
        assert!(said.contains(text) && said.contains("e6data.io/retry"), "{said}");
        assert_eq!(selected(&env.history().await, "a", "schema"), ["none", "blue", "green", "blue"]);
    } else {
        let told = |state: State<'_>| state.condition("Stalled", "reason") == "SwitchUnproved";
        let entry = env.until(&subject, "the condition to say why", told).await;
        assert_eq!(State(&entry).step(), "Switching");
        assert!(State(&entry).condition("Stalled", "message").contains(text));
        assert_eq!(of_storage(&env, "blue").await, blue, "the old pods are untouched");
        give_up(&env).await;
        env.serves(&subject, "2").await;
    }
    env.finish().await;
}

/// Waits until the slices of the controller contain only the new Pods. The step must then last longer than all
/// delays.
async fn held_in(env: &TestEnv, subject: &Subject, step: &str) {
    env.step(subject, step).await;
    for component in ["storage", "schema"] {
        let followed = |history: &History| {
            let slices = listed(history, component);
            let new = |pod: &String| pod.starts_with(&format!("a-{component}-green-"));
            (slices.iter().flatten().next().is_some() && slices.iter().flatten().all(new)).then_some(())
        };
        env.wait(&format!("the controller's slices of {component}"), followed).await;
    }
    env.linger(4).await;
    let history = env.history().await;
    let state = subject.state(&history).unwrap();
    assert_eq!(state.step(), step, "a stale endpoint holds the proof");
    let said = state.condition("Progressing", "message");
    assert!(said.contains("EndpointSlices of both Services"), "{said}");
}

/// Returns the Pods in each slice of the controller for a front Service.
fn listed(history: &History, component: &str) -> Vec<Vec<String>> {
    let service = format!("a-{component}");
    let slices = history.all_live(Kind::EndpointSlice).into_iter().filter(|slice| {
        slice.label("kubernetes.io/service-name") == Some(&service)
            && slice.label("endpointslice.kubernetes.io/managed-by")
                == Some("endpointslice-controller.k8s.io")
    });
    let pod = |endpoint: &Value| endpoint.pointer("/targetRef/name")?.as_str().map(str::to_owned);
    let pods = |slice: &Value| slice["endpoints"].as_array().into_iter().flatten().filter_map(pod).collect();
    slices.map(|slice| pods(&slice.object)).collect()
}

async fn of_storage(env: &TestEnv, color: &str) -> Vec<String> {
    let all = pods(&env.history().await, "a", color).into_keys();
    all.filter(|name| name.starts_with("a-storage-")).collect()
}

/// Creates a slice of the storage Service with the labels of the Service, as the controller does.
async fn keep(env: &TestEnv, family: &str, pods: &[String]) {
    let history = env.history().await;
    let mut labels = history.live(Kind::Service, "a-storage").unwrap().object["metadata"]["labels"].clone();
    let more = json!({
        "kubernetes.io/service-name": "a-storage", "endpointslice.kubernetes.io/managed-by": "somebody-else",
    });
    merge(&mut labels, &more);
    let endpoints = endpoints(family, pods, true);
    let slice = json!({
        "metadata": {"name": SLICE, "labels": labels}, "addressType": family, "endpoints": endpoints,
        "ports": [{"name": "storage", "port": 9005, "protocol": "TCP"}],
    });
    env.create(Kind::EndpointSlice, slice).await;
}

async fn relist(env: &TestEnv, pods: &[String], ready: bool) {
    let endpoints = json!({"endpoints": endpoints("IPv6", pods, ready)});
    env.patch(Kind::EndpointSlice, SLICE, &endpoints).await;
}

async fn give_up(env: &TestEnv) {
    env.delete(Kind::EndpointSlice, SLICE).await;
}

fn endpoints(family: &str, pods: &[String], ready: bool) -> Value {
    let prefix = if family == "IPv6" { "fd00::" } else { "10.2.0." };
    let endpoint = |(number, pod): (usize, &String)| {
        json!({
            "addresses": [format!("{prefix}{}", number + 1)], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "name": pod},
        })
    };
    pods.iter().enumerate().map(endpoint).collect()
}
