//! Desired state of a `MetadataServices` resource: `spec`.
//!
//! The fields have no defaults in the schema, because the release hash covers the template as the user wrote it (design
//! D4). The renderer fills in the defaults, and the description of each field states them.

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

/// Desired state of a storage service and a schema service, which move together from release to release.
///
/// A change of a field starts a blue-green release of both services, unless the description of the field says that it
/// is applied in place, without a restart of Pods.
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
    doc = "MetadataServices runs a storage service and a schema service, and moves both together from release to release by blue-green deployment.",
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Summary of the resource; Stable if nothing is wrong"
    ),
    printcolumn(
        name = "Active",
        type_ = "string",
        json_path = ".status.activeStrategy",
        description = "Color of the active release"
    ),
    printcolumn(
        name = "Release",
        type_ = "string",
        json_path = ".status.activeReleaseVersion",
        description = "Version of the active release"
    ),
    printcolumn(
        name = "Storage",
        type_ = "string",
        json_path = ".spec.storage.imageTag",
        description = "Image tag of storage in the spec"
    ),
    printcolumn(
        name = "Schema",
        type_ = "string",
        json_path = ".spec.schema.imageTag",
        description = "Image tag of schema in the spec"
    ),
    printcolumn(
        name = "Pending",
        type_ = "string",
        json_path = ".status.pendingReleaseVersion",
        description = "Version of the pending release",
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
        description = "Ready condition: whether all Pods of the active release are ready",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = rules::invalid(
        "has(self.status) || size(self.metadata.name) <= 39 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must have at most 39 characters (lower-case letters, digits, '-'), begin with a letter and not \
         end with '-', since Service names contain it: create the resource under another name",
    ),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::invalid(
    "[has(self.storage.minReadySeconds) ? self.storage.minReadySeconds : 0, \
     has(self.schema.minReadySeconds) ? self.schema.minReadySeconds : 0].all(seconds, seconds < \
     (has(self.rollout) && has(self.rollout.deployTimeoutSeconds) ? self.rollout.deployTimeoutSeconds : 600))",
    "minReadySeconds must be less than rollout.deployTimeoutSeconds (600 if not set), since no release can become \
     ready otherwise: lower minReadySeconds or raise rollout.deployTimeoutSeconds",
))]
pub struct MetadataServicesSpec {
    /// Workspace that both services belong to: a label value of 1 to 63 characters. The operator writes it as
    /// `WORKSPACE` into the configuration file. All Pods tolerate the taint
    /// `e6data-workspace-name=<workspace>:NoSchedule`. Default: the namespace of the resource. A change starts a new
    /// release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<253>")]
    #[x_kube(validation = rules::matches(
        rules::LABEL_VALUE,
        "workspace must be a label value: use 1 to 63 letters, digits, '-', '_', '.', and begin and end with a letter \
         or digit",
    ))]
    pub workspace: Option<String>,
    /// Tenant that both services belong to, 1 to 253 characters. The operator writes it as `TENANT` into the
    /// configuration file. Default: no `TENANT` setting. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::invalid(
        "size(self) >= 1 && size(self) <= 253",
        "tenant must have 1 to 253 characters: shorten it or remove the field",
    ))]
    pub tenant: Option<String>,
    /// Cloud provider: `AWS`, `GCP` or `AZURE`. The operator writes it as `CLOUD` into the configuration file.
    /// Default: the provider that the scheme of `spec.storageBackend` implies; without a storage backend no `CLOUD`
    /// setting. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cloud")]
    pub cloud: Option<String>,
    /// URL of the object store, such as `s3a://bucket/path`. The scheme is `s3`, `s3a`, `gs`, `abfs`, `abfss`, `wasb`
    /// or `wasbs`. The operator writes the URL as `E6_BUCKET` into the configuration file. Default: no `E6_BUCKET`
    /// setting. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<2048>")]
    #[x_kube(validation = rules::matches(
        "^(s3a?|gs|abfss?|wasbs?)://.+$",
        "storageBackend must be the URL of a bucket or container: begin it with s3://, s3a://, gs://, abfs://, \
         abfss://, wasb:// or wasbs://",
    ))]
    pub storage_backend: Option<String>,
    /// URL of an S3-compatible object store, with the scheme `http` or `https`. The operator writes it as
    /// `S3_ENDPOINT` into the configuration file. Default: no `S3_ENDPOINT` setting. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<2048>")]
    #[x_kube(validation = rules::matches(
        "^https?://.+$",
        "s3Endpoint must be a URL: begin it with https:// or http://",
    ))]
    pub s3_endpoint: Option<String>,
    /// Version that the next release gets: a label value of 1 to 63 characters. The operator ignores it if another
    /// release has this version, and sends the Event `ReleaseVersionIgnored`. A release that is recorded in
    /// `status.releaseHistory` keeps its version. A change of this field alone starts no release. Default: `v<UTC
    /// date>-<UTC time>-<first 7 digits of the release hash>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<253>")]
    #[x_kube(validation = rules::matches(
        rules::LABEL_VALUE,
        "releaseVersion must be a label value: use 1 to 63 letters, digits, '-', '_', '.', and begin and end with a \
         letter or digit, or remove the field to get a generated version",
    ))]
    pub release_version: Option<String>,
    /// Registry of both images, optionally with a path, without tag and digest. The images are
    /// `<imageRepository>/storage` and `<imageRepository>/schema`. A component can name its own repository. Default:
    /// the value of the operator flag `--default-image-repository`. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::IMAGE_PREFIX,
        "imageRepository must be a registry with an optional path, without tag, digest and trailing '/': set the tags \
         in storage.imageTag and schema.imageTag",
    ))]
    pub image_repository: Option<String>,
    /// Pull policy of both images: `Always`, `IfNotPresent` or `Never`. A component can set its own policy. Default:
    /// `IfNotPresent`. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pull_policy")]
    pub image_pull_policy: Option<String>,
    /// Names of Secrets with registry credentials for both images, at most 16. The Secrets are in the namespace of
    /// the resource. Default: none. A change starts a new release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::pull_secrets")]
    pub image_pull_secrets: Vec<SecretName>,
    /// ServiceAccount that all Pods use. Default: the ServiceAccount `default` of the namespace.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service_account: ServiceAccountSpec,
    /// Labels that a node must have to run Pods of either service, at most 64. A component can add labels. Default:
    /// none, any node. A change starts a new release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(
        validation = rules::label_keys("nodeSelector"),
        validation = rules::label_values("nodeSelector"),
    )]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that all Pods tolerate, in the format of `Pod.spec.tolerations`, at most 32. All Pods also tolerate
    /// `e6data-workspace-name=<workspace>:NoSchedule`. Default: none. A change starts a new release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Affinity of all Pods, in the format of `Pod.spec.affinity`. An affinity of a component replaces it. Default:
    /// none. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub affinity: Option<Value>,
    /// Constraints that spread the Pods of a component over zones or nodes, in the format of
    /// `Pod.spec.topologySpreadConstraints`, at most 8. A constraint without `labelSelector` counts the Pods of the
    /// same component and color. Default: spread over nodes (`kubernetes.io/hostname`) with `maxSkew: 1` and
    /// `ScheduleAnyway`. A change starts a new release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::topology_spread")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// PriorityClass of all Pods. Default: the default PriorityClass of the cluster, if there is one. A change starts
    /// a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::SUBDOMAIN,
        "priorityClassName must be the name of a PriorityClass: use lower-case letters, digits, '-', '.'",
    ))]
    pub priority_class_name: Option<String>,
    /// Karpenter NodePool that all Pods run on. The operator adds the node selector
    /// `karpenter.sh/nodepool=<karpenterNodePool>`. Default: any node pool. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<253>")]
    #[x_kube(validation = rules::matches(
        rules::LABEL_VALUE,
        "karpenterNodePool must be the name of a NodePool: use 1 to 63 letters, digits, '-', '.'",
    ))]
    pub karpenter_node_pool: Option<String>,
    /// Security context of all Pods, in the format of `Pod.spec.securityContext`. It replaces the default as a whole.
    /// Default: `runAsNonRoot: true` and the seccomp profile `RuntimeDefault`. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pod_security_context")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// Storage service, which serves table metadata; container port 9005. A change of `replicas`, `minReadySeconds`,
    /// `progressDeadlineSeconds`, `service` or `podDisruptionBudget` is applied in place. A change of any other field
    /// starts a new release of both services.
    pub storage: ComponentSpec,
    /// Schema service, which infers schemas; container port 9006. A change of `replicas`, `minReadySeconds`,
    /// `progressDeadlineSeconds`, `service` or `podDisruptionBudget` is applied in place. A change of any other field
    /// starts a new release of both services.
    pub schema: ComponentSpec,
    /// Timing and failure handling of blue-green releases. Applied in place: a change takes effect at once, also
    /// during a rollout.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollout: RolloutPolicy,
}

