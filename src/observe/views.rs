//! Views of Kubernetes objects with the fields that the operator uses. The cache keeps views, since a whole Deployment takes
//! a hundred times as much memory; live reads decode them too.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Resource;
use serde::Deserialize;

use super::metadata::{RawMeta, if_readable, or_default, trimmed_meta};
use crate::resources::{Defaults, controller_revision};
use api::names::RELEASE_VERSION;
use api::template::ReleaseTemplate;

/// A ConfigMap. The operator never decodes, caches or logs its content.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::core::v1::ConfigMap)]
pub struct ConfigMapView {
    /// Metadata without managed fields and foreign annotations.
    #[serde(deserialize_with = "trimmed_meta")]
    pub metadata: ObjectMeta,
}

/// A ReplicaSet.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::apps::v1::ReplicaSet)]
pub struct ReplicaSetView {
    /// Metadata without managed fields and foreign annotations.
    #[serde(deserialize_with = "trimmed_meta")]
    pub metadata: ObjectMeta,
}

/// A ServiceAccount. An annotation holds the digest of the applied settings.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::core::v1::ServiceAccount)]
pub struct ServiceAccountView {
    /// Metadata without managed fields and foreign annotations.
    #[serde(deserialize_with = "trimmed_meta")]
    pub metadata: ObjectMeta,
}

/// A PodDisruptionBudget. An annotation holds the digest of the applied settings.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::policy::v1::PodDisruptionBudget)]
pub struct DisruptionBudgetView {
    /// Metadata without managed fields and foreign annotations.
    #[serde(deserialize_with = "trimmed_meta")]
    pub metadata: ObjectMeta,
}

/// A Deployment: counts, conditions and the managers of its pod template.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::apps::v1::Deployment)]
#[serde(from = "RawDeployment")]
pub struct DeploymentView {
    /// Metadata without managed fields and foreign annotations.
    pub metadata: ObjectMeta,
    /// `spec.replicas`.
    pub replicas: i32,
    /// Its status.
    pub status: DeploymentStatusView,
    /// Field managers, other than the operator, that set a field of the pod template.
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
    #[serde(default)]
    template: RawTemplate,
}

/// The release that the operator wrote on the Pods of a Deployment.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawTemplate {
    #[serde(deserialize_with = "or_default")]
    metadata: RawTemplateMeta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawTemplateMeta {
    #[serde(deserialize_with = "or_default")]
    annotations: ReleaseAnnotation,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReleaseAnnotation {
    #[serde(rename = "e6data.io/release-version")]
    version: Option<String>,
}

impl From<RawDeployment> for DeploymentView {
    fn from(raw: RawDeployment) -> Self {
        let template_managers = raw.metadata.template_managers();
        let mut metadata = ObjectMeta::from(raw.metadata);
        // Another client may have removed the annotations of the Deployment. The Pods still show who made it.
        if let (Some(annotations), Some(version)) =
            (&mut metadata.annotations, raw.spec.template.metadata.annotations.version)
        {
            annotations.entry(RELEASE_VERSION.to_owned()).or_insert(version);
        }
        Self { metadata, replicas: raw.spec.replicas.unwrap_or(1), status: raw.status, template_managers }
    }
}

/// A Deployment's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStatusView {
    /// The generation that the counts describe.
    pub observed_generation: i64,
    /// Number of Pods.
    pub replicas: i32,
    /// Number of Pods of the current template.
    pub updated_replicas: i32,
    /// Number of ready Pods.
    pub ready_replicas: i32,
    /// Number of available Pods.
    pub available_replicas: i32,
    /// Its conditions.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<ConditionView>,
}

/// A condition of a Deployment or Pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionView {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason, one word.
    #[serde(default)]
    pub reason: Option<String>,
    /// The message for people.
    #[serde(default)]
    pub message: Option<String>,
    /// When the status last changed.
    #[serde(default, deserialize_with = "if_readable")]
    pub last_transition_time: Option<Time>,
}

/// A Service: its selector and the time of the operator's last change.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::core::v1::Service)]
#[serde(from = "RawService")]
pub struct ServiceView {
    /// Metadata without managed fields and foreign annotations.
    pub metadata: ObjectMeta,
    /// Its spec.
    pub spec: ServiceSpecView,
    /// When the API server stored the operator's last change.
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

/// An EndpointSlice: the listed Pods and their readiness.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::discovery::v1::EndpointSlice)]
pub struct EndpointSliceView {
    /// Metadata without managed fields and foreign annotations.
    #[serde(deserialize_with = "trimmed_meta")]
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
    /// The Pod.
    #[serde(default)]
    pub target_ref: Option<TargetRefView>,
}

/// An endpoint's conditions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointConditionsView {
    /// True if the endpoint accepts new connections; absent means true.
    pub ready: Option<bool>,
}

