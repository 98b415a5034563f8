//! Desired state of a component: `spec.storage`, `spec.schema`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{EnvFromSource, EnvVar, Probe, SecurityContext, Toleration, VolumeMount},
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{is_default, rules, schema};

/// Storage service or schema service.
///
/// A change of `replicas`, `minReadySeconds`, `progressDeadlineSeconds`, `service` or `podDisruptionBudget` is
/// applied in place. A change of any other field starts a blue-green release of both services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::invalid(
        "!has(self.preStopSleepSeconds) || self.preStopSleepSeconds == 0 || self.preStopSleepSeconds < \
         (has(self.terminationGracePeriodSeconds) ? self.terminationGracePeriodSeconds : 30)",
        "preStopSleepSeconds must be less than terminationGracePeriodSeconds (30 if not set), since the container \
         has no time to stop otherwise: lower preStopSleepSeconds or raise terminationGracePeriodSeconds",
    ),
    validation = rules::invalid(
        "(has(self.progressDeadlineSeconds) ? self.progressDeadlineSeconds : 600) > \
         (has(self.minReadySeconds) ? self.minReadySeconds : 0)",
        "progressDeadlineSeconds (600 if not set) must be greater than minReadySeconds: raise \
         progressDeadlineSeconds or lower minReadySeconds",
    ),
    validation = rules::invalid(
        "!has(self.extraVolumeMounts) || self.extraVolumeMounts.all(mount, \
         has(self.extraVolumes) && self.extraVolumes.exists(volume, volume.name == mount.name))",
        "extraVolumeMounts must name volumes in extraVolumes of the same component: add the volume or correct the \
         name",
    ),
)]
pub struct ComponentSpec {
    /// Tag of the component's image, 1 to 128 characters. Required. The image is `<repository>:<imageTag>`. A change
    /// starts a new release of both services.
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::IMAGE_TAG,
        "imageTag must be an image tag of 1 to 128 letters, digits, '_', '.', '-' that does not begin with '.' or \
         '-': set the repository in imageRepository and a digest in imageDigest",
    ))]
    pub image_tag: String,
    /// Digest of the component's image: `sha256:` and 64 lower-case hexadecimal digits. The container runtime then
    /// pulls exactly this image. Default: none, the tag selects the image. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::IMAGE_DIGEST,
        "imageDigest must have the form sha256:<64 lower-case hexadecimal digits>: copy it from the registry or \
         remove the field",
    ))]
    pub image_digest: Option<String>,
    /// Full repository of the component's image, without tag and digest. It replaces `spec.imageRepository`. Default:
    /// `<spec.imageRepository>/storage` for storage, `<spec.imageRepository>/schema` for schema. A change starts a
    /// new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::IMAGE_REPOSITORY,
        "imageRepository must be a repository without tag and digest, such as registry.example.com/team/storage: set \
         the tag in imageTag and the digest in imageDigest",
    ))]
    pub image_repository: Option<String>,
    /// Pull policy of the component's image: `Always`, `IfNotPresent` or `Never`. Default: `spec.imagePullPolicy`. A
    /// change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pull_policy")]
    pub image_pull_policy: Option<String>,
    /// Number of Pods of the component, 1 to 1000. Default: 1. Applied in place. A number that another client, such
    /// as an autoscaler, sets on the active Deployment stays until this field changes. A pending release starts with
    /// the larger of this number and the current number of the active release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range(
        "replicas", 1, 1000, "set a number in this range; delete the resource to stop the services"
    ))]
    pub replicas: Option<i32>,
    /// Requests and limits of the container for CPU, memory and other resources. Default: none. A change starts a new
    /// release.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Environment variables of the container, in the format of `Pod.spec.containers[].env`, at most 128. Default:
    /// none. A change starts a new release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::env")]
    #[x_kube(validation = rules::invalid(
        "self.all(variable, variable.name.matches('^[-._a-zA-Z][-._a-zA-Z0-9]*$'))",
        "env must have valid variable names: use letters, digits, '-', '_', '.', and do not begin with a digit",
    ))]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets whose keys become environment variables of the container, in the format of
    /// `Pod.spec.containers[].envFrom`, at most 32. Default: none. A change starts a new release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::env_from")]
    pub env_from: Vec<EnvFromSource>,
    /// Settings of the configuration file `/etc/e6data/config.properties`, at most 128. An entry replaces a setting
    /// that the operator writes: `CLOUD`, `WORKSPACE`, `TENANT`, `E6_BUCKET`, `S3_ENDPOINT`. Default: the settings of
    /// the operator only. A change starts a new release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::config")]
    #[x_kube(validation = rules::invalid(
        "self.all(key, key.matches('^[A-Za-z0-9._-]{1,253}$'))",
        "config must have valid keys: use 1 to 253 letters, digits, '.', '_', '-'",
    ))]
    pub config: BTreeMap<String, String>,
    /// Entry point of the container, at most 64 strings. Default: the entry point of the image. A change starts a new
    /// release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::arguments")]
    pub command: Vec<String>,
    /// Arguments of the container's entry point, at most 64 strings. Default: the arguments of the image. A change
    /// starts a new release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::arguments")]
    pub args: Vec<String>,
    /// Liveness probe of the container, in the format of `Pod.spec.containers[].livenessProbe`. kubelet restarts a
    /// container that fails it. Default: a TCP connection to the container port every 10 s, first after 300 s, with a
    /// failure threshold of 3. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::probe")]
    pub liveness_probe: Option<Probe>,
    /// Readiness probe of the container, in the format of `Pod.spec.containers[].readinessProbe`. A Pod that fails it
    /// gets no traffic. A new release gets traffic after all its Pods are ready for
    /// `spec.rollout.gracePeriodSeconds`. Default: a TCP connection to the container port every 5 s, with a failure
    /// threshold of 3. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::probe")]
    pub readiness_probe: Option<Probe>,
    /// Startup probe of the container, in the format of `Pod.spec.containers[].startupProbe`. kubelet runs the other
    /// probes after it succeeds. Default: none. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::probe")]
    pub startup_probe: Option<Probe>,
    /// Seconds that kubelet gives a Pod to end before it kills the containers, 0 to 3600. The time includes the sleep
    /// of `preStopSleepSeconds`. Default: 30. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range(
        "terminationGracePeriodSeconds", 0, 3600, "set a number of seconds in this range"
    ))]
    pub termination_grace_period_seconds: Option<i64>,
    /// Seconds that a terminating Pod continues to serve before its container receives SIGTERM, 0 to 600. In this
    /// time the nodes stop sending requests to the Pod. The value must be less than `terminationGracePeriodSeconds`;
    /// 0 disables the sleep. Default: 5, or `terminationGracePeriodSeconds` - 1 if that is less. Needs Kubernetes
    /// 1.30; older versions ignore it. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range(
        "preStopSleepSeconds", 0, 600, "set a number of seconds in this range; 0 disables the sleep"
    ))]
    pub pre_stop_sleep_seconds: Option<i64>,
    /// Seconds that a Pod must be ready without interruption to count as available, 0 to 3600. The value must be less
    /// than `progressDeadlineSeconds` and less than `spec.rollout.deployTimeoutSeconds`. Default: 0. Applied in
    /// place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("minReadySeconds", 0, 3600, "set a number of seconds in this range"))]
    pub min_ready_seconds: Option<i32>,
    /// Seconds without progress after which Kubernetes reports a Deployment as failed, 60 to 86400. The report fails
    /// no release: `spec.rollout.deployTimeoutSeconds` decides that. The value must be greater than
    /// `minReadySeconds`. Default: 600. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range(
        "progressDeadlineSeconds", 60, 86400, "set a number of seconds in this range"
    ))]
    pub progress_deadline_seconds: Option<i32>,
    /// Additional annotations of the component's Pods, at most 64. Keys that begin with `e6data.io/` are reserved.
    /// Default: none. A change starts a new release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(
        validation = rules::no_reserved_annotations("podAnnotations"),
        validation = rules::label_keys("podAnnotations"),
    )]
    pub pod_annotations: BTreeMap<String, String>,
    /// Additional labels of the component's Pods, at most 64. The keys `app`, `component`, `strategy` and
    /// `pod-template-hash`, and keys that begin with `e6data.io/` or `app.kubernetes.io/`, are reserved. Default:
    /// none. A change starts a new release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(
        validation = rules::no_reserved_labels("podLabels"),
        validation = rules::label_keys("podLabels"),
        validation = rules::label_values("podLabels"),
    )]
    pub pod_labels: BTreeMap<String, String>,
    /// Security context of the container, in the format of `Pod.spec.containers[].securityContext`. It replaces the
    /// default as a whole. Default: `allowPrivilegeEscalation: false` and no capabilities. A change starts a new
    /// release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::security_context")]
    pub security_context: Option<SecurityContext>,
    /// Labels that a node must have to run Pods of the component, at most 64. They are added to `spec.nodeSelector`
    /// and replace its labels with the same key. Default: none. A change starts a new release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(
        validation = rules::label_keys("nodeSelector"),
        validation = rules::label_values("nodeSelector"),
    )]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that Pods of the component tolerate, in the format of `Pod.spec.tolerations`, at most 32. They are
    /// added to `spec.tolerations`. Default: none. A change starts a new release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Affinity of the component's Pods, in the format of `Pod.spec.affinity`. It replaces `spec.affinity`. Default:
    /// `spec.affinity`. A change starts a new release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub affinity: Option<Value>,
    /// Additional volumes of the component's Pods, in the format of `Pod.spec.volumes`, at most 32. The name
    /// `e6data-config` is reserved. Default: none. A change starts a new release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::volumes")]
    #[x_kube(validation = rules::forbidden(
        "self.all(volume, volume.name != 'e6data-config')",
        "extraVolumes must not have a volume e6data-config, since the operator uses this name for the configuration \
         file: use another name",
    ))]
    pub extra_volumes: Vec<Value>,
    /// Mount points of `extraVolumes` in the container, in the format of `Pod.spec.containers[].volumeMounts`, at
    /// most 32. The path `/etc/e6data` is reserved. Default: none. A change starts a new release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::volume_mounts")]
    #[x_kube(validation = rules::forbidden(
        "self.all(mount, mount.mountPath != '/etc/e6data' && mount.mountPath != '/etc/e6data/')",
        "extraVolumeMounts must not use the path /etc/e6data, since the operator mounts the configuration file there: \
         use another path",
    ))]
    pub extra_volume_mounts: Vec<VolumeMount>,
    /// Front Service of the component, which clients use: `<name>-storage` or `<name>-schema`. Applied in place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service: ServiceSpec,
    /// PodDisruptionBudget of the component, which covers the Pods of the active color. Applied in place. Default: no
    /// PodDisruptionBudget.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod_disruption_budget: DisruptionBudgetSpec,
}

