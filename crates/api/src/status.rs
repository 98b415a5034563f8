//! The status of a `MetadataServices`: what users read, and the state machine's durable memory (design D6).
//!
//! Enumerations that users see are plain strings in the schema and tolerate unknown values, so that operators of
//! different versions can read each other's status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::names::Color;

/// Observed state of a `MetadataServices`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetadataServicesStatus {
    /// The `metadata.generation` on which the last decision was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Summary: `Pending`, `Deploying`, `Switching`, `Cleanup`, `Stable`, `Degraded` or `Failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The state machine's public phase: `Stable`, `Deploying`, `Switching` or `Cleanup`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_phase: Option<String>,
    /// When `deploymentPhase` last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_started_at: Option<Time>,
    /// The color that serves: `blue` or `green`; absent before the first release serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_strategy: Option<Color>,
    /// The color that is being deployed; absent when settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_strategy: Option<Color>,
    /// The version of the release that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_release_version: Option<String>,
    /// The version of the release that is being deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_release_version: Option<String>,
    /// The recorded releases, oldest first: `[-1]` is the newest attempt while one runs and the serving release
    /// after success; `[-2]` is what a manual rollback would go to.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "readable")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub release_history: Vec<ReleaseRecord>,
    /// The state machine's memory. Not for scripts: it may gain fields in any version.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub rollout: Option<Rollout>,
    /// The last rollback, manual or automatic.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub last_rollback: Option<Rollback>,
    /// `Ready`, `SpecApplied`, `Progressing`, `Reconciling`, `Stalled`, `Drifted`, `ImageCompatible`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "readable")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The serving color's storage service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<ComponentStatus>,
    /// The serving color's schema service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<ComponentStatus>,
    /// The addresses that clients use; they never change in the life of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
}

/// One release that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRecord {
    /// Its name: `v<UTC date>-<time>-<hash>`, or `spec.releaseVersion` as it was.
    pub version: String,
    /// SHA-256 of the release template, 64 hexadecimal digits.
    pub hash: String,
    /// The color it was last deployed to.
    pub strategy: Color,
    /// The storage image's tag.
    pub storage_tag: String,
    /// The schema image's tag.
    pub schema_tag: String,
    /// The storage image, whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub storage_image: String,
    /// The schema image, whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema_image: String,
    /// When it was last started.
    pub timestamp: Time,
    /// `Active`, `Superseded`, `Failed` or `Pending`.
    pub status: RecordStatus,
    /// What started it last.
    #[serde(default)]
    pub trigger: Trigger,
    /// When it last began to serve; absent if it never did, and then it is no rollback target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<Time>,
    /// When all its pods were first ready in the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
    /// When the last attempt ended, whichever way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Why it failed or was abandoned, one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people: component, pod, what was said, and a remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// State of a record in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(with = "String")]
pub enum RecordStatus {
    /// An attempt is under way.
    Pending,
    /// It serves.
    Active,
    /// It served, or was abandoned before it could.
    Superseded,
    /// It failed; it is not tried again unless asked for. Also what an unknown value of a newer version reads
    /// as, since a release of unknown state must not be started unasked.
    #[serde(other)]
    Failed,
}

impl RecordStatus {
    /// The value of `releaseHistory[].status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Active => "Active",
            Self::Superseded => "Superseded",
            Self::Failed => "Failed",
        }
    }
}

/// What started a release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(with = "String")]
pub enum Trigger {
    /// A manual rollback.
    Rollback,
    /// The operator went back to it by itself.
    AutoRollback,
    /// The retry annotation.
    Retry,
    /// The restart annotation.
    Restart,
    /// A change of the spec.
    #[default]
    #[serde(other)]
    Spec,
}

impl Trigger {
    /// The value of `releaseHistory[].trigger`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "Rollback",
            Self::AutoRollback => "AutoRollback",
            Self::Retry => "Retry",
            Self::Restart => "Restart",
            Self::Spec => "Spec",
        }
    }
}

/// The state machine's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// The step: `Stable`, `Deploying`, `Switching`, `Watching`, `RollingBack` or `Prune`.
    pub step: Step,
    /// Number of the last decision; never decreases; stamped on the front Services.
    pub epoch: i64,
    /// When the step was entered.
    pub since: Time,
    /// Deploying and Switching: the release on its way. Prune: the restart that is begun anew when its color is clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Side>,
    /// Watching: the release that served before, still warm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Side>,
    /// Clocks of the step, persisted so that a restart neither loses nor shortens a wait.
    #[serde(default)]
    pub timers: Timers,
    /// When the switch to the target (in Watching: to the active release) was decided; pods older than this were
    /// ready at the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched_at: Option<Time>,
    /// Pods of the target that had restarted before the switch (a later restart is news, these are not).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarted_before: Vec<PodRestarts>,
    /// The request by annotation that is being, or was last, acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}

