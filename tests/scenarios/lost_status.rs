//! The status is lost in any step, as a restore from a backup loses it: what serves is not touched.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, PostParams, Preconditions};
use serde_json::json;
use testbed::resource::{merge, quick};
use testbed::{Entry, History, Kind, State};

use crate::bed::{Bed, case, together};
use crate::damage::{Damage, break_pods};
use crate::demo::{assert_both_served, pods, selected};
use crate::edits::in_step;

const STEPS: [&str; 6] = ["Stable", "Deploying", "Switching", "Watching", "RollingBack", "Prune"];

#[test]
fn a_lost_status_is_rebuilt_in_any_step_and_what_serves_goes_on() {
    together(STEPS.map(|step| case(step, move || lose_in(step))).into());
}

/// The color that both front Services select; none while they differ.
fn served(history: &History) -> Option<String> {
    let color = |component: &str| {
        let front = history.live(Kind::Service, &format!("a-{component}"))?;
        Some(front.text("/spec/selector/strategy").to_owned())
    };
    color("storage").filter(|one| Some(one) == color("schema").as_ref())
}

async fn lose_in(step: &'static str) {
    let mut bed = Bed::new(&format!("lost-{}", step.to_lowercase())).await;
    bed.waived.status = true;
    let (subject, from) = if step == "Stable" {
        let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
        // Long enough that the operator does not look again by itself before its next resync.
        bed.linger(5).await;
        (subject, bed.history().await.entries().len())
    } else {
        in_step(&bed, step).await
    };
    // In RollingBack the fronts may still select the bad release; the good one is what must live on.
    let good = (step == "RollingBack").then(|| "blue".to_owned());
    let color = match good {
        Some(color) => color,
        None => served(&bed.history().await).unwrap(),
    };
    let before = pods(&bed.timeline.history(), "a", &color);
    let fronts = |history: &History| {
        ["a-storage", "a-schema"]
            .map(|name| history.live(Kind::Service, name).unwrap().text("/metadata/uid").to_owned())
    };
    let uids = fronts(&bed.timeline.history());
    subject.lose_status().await.unwrap();
    bed.event("a", "Normal", "StatusRebuilt", "no workload was touched").await;
    // A release whose failed mark was lost as well may be tried once more; every other one is deployed in the end.
    let over = |state: State<'_>| {
        state.is_stable() || (step == "RollingBack" && state.is_settled() && state.phase() == "Degraded")
    };
    let entry = bed.until(&subject, "to be settled", over).await;
    let history = bed.history().await;
    assert_eq!(fronts(&history), uids);
    if step != "RollingBack" {
        assert_both_served(&history, from, "a");
    }
    let state = State(&entry);
    if state.color() == color {
        assert_eq!(pods(&history, "a", &color), before, "the serving pods are untouched");
    } else {
        // A further release replaced it, blue-green: while it served, its pods were those.
        let switched =
            history.of(Kind::Service, "a-storage").rfind(|one| one.text("/spec/selector/strategy") == color);
        let at = switched.unwrap().resource_version;
        for (name, uid) in &before {
            let pod = history.live_at(Kind::Pod, name, at).unwrap();
            assert_eq!(pod.text("/metadata/uid"), uid);
        }
    }
    assert!(state.record_of_tag("1").is_some(), "the history is rebuilt: {:?}", state.summary());
    bed.finish().await;
}

/// The status of an earlier release is put back, as by a restore from a backup, while nothing is under way: it is not waited
/// for, and what serves goes on.
#[tokio::test]
async fn an_older_status_at_rest_is_noticed_at_once() {
    let mut bed = Bed::new("lost-older").await;
    bed.waived.status = true;
    let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
    let old = subject.get().await.unwrap()["status"].clone();
    subject.upgrade("2", "2").await.unwrap();
    bed.serves(&subject, "2").await;
    bed.linger(5).await;
    let before = pods(&bed.history().await, "a", "green");
    let resources = bed.objects(Kind::MetadataServices);
    let mut object = resources.get("a").await.unwrap();
    object.data["status"] = old;
    let start = Instant::now();
    resources.replace_status("a", &PostParams::default(), &object).await.unwrap();
    bed.event("a", "Normal", "StatusRebuilt", "no workload was touched").await;
    assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
    bed.serves(&subject, "2").await;
    assert_eq!(pods(&bed.history().await, "a", "green"), before);
    bed.finish().await;
}

const WARM: [(Kind, &str); 6] = [
    (Kind::Deployment, "a-storage-blue"),
    (Kind::Deployment, "a-schema-blue"),
    (Kind::Service, "a-storage-blue"),
    (Kind::Service, "a-schema-blue"),
    (Kind::ConfigMap, "a-storage-config-blue"),
    (Kind::ConfigMap, "a-schema-config-blue"),
];

/// The status is lost, and what serves breaks: the operator goes back to the other side. It may have been on its way out, so
/// its objects are written to first, and a delete that was decided before is refused.
#[tokio::test]
async fn what_may_be_on_its_way_out_is_written_to_before_it_is_gone_back_to() {
    let mut bed = Bed::new("lost-way-back").await;
    bed.waived.status = true;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"cleanupDelaySeconds": 120}}));
    let (subject, _) = bed.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    bed.step(&subject, "Watching").await;
    bed.kill().await;
    let before = bed.history().await;
    subject.lose_status().await.unwrap();
    break_pods(&bed, "a", "storage", "green", Damage::Unready).await;
    bed.wait("the broken pods to be counted out", |history| {
        let ready = history.live(Kind::Deployment, "a-storage-green")?.number("/status/readyReplicas");
        (ready == 0).then_some(())
    })
    .await;
    bed.start();
    bed.step(&subject, "RollingBack").await;
    let history = bed.history().await;
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
        let late = bed.objects(kind).delete(name, &with).await;
        assert!(matches!(late, Err(kube::Error::Api(status)) if status.code == 409), "{kind:?} {name}");
    }
    // The decision is made; the rest need not take a minute.
    subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 2}})).await.unwrap();
    bed.serves(&subject, "2").await;
    let history = bed.history().await;
    for component in ["storage", "schema"] {
        assert_eq!(selected(&history, "a", component), ["none", "blue", "green", "blue", "green"]);
    }
    bed.finish().await;
}

fn epoch(entry: &Entry) -> i64 {
    entry.annotation("e6data.io/epoch").unwrap().parse().unwrap()
}