/// Requests and limits of a container, in the format of `Pod.spec.containers[].resources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Resources that the scheduler reserves for the container, such as `cpu` and `memory`, at most 16. Default:
    /// none. A change starts a new release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// Resources that the container may use at most, such as `cpu` and `memory`, at most 16. Default: no limits. A
    /// change starts a new release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

/// Front Service of a component, which clients use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Type of the front Service: `ClusterIP`, `NodePort` or `LoadBalancer`. Default: `ClusterIP`. Applied in place.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::service_type")]
    pub type_: Option<String>,
    /// Port of the front Service, 1 to 65535, as published in `status.endpoints`. The container port does not change.
    /// Default: 9005 for storage, 9006 for schema. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("port", 1, 65535, "set a port in this range"))]
    pub port: Option<i32>,
    /// Additional annotations of the front Service, at most 64. Keys that begin with `e6data.io/` are reserved.
    /// Default: none. Applied in place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(
        validation = rules::no_reserved_annotations("service.annotations"),
        validation = rules::label_keys("service.annotations"),
    )]
    pub annotations: BTreeMap<String, String>,
    /// Additional labels of the front Service, at most 64. The keys `app`, `component`, `strategy` and
    /// `pod-template-hash`, and keys that begin with `e6data.io/` or `app.kubernetes.io/`, are reserved. Default:
    /// none. Applied in place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(
        validation = rules::no_reserved_labels("service.labels"),
        validation = rules::label_keys("service.labels"),
        validation = rules::label_values("service.labels"),
    )]
    pub labels: BTreeMap<String, String>,
}

