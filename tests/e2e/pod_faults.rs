//! Changes the behavior of running Pods, and deletes or evicts them.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams};
use testbed::{History, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::resource_under_load::ResourceUnderLoad;

/// Returns name and address of the ready Pods of a component and color.
fn pods(
    history: &History,
    resource: &ResourceUnderLoad,
    component: &str,
    color: &str,
) -> Vec<(String, String)> {
    let pods = history.all_live(Kind::Pod);
    pods.into_iter()
        .filter(|pod| {
            pod.label("app") == Some(&resource.subject.name)
                && pod.label("component") == Some(component)
                && pod.label("strategy") == Some(color)
                && pod.condition("Ready") == "True"
                && pod.get("/metadata/deletionTimestamp").is_none()
        })
        .map(|pod| (pod.name.clone(), pod.text("/status/podIP").to_owned()))
        .collect()
}

/// Returns the color that the front Service selects.
pub fn serving(resource: &ResourceUnderLoad) -> String {
    let history = resource.env.timeline.history();
    let service = history.live(Kind::Service, &format!("{}-storage", resource.subject.name)).unwrap();
    service.text("/spec/selector/strategy").to_owned()
}

/// Changes the behavior of `count` Pods of the active color.
pub async fn set_behavior(resource: &ResourceUnderLoad, component: &str, behavior: &str, count: usize) {
    let port = if component == "storage" { 9005 } else { 9006 };
    let pods = pods(&resource.env.timeline.history(), resource, component, &serving(resource));
    assert!(pods.len() >= count, "{count} ready pods of {component}, there are {pods:?}");
    for (_, address) in pods.into_iter().take(count) {
        let ask = async {
            let mut stream = TcpStream::connect((address.as_str(), port)).await?;
            let request = format!("GET /be/{behavior} HTTP/1.1\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await
        };
        let answer = tokio::time::timeout(Duration::from_secs(5), ask).await.expect("the pod answers");
        // A crashing Pod cannot answer.
        assert!(answer.is_ok() || behavior == "gone", "{answer:?}");
    }
}

/// Returns a ready Pod of the active color.
fn one(resource: &ResourceUnderLoad, component: &str) -> String {
    let pods = pods(&resource.env.timeline.history(), resource, component, &serving(resource));
    pods.into_iter().next().expect("a ready pod").0
}

/// Deletes a Pod of the active color, as `kubectl delete pod` does.
pub async fn delete_one(resource: &ResourceUnderLoad, component: &str) {
    let name = one(resource, component);
    resource.env.api::<Pod>().delete(&name, &DeleteParams::default()).await.unwrap();
}

/// Evicts a Pod of the active color, as `kubectl drain` does.
pub async fn evict_one(resource: &ResourceUnderLoad, component: &str) {
    let name = one(resource, component);
    resource.env.api::<Pod>().evict(&name, &EvictParams::default()).await.unwrap();
}

/// Waits until `count` Pods of a component are ready on the active color.
pub async fn ready(resource: &ResourceUnderLoad, component: &str, count: usize) {
    let color = serving(resource);
    resource
        .env
        .wait(&format!("{count} ready pods of {component}"), |history| {
            (pods(history, resource, component, &color).len() == count).then_some(())
        })
        .await;
}
