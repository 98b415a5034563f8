//! A release that fails after the switch is rolled back too.

use serde_json::json;
use testbed::resource::{merge, quick};
use testbed::{Kind, State};

use crate::SUITE;
use crate::demo::{pods, selected};
use crate::pod_failures::{Damage, break_pods};
use testbed::harness::{case, together};

#[test]
fn a_release_that_fails_after_the_switch_is_rolled_back() {
    together(vec![
        case("unready", || goes_bad("storage", Damage::Unready)),
        case("crashed", || goes_bad("schema", Damage::Crashed)),
        case("revert-spec", revert_spec),
        case("disabled", disabled),
        case("deleted-pod", deleted_pod),
    ]);
}

async fn goes_bad(component: &'static str, damage: Damage) {
    let env = SUITE.env("bad-after").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"cleanupDelaySeconds": 120}}));
    let (subject, first) = env.deploy("a", &spec).await;
    let blue = pods(&env.history().await, "a", "blue");
    subject.upgrade("2", "2").await.unwrap();
    env.step(&subject, "Watching").await;
    break_pods(&env, "a", component, "green", damage).await;
    env.step(&subject, "RollingBack").await;
    // The rollback has started; its old Pods need not be kept for a minute.
    subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 2}})).await.unwrap();
    let entry = env.rolled_back(&subject, "1").await;
    let state = State(&entry);
    assert_eq!(state.active(), first);
    let record = state.records().last().unwrap();
    assert_eq!(record["status"], "Failed");
    assert!(record["message"].as_str().unwrap().contains(&format!("{component}: pod ")), "{record}");
    assert_eq!(entry.object["status"]["lastRollback"]["trigger"], "Automatic");
    let history = env.history().await;
    for component in ["storage", "schema"] {
        assert_eq!(selected(&history, "a", component), ["none", "blue", "green", "blue"]);
        assert!(history.live(Kind::Deployment, &format!("a-{component}-green")).is_none());
    }
    assert_eq!(pods(&history, "a", "blue"), blue, "the old pods serve again");
    let revision = history
        .all_live(Kind::ControllerRevision)
        .into_iter()
        .find(|one| one.annotation("e6data.io/release-version") == record["version"].as_str());
    assert_eq!(
        revision.unwrap().annotation("e6data.io/outcome"),
        Some("Failed"),
        "the mark outlives the status"
    );
    env.linger(3).await;
    assert_eq!(selected(&env.history().await, "a", "storage").len(), 4, "it is not tried again");
    env.finish().await;
}

async fn revert_spec() {
    let env = SUITE.env("revert").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"autoRollback": {"revertSpec": true}}}));
    let (subject, first) = env.deploy("a", &spec).await;
    subject.upgrade("2-crash", "2").await.unwrap();
    env.step(&subject, "Prune").await;
    let entry = env.serves(&subject, "1").await;
    assert_eq!(entry.object["spec"]["storage"]["imageTag"], "1");
    assert_eq!(entry.object["spec"]["schema"]["imageTag"], "1");
    assert_eq!(State(&entry).active(), first);
    env.finish().await;
}

async fn disabled() {
    let env = SUITE.env("no-auto").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"autoRollback": {"enabled": false}}}));
    let (subject, first) = env.deploy("a", &spec).await;
    subject.upgrade("2-crash", "2").await.unwrap();
    let waits =
        |state: State<'_>| state.phase() == "Degraded" && state.condition("Stalled", "status") == "True";
    env.until(&subject, "Degraded", waits).await;
    env.linger(3).await;
    let history = env.history().await;
    let state = subject.state(&history).unwrap();
    assert_eq!((state.step(), state.active()), ("Deploying", first.as_str()));
    assert!(state.condition("Stalled", "message").contains("exit code 1"));
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    env.finish().await;
}

/// A Pod that another client deletes after the switch is no failure of the release.
async fn deleted_pod() {
    let env = SUITE.env("evicted").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"cleanupDelaySeconds": 5}, "storage": {"replicas": 2}}));
    let (subject, _) = env.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    env.step(&subject, "Watching").await;
    let history = env.timeline.history();
    let green = pods(&history, "a", "green");
    let name = green.keys().find(|name| name.contains("storage")).unwrap();
    env.delete(Kind::Pod, name).await;
    env.serves(&subject, "2").await;
    assert_eq!(selected(&env.history().await, "a", "storage"), ["none", "blue", "green"]);
    env.finish().await;
}
