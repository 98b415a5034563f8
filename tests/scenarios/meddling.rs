//! Another hand meddles with objects in ways that are legal and odd: labels of what leaves, finalizers, times that are
//! none, pods among ours.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State};

use crate::bed::Bed;

/// The Deployment of the color that leaves has lost the label by which it is found: it goes all the same.
#[tokio::test]
async fn a_leaving_deployment_without_its_label_goes_too() {
    let mut bed = Bed::new("meddle-leaving").await;
    bed.waived.objects = vec!["a-storage-blue".to_owned()];
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"cleanupDelaySeconds": 6}}));
    let (subject, _) = bed.deploy("a", &spec).await;
    subject.upgrade("2", "2").await.unwrap();
    bed.step(&subject, "Watching").await;
    let label = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}});
    bed.patch(Kind::Deployment, "a-storage-blue", &label).await;
    bed.serves(&subject, "2").await;
    let left = bed.objects(Kind::Deployment).get_opt("a-storage-blue").await.unwrap();
    assert!(left.is_none(), "it is still there");
    bed.finish().await;
}

/// A record that somebody deletes and a finalizer holds: it is written on while it is there, not again and again, and made
/// anew when it is gone.
#[tokio::test]
async fn a_record_that_is_held_on_its_way_out_is_no_loop() {
    let mut bed = Bed::new("meddle-record").await;
    bed.waived.records = true;
    let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
    let name = bed.history().await.all_live(Kind::ControllerRevision)[0].name.clone();
    bed.waived.objects = vec![name.clone()];
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    bed.patch(Kind::ControllerRevision, &name, &finalizers(json!(["example.com/held"]))).await;
    bed.delete(Kind::ControllerRevision, &name).await;
    bed.linger(5).await;
    if let Some(audit) = bed.audit().await {
        let writes = audit.writes();
        let again = writes.requests().iter().filter(|one| one.resource == "controllerrevisions").count();
        assert!(again <= 2, "{again} writes of records");
    }
    subject.upgrade("2", "2").await.unwrap();
    bed.serves(&subject, "2").await;
    // What failed is marked on a record that is held, too.
    subject.upgrade("3-crash", "3").await.unwrap();
    let failed = |history: &History| {
        let record = history.all_live(Kind::ControllerRevision).into_iter().find(|one| one.name != name)?;
        Some(record.name.clone())
    };
    bed.wait("the second record", failed).await;
    bed.rolled_back(&subject, "2").await;
    bed.patch(Kind::ControllerRevision, &name, &finalizers(json!([]))).await;
    subject.upgrade("4", "4").await.unwrap();
    bed.serves(&subject, "4").await;
    bed.finish().await;
}

/// A pod of somebody else's gets traffic by its labels alone: that is told at rest too, and is over when it goes.
#[tokio::test]
async fn a_pod_of_others_behind_a_front_service_is_told_at_rest() {
    let bed = Bed::new("meddle-pod").await;
    let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
    bed.linger(4).await;
    let pods: Api<Pod> = bed.api();
    let labels = json!({"app": "a", "component": "storage", "strategy": "blue"});
    let pod = json!({"metadata": {"name": "stranger", "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "theirs/app:1"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let ready = |wanted: &'static str| move |state: State<'_>| state.condition("Ready", "status") == wanted;
    bed.until(&subject, "the stranger to be told", ready("False")).await;
    pods.delete("stranger", &DeleteParams::default()).await.unwrap();
    bed.until(&subject, "all to be well", ready("True")).await;
    bed.finish().await;
}

/// Whoever writes an object may write into its managed fields what Go reads as a time and prints as none. It hides neither
/// the object nor the others of its kind, also from an operator that lists them anew.
#[tokio::test]
async fn a_time_that_cannot_be_read_stops_nobody() {
    let mut bed = Bed::new("meddle-time").await;
    bed.waived.objects = vec!["a-storage-config-blue".to_owned()];
    let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
    let api = bed.objects(Kind::ConfigMap);
    let mut object = api.get("a-storage-config-blue").await.unwrap();
    let fields = object.metadata.managed_fields.take();
    let mut odd = serde_json::to_value(&object).unwrap();
    odd["metadata"]["labels"]["theirs"] = json!("yes");
    odd["metadata"]["managedFields"] = serde_json::to_value(fields).unwrap();
    odd["metadata"]["managedFields"][0]["time"] = json!("9999-12-31T23:59:59-12:00");
    let path = format!("/api/v1/namespaces/{}/configmaps/a-storage-config-blue", bed.namespace);
    let put = http::Request::put(path).header("content-type", "application/json");
    let answer = bed.client.request_text(put.body(odd.to_string().into_bytes()).unwrap()).await.unwrap();
    assert!(answer.contains("\"10000-"), "the API server corrects it now: {answer}");
    bed.restart().await;
    subject.upgrade("2", "2").await.unwrap();
    bed.serves(&subject, "2").await;
    assert!(api.get_opt("a-storage-config-blue").await.unwrap().is_none(), "it went with its color");
    // The eye of the scenario reads times, and has lost sight of ConfigMaps.
    bed.leave().await;
}
