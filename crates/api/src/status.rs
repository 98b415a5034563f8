//! Status of a `MetadataServices` resource: a part for users, and the persisted state of the state machine (design D6).
//!
//! Enumerations are plain strings in the schema, and reading accepts unknown values, so that operators of different
//! versions can read each other's status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::names::Color;

/// Observed state of a `MetadataServices` resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetadataServicesStatus {
    /// `metadata.generation` of the spec that the operator last evaluated for this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Summary of the resource: `Pending`, `Deploying`, `Switching`, `Cleanup`, `Stable`, `Degraded` or `Failed`.
    /// `Stable` means that the release of the spec is active, all its Pods are ready, and nothing needs an action.
    /// `Degraded` means that one of these does not hold. `Pending` means that the first release cannot start,
    /// `Failed` that it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Phase of the rollout: `Stable`, `Deploying`, `Switching` or `Cleanup`. `status.rollout.step` is finer: step
    /// RollingBack is phase `Switching`, steps Watching and Prune are phase `Cleanup`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_phase: Option<String>,
    /// Time at which `status.deploymentPhase` last changed.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub phase_started_at: Option<Time>,
    /// Color of the active release, which receives the traffic: `blue` or `green`. Absent until the first release is
    /// active.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub active_strategy: Option<Color>,
    /// Color of the pending release: `blue` or `green`. Absent if no release is pending.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub pending_strategy: Option<Color>,
    /// Version of the active release, which receives the traffic. Absent until the first release is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_release_version: Option<String>,
    /// Version of the pending release, which is being deployed or switched to. Absent if no release is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_release_version: Option<String>,
    /// Recorded releases, oldest first, at most `spec.rollout.historyLimit`. The last entry is the newest attempt
    /// during a rollout, and the active release after it succeeds. A manual rollback usually names the last entry but
    /// one (`[-2]`), the release before it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "readable")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub release_history: Vec<ReleaseRecord>,
    /// Memory of the operator's state machine. Scripts must not depend on it: any version may add fields.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub rollout: Option<Rollout>,
    /// Last rollback of the resource, manual or automatic. Absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub last_rollback: Option<Rollback>,
    /// Conditions `Ready`, `SpecApplied`, `Progressing`, `Reconciling`, `Stalled`, `Drifted` and `ImageCompatible`.
    /// `Stalled=True` means that a person must act; its message names the remedy.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "readable")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Pods and image of the storage service in the active release. Absent until the first release is active.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub storage: Option<ComponentStatus>,
    /// Pods and image of the schema service in the active release. Absent until the first release is active.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub schema: Option<ComponentStatus>,
    /// Addresses of the front Services, which clients use. A release does not change an address.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub endpoints: Option<Endpoints>,
}

/// Record of a release in `status.releaseHistory`. An attempt is one deployment of the release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRecord {
    /// Version of the release: `spec.releaseVersion` of its first attempt, or `v<UTC date>-<UTC time>-<first 7 digits
    /// of the release hash>`. It is the value for a rollback request.
    pub version: String,
    /// SHA-256 of the release template, 64 hexadecimal digits. Equal templates are the same release. Empty if the
    /// template is unknown; the release is then no target of a rollback.
    #[serde(default)]
    pub hash: String,
    /// Color that the release was last deployed to: `blue` or `green`.
    pub strategy: Color,
    /// Tag of the storage image.
    #[serde(default)]
    pub storage_tag: String,
    /// Tag of the schema image.
    #[serde(default)]
    pub schema_tag: String,
    /// Full reference of the storage image: `<repository>:<tag>[@<digest>]`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub storage_image: String,
    /// Full reference of the schema image: `<repository>:<tag>[@<digest>]`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema_image: String,
    /// Time at which the last attempt of the release started.
    pub timestamp: Time,
    /// State of the release: `Active` receives the traffic, `Pending` is being deployed, `Superseded` was replaced or
    /// canceled, `Failed` is blocked until a retry or rollback request.
    pub status: RecordStatus,
    /// Cause of the last attempt: `Spec` (a change of the spec), `Rollback`, `Retry` or `Restart` (a request by
    /// annotation), `AutoRollback` (the operator returned to the release), or `Adoption` (an earlier operator deployed
    /// the release).
    #[serde(default)]
    pub trigger: Trigger,
    /// Time at which the release last became active. Absent if it never was active; it is then no target of a
    /// rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<Time>,
    /// Time at which all Pods of the release became ready in the last attempt. Absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
    /// Time at which the last attempt ended, by success, failure or cancellation. Absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Reason, in one word, of the failure or the cancellation of the last attempt. In a pending release: the present
    /// problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Description of the failure or the cancellation of the last attempt: component, Pod, error and remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// State of a record in `status.releaseHistory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(with = "String")]
