//! One of the two services: `spec.storage`, `spec.schema`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{EnvFromSource, EnvVar, Probe, SecurityContext, Toleration, VolumeMount},
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{is_default, rules, schema};

/// The storage service or the schema service.
///
/// `replicas`, `minReadySeconds`, `progressDeadlineSeconds`, `service` and `podDisruptionBudget` are applied in
/// place. Everything else is part of the release: a change of it starts a blue-green release of both services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::invalid(
        "!has(self.preStopSleepSeconds) || self.preStopSleepSeconds == 0 || self.preStopSleepSeconds < \
         (has(self.terminationGracePeriodSeconds) ? self.terminationGracePeriodSeconds : 30)",
        "preStopSleepSeconds must be less than terminationGracePeriodSeconds (30 if not set): lower the one or raise \
         the other, or the pod is killed before it is told to stop",
    ),
    validation = rules::invalid(
        "(has(self.progressDeadlineSeconds) ? self.progressDeadlineSeconds : 600) > \
         (has(self.minReadySeconds) ? self.minReadySeconds : 0)",
        "progressDeadlineSeconds (600 if not set) must be greater than minReadySeconds: raise the one or lower the \
         other",
    ),
    validation = rules::invalid(
        "!has(self.extraVolumeMounts) || self.extraVolumeMounts.all(mount, \
         has(self.extraVolumes) && self.extraVolumes.exists(volume, volume.name == mount.name))",
        "extraVolumeMounts names a volume that is not in extraVolumes of the same component: add it there, or correct \
         the name",
    ),
)]
pub struct ComponentSpec {
    /// Tag of the image. A change starts a blue-green release.
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::IMAGE_TAG,
        "imageTag must be an image tag: 1 to 128 letters, digits, '_', '.', '-', not beginning with '.' or '-'; put \
         the repository into imageRepository and a digest into imageDigest",
    ))]
    pub image_tag: String,
    /// Digest that the image must have, `sha256:` and 64 hexadecimal digits. Default: none, the tag decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::IMAGE_DIGEST,
        "imageDigest must be sha256: and 64 lower-case hexadecimal digits: copy it from the registry, or remove it",
    ))]
    pub image_digest: Option<String>,
    /// Whole repository of this component's image. Default: `<spec.imageRepository>/storage` or `/schema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text::<512>")]
    #[x_kube(validation = rules::matches(
        rules::IMAGE_REPOSITORY,
        "imageRepository must be a repository without tag and digest, such as registry.example.com/team/storage: put \
         the tag into imageTag and the digest into imageDigest",
    ))]
    pub image_repository: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`. Default: `spec.imagePullPolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pull_policy")]
    pub image_pull_policy: Option<String>,
    /// Number of pods, 1 to 1000, default 1. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range(
        "replicas", 1, 1000, "set a number in that range; to stop the services, delete the resource"
    ))]
    pub replicas: Option<i32>,
    /// Requests and limits of the container. Default: none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Environment variables of the container, as in a pod. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::env")]
    #[x_kube(validation = rules::invalid(
        "self.all(variable, variable.name.matches('^[-._a-zA-Z][-._a-zA-Z0-9]*$'))",
        "env has a variable whose name is empty or illegal: use letters, digits, '-', '_', '.', not beginning with a \
         digit",
    ))]
    pub env: Vec<EnvVar>,
    /// `ConfigMaps` and Secrets whose keys become environment variables, as in a pod. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::env_from")]
    pub env_from: Vec<EnvFromSource>,
    /// Settings for `/etc/e6data/config.properties`, over those that the operator fills in (`CLOUD`, `WORKSPACE`,
    /// `TENANT`, `E6_BUCKET`, `S3_ENDPOINT`). Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::config")]
    #[x_kube(validation = rules::invalid(
        "self.all(key, key.matches('^[A-Za-z0-9._-]{1,253}$'))",
        "config has an illegal key: use 1 to 253 letters, digits, '.', '_', '-'",
    ))]
    pub config: BTreeMap<String, String>,
    /// Entry point of the container. Default: the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::arguments")]
    pub command: Vec<String>,
    /// Arguments of the container. Default: the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::arguments")]
    pub args: Vec<String>,
    /// Liveness probe, as in a pod. Default: a TCP connection every 10 s, from 300 s after the start on, restart
    /// after 3 failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::probe")]
    pub liveness_probe: Option<Probe>,
    /// Readiness probe, as in a pod. Default: a TCP connection every 5 s, unready after 3 failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::probe")]
    pub readiness_probe: Option<Probe>,
    /// Startup probe, as in a pod. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::probe")]
    pub startup_probe: Option<Probe>,
    /// Seconds that a pod has to end after it is told to, 0 to 3600, default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range(
        "terminationGracePeriodSeconds", 0, 3600, "set a number of seconds in that range"
    ))]
    pub termination_grace_period_seconds: Option<i64>,
    /// Seconds that a pod goes on serving after it was taken out of its Services and before it is told to end,
    /// 0 to 600, less than `terminationGracePeriodSeconds`. Default 5, or less if the grace period is shorter. 0
    /// turns it off. Needs Kubernetes 1.30; without effect before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range(
        "preStopSleepSeconds", 0, 600, "set a number of seconds in that range; 0 turns the sleep off"
    ))]
    pub pre_stop_sleep_seconds: Option<i64>,
    /// Seconds that a pod must be ready to count as available, 0 to 3600, default 0. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("minReadySeconds", 0, 3600, "set a number of seconds in that range"))]
    pub min_ready_seconds: Option<i32>,
    /// Seconds without progress after which the Deployment is said to be stuck, 60 to 86400, default 600. Applied
    /// in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range(
        "progressDeadlineSeconds", 60, 86400, "set a number of seconds in that range"
    ))]
    pub progress_deadline_seconds: Option<i32>,
    /// More annotations on the pods. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(
        validation = rules::no_reserved_annotations("podAnnotations"),
        validation = rules::label_keys("podAnnotations"),
    )]
    pub pod_annotations: BTreeMap<String, String>,
    /// More labels on the pods. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(
        validation = rules::no_reserved_labels("podLabels"),
        validation = rules::label_keys("podLabels"),
        validation = rules::label_values("podLabels"),
    )]
    pub pod_labels: BTreeMap<String, String>,
    /// Security context of the container, as in a pod; replaces the default, which is: no privilege escalation, no
    /// capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::security_context")]
    pub security_context: Option<SecurityContext>,
    /// Labels that a node must have, merged over `spec.nodeSelector`. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(
        validation = rules::label_keys("nodeSelector"),
        validation = rules::label_values("nodeSelector"),
    )]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate, besides `spec.tolerations`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Affinity as in a pod; replaces `spec.affinity`. Default: `spec.affinity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub affinity: Option<Value>,
    /// More volumes of the pods, as in a pod. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::volumes")]
    #[x_kube(validation = rules::forbidden(
        "self.all(volume, volume.name != 'e6data-config')",
        "extraVolumes must not have a volume e6data-config: the operator mounts the configuration by that name; use \
         another name",
    ))]
    pub extra_volumes: Vec<Value>,
    /// Where the container sees them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::volume_mounts")]
    #[x_kube(validation = rules::forbidden(
        "self.all(mount, mount.mountPath != '/etc/e6data' && mount.mountPath != '/etc/e6data/')",
        "extraVolumeMounts must not mount at /etc/e6data: the operator mounts the configuration there; use another \
         path",
    ))]
    pub extra_volume_mounts: Vec<VolumeMount>,
    /// The Service that clients use. Applied in place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service: ServiceSpec,
    /// Disruption budget of the serving color. Applied in place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod_disruption_budget: DisruptionBudgetSpec,
}

/// Requests and limits of a container, as in a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler sets aside. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container may use. Default: no limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

/// The Service that clients use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort` or `LoadBalancer`. Default `ClusterIP`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::service_type")]
    pub type_: Option<String>,
    /// Port of the Service, 1 to 65535. Default 9005 for storage, 9006 for schema; the pods' port is always that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("port", 1, 65535, "set a port in that range"))]
    pub port: Option<i32>,
    /// More annotations on the Service. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(
        validation = rules::no_reserved_annotations("service.annotations"),
        validation = rules::label_keys("service.annotations"),
    )]
    pub annotations: BTreeMap<String, String>,
    /// More labels on the Service. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(
        validation = rules::no_reserved_labels("service.labels"),
        validation = rules::label_keys("service.labels"),
        validation = rules::label_values("service.labels"),
    )]
    pub labels: BTreeMap<String, String>,
}

/// Disruption budget of the serving color.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::invalid(
    "!(has(self.minAvailable) && has(self.maxUnavailable))",
    "podDisruptionBudget takes minAvailable or maxUnavailable, not both: remove one",
))]
pub struct DisruptionBudgetSpec {
    /// True keeps a `PodDisruptionBudget`. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Pods that must stay, as a number or a percentage. Default: see `maxUnavailable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_percent")]
    #[x_kube(validation = rules::invalid(
        "string(self).matches('^([0-9]+|(100|[1-9]?[0-9])%)$')",
        "minAvailable must be a number from 0 on, or a percentage from 0% to 100%",
    ))]
    pub min_available: Option<IntOrString>,
    /// Pods that may be missing, as a number or a percentage. Default 1 if neither is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_percent")]
    #[x_kube(validation = rules::invalid(
        "string(self).matches('^([0-9]+|(100|[1-9]?[0-9])%)$')",
        "maxUnavailable must be a number from 0 on, or a percentage from 0% to 100%",
    ))]
    pub max_unavailable: Option<IntOrString>,
}
