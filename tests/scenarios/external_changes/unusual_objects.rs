//! Unusual but legal external changes: labels of objects that are deleted, finalizers, invalid times, foreign Pods.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State};

use crate::SUITE;

/// The Deployment of the previous color has lost the label by which the operator finds it. The operator deletes it
/// nevertheless.
#[tokio::test]
async fn a_deployment_of_the_previous_color_without_its_label_is_deleted() {
    let mut env = SUITE.env("meddle-leaving").await;
    env.waived.objects = vec!["a-storage-blue".to_owned()];
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"cleanupDelaySeconds": 6}}));
    let (subject, _) = env.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    env.step(&subject, "Watching").await;
    let label = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}});
    env.patch(Kind::Deployment, "a-storage-blue", &label).await;
    env.serves(&subject, "2").await;
    let left = env.objects(Kind::Deployment).get_opt("a-storage-blue").await.unwrap();
    assert!(left.is_none(), "it is still there");
    env.finish().await;
}

/// A ControllerRevision is deleted and held by a finalizer. The operator updates it while it exists, without a loop,
/// and creates it again later.
#[tokio::test]
async fn a_revision_held_by_a_finalizer_causes_no_write_loop() {
    let mut env = SUITE.env("meddle-record").await;
    env.waived.records = true;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    let name = env.history().await.all_live(Kind::ControllerRevision)[0].name.clone();
    env.waived.objects = vec![name.clone()];
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    env.patch(Kind::ControllerRevision, &name, &finalizers(json!(["example.com/held"]))).await;
    env.delete(Kind::ControllerRevision, &name).await;
    env.linger(5).await;
    if let Some(audit) = env.audit().await {
        let writes = audit.writes();
        let again = writes.requests().iter().filter(|one| one.resource == "controllerrevisions").count();
        assert!(again <= 2, "{again} writes of records");
    }
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    // A failure is marked on a held ControllerRevision too.
    subject.upgrade("3-crash", "3").await.unwrap();
    let failed = |history: &History| {
        let record = history.all_live(Kind::ControllerRevision).into_iter().find(|one| one.name != name)?;
        Some(record.name.clone())
    };
    env.wait("the second record", failed).await;
    env.rolled_back(&subject, "2").await;
    env.patch(Kind::ControllerRevision, &name, &finalizers(json!([]))).await;
    subject.upgrade("4", "4").await.unwrap();
    env.serves(&subject, "4").await;
    env.finish().await;
}

/// A Pod of another client receives traffic because of its labels. The operator reports it at rest too, until it is
/// gone.
#[tokio::test]
async fn a_foreign_pod_behind_a_front_service_is_reported_at_rest() {
    let env = SUITE.env("meddle-pod").await;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    env.linger(4).await;
    let pods: Api<Pod> = env.api();
    let labels = json!({"app": "a", "component": "storage", "strategy": "blue"});
    let pod = json!({"metadata": {"name": "stranger", "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "theirs/app:1"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let ready = |wanted: &'static str| move |state: State<'_>| state.condition("Ready", "status") == wanted;
    env.until(&subject, "the stranger to be told", ready("False")).await;
    pods.delete("stranger", &DeleteParams::default()).await.unwrap();
    env.until(&subject, "all to be well", ready("True")).await;
    env.finish().await;
}

/// A client can write a time into managed fields that the API server accepts and prints in an invalid form. It hides
/// neither the object nor others of its kind, even from an operator that lists them again.
#[tokio::test]
async fn an_invalid_time_blocks_nothing() {
    let mut env = SUITE.env("meddle-time").await;
    env.waived.objects = vec!["a-storage-config-blue".to_owned()];
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    let api = env.objects(Kind::ConfigMap);
    let mut object = api.get("a-storage-config-blue").await.unwrap();
    let fields = object.metadata.managed_fields.take();
    let mut odd = serde_json::to_value(&object).unwrap();
    odd["metadata"]["labels"]["theirs"] = json!("yes");
    odd["metadata"]["managedFields"] = serde_json::to_value(fields).unwrap();
    odd["metadata"]["managedFields"][0]["time"] = json!("9999-12-31T23:59:59-12:00");
    let path = format!("/api/v1/namespaces/{}/configmaps/a-storage-config-blue", env.namespace);
    let put = http::Request::put(path).header("content-type", "application/json");
    let answer = env.client.request_text(put.body(odd.to_string().into_bytes()).unwrap()).await.unwrap();
    assert!(answer.contains("\"10000-"), "the API server corrects it now: {answer}");
    env.restart().await;
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    assert!(api.get_opt("a-storage-config-blue").await.unwrap().is_none(), "it went with its color");
    // The timeline parses times too, and no longer receives ConfigMaps.
    env.leave().await;
}