pub enum RecordStatus {
    /// The release is being deployed.
    Pending,
    /// The release receives the traffic.
    Active,
    /// Another release replaced it after it was active, or it was canceled before.
    Superseded,
    /// The release failed. The operator does not try it again without a request. A value of a newer operator version
    /// is read as this one, because a release in an unknown state must not start without a request.
    #[serde(other)]
    Failed,
}

impl RecordStatus {
    /// Returns the value of `releaseHistory[].status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Active => "Active",
            Self::Superseded => "Superseded",
            Self::Failed => "Failed",
        }
    }
}

/// Cause of an attempt to deploy a release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(with = "String")]
pub enum Trigger {
    /// A user requested a rollback by annotation.
    Rollback,
    /// The operator returned to the release after a newer one failed.
    AutoRollback,
    /// A user requested a retry by annotation.
    Retry,
    /// A user requested a restart by annotation.
    Restart,
    /// An earlier operator deployed the release, and this one adopted its objects.
    Adoption,
    /// A user changed the spec. A value of a newer operator version is read as this one.
    #[default]
    #[serde(other)]
    Spec,
}

impl Trigger {
    /// Returns the value of `releaseHistory[].trigger`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "Rollback",
            Self::AutoRollback => "AutoRollback",
            Self::Retry => "Retry",
            Self::Restart => "Restart",
            Self::Adoption => "Adoption",
            Self::Spec => "Spec",
        }
    }
}

/// Memory of the operator's state machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Step of the state machine: `Stable`, `Deploying`, `Switching`, `Watching`, `RollingBack` or `Prune`. In step
    /// Watching both colors run, traffic goes to the new release, and the operator watches it.
    pub step: Step,
    /// Number of the last decision that started, switched or returned a release. It never decreases, and both front
    /// Services carry it as an annotation.
    pub epoch: i64,
    /// Time at which the present step began.
    pub since: Time,
    /// Pending release and its color, in steps Deploying and Switching. In step Prune: the active release, if a
    /// restart of it begins again after the color is empty. Absent in other steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Side>,
    /// Previous release and its color, in step Watching. It keeps running, so that traffic can return to it. Absent
    /// in other steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Side>,
    /// Timers of the present step. They are persisted, so that a restart of the operator neither loses nor shortens a
    /// wait.
    #[serde(default)]
    pub timers: Timers,
    /// Time at which the operator decided the last switch of traffic to a new release. Pods that are older were ready
    /// at the switch. The operator removes the time when the cleanup ends or the next release starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched_at: Option<Time>,
    /// Restart counts of the new release's Pods at the switch, at most 32. Only a later restart counts as a failure
    /// of the release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarted_before: Vec<PodRestarts>,
    /// Request by annotation that the operator carries out or last refused. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}

/// A release and the color that it is deployed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// Color of the release: `blue` or `green`.
    pub strategy: Color,
    /// Version of the release.
    pub version: String,
}

/// Step of the state machine (design D7). `status.deploymentPhase` combines several steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(with = "String")]
pub enum Step {
    /// A single color runs; its release is active.
    Stable,
    /// The operator creates the pending color and waits until it is ready for the grace period.
    Deploying,
    /// The front Services select the pending release.
    Switching,
    /// Both colors run, traffic goes to the new release, and the operator watches it.
    Watching,
    /// The front Services select the previous release again.
    RollingBack,
    /// The operator deletes the color without traffic.
    Prune,
    /// A step of a newer operator version. The operator changes nothing until a version that knows the step runs.
    #[serde(other)]
    Unknown,
}

impl Step {
    /// Returns the value of `rollout.step`, which is also the reason of conditions in this step.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "Stable",
            Self::Deploying => "Deploying",
            Self::Switching => "Switching",
            Self::Watching => "Watching",
            Self::RollingBack => "RollingBack",
            Self::Prune => "Prune",
            Self::Unknown => "Unknown",
        }
    }

    /// Returns the value of `status.deploymentPhase`; `None` for an unknown step.
    pub const fn phase(self) -> Option<&'static str> {
        match self {
            Self::Stable => Some("Stable"),
            Self::Deploying => Some("Deploying"),
            Self::Switching | Self::RollingBack => Some("Switching"),
            Self::Watching | Self::Prune => Some("Cleanup"),
            Self::Unknown => None,
        }
    }
}