/// PodDisruptionBudget of a component, which covers the Pods of the active color.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::invalid(
    "!(has(self.minAvailable) && has(self.maxUnavailable))",
    "podDisruptionBudget must not have both minAvailable and maxUnavailable: remove one of them",
))]
pub struct DisruptionBudgetSpec {
    /// Indicates whether the operator maintains a PodDisruptionBudget for the component. Default: false. Applied in
    /// place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Number or percentage of Pods that must stay available during voluntary evictions. Either this field or
    /// `maxUnavailable` can be set. Default: not set, `maxUnavailable` applies. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_percent")]
    #[x_kube(validation = rules::invalid(
        "string(self).matches('^([0-9]+|(100|[1-9]?[0-9])%)$')",
        "minAvailable must be a number or a percentage: use a number of at least 0, or 0% to 100%",
    ))]
    pub min_available: Option<IntOrString>,
    /// Number or percentage of Pods that may be unavailable during voluntary evictions. Either this field or
    /// `minAvailable` can be set. Default: 1 if `minAvailable` is not set. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_percent")]
    #[x_kube(validation = rules::invalid(
        "string(self).matches('^([0-9]+|(100|[1-9]?[0-9])%)$')",
        "maxUnavailable must be a number or a percentage: use a number of at least 0, or 0% to 100%",
    ))]
    pub max_unavailable: Option<IntOrString>,
}