/// Name of a Secret in the namespace of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretName {
    /// Name of the Secret.
    pub name: String,
}

/// ServiceAccount that all Pods use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::forbidden(
    "!(has(self.create) && self.create && has(self.name) && self.name == 'default')",
    "serviceAccount.create must not be true for the name default, since every namespace has this ServiceAccount: \
     choose another name or remove create",
))]
pub struct ServiceAccountSpec {
    /// Indicates whether the operator creates the ServiceAccount. False uses an existing ServiceAccount. Default:
    /// false. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<bool>,
    /// Name of the ServiceAccount that all Pods use. Default: the name of the resource if `serviceAccount.create` is
    /// true, else `default`. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::SUBDOMAIN,
        "serviceAccount.name must be the name of a ServiceAccount: use lower-case letters, digits, '-', '.'",
    ))]
    pub name: Option<String>,
    /// Annotations of the ServiceAccount that the operator creates, at most 64, such as the role of IRSA or Workload
    /// Identity. They have no effect if `serviceAccount.create` is false. Keys that begin with `e6data.io/` are
    /// reserved. Default: none. Applied in place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(
        validation = rules::no_reserved_annotations("serviceAccount.annotations"),
        validation = rules::label_keys("serviceAccount.annotations"),
    )]
    pub annotations: BTreeMap<String, String>,
}

impl MetadataServicesSpec {
    /// Returns the spec of a component.
    pub const fn component(&self, component: Component) -> &ComponentSpec {
        match component {
            Component::Storage => &self.storage,
            Component::Schema => &self.schema,
        }
    }

    /// Returns the spec of a component for modification.
    pub const fn component_mut(&mut self, component: Component) -> &mut ComponentSpec {
        match component {
            Component::Storage => &mut self.storage,
            Component::Schema => &mut self.schema,
        }
    }

    /// Returns the desired number of Pods of each component, 1 to 1000.
    pub fn replicas(&self) -> PerComponent<i32> {
        PerComponent::from_fn(|component| self.component(component).replicas())
    }
}

impl ComponentSpec {
    /// Returns the desired number of Pods, 1 to 1000. A value outside of the range is clamped, since an API server
    /// without CEL accepts it.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1).clamp(1, 1000)
    }
}