/// Timers of a step. A timer that does not run is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timers {
    /// Step Deploying: time since which all Pods of the pending release are ready. The grace period counts from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Time>,
    /// Step Deploying: time since which the storage service of the pending release shows a hard failure. The failure
    /// threshold counts from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_failing_since: Option<Time>,
    /// Step Deploying: time since which the schema service of the pending release shows a hard failure. The failure
    /// threshold counts from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_failing_since: Option<Time>,
    /// Steps Switching and Watching: time since which the Pod in `unreadyPod` is unready; it counts as bad after 5 s.
    /// Step Deploying: time at which the pending release first lost its readiness; the deploy timeout counts from it
    /// once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unready_since: Option<Time>,
    /// Steps Switching and Watching: name of a Pod that was ready at the switch and is unready since `unreadySince`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unready_pod: Option<String>,
    /// Steps Switching and Watching: time since which a component of the new release has no ready Pod. The failure
    /// threshold counts from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_since: Option<Time>,
    /// Steps Switching and Watching: time since which both colors are unhealthy while the spec asks for another
    /// release. The deploy timeout counts from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub both_down_since: Option<Time>,
}

/// Maximum number of Pods in `rollout.restartedBefore`.
pub const RESTARTS_KEPT: usize = 32;

/// Returns the restarts of a Pod before the switch. If the list is full and lacks the Pod, returns `i32::MAX`, so
/// that no later restart counts against the release.
pub fn restarted_before(kept: &[PodRestarts], pod: &str) -> i32 {
    let unknown = if kept.len() < RESTARTS_KEPT { 0 } else { i32::MAX };
    kept.iter().find(|known| known.pod == pod).map_or(unknown, |known| known.count)
}

/// Restart count of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodRestarts {
    /// Name of the Pod.
    pub pod: String,
    /// Number of restarts of the Pod's main container at the switch.
    pub count: i32,
}

/// A request by annotation, and the answer of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Kind of the request: `Rollback`, `Retry` or `Restart`.
    pub kind: Trigger,
    /// Value of the annotation that made the request.
    pub value: String,
    /// Reason for which the operator refused the request. Absent if it accepted the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A rollback that the operator carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// Version of the release that lost the traffic, or that failed before it got traffic.
    pub from: String,
    /// Version of the release that is active after the rollback.
    pub to: String,
    /// Cause of the rollback: `Manual` (a request or a change of the spec) or `Automatic` (a failure).
    pub trigger: String,
    /// Reason of the rollback: the reason of the failure, or the kind of the user's request.
    pub reason: String,
    /// Time at which the operator decided the rollback; for a rollback request, the time at which the release became
    /// active.
    pub time: Time,
}

/// Pods and image of a component in the active release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ComponentStatus {
    /// Number of Pods that the active Deployment of the component should have.
    pub replicas: i32,
    /// Number of ready Pods of the component in the active release.
    pub ready_replicas: i32,
    /// Full reference of the image that the active release runs.
    pub image: String,
    /// Name of the color Service of the component in the active release, for tests of one color.
    pub service: String,
}

/// Addresses of the front Services in the form `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// Address of the storage service for clients: `<name>-storage.<namespace>.svc:<port>`.
    pub storage: String,
    /// Address of the schema service for clients: `<name>-schema.<namespace>.svc:<port>`.
    pub schema: String,
}

/// Reads a part of the status, or its default if the part is incomplete. An API server with an older CRD drops
/// fields, and the resource must stay readable; the operator rebuilds a lost part.
fn readable<'de, T: Default + DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

impl MetadataServicesStatus {
    /// Returns the active release and its color; `None` until the first release is active.
    pub fn active(&self) -> Option<Side> {
        Some(Side { strategy: self.active_strategy?, version: self.active_release_version.clone()? })
    }

    /// Returns the condition of a type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// Returns the record of a version.
    pub fn record(&self, version: &str) -> Option<&ReleaseRecord> {
        self.release_history.iter().find(|record| record.version == version)
    }

    /// Returns the record of a release template, by its hash.
    pub fn record_of_hash(&self, hash: &str) -> Option<&ReleaseRecord> {
        self.release_history.iter().find(|record| record.hash == hash)
    }
}

/// Returns the seconds from `since` to `now`; 0 if `since` is in the future.
pub fn elapsed(since: &Time, now: Timestamp) -> i64 {
    now.as_second().saturating_sub(since.0.as_second()).max(0)
}
