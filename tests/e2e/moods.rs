//! Tells running pods how to behave, and disturbs them.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams};
use testbed::{History, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::Stage;

/// Ready pods of a component in a color: name and address.
fn pods(history: &History, stage: &Stage, component: &str, color: &str) -> Vec<(String, String)> {
    let pods = history.all_live(Kind::Pod);
    pods.into_iter()
        .filter(|pod| {
            pod.label("app") == Some(&stage.subject.name)
                && pod.label("component") == Some(component)
                && pod.label("strategy") == Some(color)
                && pod.condition("Ready") == "True"
                && pod.get("/metadata/deletionTimestamp").is_none()
        })
        .map(|pod| (pod.name.clone(), pod.text("/status/podIP").to_owned()))
        .collect()
}

/// The color that clients are led to.
pub fn serving(stage: &Stage) -> String {
    let history = stage.bed.timeline.history();
    let service = history.live(Kind::Service, &format!("{}-storage", stage.subject.name)).unwrap();
    service.text("/spec/selector/strategy").to_owned()
}

/// Changes the mood of so many pods of a component in the serving color.
pub async fn be(stage: &Stage, component: &str, mood: &str, count: usize) {
    let port = if component == "storage" { 9005 } else { 9006 };
    let pods = pods(&stage.bed.timeline.history(), stage, component, &serving(stage));
    assert!(pods.len() >= count, "{count} ready pods of {component}, there are {pods:?}");
    for (_, address) in pods.into_iter().take(count) {
        let ask = async {
            let mut stream = TcpStream::connect((address.as_str(), port)).await?;
            let request = format!("GET /be/{mood} HTTP/1.1\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await
        };
        let answer = tokio::time::timeout(Duration::from_secs(5), ask).await.expect("the pod answers");
        // A pod that crashes as told cannot say so.
        assert!(answer.is_ok() || mood == "gone", "{answer:?}");
    }
}

/// A ready pod of the serving color.
fn one(stage: &Stage, component: &str) -> String {
    let pods = pods(&stage.bed.timeline.history(), stage, component, &serving(stage));
    pods.into_iter().next().expect("a ready pod").0
}

/// Deletes a pod of the serving color, as `kubectl delete pod` does.
pub async fn delete_one(stage: &Stage, component: &str) {
    let name = one(stage, component);
    stage.bed.api::<Pod>().delete(&name, &DeleteParams::default()).await.unwrap();
}

/// Evicts a pod of the serving color, as `kubectl drain` does.
pub async fn evict_one(stage: &Stage, component: &str) {
    let name = one(stage, component);
    stage.bed.api::<Pod>().evict(&name, &EvictParams::default()).await.unwrap();
}

/// Waits until so many pods of a component in a color are ready.
pub async fn ready(stage: &Stage, component: &str, count: usize) {
    let color = serving(stage);
    stage
        .bed
        .wait(&format!("{count} ready pods of {component}"), |history| {
            (pods(history, stage, component, &color).len() == count).then_some(())
        })
        .await;
}
