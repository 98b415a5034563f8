//! The status is lost in any step, as by a restore from a backup: the active release is not touched.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, PostParams, Preconditions};
use serde_json::json;
use testbed::pace;
use testbed::resource::{merge, quick};
use testbed::{Entry, History, Kind, State};

use crate::SUITE;
use crate::demo::{assert_both_served, pods, selected};
use crate::edits::in_step;
use crate::pod_failures::{Damage, break_pods};
use testbed::harness::{case, together};

const STEPS: [&str; 6] = ["Stable", "Deploying", "Switching", "Watching", "RollingBack", "Prune"];

#[test]
fn a_lost_status_is_rebuilt_in_any_step_and_traffic_continues() {
    together(STEPS.map(|step| case(step, move || lose_in(step))).into());
}

/// Returns the color that both front Services select. None if they differ.
fn served(history: &History) -> Option<String> {
    let color = |component: &str| {
        let front = history.live(Kind::Service, &format!("a-{component}"))?;
        Some(front.text("/spec/selector/strategy").to_owned())
    };
    color("storage").filter(|one| Some(one) == color("schema").as_ref())
}

async fn lose_in(step: &'static str) {
    let mut env = SUITE.env(&format!("lost-{}", step.to_lowercase())).await;
    env.waived.status = true;
    let (subject, from) = if step == "Stable" {
        let (subject, _) = env.deploy("a", &quick("1", "1")).await;
        // Longer than the operator's next reconcile, shorter than its resync.
        env.linger(5).await;
        (subject, env.history().await.entries().len())
    } else {
        in_step(&env, step).await
    };
    // In RollingBack the front Services may still select the failed release. The other release must stay.
    let good = (step == "RollingBack").then(|| "blue".to_owned());
    let color = match good {
        Some(color) => color,
        None => served(&env.history().await).unwrap(),
    };
    let before = pods(&env.timeline.history(), "a", &color);
    let fronts = |history: &History| {
        ["a-storage", "a-schema"]
            .map(|name| history.live(Kind::Service, name).unwrap().text("/metadata/uid").to_owned())
    };
    let uids = fronts(&env.timeline.history());
    subject.lose_status().await.unwrap();
    env.event("a", "Normal", "StatusRebuilt", "no workload was touched").await;
    // A release whose failure was lost too may be attempted again. Every other release is deployed in the end.
    let over = |state: State<'_>| {
        state.is_stable() || (step == "RollingBack" && state.is_settled() && state.phase() == "Degraded")
    };
    let entry = env.until(&subject, "to be settled", over).await;
    let history = env.history().await;
    assert_eq!(fronts(&history), uids);
    if step != "RollingBack" {
        assert_both_served(&history, from, "a");
    }
    let state = State(&entry);
    if state.color() == color {
        assert_eq!(pods(&history, "a", &color), before, "the serving pods are untouched");
    } else {
        // A further release replaced it by a blue-green rollout. Its Pods did not change while it was active.
        let switched =
            history.of(Kind::Service, "a-storage").rfind(|one| one.text("/spec/selector/strategy") == color);
        let at = switched.unwrap().resource_version;
        for (name, uid) in &before {
            let pod = history.live_at(Kind::Pod, name, at).unwrap();
            assert_eq!(pod.text("/metadata/uid"), uid);
        }
    }
    assert!(state.record_of_tag("1").is_some(), "the history is rebuilt: {:?}", state.summary());
    env.finish().await;
}

/// The status of an earlier release is restored at rest, as from a backup. The operator notices it at once, and the
/// active release stays.
#[tokio::test]
async fn an_older_status_at_rest_is_noticed_at_once() {
    let mut env = SUITE.env("lost-older").await;
    env.waived.status = true;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    let old = subject.get().await.unwrap()["status"].clone();
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    env.linger(5).await;
    let before = pods(&env.history().await, "a", "green");
    let resources = env.objects(Kind::MetadataServices);
    let mut object = resources.get("a").await.unwrap();
    object.data["status"] = old;
    let start = Instant::now();
    resources.replace_status("a", &PostParams::default(), &object).await.unwrap();
    env.event("a", "Normal", "StatusRebuilt", "no workload was touched").await;
    assert!(pace::elapsed(start) < Duration::from_secs(20), "it took {:?}", start.elapsed());
    env.serves(&subject, "2").await;
    assert_eq!(pods(&env.history().await, "a", "green"), before);
    env.finish().await;
}

const WARM: [(Kind, &str); 6] = [
    (Kind::Deployment, "a-storage-blue"),
    (Kind::Deployment, "a-schema-blue"),
    (Kind::Service, "a-storage-blue"),
    (Kind::Service, "a-schema-blue"),
    (Kind::ConfigMap, "a-storage-config-blue"),
    (Kind::ConfigMap, "a-schema-config-blue"),
];

/// The status is lost and the active release fails: the operator switches to the other color. Deletions of that color
/// may be pending, so the operator writes to its objects first, and those deletions fail.
#[tokio::test]
async fn a_color_with_pending_deletions_is_written_before_a_rollback() {
    let mut env = SUITE.env("lost-way-back").await;
    env.waived.status = true;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"cleanupDelaySeconds": 120}}));
    let (subject, _) = env.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    env.step(&subject, "Watching").await;
    env.kill().await;
    let before = env.history().await;
    subject.lose_status().await.unwrap();
    break_pods(&env, "a", "storage", "green", Damage::Unready).await;
    env.wait("the broken pods to be counted out", |history| {
        let ready = history.live(Kind::Deployment, "a-storage-green")?.number("/status/readyReplicas");
        (ready == 0).then_some(())
    })
    .await;
    env.start();
    env.step(&subject, "RollingBack").await;
    let history = env.history().await;
    let decided = history.of(Kind::MetadataServices, "a").find(|one| State(one).step() == "RollingBack");
    let decided = decided.unwrap().resource_version;
    for (kind, name) in WARM {
        let (was, is) = (before.live(kind, name).unwrap(), history.live_at(kind, name, decided).unwrap());
        assert!(epoch(is) > epoch(was), "{kind:?} {name}: {} after {}", epoch(is), epoch(was));
        let seen = Preconditions {
            uid: Some(was.text("/metadata/uid").to_owned()),
            resource_version: Some(was.resource_version.to_string()),
        };
        let with = DeleteParams { preconditions: Some(seen), ..DeleteParams::default() };
        let late = env.objects(kind).delete(name, &with).await;
        assert!(matches!(late, Err(kube::Error::Api(status)) if status.code == 409), "{kind:?} {name}");
    }
    // The rollback has started; its old Pods need not be kept for a minute.
    subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 2}})).await.unwrap();
    env.serves(&subject, "2").await;
    let history = env.history().await;
    for component in ["storage", "schema"] {
        assert_eq!(selected(&history, "a", component), ["none", "blue", "green", "blue", "green"]);
    }
    env.finish().await;
}

fn epoch(entry: &Entry) -> i64 {
    entry.annotation("e6data.io/epoch").unwrap().parse().unwrap()
}