/// The target of an endpoint.
#[derive(Clone, Debug, Deserialize)]
pub struct TargetRefView {
    /// The name of the Pod.
    #[serde(default)]
    pub name: Option<String>,
}

/// A Pod: owner, readiness and container states.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::core::v1::Pod)]
pub struct PodView {
    /// Metadata without managed fields and foreign annotations.
    #[serde(deserialize_with = "trimmed_meta")]
    pub metadata: ObjectMeta,
    /// Its status.
    #[serde(default)]
    pub status: PodStatusView,
}

/// A Pod's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatusView {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// Its conditions.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<ConditionView>,
    /// Status of the init containers.
    #[serde(deserialize_with = "or_default")]
    pub init_container_statuses: Vec<ContainerView>,
    /// Status of the containers.
    #[serde(deserialize_with = "or_default")]
    pub container_statuses: Vec<ContainerView>,
}

/// A container's status.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Number of restarts.
    #[serde(default)]
    pub restart_count: i32,
    /// The current state.
    #[serde(default)]
    pub state: ContainerStateView,
    /// The state before the last restart.
    #[serde(default)]
    pub last_state: ContainerStateView,
}

/// The state of a container; at most one field is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerStateView {
    /// The container runs.
    pub running: Option<RunningView>,
    /// The container waits to start.
    pub waiting: Option<StateReasonView>,
    /// The container has terminated.
    pub terminated: Option<StateReasonView>,
}

/// A running container. Its start time is not kept.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct RunningView {}

/// Reason and message of a container state, as the kubelet reports them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateReasonView {
    /// The reason, one word.
    pub reason: Option<String>,
    /// The message for people.
    pub message: Option<String>,
    /// The exit code of a terminated container.
    pub exit_code: Option<i32>,
}

/// A ControllerRevision: the template of a release and its outcome.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = k8s_openapi::api::apps::v1::ControllerRevision)]
#[serde(from = "RawRevision")]
pub struct RevisionView {
    /// Metadata without managed fields and foreign annotations.
    pub metadata: ObjectMeta,
    /// The `revision` field, which orders the history.
    pub number: i64,
    /// The version of the release; `None` if the object name matches no version in the object.
    pub version: Option<String>,
    /// The hash of the template; empty if `flaw` is set.
    pub hash: String,
    /// Why the release cannot be restored from this revision.
    pub flaw: Option<String>,
    /// Why the release failed; `None` if it did not fail.
    pub failed: Option<String>,
    /// The release template; the cache drops it.
    pub template: Option<Box<ReleaseTemplate>>,
    /// The operator's defaults at the time of the release; the cache drops them.
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
        let mut object = ControllerRevision { metadata, data: raw.data, revision: raw.revision };
        let (record, flaw) = match controller_revision::read(&object) {
            Ok(record) => (Some(record), None),
            Err(flaw) => (None, Some(flaw)),
        };
        let version = controller_revision::version_of(&object);
        // Another client may have removed the annotations. The data still shows who made it.
        if let (Some(annotations), Some(version)) = (&mut object.metadata.annotations, &version) {
            annotations.entry(RELEASE_VERSION.to_owned()).or_insert_with(|| version.clone());
        }
        Self {
            number: raw.revision,
            version,
            hash: record.as_ref().map(|record| record.hash.as_str().to_owned()).unwrap_or_default(),
            flaw,
            failed: controller_revision::failed(&object),
            defaults: record.as_ref().and_then(|record| record.defaults.clone()).map(Box::new),
            template: record.map(|record| Box::new(record.template)),
            metadata: object.metadata,
        }
    }
}

impl RevisionView {
    /// Drops the fields that only rendering needs, to save memory in the cache.
    pub fn forget_template(&mut self) {
        self.template = None;
        self.defaults = None;
    }
}

/// Accessors of metadata, for every view and every typed object.
pub trait Meta {
    /// Returns the metadata.
    fn object_meta(&self) -> &ObjectMeta;

    /// Returns an annotation; views keep only annotations of the operator.
    fn annotation(&self, key: &str) -> Option<&str> {
        self.object_meta().annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Returns a label.
    fn label(&self, key: &str) -> Option<&str> {
        self.object_meta().labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Returns the name.
    fn object_name(&self) -> &str {
        self.object_meta().name.as_deref().unwrap_or_default()
    }

    /// Returns whether the object is being deleted.
    fn is_terminating(&self) -> bool {
        self.object_meta().deletion_timestamp.is_some()
    }

    /// Returns the reference to the controller of the object.
    fn controller(&self) -> Option<&OwnerReference> {
        let references = self.object_meta().owner_references.as_ref()?;
        references.iter().find(|reference| reference.controller == Some(true))
    }

    /// Returns the creation time.
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
