//! The edges of the configurable times.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{Kind, Subject};

use crate::bed::{Bed, case, together};
use crate::demo::{assert_both_served, selected};

#[test]
fn waits_may_be_zero_and_are_never_cut_short() {
    together(vec![
        case("no-grace", || upgrade(json!({"gracePeriodSeconds": 0}))),
        case("no-dwell", || upgrade(json!({"switchDwellSeconds": 0, "cleanupDelaySeconds": 3}))),
        case("no-delay", || upgrade(json!({"switchDwellSeconds": 3, "cleanupDelaySeconds": 0}))),
        case("nothing", || {
            upgrade(json!({"gracePeriodSeconds": 0, "switchDwellSeconds": 0, "cleanupDelaySeconds": 3}))
        }),
        case("no-threshold", no_threshold),
        case("whole", waits_are_whole),
        case("restarted", waits_survive_a_restart),
    ]);
}

async fn upgrade(rollout: Value) {
    let bed = Bed::new("edge").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": rollout}));
    let (subject, _) = bed.deploy("a", &spec).await;
    let from = bed.history().await.entries().len();
    subject.upgrade("2", "2").await.unwrap();
    bed.serves(&subject, "2").await;
    let history = bed.history().await;
    assert_eq!(selected(&history, "a", "storage"), ["none", "blue", "green"]);
    assert_both_served(&history, from, "a");
    bed.finish().await;
}

async fn no_threshold() {
    let bed = Bed::new("threshold").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"autoRollback": {"failureThresholdSeconds": 0}}}));
    let (subject, _) = bed.deploy("a", &spec).await;
    subject.upgrade("2-nopull", "2").await.unwrap();
    bed.rolled_back(&subject, "1").await;
    bed.finish().await;
}

/// When a resource was first seen in a step, and when it left it.
async fn stay(bed: &Bed, subject: &Subject, step: &str) -> Duration {
    let history = bed.history().await;
    let states: Vec<_> = subject.states(&history).collect();
    let entered = states.iter().rposition(|state| state.step() == step).unwrap();
    let first = states[..=entered].iter().rev().take_while(|state| state.step() == step).last().unwrap();
    let left = states[entered + 1].0;
    left.at.saturating_sub(first.0.at)
}

/// Asserts how long each step of an upgrade took at least. Events arrive a moment apart, so a tenth is allowed.
async fn took_at_least(bed: &Bed, subject: &Subject, waits: [(&str, u64); 2]) {
    for (step, seconds) in waits {
        let took = stay(bed, subject, step).await;
        assert!(
            took >= Duration::from_millis(seconds * 1000 - 250),
            "{step} took {took:?} instead of {seconds} s"
        );
    }
}

async fn waits_are_whole() {
    let bed = Bed::new("whole").await;
    let mut spec = quick("1", "1");
    let rollout = json!({"gracePeriodSeconds": 4, "switchDwellSeconds": 3, "cleanupDelaySeconds": 4});
    merge(&mut spec, &json!({"rollout": rollout}));
    let (subject, _) = bed.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    bed.serves(&subject, "2").await;
    took_at_least(&bed, &subject, [("Switching", 3), ("Watching", 4)]).await;
    // From the moment the last pod was ready to the switch.
    let history = bed.history().await;
    let ready = |name: &str| {
        let mut all = history.of(Kind::Deployment, name);
        all.find(|one| one.number("/status/readyReplicas") == 1).unwrap().at
    };
    let ready = ready("a-storage-green").max(ready("a-schema-green"));
    let switched =
        history.of(Kind::Service, "a-storage").find(|one| one.text("/spec/selector/strategy") == "green");
    let grace = switched.unwrap().at.saturating_sub(ready);
    assert!(grace >= Duration::from_millis(3_750), "the grace period took {grace:?}");
    bed.finish().await;
}

async fn waits_survive_a_restart() {
    let mut bed = Bed::new("restarted").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"switchDwellSeconds": 4, "cleanupDelaySeconds": 6}}));
    let (subject, _) = bed.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    bed.step(&subject, "Switching").await;
    bed.restart().await;
    bed.step(&subject, "Watching").await;
    bed.restart().await;
    bed.serves(&subject, "2").await;
    took_at_least(&bed, &subject, [("Switching", 4), ("Watching", 6)]).await;
    bed.finish().await;
}
