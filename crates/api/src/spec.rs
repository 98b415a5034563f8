//! The desired state of a `MetadataServices`.
//!
//! Fields that shape pods have no defaults in the schema: what is hashed and recorded is what the user wrote, and
//! the renderer fills in the rest (design D4). Each field's description says what that is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSecurityContext, Toleration, TopologySpreadConstraint};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    component::ComponentSpec, is_default, policy::RolloutPolicy, rules, schema,
    status::MetadataServicesStatus,
};
use crate::names::{Component, PerComponent};

/// A storage service and a schema service that move together from release to release.
///
/// `releaseVersion`, `rollout` and `serviceAccount.annotations` are applied in place, and so are the fields of
/// `storage` and `schema` that say so. A change of anything else starts a blue-green release of both services.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "e6data.io",
    version = "v1alpha1",
    kind = "MetadataServices",
    plural = "metadataservices",
    singular = "metadataservices",
    namespaced,
    status = "MetadataServicesStatus",
    derive = "PartialEq",
    shortname = "mds",
    shortname = "metadata",
    category = "e6data",
    doc = "MetadataServices keeps a storage service and a schema service running and moves both together from release to release, blue-green.",
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Summary: Stable when all is well"
    ),
    printcolumn(
        name = "Active",
        type_ = "string",
        json_path = ".status.activeStrategy",
        description = "Color that serves"
    ),
    printcolumn(
        name = "Release",
        type_ = "string",
        json_path = ".status.activeReleaseVersion",
        description = "Release that serves"
    ),
    printcolumn(
        name = "Storage",
        type_ = "string",
        json_path = ".spec.storage.imageTag",
        description = "Storage tag asked for"
    ),
    printcolumn(
        name = "Schema",
        type_ = "string",
        json_path = ".spec.schema.imageTag",
        description = "Schema tag asked for"
    ),
    printcolumn(
        name = "Pending",
        type_ = "string",
        json_path = ".status.pendingReleaseVersion",
        description = "Release on its way",
        priority = 1
    ),
    printcolumn(
        name = "DeploymentPhase",
        type_ = "string",
        json_path = ".status.deploymentPhase",
        description = "Phase of the rollout",
        priority = 1
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether both services serve",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = rules::invalid(
        "size(self.metadata.name) <= 39 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must be at most 39 lower-case letters, digits and '-', beginning with a letter and not ending \
         with '-': the names of its Services are made of it; create the resource under another name",
    ),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::invalid(
    "[has(self.storage.minReadySeconds) ? self.storage.minReadySeconds : 0, \
     has(self.schema.minReadySeconds) ? self.schema.minReadySeconds : 0].all(seconds, seconds < \
     (has(self.rollout) && has(self.rollout.deployTimeoutSeconds) ? self.rollout.deployTimeoutSeconds : 600))",
    "minReadySeconds must be less than rollout.deployTimeoutSeconds (600 if not set), or no release could ever \
     succeed: lower the one or raise the other",
))]
pub struct MetadataServicesSpec {
    /// Workspace: the `WORKSPACE` setting, and the value of the taint `e6data-workspace-name` that the pods
    /// tolerate. Default: the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<253>")]
    #[x_kube(validation = rules::matches(
        rules::LABEL_VALUE,
        "workspace must be a label value: 1 to 63 letters, digits, '-', '_', '.', beginning and ending with a letter \
         or digit",
    ))]
    pub workspace: Option<String>,
    /// Tenant: the `TENANT` setting. Default: not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::invalid(
        "size(self) >= 1 && size(self) <= 253",
        "tenant must have 1 to 253 characters: shorten it, or remove the field",
    ))]
    pub tenant: Option<String>,
    /// Cloud, `AWS`, `GCP` or `AZURE`: the `CLOUD` setting. Default: told by the scheme of `storageBackend`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cloud")]
    pub cloud: Option<String>,
    /// Object store, such as `s3a://bucket`: the `E6_BUCKET` setting. Default: not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<2048>")]
    #[x_kube(validation = rules::matches(
        "^(s3a?|gs|abfss?|wasbs?)://.+$",
        "storageBackend must be the URL of a bucket or container: begin it with s3://, s3a://, gs://, abfs://, \
         abfss://, wasb:// or wasbs://",
    ))]
    pub storage_backend: Option<String>,
    /// Address of an S3-compatible store: the `S3_ENDPOINT` setting. Default: not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<2048>")]
    #[x_kube(validation = rules::matches(
        "^https?://.+$",
        "s3Endpoint must be a URL: begin it with https:// or http://",
    ))]
    pub s3_endpoint: Option<String>,
    /// Name for the next release. Taken if the release is not in the history and the name is not in use; a change
    /// of it alone is no release. Default: `v<date>-<time>-<hash>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<253>")]
    #[x_kube(validation = rules::matches(
        rules::LABEL_VALUE,
        "releaseVersion must be a label value: 1 to 63 letters, digits, '-', '_', '.', beginning and ending with a \
         letter or digit; remove it to have one generated",
    ))]
    pub release_version: Option<String>,
    /// Registry, or registry and path, that both images are under: `<imageRepository>/storage` and
    /// `<imageRepository>/schema`. Default: the operator's `--default-image-repository`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::IMAGE_PREFIX,
        "imageRepository must be a registry, or a registry and a path, without tag, digest and trailing '/': put the \
         tags into storage.imageTag and schema.imageTag",
    ))]
    pub image_repository: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`, for both images. Default `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pull_policy")]
    pub image_pull_policy: Option<String>,
    /// Secrets for pulling the images. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::pull_secrets")]
    pub image_pull_secrets: Vec<SecretName>,
    /// `ServiceAccount` of the pods.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service_account: ServiceAccountSpec,
    /// Labels that a node must have. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(
        validation = rules::label_keys("nodeSelector"),
        validation = rules::label_values("nodeSelector"),
    )]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that all pods tolerate, as in a pod, besides `e6data-workspace-name=<workspace>:NoSchedule`, which
    /// they always tolerate. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Affinity of all pods, as in a pod. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub affinity: Option<Value>,
    /// How the pods of a component are spread, as in a pod; without a `labelSelector` a constraint counts the pods
    /// of the same component and color. Default: over nodes, if possible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::topology_spread")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of all pods. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::SUBDOMAIN,
        "priorityClassName must be the name of a PriorityClass: lower-case letters, digits, '-', '.'",
    ))]
    pub priority_class_name: Option<String>,
    /// Karpenter node pool that all pods run on: the node label `karpenter.sh/nodepool`. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<253>")]
    #[x_kube(validation = rules::matches(
        rules::LABEL_VALUE,
        "karpenterNodePool must be the name of a NodePool: 1 to 63 letters, digits, '-', '.'",
    ))]
    pub karpenter_node_pool: Option<String>,
    /// Security context of all pods, as in a pod; replaces the default, which is: not root, seccomp profile
    /// `RuntimeDefault`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pod_security_context")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// The storage service, port 9005.
    pub storage: ComponentSpec,
    /// The schema service, port 9006.
    pub schema: ComponentSpec,
    /// Tuning of blue-green releases. Applied in place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollout: RolloutPolicy,
}

