//! The release history: trimmed, restored from, and damaged by another hand.

use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State, Subject};

use crate::bed::{Bed, case, together};
use crate::demo::selected;

/// The name of the `ControllerRevision` of a version.
fn revision(history: &History, version: &str) -> Option<String> {
    let all = history.all_live(Kind::ControllerRevision).into_iter();
    all.filter(|one| one.annotation("e6data.io/release-version") == Some(version))
        .map(|one| one.name.clone())
        .next()
}

async fn releases(bed: &Bed, spec: &Value, tags: &[&str]) -> (Subject, Vec<String>) {
    let (subject, first) = bed.deploy("a", spec).await;
    let mut versions = vec![first];
    for tag in tags {
        subject.upgrade(tag, tag).await.unwrap();
        let entry = bed.serves(&subject, tag).await;
        versions.push(State(&entry).active().to_owned());
    }
    (subject, versions)
}

#[test]
fn the_history_is_kept_trimmed_and_gone_back_to() {
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
    let bed = Bed::new("trim").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"historyLimit": 3}}));
    let (subject, versions) = releases(&bed, &spec, &["2", "3", "4"]).await;
    let history = bed.history().await;
    let state = subject.state(&history).unwrap();
    assert_eq!(state.summary(), ["2 Superseded", "3 Superseded", "4 Active"]);
    assert_eq!(revision(&history, &versions[0]), None, "the revision goes with its record");
    assert!(versions[1..].iter().all(|version| revision(&history, version).is_some()));
    // Lowered, the limit holds from the next decision on.
    subject.edit(&json!({"rollout": {"historyLimit": 2}})).await.unwrap();
    subject.upgrade("5-crash", "5").await.unwrap();
    let entry = bed.rolled_back(&subject, "4").await;
    assert_eq!(State(&entry).summary(), ["4 Active", "5-crash Failed"]);
    subject.annotate("e6data.io/rollback-to", &versions[0]).await.unwrap();
    bed.event("a", "Warning", "RequestRefused", "the history has no release of this name").await;
    bed.settled(&subject).await;
    subject.upgrade("4", "4").await.unwrap();
    bed.serves(&subject, "4").await;
    bed.finish().await;
}

/// A rollback of a rollback returns, without duplicate records.
async fn rollback_of_a_rollback() {
    let bed = Bed::new("toggle").await;
    let (subject, versions) = releases(&bed, &quick("1", "1"), &["2"]).await;
    for (version, tag, order) in
        [(&versions[0], "1", ["2 Superseded", "1 Active"]), (&versions[1], "2", ["1 Superseded", "2 Active"])]
    {
        subject.annotate("e6data.io/rollback-to", version).await.unwrap();
        let entry = bed.serves(&subject, tag).await;
        assert_eq!(State(&entry).summary(), order);
        assert_eq!(State(&entry).active(), version);
    }
    // Editing back by hand is the same release too.
    subject.upgrade("1", "1").await.unwrap();
    let entry = bed.serves(&subject, "1").await;
    assert_eq!(State(&entry).active(), versions[0]);
    assert_eq!(State(&entry).records().len(), 2);
    bed.finish().await;
}

async fn named_releases() {
    let bed = Bed::new("named").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"releaseVersion": "summer"}));
    let (subject, first) = bed.deploy("a", &spec).await;
    assert_eq!(first, "summer");
    subject.edit(&json!({"releaseVersion": "autumn"})).await.unwrap();
    bed.stable(&subject).await;
    bed.linger(2).await;
    let history = bed.history().await;
    assert_eq!(subject.state(&history).unwrap().active(), "summer", "a name alone is no release");
    assert_eq!(selected(&history, "a", "storage"), ["none", "blue"]);
    subject.edit(&json!({"releaseVersion": "summer", "storage": {"imageTag": "2"}})).await.unwrap();
    let entry = bed.serves(&subject, "2").await;
    assert!(State(&entry).active().starts_with('v'), "{}", State(&entry).active());
    bed.event("a", "Warning", "ReleaseVersionIgnored", "summer").await;
    bed.finish().await;
}

#[derive(Clone, Copy)]
enum Damage {
    Deleted,
    Truncated,
    OfTheFuture,
}

/// A release whose record is gone or cannot be trusted is not restored.
async fn damaged(damage: Damage) {
    let mut bed = Bed::new("damaged").await;
    bed.waived.records = true;
    let (subject, versions) = releases(&bed, &quick("1", "1"), &["2"]).await;
    let name = revision(&bed.history().await, &versions[0]).unwrap();
    bed.waived.objects = vec![name.clone()];
    // The data of a ControllerRevision cannot be changed: it is replaced.
    let mut object = bed.timeline.latest(Kind::ControllerRevision, &name).unwrap().object.clone();
    bed.delete(Kind::ControllerRevision, &name).await;
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
        bed.create(Kind::ControllerRevision, object).await;
    }
    let before = subject.get().await.unwrap()["spec"].clone();
    subject.annotate("e6data.io/rollback-to", &versions[0]).await.unwrap();
    let why = match damage {
        Damage::Deleted => "it is gone",
        Damage::Truncated => "its hash is missing",
        Damage::OfTheFuture => "a newer operator wrote it",
    };
    bed.event("a", "Warning", "RequestRefused", why).await;
    let entry = bed.stable(&subject).await;
    let state = State(&entry);
    assert_eq!(state.0.object["spec"], before, "the spec is untouched");
    assert_eq!(state.active(), versions[1]);
    assert_eq!(state.condition("Progressing", "reason"), "RequestRefused");
    assert!(state.condition("Progressing", "message").contains(&name));
    assert_eq!(selected(&bed.history().await, "a", "storage"), ["none", "blue", "green"]);
    bed.finish().await;
}

/// The operator's own configuration is no part of the spec, but of what a release was.
#[tokio::test]
async fn a_rollback_brings_back_the_images_that_ran_whatever_the_default_registry_is_now() {
    let mut bed = Bed::idle("registry", &["--default-image-repository=old.example/e6"]).await;
    bed.start();
    let (subject, first) = bed.deploy("a", &quick("1", "1")).await;
    bed.kill().await;
    bed.set_arg("--default-image-repository=new.example/e6");
    bed.start();
    subject.upgrade("2", "2").await.unwrap();
    bed.serves(&subject, "2").await;
    let image = |history: &History, color: &str| {
        let deployment = history.live(Kind::Deployment, &format!("a-storage-{color}")).unwrap();
        deployment.text("/spec/template/spec/containers/0/image").to_owned()
    };
    assert_eq!(image(&bed.history().await, "green"), "new.example/e6/storage:2");
    subject.annotate("e6data.io/rollback-to", &first).await.unwrap();
    let entry = bed.serves(&subject, "1").await;
    assert_eq!(image(&bed.history().await, "blue"), "old.example/e6/storage:1");
    assert_eq!(entry.text("/status/storage/image"), "old.example/e6/storage:1");
    bed.finish().await;
}
