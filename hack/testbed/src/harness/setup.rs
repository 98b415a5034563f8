//! The setup of every test: the CRD and a namespace.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::limits::TIME_LIMIT;
use crate::{pace, repository};

/// The CRD in the repository.
pub const CRD: &str = "crds/metadataservices.e6data.io.yaml";

/// Reads a YAML file of the repository.
pub fn manifest<T: DeserializeOwned>(path: &str) -> T {
    let text = std::fs::read_to_string(repository::root().join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Installs a CRD from a file of the repository, and waits until the API server serves it.
pub async fn install_crd(client: &Client, path: &str) {
    let crd: Value = manifest(path);
    crate::resource::install_crd(client, &crd, TIME_LIMIT).await.unwrap();
}

/// Creates a namespace.
pub async fn create_namespace(client: &Client, name: &str) {
    let object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &object).await.unwrap();
}

/// Waits until `done` returns true, for a condition that no watch reports.
pub async fn wait_for(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(pace::elapsed(start) < TIME_LIMIT, "not within {TIME_LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
