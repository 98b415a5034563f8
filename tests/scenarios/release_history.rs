//! The release history: its length, rollbacks to its releases, and external changes.

use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State, Subject};

use crate::SUITE;
use crate::demo::selected;
use testbed::harness::{TestEnv, case, together};

/// Returns the name of the ControllerRevision of a version.
fn revision(history: &History, version: &str) -> Option<String> {
    let all = history.all_live(Kind::ControllerRevision).into_iter();
    all.filter(|one| one.annotation("e6data.io/release-version") == Some(version))
        .map(|one| one.name.clone())
        .next()
}

async fn releases(env: &TestEnv, spec: &Value, tags: &[&str]) -> (Subject, Vec<String>) {
    let (subject, first) = env.deploy("a", spec).await;
    let mut versions = vec![first];
    for tag in tags {
        subject.upgrade(tag, tag).await.unwrap();
        let entry = env.serves(&subject, tag).await;
        versions.push(State(&entry).active().to_owned());
    }
    (subject, versions)
}

#[test]
fn the_history_is_trimmed_and_used_by_rollbacks() {
    together(vec![
        case("trimmed", trimmed),
        case("order", rollback_of_a_rollback),
        case("named", named_releases),
        case("deleted", || damaged(Damage::Deleted)),
        case("truncated", || damaged(Damage::Truncated)),
        case("future", || damaged(Damage::OfTheFuture)),
    ]);
}

async fn trimmed() {
    let env = SUITE.env("trim").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"historyLimit": 3}}));
    let (subject, versions) = releases(&env, &spec, &["2", "3", "4"]).await;
    let history = env.history().await;
    let state = subject.state(&history).unwrap();
    assert_eq!(state.summary(), ["2 Superseded", "3 Superseded", "4 Active"]);
    assert_eq!(revision(&history, &versions[0]), None, "the revision goes with its record");
    assert!(versions[1..].iter().all(|version| revision(&history, version).is_some()));
    // A lower limit takes effect at the next decision.
    subject.edit(&json!({"rollout": {"historyLimit": 2}})).await.unwrap();
    subject.upgrade("5-crash", "5").await.unwrap();
    let entry = env.rolled_back(&subject, "4").await;
    assert_eq!(State(&entry).summary(), ["4 Active", "5-crash Failed"]);
    subject.annotate("e6data.io/rollback-to", &versions[0]).await.unwrap();
    env.event("a", "Warning", "RequestRefused", "the history has no release of this name").await;
    env.settled(&subject).await;
    subject.upgrade("4", "4").await.unwrap();
    env.serves(&subject, "4").await;
    env.finish().await;
}

/// A rollback of a rollback returns to the first release, without duplicate records.
async fn rollback_of_a_rollback() {
    let env = SUITE.env("toggle").await;
    let (subject, versions) = releases(&env, &quick("1", "1"), &["2"]).await;
    for (version, tag, order) in
        [(&versions[0], "1", ["2 Superseded", "1 Active"]), (&versions[1], "2", ["1 Superseded", "2 Active"])]
    {
        subject.annotate("e6data.io/rollback-to", version).await.unwrap();
        let entry = env.serves(&subject, tag).await;
        assert_eq!(State(&entry).summary(), order);
        assert_eq!(State(&entry).active(), version);
    }
    // An edit back to the same spec is the same release.
    subject.upgrade("1", "1").await.unwrap();
    let entry = env.serves(&subject, "1").await;
    assert_eq!(State(&entry).active(), versions[0]);
    assert_eq!(State(&entry).records().len(), 2);
    env.finish().await;
}

