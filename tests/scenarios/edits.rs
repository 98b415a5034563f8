//! The user changes the spec in every step: a third release, the previous release, retry, restart, pause.

use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{Kind, State, Subject, Verb};

use crate::SUITE;
use crate::demo::{assert_both_served, pods, selected};
use crate::pod_failures::{Damage, break_pods};
use testbed::harness::{TestEnv, case, together};

/// Returns a spec with steps that are long enough to act in each.
pub fn unhurried(storage: &str, schema: &str) -> Value {
    let mut spec = quick(storage, schema);
    merge(
        &mut spec,
        &json!({"rollout": {"gracePeriodSeconds": 2, "switchDwellSeconds": 3, "cleanupDelaySeconds": 4}}),
    );
    spec
}

/// Returns the tags of the release during which the edit comes, so that the rollout reaches the step.
pub fn second(step: &str) -> &'static str {
    match step {
        "Deploying" => "2-slow",
        _ => "2",
    }
}

/// Returns a resource with the active release 1 and the pending release 2, in this step.
pub async fn in_step(env: &TestEnv, step: &str) -> (Subject, usize) {
    let mut spec = unhurried("1", "1");
    if step == "RollingBack" {
        merge(&mut spec, &json!({"rollout": {"cleanupDelaySeconds": 120}}));
    }
    let (subject, _) = env.deploy("a", &spec).await;
    let from = env.history().await.entries().len();
    subject.upgrade(second(step), "2").await.unwrap();
    if step == "RollingBack" {
        env.step(&subject, "Watching").await;
        break_pods(env, "a", "storage", "green", Damage::Crashed).await;
    }
    env.step(&subject, step).await;
    if step == "Switching" {
        env.wait("both fronts to be switched", |history| {
            let green = |front: &str| {
                history.live(Kind::Service, front)?.text("/spec/selector/strategy").eq("green").then_some(())
            };
            green("a-storage").and(green("a-schema"))
        })
        .await;
    }
    if step == "RollingBack" {
        subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 4}})).await.unwrap();
    }
    (subject, from)
}

const STEPS: [&str; 5] = ["Deploying", "Switching", "Watching", "RollingBack", "Prune"];

#[test]
fn a_third_version_in_any_step_ends_up_serving() {
    together(STEPS.map(|step| case(step, move || third(step))).into());
}

async fn third(step: &'static str) {
    let env = SUITE.env(&format!("third-{}", step.to_lowercase())).await;
    let (subject, from) = in_step(&env, step).await;
    subject.upgrade("3", "3").await.unwrap();
    env.serves(&subject, "3").await;
    let history = env.history().await;
    let state = subject.state(&history).unwrap();
    let before = state.record_of_tag(second(step)).unwrap();
    match step {
        "Deploying" => {
            assert_eq!(before["status"], "Superseded");
            assert!(before.get("activatedAt").is_none(), "the abandoned release never served");
            assert_eq!(selected(&history, "a", "storage"), ["none", "blue", "green"]);
        }
        "RollingBack" => assert_eq!(before["status"], "Failed"),
        _ => {
            assert_eq!(before["status"], "Superseded");
            assert_eq!(selected(&history, "a", "storage"), ["none", "blue", "green", "blue"]);
        }
    }
    if step != "RollingBack" {
        assert_both_served(&history, from, "a");
    }
    env.finish().await;
}

#[test]
fn a_return_to_the_first_release_in_any_step_is_direct() {
    together(STEPS.map(|step| case(step, move || back(step))).into());
}

async fn back(step: &'static str) {
    let env = SUITE.env(&format!("back-{}", step.to_lowercase())).await;
    let (subject, from) = in_step(&env, step).await;
    let blue = pods(&env.timeline.history(), "a", "blue");
    subject.upgrade("1", "1").await.unwrap();
    env.serves(&subject, "1").await;
    let history = env.history().await;
    let state = subject.state(&history).unwrap();
    let record = state.record_of_tag(second(step)).unwrap();
    let status = if step == "RollingBack" { "Failed" } else { "Superseded" };
    assert_eq!(record["status"], status, "{:?}", state.summary());
    let switches: &[&str] = match step {
        "Deploying" => &["none", "blue"],
        _ => &["none", "blue", "green", "blue"],
    };
    for component in ["storage", "schema"] {
        assert_eq!(selected(&history, "a", component), switches);
    }
    if step != "Prune" {
        assert_eq!(state.color(), "blue");
        assert_eq!(pods(&history, "a", "blue"), blue, "the first release's pods have served all along");
    }
    assert_eq!(state.records().last().unwrap()["status"], "Active");
    if step != "RollingBack" {
        assert_both_served(&history, from, "a");
    }
    env.finish().await;
}

#[test]
fn retry_and_restart_wait_for_their_time() {
    together(vec![
        case("retry", retry),
        case("retry-refused", retry_without_cause),
        case("restart", restart_in_stable),
        case("restart-rolling", restart_in_mid_rollout),
        case("paused", paused),
        case("paused-rolling", paused_in_mid_rollout),
        case("retry-paused", rollback_while_paused),
    ]);
}

