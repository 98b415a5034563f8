//! The status is lost in any step, as a restore from a backup loses it: what serves is not touched.

use std::time::{Duration, Instant};

use kube::api::PostParams;
use testbed::{History, Kind, State};

use crate::bed::{Bed, case, together};
use crate::demo::{assert_both_served, pods};
use crate::edits::in_step;
use testbed::resource::quick;

const STEPS: [&str; 6] = ["Stable", "Deploying", "Switching", "Grace", "RollingBack", "Prune"];

#[test]
fn a_lost_status_is_rebuilt_in_any_step_and_what_serves_goes_on() {
    together(STEPS.map(|step| case(step, move || lose_in(step))).into());
}

/// The colour that both front Services select; none while they differ.
fn served(history: &History) -> Option<String> {
    let colour = |component: &str| {
        let front = history.live(Kind::Service, &format!("a-{component}"))?;
        Some(front.text("/spec/selector/strategy").to_owned())
    };
    colour("storage").filter(|one| Some(one) == colour("schema").as_ref())
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
    let colour = match good {
        Some(colour) => colour,
        None => served(&bed.history().await).unwrap(),
    };
    let before = pods(&bed.timeline.history(), "a", &colour);
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
    if state.colour() == colour {
        assert_eq!(pods(&history, "a", &colour), before, "the serving pods are untouched");
    } else {
        // A further release replaced it, blue-green: while it served, its pods were those.
        let switched =
            history.of(Kind::Service, "a-storage").rfind(|one| one.text("/spec/selector/strategy") == colour);
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
