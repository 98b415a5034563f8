//! Actions of users, of administrators and of the kubelet on one resource.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::predecessor::Predecessor;
use crate::resource::Subject;

/// The name of the quota that limits the Pods of a namespace.
const QUOTA: &str = "pods";

/// Time that the API server may still enforce a deleted quota.
const QUOTA_CACHE: Duration = Duration::from_millis(500);

/// One action.
#[derive(Debug, Clone, PartialEq)]
pub enum UserAction {
    /// Creates the resource with this spec, or merges the spec into the existing one.
    Apply(Value),
    /// Creates the resource with this spec, and on green what an earlier operator made for images with this tag; waits until
    /// its Pods are ready.
    LeavePredecessor(Value, String),
    /// Merges these fields into the spec.
    Edit(Value),
    /// Changes the image tags of storage and schema.
    SetImageTags(String, String),
    /// Requests a rollback to this release.
    RollBackToVersion(String),
    /// Requests a rollback to the recorded release with this storage tag.
    RollBackToTag(String),
    /// Requests another attempt of the failed release.
    Retry,
    /// Requests a restart of the active release.
    Restart,
    /// Limits the number of Pods in the namespace by a quota.
    LimitPods(u32),
    /// Removes that quota.
    RemovePodLimit,
    /// Makes one storage Pod of a color unready, as its kubelet would.
    MakePodUnready(&'static str),
    /// Deletes the resource; the garbage collector deletes its objects afterwards.
    Delete,
    /// Deletes the resource in the foreground: it exists until its objects are gone.
    DeleteInForeground,
}

impl UserAction {
    /// Performs the action.
    ///
    /// # Errors
    /// When the API server rejects a request, or the release or Pod does not exist.
    pub async fn perform(&self, subject: &Subject) -> Result<()> {
        match self {
            Self::Apply(spec) => match subject.get().await {
                Ok(_) => subject.edit(spec).await,
                Err(Error::Kube(kube::Error::Api(status))) if status.code == 404 => {
                    subject.create(spec).await
                }
                Err(error) => Err(error),
            },
            Self::LeavePredecessor(spec, tag) => {
                subject.create(spec).await?;
                let image = |component: &str| format!("example.com/{component}:{tag}");
                let status = Predecessor::status("green", tag);
                Predecessor::of(subject).await?.leave("green", image, Some(&status)).await
            }
            Self::Edit(fields) => subject.edit(fields).await,
            Self::SetImageTags(storage, schema) => subject.upgrade(storage, schema).await,
            Self::RollBackToVersion(version) => subject.annotate("e6data.io/rollback-to", version).await,
            Self::RollBackToTag(tag) => {
                let version = version_of(&subject.get().await?, tag)?;
                subject.annotate("e6data.io/rollback-to", &version).await
            }
            Self::Retry => subject.annotate("e6data.io/retry", "now").await,
            Self::Restart => subject.annotate("e6data.io/restart", "now").await,
            Self::LimitPods(count) => limit_pods(subject, *count).await,
            Self::RemovePodLimit => {
                quotas(subject).delete(QUOTA, &DeleteParams::default()).await?;
                tokio::time::sleep(QUOTA_CACHE).await;
                Ok(())
            }
            Self::MakePodUnready(color) => make_pod_unready(subject, color).await,
            Self::Delete => subject.delete().await,
            Self::DeleteInForeground => subject.delete_foreground().await,
        }
    }
}

/// Returns the version of the recorded release with this storage tag.
fn version_of(resource: &Value, tag: &str) -> Result<String> {
    let records = resource.pointer("/status/releaseHistory").and_then(Value::as_array);
    let found = records.and_then(|all| all.iter().find(|record| record["storageTag"] == tag));
    let version = found.and_then(|record| record["version"].as_str());
    version.map(str::to_owned).ok_or_else(|| Error::Unsupported(format!("no recorded release has tag {tag}")))
}

fn quotas(subject: &Subject) -> Api<ResourceQuota> {
    Api::namespaced(subject.client(), &subject.namespace)
}

async fn limit_pods(subject: &Subject, count: u32) -> Result<()> {
    let quota = json!({"metadata": {"name": QUOTA}, "spec": {"hard": {"pods": count.to_string()}}});
    let quota = serde_json::from_value(quota)
        .map_err(|source| Error::Json { what: "the quota".to_owned(), source })?;
    quotas(subject).create(&PostParams::default(), &quota).await?;
    Ok(())
}

async fn make_pod_unready(subject: &Subject, color: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(subject.client(), &subject.namespace);
    let labels = format!("app={},component=storage,strategy={color}", subject.name);
    let found = pods.list(&ListParams::default().labels(&labels)).await?;
    let pod = found.items.iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
    let pod = pod.ok_or_else(|| Error::Unsupported(format!("no Pod has the labels {labels}")))?;
    let unready = json!({"status": {"conditions": [
        {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
        {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady"},
    ]}});
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&unready)).await?;
    Ok(())
}