async fn retry() {
    let env = SUITE.env("retry").await;
    let mut spec = quick("1", "1");
    // The quota allows the Pods of one color. After it is raised, the same release can start.
    merge(&mut spec, &json!({"rollout": {"cleanupDelaySeconds": 3}}));
    let (subject, _) = env.deploy("a", &spec).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}});
    let quotas: kube::Api<k8s_openapi::api::core::v1::ResourceQuota> = env.api();
    quotas.create(&kube::api::PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    env.linger(1).await;
    subject.upgrade("2", "2").await.unwrap();
    env.rolled_back(&subject, "1").await;
    quotas.delete("q", &kube::api::DeleteParams::default()).await.unwrap();
    env.linger(3).await;
    let history = env.history().await;
    assert_eq!(subject.state(&history).unwrap().phase(), "Degraded", "it is not tried again unasked");
    let version = subject.state(&history).unwrap().version_of_tag("2");
    subject.annotate("e6data.io/retry", "now").await.unwrap();
    let entry = env.serves(&subject, "2").await;
    let state = State(&entry);
    assert_eq!(state.active(), version, "the same record");
    assert_eq!(state.records().last().unwrap()["trigger"], "Retry");
    assert_eq!(state.summary(), ["1 Superseded", "2 Active"]);
    env.finish().await;
}

async fn retry_without_cause() {
    let env = SUITE.env("retry-refused").await;
    let (subject, version) = env.deploy("a", &quick("1", "1")).await;
    subject.annotate("e6data.io/retry", "now").await.unwrap();
    env.event("a", "Warning", "RequestRefused", "no failed release waits for a retry").await;
    let entry = env.stable(&subject).await;
    assert_eq!(State(&entry).active(), version);
    assert_eq!(selected(&env.history().await, "a", "storage"), ["none", "blue"]);
    env.finish().await;
}

async fn restart_in_stable() {
    let env = SUITE.env("restart").await;
    let (subject, version) = env.deploy("a", &quick("1", "1")).await;
    subject.annotate("e6data.io/restart", "now").await.unwrap();
    let green = |state: State<'_>| state.is_stable() && state.color() == "green";
    let entry = env.until(&subject, "to serve on green", green).await;
    assert_eq!(State(&entry).active(), version, "the same release anew");
    assert_eq!(State(&entry).summary(), ["1 Active"]);
    assert_eq!(selected(&env.history().await, "a", "storage"), ["none", "blue", "green"]);
    // The same request again is a new request.
    subject.annotate("e6data.io/restart", "now").await.unwrap();
    let blue = |state: State<'_>| state.is_stable() && state.color() == "blue";
    env.until(&subject, "to serve on blue", blue).await;
    env.finish().await;
}

async fn restart_in_mid_rollout() {
    let env = SUITE.env("restart-rolling").await;
    let (subject, _) = in_step(&env, "Switching").await;
    subject.annotate("e6data.io/restart", "now").await.unwrap();
    let again = |state: State<'_>| state.is_stable() && state.color() == "blue";
    let entry = env.until(&subject, "the restart after the rollout", again).await;
    assert_eq!(State(&entry).summary(), ["1 Superseded", "2 Active"]);
    assert_eq!(selected(&env.history().await, "a", "schema"), ["none", "blue", "green", "blue"]);
    env.finish().await;
}

async fn paused() {
    let env = SUITE.env("paused").await;
    let (subject, version) = env.deploy("a", &quick("1", "1")).await;
    subject.edit(&json!({"rollout": {"paused": true}, "storage": {"imageTag": "2"}})).await.unwrap();
    let waits = |state: State<'_>| state.condition("SpecApplied", "reason") == "Paused" && state.is_settled();
    let entry = env.until(&subject, "SpecApplied=False, Paused", waits).await;
    assert_eq!(State(&entry).active(), version);
    env.linger(3).await;
    let history = env.history().await;
    assert_eq!(subject.state(&history).unwrap().summary(), ["1 Active"], "no record");
    assert!(history.live(Kind::Deployment, "a-storage-green").is_none());
    subject.edit(&json!({"rollout": {"paused": false}})).await.unwrap();
    env.serves(&subject, "2").await;
    env.finish().await;
}

async fn paused_in_mid_rollout() {
    let env = SUITE.env("paused-rolling").await;
    let (subject, _) = in_step(&env, "Deploying").await;
    subject.edit(&json!({"rollout": {"paused": true}})).await.unwrap();
    env.serves(&subject, "2-slow").await;
    env.finish().await;
}

async fn rollback_while_paused() {
    let env = SUITE.env("paused-back").await;
    let (subject, first) = env.deploy("a", &quick("1", "1")).await;
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    subject.edit(&json!({"rollout": {"paused": true}})).await.unwrap();
    subject.annotate("e6data.io/rollback-to", &first).await.unwrap();
    env.serves(&subject, "1").await;
    let deployed = env.history().await;
    let again = deployed.of(Kind::Deployment, "a-storage-blue").filter(|one| one.verb == Verb::Added).count();
    assert_eq!(again, 2);
    env.finish().await;
}