/// A release on a color.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// The color.
    pub strategy: Color,
    /// The release's version.
    pub version: String,
}

/// Step of the state machine (design D7); finer than `deploymentPhase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(with = "String")]
pub enum Step {
    /// One color, serving.
    Stable,
    /// The pending color is created and watched until it is ready for the grace period.
    Deploying,
    /// The front Services go to the new color.
    Switching,
    /// Both colors live, traffic on the new one.
    Watching,
    /// The front Services go back to the old color.
    RollingBack,
    /// The color that does not serve is deleted.
    Prune,
    /// A step of a newer version: nothing is touched until an operator that knows it runs again.
    #[serde(other)]
    Unknown,
}

impl Step {
    /// The value of `rollout.step`, and the reason of conditions in this step.
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

    /// The public phase.
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

/// Clocks within a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timers {
    /// Deploying: since when every pod of the target is ready without a break.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Time>,
    /// Deploying: since when the target's storage shows a hard failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_failing_since: Option<Time>,
    /// Deploying: since when the target's schema shows a hard failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_failing_since: Option<Time>,
    /// Switching and Watching: since when the pod of `unreadyPod` is unready. Deploying: when the target first lost the
    /// readiness that it had had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unready_since: Option<Time>,
    /// Switching and Watching: the pod, ready at the switch, that is unready since `unreadySince`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unready_pod: Option<String>,
    /// Switching and Watching: since when a component has no ready pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_since: Option<Time>,
    /// Since when neither color is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub both_down_since: Option<Time>,
}

/// So many pods that restarted before a switch a status has a place for.
pub const RESTARTS_KEPT: usize = 32;

/// How often a pod had restarted before the switch. Of one that a full list has no place for it is not known, and no count
/// is news.
pub fn restarted_before(kept: &[PodRestarts], pod: &str) -> i32 {
    let unknown = if kept.len() < RESTARTS_KEPT { 0 } else { i32::MAX };
    kept.iter().find(|known| known.pod == pod).map_or(unknown, |known| known.count)
}

/// Restarts of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodRestarts {
    /// The pod's name.
    pub pod: String,
    /// Restarts of its main container.
    pub count: i32,
}

/// A request that a user made by annotation, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// `Rollback`, `Retry` or `Restart`.
    pub kind: Trigger,
    /// The annotation's value.
    pub value: String,
    /// Why it was refused; absent if it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A rollback that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// The version that was left.
    pub from: String,
    /// The version that serves instead.
    pub to: String,
    /// `Manual` or `Automatic`.
    pub trigger: String,
    /// Why.
    pub reason: String,
    /// When it was decided.
    pub time: Time,
}

/// Counts of the serving color of one component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ComponentStatus {
    /// Pods wanted.
    pub replicas: i32,
    /// Pods ready.
    pub ready_replicas: i32,
    /// The image that runs.
    pub image: String,
    /// The color's own Service.
    pub service: String,
}

/// Addresses for clients, `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// The storage service.
    pub storage: String,
    /// The schema service.
    pub schema: String,
}

/// A part of the status that is incomplete counts as lost, and is rebuilt: an API server with an older CRD drops fields of
/// what it stores, and a resource must not become unreadable by that.
fn readable<'de, T: Default + DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

impl MetadataServicesStatus {
    /// The serving release, if any.
    pub fn active(&self) -> Option<Side> {
        Some(Side { strategy: self.active_strategy?, version: self.active_release_version.clone()? })
    }

    /// A condition, by its type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// The record of a version.
    pub fn record(&self, version: &str) -> Option<&ReleaseRecord> {
        self.release_history.iter().find(|record| record.version == version)
    }

    /// The record of a template.
    pub fn record_of_hash(&self, hash: &str) -> Option<&ReleaseRecord> {
        self.release_history.iter().find(|record| record.hash == hash)
    }
}

/// Seconds from `since` to `now`; 0 if `since` is in the future.
pub fn elapsed(since: &Time, now: Timestamp) -> i64 {
    now.as_second().saturating_sub(since.0.as_second()).max(0)
}
