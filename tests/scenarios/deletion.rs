//! The resource is deleted in any step, deleted without its objects, and created again.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use serde_json::json;
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State, Verb};

use crate::SUITE;
use crate::demo::{pods, selected};
use crate::edits::in_step;
use testbed::harness::{case, together};

const STEPS: [&str; 6] = ["Stable", "Deploying", "Switching", "Watching", "RollingBack", "Prune"];

/// Returns the objects with the resource's label, of the kinds that the operator creates.
fn left(history: &History, app: &str) -> Vec<String> {
    Kind::MADE
        .into_iter()
        .chain([Kind::Pod])
        .flat_map(|kind| history.all_live(kind))
        .filter(|entry| entry.label("app") == Some(app))
        .map(|entry| format!("{:?} {}", entry.kind, entry.name))
        .collect()
}

#[test]
fn a_deletion_in_any_step_deletes_everything() {
    together(STEPS.map(|step| case(step, move || delete_in(step, false))).into());
}

/// The resource exists until its objects are gone. The operator sees their deletion and does not create them again.
#[test]
fn a_foreground_deletion_in_any_step_deletes_everything() {
    together(STEPS.map(|step| case(step, move || delete_in(step, true))).into());
}

async fn delete_in(step: &'static str, foreground: bool) {
    let how = if foreground { "foreground" } else { "delete" };
    let env = SUITE.env(&format!("{how}-{}", step.to_lowercase())).await;
    let subject = if step == "Stable" {
        env.deploy("a", &quick("1", "1")).await.0
    } else {
        in_step(&env, step).await.0
    };
    if foreground {
        subject.delete_foreground().await.unwrap();
    } else {
        subject.delete().await.unwrap();
    }
    let gone = |history: &History| {
        (left(history, "a").is_empty() && history.live(Kind::MetadataServices, "a").is_none()).then_some(())
    };
    env.wait("everything to be gone", gone).await;
    env.linger(2).await;
    let history = env.history().await;
    let deleted = history.of(Kind::MetadataServices, "a").find(|one| one.verb == Verb::Deleted).unwrap();
    // The limit is in seconds, since a create may have been sent before the deletion.
    let late = history.entries().iter().find(|entry| {
        entry.verb == Verb::Added
            && matches!(entry.kind, Kind::Deployment | Kind::Service | Kind::ConfigMap)
            && entry.resource_version > deleted.resource_version
            && entry.at.saturating_sub(entry.late).as_secs_f64() > deleted.at.as_secs_f64() + 1.0
    });
    assert!(late.is_none(), "created after the deletion: {late:?}");
    assert!(left(&history, "a").is_empty());

    let (successor, _) = env.deploy("a", &quick("5", "5")).await;
    let history = env.history().await;
    let state = successor.state(&history).unwrap();
    assert_eq!((state.summary(), state.color()), (vec!["5 Active".to_owned()], "blue"));
    env.finish().await;
}

#[tokio::test]
async fn a_resource_created_again_is_not_affected_by_the_deletion() {
    let env = SUITE.env("successor").await;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    let uid = subject.get().await.unwrap()["metadata"]["uid"].clone();
    subject.delete().await.unwrap();
    subject.create(&quick("2", "2")).await.unwrap();
    let entry = env.serves(&subject, "2").await;
    assert_ne!(entry.object["metadata"]["uid"], uid);
    env.linger(3).await;
    let history = env.history().await;
    let mine = |name: &str| {
        let service = history.live(Kind::Service, name).unwrap();
        service.text("/metadata/ownerReferences/0/uid").to_owned()
    };
    assert_eq!(mine("a-storage"), entry.text("/metadata/uid"));
    assert_eq!(mine("a-schema"), entry.text("/metadata/uid"));
    env.finish().await;
}

#[tokio::test]
async fn orphaned_objects_are_adopted_by_a_new_resource() {
    let mut env = SUITE.env("orphan").await;
    env.waived.status = true;
    let mut spec = quick("1", "1");
    let beside =
        json!({"serviceAccount": {"create": true}, "storage": {"podDisruptionBudget": {"enabled": true}}});
    merge(&mut spec, &beside);
    let (subject, _) = env.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    let before = env.history().await;
    let spec = subject.get().await.unwrap()["spec"].clone();
    subject.delete_orphaning().await.unwrap();
    let gone = |history: &History| subject.state(history).is_none().then_some(());
    env.wait("the resource to be gone", gone).await;
    env.linger(2).await;
    let history = env.history().await;
    assert_eq!(pods(&history, "a", "green"), pods(&before, "a", "green"), "nothing is deleted with it");

    subject.create(&spec).await.unwrap();
    let entry = env.serves(&subject, "2").await;
    let uid = entry.text("/metadata/uid");
    let history = env.history().await;
    assert_eq!(pods(&history, "a", "green"), pods(&before, "a", "green"), "pods are untouched");
    assert_eq!(State(&entry).summary(), ["1 Superseded", "2 Active"], "the history is back");
    for kind in Kind::MADE {
        for object in history.all_live(kind).iter().filter(|one| one.label("app") == Some("a")) {
            assert_eq!(object.text("/metadata/ownerReferences/0/uid"), uid, "{kind:?} {}", object.name);
            let uid_before = before.live(kind, &object.name).unwrap().text("/metadata/uid");
            assert_eq!(object.text("/metadata/uid"), uid_before, "{kind:?} {}", object.name);
        }
    }
    let owner = |meta: kube::core::ObjectMeta| meta.owner_references.unwrap()[0].uid.clone();
    let account: kube::Api<ServiceAccount> = env.api();
    assert_eq!(owner(account.get("a").await.unwrap().metadata), uid);
    let budget: kube::Api<PodDisruptionBudget> = env.api();
    assert_eq!(owner(budget.get("a-storage").await.unwrap().metadata), uid);
    assert_eq!(selected(&history, "a", "storage"), ["none", "blue", "green"]);
    let sets: kube::Api<ReplicaSet> = env.api();
    assert_eq!(sets.list(&ListParams::default()).await.unwrap().items.len(), 2);
    env.finish().await;
}
