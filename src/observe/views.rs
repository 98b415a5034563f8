//! Projections of Kubernetes objects: what the operator looks at, and nothing else. They are what the watches keep in
//! memory (a whole Deployment costs a hundred times as much) and what live reads decode.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Resource;
use serde::Deserialize;

use super::metadata::{RawMeta, if_readable, lean, or_default};
use crate::resources::{Defaults, revision};
use api::template::ReleaseTemplate;

/// A ConfigMap's metadata; its content is never read, cached nor logged.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::core::v1::ConfigMap)]
pub struct ConfigMapView {
    /// Lean metadata.
    #[serde(deserialize_with = "lean")]
    pub metadata: ObjectMeta,
}

/// A ReplicaSet's metadata.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::apps::v1::ReplicaSet)]
pub struct ReplicaSetView {
    /// Lean metadata.
    #[serde(deserialize_with = "lean")]
    pub metadata: ObjectMeta,
}

/// A ServiceAccount's metadata; what was applied to it is in an annotation.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::core::v1::ServiceAccount)]
pub struct ServiceAccountView {
    /// Lean metadata.
    #[serde(deserialize_with = "lean")]
    pub metadata: ObjectMeta,
}

/// A PodDisruptionBudget's metadata; what was applied to it is in an annotation.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::policy::v1::PodDisruptionBudget)]
pub struct DisruptionBudgetView {
    /// Lean metadata.
    #[serde(deserialize_with = "lean")]
    pub metadata: ObjectMeta,
}

/// A Deployment: counts, conditions, and who changed its pod template.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::apps::v1::Deployment)]
#[serde(from = "RawDeployment")]
pub struct DeploymentView {
    /// Lean metadata.
    pub metadata: ObjectMeta,
    /// `spec.replicas`.
    pub replicas: i32,
    /// Its status.
    pub status: DeploymentStatusView,
    /// Field managers other than the operator that set something in the pod template.
    pub template_managers: Vec<String>,
}

#[derive(Deserialize)]
struct RawDeployment {
    metadata: RawMeta,
    spec: RawDeploymentSpec,
    #[serde(default)]
    status: DeploymentStatusView,
}

#[derive(Deserialize)]
struct RawDeploymentSpec {
    replicas: Option<i32>,
}

impl From<RawDeployment> for DeploymentView {
    fn from(raw: RawDeployment) -> Self {
        let template_managers = raw.metadata.template_managers();
        Self {
            metadata: raw.metadata.into(),
            replicas: raw.spec.replicas.unwrap_or(1),
            status: raw.status,
            template_managers,
        }
    }
}

/// A Deployment's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStatusView {
    /// The generation that the counts speak of.
    pub observed_generation: i64,
    /// Pods in all.
    pub replicas: i32,
    /// Pods of the present template.
    pub updated_replicas: i32,
    /// Pods ready.
    pub ready_replicas: i32,
    /// Pods available.
    pub available_replicas: i32,
    /// Its conditions.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<ConditionView>,
}

/// A condition of a Deployment or pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionView {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    #[serde(default)]
    pub reason: Option<String>,
    /// For people.
    #[serde(default)]
    pub message: Option<String>,
    /// When the status last changed.
    #[serde(default, deserialize_with = "if_readable")]
    pub last_transition_time: Option<Time>,
}

/// A Service: its selector, and when the operator changed it.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::core::v1::Service)]
#[serde(from = "RawService")]
pub struct ServiceView {
    /// Lean metadata.
    pub metadata: ObjectMeta,
    /// Its spec.
    pub spec: ServiceSpecView,
    /// When a change of the operator's last took effect.
    pub changed: Option<Time>,
}

#[derive(Deserialize)]
struct RawService {
    metadata: RawMeta,
    #[serde(default)]
    spec: ServiceSpecView,
}

impl From<RawService> for ServiceView {
    fn from(raw: RawService) -> Self {
        let changed = raw.metadata.changed();
        Self { metadata: raw.metadata.into(), spec: raw.spec, changed }
    }
}

/// A Service's spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpecView {
    /// Its selector.
    #[serde(deserialize_with = "or_default")]
    pub selector: BTreeMap<String, String>,
}

/// An EndpointSlice: which pods it lists, and which of them are ready.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::discovery::v1::EndpointSlice)]
pub struct EndpointSliceView {
    /// Lean metadata.
    #[serde(deserialize_with = "lean")]
    pub metadata: ObjectMeta,
    /// Its endpoints.
    #[serde(default, deserialize_with = "or_default")]
    pub endpoints: Vec<EndpointView>,
}

/// An endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// Its conditions.
    #[serde(default)]
    pub conditions: EndpointConditionsView,
    /// The pod.
    #[serde(default)]
    pub target_ref: Option<TargetRefView>,
}

/// An endpoint's conditions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointConditionsView {
    /// Whether it takes new connections; absent means yes.
    pub ready: Option<bool>,
}

/// What an endpoint refers to.
#[derive(Clone, Debug, Deserialize)]
pub struct TargetRefView {
    /// The pod's name.
    #[serde(default)]
    pub name: Option<String>,
}