/// Name of a Secret in the namespace of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretName {
    /// The name.
    pub name: String,
}

/// `ServiceAccount` of the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::forbidden(
    "!(has(self.create) && self.create && has(self.name) && self.name == 'default')",
    "serviceAccount.create must not be true for the name default: every namespace has that one already; choose \
     another name, or remove create",
))]
pub struct ServiceAccountSpec {
    /// True creates it, with the annotations below. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<bool>,
    /// Its name. Default: the resource's name if it is created, else `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::SUBDOMAIN,
        "serviceAccount.name must be the name of a ServiceAccount: lower-case letters, digits, '-', '.'",
    ))]
    pub name: Option<String>,
    /// Its annotations, such as those of IRSA or Workload Identity. Applied in place. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(
        validation = rules::no_reserved_annotations("serviceAccount.annotations"),
        validation = rules::label_keys("serviceAccount.annotations"),
    )]
    pub annotations: BTreeMap<String, String>,
}

impl MetadataServicesSpec {
    /// The part for one component.
    pub const fn component(&self, component: Component) -> &ComponentSpec {
        match component {
            Component::Storage => &self.storage,
            Component::Schema => &self.schema,
        }
    }

    /// The part for one component, to be changed.
    pub const fn component_mut(&mut self, component: Component) -> &mut ComponentSpec {
        match component {
            Component::Storage => &mut self.storage,
            Component::Schema => &mut self.schema,
        }
    }

    /// Pods wanted of each component, within the legal range.
    pub fn replicas(&self) -> PerComponent<i32> {
        PerComponent::from_fn(|component| self.component(component).replicas())
    }
}

impl ComponentSpec {
    /// Pods wanted, within the legal range: a server without CEL lets illegal values pass.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1).clamp(1, 1000)
    }
}
