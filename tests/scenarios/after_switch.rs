//! A release that goes bad after traffic has moved to it is rolled back too.

use serde_json::json;
use testbed::resource::{merge, quick};
use testbed::{Kind, State};

use crate::bed::{Bed, case, together};
use crate::damage::{Damage, break_pods};
use crate::demo::{pods, selected};

#[test]
fn a_release_that_goes_bad_after_the_switch_is_rolled_back() {
    together(vec![
        case("unready", || goes_bad("storage", Damage::Unready)),
        case("crashed", || goes_bad("schema", Damage::Crashed)),
        case("revert-spec", revert_spec),
        case("disabled", disabled),
        case("deleted-pod", deleted_pod),
    ]);
}

async fn goes_bad(component: &'static str, damage: Damage) {
    let bed = Bed::new("bad-after").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"cleanupDelaySeconds": 120}}));
    let (subject, first) = bed.deploy("a", &spec).await;
    let blue = pods(&bed.history().await, "a", "blue");
    subject.upgrade("2", "2").await.unwrap();
    bed.step(&subject, "Watching").await;
    break_pods(&bed, "a", component, "green", damage).await;
    bed.step(&subject, "RollingBack").await;
    // The decision is made; the rest need not take a minute.
    subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 2}})).await.unwrap();
    let entry = bed.rolled_back(&subject, "1").await;
    let state = State(&entry);
    assert_eq!(state.active(), first);
    let record = state.records().last().unwrap();
    assert_eq!(record["status"], "Failed");
    assert!(record["message"].as_str().unwrap().contains(&format!("{component}: pod ")), "{record}");
    assert_eq!(entry.object["status"]["lastRollback"]["trigger"], "Automatic");
    let history = bed.history().await;
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
    bed.linger(3).await;
    assert_eq!(selected(&bed.history().await, "a", "storage").len(), 4, "it is not tried again");
    bed.finish().await;
}

async fn revert_spec() {
    let bed = Bed::new("revert").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"autoRollback": {"revertSpec": true}}}));
    let (subject, first) = bed.deploy("a", &spec).await;
    subject.upgrade("2-crash", "2").await.unwrap();
    bed.step(&subject, "Prune").await;
    let entry = bed.serves(&subject, "1").await;
    assert_eq!(entry.object["spec"]["storage"]["imageTag"], "1");
    assert_eq!(entry.object["spec"]["schema"]["imageTag"], "1");
    assert_eq!(State(&entry).active(), first);
    bed.finish().await;
}

async fn disabled() {
    let bed = Bed::new("no-auto").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"autoRollback": {"enabled": false}}}));
    let (subject, first) = bed.deploy("a", &spec).await;
    subject.upgrade("2-crash", "2").await.unwrap();
    let waits =
        |state: State<'_>| state.phase() == "Degraded" && state.condition("Stalled", "status") == "True";
    bed.until(&subject, "Degraded", waits).await;
    bed.linger(3).await;
    let history = bed.history().await;
    let state = subject.state(&history).unwrap();
    assert_eq!((state.step(), state.active()), ("Deploying", first.as_str()));
    assert!(state.condition("Stalled", "message").contains("exit code 1"));
    subject.upgrade("2", "2").await.unwrap();
    bed.serves(&subject, "2").await;
    bed.finish().await;
}

/// A pod that somebody deletes after the switch is no failure of the release.
async fn deleted_pod() {
    let bed = Bed::new("evicted").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"cleanupDelaySeconds": 5}, "storage": {"replicas": 2}}));
    let (subject, _) = bed.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    bed.step(&subject, "Watching").await;
    let history = bed.timeline.history();
    let green = pods(&history, "a", "green");
    let name = green.keys().find(|name| name.contains("storage")).unwrap();
    bed.delete(Kind::Pod, name).await;
    bed.serves(&subject, "2").await;
    assert_eq!(selected(&bed.history().await, "a", "storage"), ["none", "blue", "green"]);
    bed.finish().await;
}