/// A pod: who owns it, whether it is ready, and why it is not.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::core::v1::Pod)]
pub struct PodView {
    /// Lean metadata.
    #[serde(deserialize_with = "lean")]
    pub metadata: ObjectMeta,
    /// Its status.
    #[serde(default)]
    pub status: PodStatusView,
}

/// A pod's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatusView {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// Its conditions.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<ConditionView>,
    /// Its init containers.
    #[serde(deserialize_with = "or_default")]
    pub init_container_statuses: Vec<ContainerView>,
    /// Its containers.
    #[serde(deserialize_with = "or_default")]
    pub container_statuses: Vec<ContainerView>,
}

/// A container's status.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// How often it was restarted.
    #[serde(default)]
    pub restart_count: i32,
    /// What it does now.
    #[serde(default)]
    pub state: ContainerStateView,
    /// What it did before.
    #[serde(default)]
    pub last_state: ContainerStateView,
}

/// What a container does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerStateView {
    /// It waits.
    pub waiting: Option<WordsView>,
    /// It ended.
    pub terminated: Option<WordsView>,
}

/// What kubelet says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WordsView {
    /// One word.
    pub reason: Option<String>,
    /// For people.
    pub message: Option<String>,
    /// Of an ended container.
    pub exit_code: Option<i32>,
}

/// A ControllerRevision: the record of a release.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::apps::v1::ControllerRevision)]
#[serde(from = "RawRevision")]
pub struct RevisionView {
    /// Lean metadata.
    pub metadata: ObjectMeta,
    /// Its place in the history.
    pub number: i64,
    /// The version of its release; `None` if it is no record of this resource.
    pub version: Option<String>,
    /// The hash of its template; empty if the record has a flaw.
    pub hash: String,
    /// Why its release cannot be restored from it.
    pub flaw: Option<String>,
    /// Why its release failed, if it did.
    pub failed: Option<String>,
    /// What shapes the release's pods; dropped in the cache.
    pub template: Option<Box<ReleaseTemplate>>,
    /// What the operator added when it was recorded; dropped in the cache.
    pub defaults: Option<Box<Defaults>>,
}

#[derive(Deserialize)]
struct RawRevision {
    metadata: RawMeta,
    #[serde(default)]
    data: Option<RawExtension>,
    #[serde(default)]
    revision: i64,
}

impl From<RawRevision> for RevisionView {
    fn from(raw: RawRevision) -> Self {
        let metadata = ObjectMeta::from(raw.metadata);
        let object = ControllerRevision { metadata, data: raw.data, revision: raw.revision };
        let (record, flaw) = match revision::read(&object) {
            Ok(record) => (Some(record), None),
            Err(flaw) => (None, Some(flaw)),
        };
        Self {
            number: raw.revision,
            version: revision::version_of(&object),
            hash: record.as_ref().map(|record| record.hash.as_str().to_owned()).unwrap_or_default(),
            flaw,
            failed: revision::failed(&object),
            defaults: record.as_ref().and_then(|record| record.defaults.clone()).map(Box::new),
            template: record.map(|record| Box::new(record.template)),
            metadata: object.metadata,
        }
    }
}

impl RevisionView {
    /// Drops what only a rendering needs; the cache does not.
    pub fn forget_template(&mut self) {
        self.template = None;
        self.defaults = None;
    }
}

/// Metadata questions that every view answers alike.
pub trait Meta {
    /// The metadata.
    fn object_meta(&self) -> &ObjectMeta;

    /// An annotation of ours.
    fn annotation(&self, key: &str) -> Option<&str> {
        self.object_meta().annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// A label.
    fn label(&self, key: &str) -> Option<&str> {
        self.object_meta().labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Its name.
    fn object_name(&self) -> &str {
        self.object_meta().name.as_deref().unwrap_or_default()
    }

    /// Whether it is being deleted.
    fn is_terminating(&self) -> bool {
        self.object_meta().deletion_timestamp.is_some()
    }

    /// The reference to its controller, if it has one.
    fn controller(&self) -> Option<&OwnerReference> {
        let references = self.object_meta().owner_references.as_ref()?;
        references.iter().find(|reference| reference.controller == Some(true))
    }

    /// When it was created.
    fn created(&self) -> Option<Timestamp> {
        self.object_meta().creation_timestamp.as_ref().map(|time| time.0)
    }
}

impl<K: Resource> Meta for K {
    fn object_meta(&self) -> &ObjectMeta {
        self.meta()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_view_names_those_who_changed_the_template_only() {
        let view: DeploymentView = serde_json::from_value(serde_json::json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "resourceVersion": "5", "annotations": {"e6data.io/epoch": "3", "x": "y"},
              "managedFields": [
                {"manager": "e6-operator", "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {}}}},
                {"manager": "kubectl", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {}}}}},
                {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {"f:status": {}}}]},
            "spec": {"replicas": 2, "template": {"spec": {"containers": []}}},
            "status": {"observedGeneration": 1, "readyReplicas": 2}
        }))
        .unwrap();
        assert_eq!(view.template_managers, ["kubectl-edit"]);
        assert_eq!(view.annotation("e6data.io/epoch"), Some("3"));
        assert_eq!(view.annotation("x"), None);
        assert_eq!((view.replicas, view.status.ready_replicas), (2, 2));
    }
}
