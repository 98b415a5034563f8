//! What users and the world do to a resource, as kubectl and a kubelet would.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use testbed::Kind;

use crate::scenario::{NAME, Scenario, adjusted};

/// One thing that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Creates the resource, or changes the image tags of both components.
    Apply(&'static str),
    /// Asks for the recorded release with this tag.
    GoBack(&'static str),
    /// Asks for the failed release once more.
    Retry,
    /// Allows no more pods than one release has.
    Limit,
    /// Takes that limit away.
    Unlimit,
    /// Makes a storage pod of the new release lose its readiness.
    Sicken,
    /// Changes what follows the spec in place.
    Adjust,
    /// Deletes the resource.
    Delete,
}

/// How long an API server may know a quota that is gone.
const QUOTA_GONE: Duration = Duration::from_millis(500);

/// The resources of a namespace, or of all.
pub fn resources(client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let kind: ApiResource = Kind::MetadataServices.resource();
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    }
}

impl Deed {
    /// Does it.
    pub async fn act(self, client: &Client, namespace: &str, scenario: Scenario) {
        let api = resources(client, Some(namespace));
        let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), namespace);
        match self {
            Self::Apply(tag) => apply(&api, &scenario.resource(tag)).await,
            Self::GoBack(tag) => {
                let version = version(&api.get(NAME).await.unwrap().data, tag);
                patch(&api, &json!({"metadata": {"annotations": {"e6data.io/rollback-to": version}}})).await;
            }
            Self::Retry => {
                patch(&api, &json!({"metadata": {"annotations": {"e6data.io/retry": "now"}}})).await;
            }
            Self::Limit => {
                let quota = json!({"metadata": {"name": "two"}, "spec": {"hard": {"pods": "2"}}});
                let quota = serde_json::from_value(quota).unwrap();
                quotas.create(&PostParams::default(), &quota).await.unwrap();
            }
            Self::Unlimit => {
                quotas.delete("two", &DeleteParams::default()).await.unwrap();
                tokio::time::sleep(QUOTA_GONE).await;
            }
            Self::Adjust => patch(&api, &json!({"spec": adjusted()})).await,
            Self::Sicken => sicken(client, namespace).await,
            Self::Delete => {
                // As most delete it; where deletion is the story, it is there, being deleted, until its objects are gone.
                let params = match scenario {
                    Scenario::Delete => DeleteParams::foreground(),
                    _ => DeleteParams::background(),
                };
                api.delete(NAME, &params).await.unwrap();
            }
        }
    }

    /// Whether what was done has come to its end, by the resource as it is now.
    pub fn is_over(self, resource: &Value) -> bool {
        match self {
            Self::Apply(tag) => resource["spec"]["storage"]["imageTag"] == tag && at_rest(resource),
            _ => at_rest(resource),
        }
    }
}

/// Whether a resource rests, and has seen all that was asked of it.
pub fn at_rest(resource: &Value) -> bool {
    let number = |pointer: &str| resource.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let annotations = resource.pointer("/metadata/annotations").and_then(Value::as_object);
    let asked = ["e6data.io/rollback-to", "e6data.io/retry"];
    resource.pointer("/status/rollout/step").is_some_and(|step| step == "Stable")
        && number("/status/observedGeneration") == number("/metadata/generation")
        && annotations.is_none_or(|all| asked.iter().all(|key| !all.contains_key(*key)))
}

async fn apply(api: &Api<DynamicObject>, resource: &Value) {
    if api.get_opt(NAME).await.unwrap().is_some() {
        return patch(api, &json!({"spec": resource["spec"]})).await;
    }
    let object: DynamicObject = serde_json::from_value(resource.clone()).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

async fn patch(api: &Api<DynamicObject>, patch: &Value) {
    api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// The version of the recorded release with a tag.
fn version(resource: &Value, tag: &str) -> String {
    let records = resource.pointer("/status/releaseHistory").and_then(Value::as_array).unwrap();
    let found = records.iter().find(|record| record["storageTag"] == tag).unwrap();
    found["version"].as_str().unwrap().to_owned()
}

async fn sicken(client: &Client, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let labels = format!("app={NAME},component=storage,strategy=green");
    let found = pods.list(&kube::api::ListParams::default().labels(&labels)).await.unwrap();
    let unready = json!({"status": {"conditions": [
        {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
        {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady"},
    ]}});
    let pod = found.items.iter().find(|pod| pod.metadata.deletion_timestamp.is_none()).unwrap();
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&unready)).await.unwrap();
}