async fn named_releases() {
    let env = SUITE.env("named").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"releaseVersion": "summer"}));
    let (subject, first) = env.deploy("a", &spec).await;
    assert_eq!(first, "summer");
    subject.edit(&json!({"releaseVersion": "autumn"})).await.unwrap();
    env.stable(&subject).await;
    env.linger(2).await;
    let history = env.history().await;
    assert_eq!(subject.state(&history).unwrap().active(), "summer", "a name alone is no release");
    assert_eq!(selected(&history, "a", "storage"), ["none", "blue"]);
    subject.edit(&json!({"releaseVersion": "summer", "storage": {"imageTag": "2"}})).await.unwrap();
    let entry = env.serves(&subject, "2").await;
    assert!(State(&entry).active().starts_with('v'), "{}", State(&entry).active());
    env.event("a", "Warning", "ReleaseVersionIgnored", "summer").await;
    env.finish().await;
}

#[derive(Clone, Copy)]
enum Damage {
    Deleted,
    Truncated,
    OfTheFuture,
}

/// A release without a trustworthy ControllerRevision is not restored.
async fn damaged(damage: Damage) {
    let mut env = SUITE.env("damaged").await;
    env.waived.records = true;
    let (subject, versions) = releases(&env, &quick("1", "1"), &["2"]).await;
    let name = revision(&env.history().await, &versions[0]).unwrap();
    env.waived.objects = vec![name.clone()];
    // The data of a ControllerRevision is immutable, so the test replaces the object.
    let mut object = env.timeline.latest(Kind::ControllerRevision, &name).unwrap().object.clone();
    env.delete(Kind::ControllerRevision, &name).await;
    match damage {
        Damage::Deleted => {}
        Damage::Truncated => object["data"] = json!({"version": versions[0]}),
        Damage::OfTheFuture => object["data"]["template"]["storage"]["fieldOfTomorrow"] = json!(1),
    }
    if matches!(damage, Damage::OfTheFuture) {
        object["data"]["hash"] = json!("0".repeat(64));
    }
    if !matches!(damage, Damage::Deleted) {
        object["metadata"]["resourceVersion"] = Value::Null;
        object["metadata"]["uid"] = Value::Null;
        env.create(Kind::ControllerRevision, object).await;
    }
    let before = subject.get().await.unwrap()["spec"].clone();
    subject.annotate("e6data.io/rollback-to", &versions[0]).await.unwrap();
    let why = match damage {
        Damage::Deleted => "it is gone",
        Damage::Truncated => "its hash is missing",
        Damage::OfTheFuture => "a newer operator wrote it",
    };
    env.event("a", "Warning", "RequestRefused", why).await;
    let entry = env.stable(&subject).await;
    let state = State(&entry);
    assert_eq!(state.0.object["spec"], before, "the spec is untouched");
    assert_eq!(state.active(), versions[1]);
    assert_eq!(state.condition("Progressing", "reason"), "RequestRefused");
    assert!(state.condition("Progressing", "message").contains(&name));
    assert_eq!(selected(&env.history().await, "a", "storage"), ["none", "blue", "green"]);
    env.finish().await;
}

/// The operator's own configuration is not part of the spec, but is part of a release.
#[tokio::test]
async fn a_rollback_brings_back_the_images_that_ran_whatever_the_default_registry_is_now() {
    let mut env = SUITE.idle_env("registry", &["--default-image-repository=old.example/e6"]).await;
    env.start();
    let (subject, first) = env.deploy("a", &quick("1", "1")).await;
    env.kill().await;
    env.set_flag("--default-image-repository=new.example/e6");
    env.start();
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    let image = |history: &History, color: &str| {
        let deployment = history.live(Kind::Deployment, &format!("a-storage-{color}")).unwrap();
        deployment.text("/spec/template/spec/containers/0/image").to_owned()
    };
    assert_eq!(image(&env.history().await, "green"), "new.example/e6/storage:2");
    subject.annotate("e6data.io/rollback-to", &first).await.unwrap();
    let entry = env.serves(&subject, "1").await;
    assert_eq!(image(&env.history().await, "blue"), "old.example/e6/storage:1");
    assert_eq!(entry.text("/status/storage/image"), "old.example/e6/storage:1");
    env.finish().await;
}
