//! The limits of the configurable times.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{Entry, Kind, Subject};

use crate::SUITE;
use crate::demo::{assert_both_served, selected};
use testbed::harness::{TestEnv, case, together};

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
    let env = SUITE.env("edge").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": rollout}));
    let (subject, _) = env.deploy("a", &spec).await;
    let from = env.history().await.entries().len();
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    let history = env.history().await;
    assert_eq!(selected(&history, "a", "storage"), ["none", "blue", "green"]);
    assert_both_served(&history, from, "a");
    env.finish().await;
}

async fn no_threshold() {
    let env = SUITE.env("threshold").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"autoRollback": {"failureThresholdSeconds": 0}}}));
    let (subject, _) = env.deploy("a", &spec).await;
    subject.upgrade("2-nopull", "2").await.unwrap();
    env.rolled_back(&subject, "1").await;
    env.finish().await;
}

/// Returns the earliest time at which what was seen can have happened: a late cluster shows it late.
fn happened(entry: &Entry) -> Duration {
    entry.at.saturating_sub(entry.late)
}

/// Returns the time that a resource spent in a step.
async fn stay(env: &TestEnv, subject: &Subject, step: &str) -> Duration {
    let history = env.history().await;
    let states: Vec<_> = subject.states(&history).collect();
    let entered = states.iter().rposition(|state| state.step() == step).unwrap();
    let first = states[..=entered].iter().rev().take_while(|state| state.step() == step).last().unwrap();
    let left = states[entered + 1].0;
    left.at.saturating_sub(happened(first.0))
}

/// Asserts the minimum duration of each step of an upgrade, minus a tenth, since events arrive late.
async fn took_at_least(env: &TestEnv, subject: &Subject, waits: [(&str, u64); 2]) {
    for (step, seconds) in waits {
        let took = stay(env, subject, step).await;
        assert!(
            took >= Duration::from_millis(seconds * 1000 - 250),
            "{step} took {took:?} instead of {seconds} s"
        );
    }
}

async fn waits_are_whole() {
    let env = SUITE.env("whole").await;
    let mut spec = quick("1", "1");
    let rollout = json!({"gracePeriodSeconds": 4, "switchDwellSeconds": 3, "cleanupDelaySeconds": 4});
    merge(&mut spec, &json!({"rollout": rollout}));
    let (subject, _) = env.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    took_at_least(&env, &subject, [("Switching", 3), ("Watching", 4)]).await;
    // From the readiness of the last Pod to the switch.
    let history = env.history().await;
    let ready = |name: &str| {
        let mut all = history.of(Kind::Deployment, name);
        happened(all.find(|one| one.number("/status/readyReplicas") == 1).unwrap())
    };
    let ready = ready("a-storage-green").max(ready("a-schema-green"));
    let switched =
        history.of(Kind::Service, "a-storage").find(|one| one.text("/spec/selector/strategy") == "green");
    let grace = switched.unwrap().at.saturating_sub(ready);
    assert!(grace >= Duration::from_millis(3_750), "the grace period took {grace:?}");
    env.finish().await;
}

async fn waits_survive_a_restart() {
    let mut env = SUITE.env("restarted").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"switchDwellSeconds": 4, "cleanupDelaySeconds": 6}}));
    let (subject, _) = env.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    env.step(&subject, "Switching").await;
    env.restart().await;
    env.step(&subject, "Watching").await;
    env.restart().await;
    env.serves(&subject, "2").await;
    took_at_least(&env, &subject, [("Switching", 4), ("Watching", 6)]).await;
    env.finish().await;
}
