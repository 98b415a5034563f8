//! Timing and failure handling of releases: `spec.rollout`.
//!
//! These fields do not shape Pods, so they are not part of a release. A change takes effect at once, also during a
//! rollout.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{is_default, rules};

/// Timing and failure handling of blue-green releases. Durations are whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::invalid(
    "(has(self.switchDwellSeconds) ? self.switchDwellSeconds : 10) \
     + (has(self.cleanupDelaySeconds) ? self.cleanupDelaySeconds : 30) >= 3",
    "switchDwellSeconds + cleanupDelaySeconds must be at least 3, since nodes follow a switch about a second later: \
     raise switchDwellSeconds or cleanupDelaySeconds",
))]
pub struct RolloutPolicy {
    /// Seconds that all Pods of a pending release must be ready without interruption before traffic switches to it, 0
    /// to 3600. The first release of a resource does not wait. Default: 120. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("gracePeriodSeconds", 0, 3600, "set a number of seconds in this range"))]
    pub grace_period_seconds: Option<i32>,
    /// Seconds that a pending release may take to become ready, 5 to 7200. A release that takes longer fails. After a
    /// switch this is also the time that EndpointSlices have to show the new release. The value must be greater than
    /// `minReadySeconds` of both components. Default: 600. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("deployTimeoutSeconds", 5, 7200, "set a number of seconds in this range"))]
    pub deploy_timeout_seconds: Option<i32>,
    /// Minimum seconds in step Switching after both front Services select the new release, 0 to 600. The step ends
    /// after EndpointSlices also prove that traffic goes to the new release only. The sum with `cleanupDelaySeconds`
    /// must be at least 3. Default: 10. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("switchDwellSeconds", 0, 600, "set a number of seconds in this range"))]
    pub switch_dwell_seconds: Option<i32>,
    /// Seconds that the previous release keeps running after a proved switch (step Watching), 0 to 3600. In this time
    /// traffic can return to it at once. The operator then deletes the previous release, unless the new release is
    /// unhealthy. The sum with `switchDwellSeconds` must be at least 3. Default: 30. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("cleanupDelaySeconds", 0, 3600, "set a number of seconds in this range"))]
    pub cleanup_delay_seconds: Option<i32>,
    /// Reaction of the operator to a release that fails. Applied in place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auto_rollback: AutoRollback,
    /// Indicates whether rollouts are paused. While true, the operator starts no release but a rollback that a user
    /// requests. A running rollout finishes; retry and restart requests wait. Default: false. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Number of releases that `status.releaseHistory` and the ControllerRevisions keep, 2 to 10. The active release,
    /// a pending release and the last two entries always stay. Default: 10. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("historyLimit", 2, 10, "set a number of releases in this range"))]
    pub history_limit: Option<i32>,
}

/// Reaction of the operator to a release that fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoRollback {
    /// Indicates whether the operator ends a failed release. Before the switch it keeps the active release; after the
    /// switch it returns traffic to the previous one. A failed release stays blocked until a retry or rollback
    /// request. False keeps the failed release until the spec asks for another one. Default: true. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Seconds that a release may show a hard failure before it fails, 0 to 3600. Hard failures are crashes, images
    /// that cannot be pulled, invalid container configuration, and rejected Pods. After a switch the limit applies to
    /// a component without any ready Pod, and is at least 5. Default: 120. Applied in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range(
        "failureThresholdSeconds", 0, 3600,
        "set a number of seconds in this range; 0 fails a release at its first hard failure"
    ))]
    pub failure_threshold_seconds: Option<i32>,
    /// Indicates whether the operator writes the active release back into the spec after an automatic rollback. Leave
    /// it false if a GitOps tool applies the spec, since the tool would undo the write. Default: false. Applied in
    /// place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert_spec: Option<bool>,
}

/// Returns the value or its default, clamped to the valid range: an API server without CEL accepts values outside of
/// it.
fn seconds(value: Option<i32>, default: i32, low: i32, high: i32) -> i64 {
    i64::from(value.unwrap_or(default).clamp(low, high))
}

impl RolloutPolicy {
    /// Returns the seconds of uninterrupted readiness before a switch.
    pub fn grace_period(&self) -> i64 {
        seconds(self.grace_period_seconds, 120, 0, 3600)
    }

    /// Returns the seconds that a release may take to become ready.
    pub fn deploy_timeout(&self) -> i64 {
        seconds(self.deploy_timeout_seconds, 600, 5, 7200)
    }

    /// Returns the minimum seconds in step Switching.
    pub fn switch_dwell(&self) -> i64 {
        seconds(self.switch_dwell_seconds, 10, 0, 600)
    }

    /// Returns the seconds that the previous release keeps running after a proved switch. The sum with
    /// [`Self::switch_dwell`] is at least 3.
    pub fn cleanup_delay(&self) -> i64 {
        seconds(self.cleanup_delay_seconds, 30, 0, 3600).max(3 - self.switch_dwell())
    }

    /// Returns the seconds of hard failure after which a release fails.
    pub fn failure_threshold(&self) -> i64 {
        seconds(self.auto_rollback.failure_threshold_seconds, 120, 0, 3600)
    }

    /// Returns whether the operator ends a failed release.
    pub fn auto_rollback(&self) -> bool {
        self.auto_rollback.enabled.unwrap_or(true)
    }

    /// Returns whether an automatic rollback also writes the spec.
    pub fn revert_spec(&self) -> bool {
        self.auto_rollback.revert_spec.unwrap_or(false)
    }

    /// Returns whether no new release may start.
    pub fn paused(&self) -> bool {
        self.paused.unwrap_or(false)
    }

    /// Returns the maximum number of records in the history.
    pub fn history_limit(&self) -> usize {
        usize::try_from(self.history_limit.unwrap_or(10).clamp(2, 10)).unwrap_or(10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_match_the_upgrade_guide() {
        let policy = RolloutPolicy::default();
        assert_eq!(policy.grace_period(), 120);
        assert_eq!(policy.deploy_timeout(), 600);
        assert_eq!(policy.switch_dwell(), 10);
        assert_eq!(policy.cleanup_delay(), 30);
        assert_eq!(policy.failure_threshold(), 120);
        assert_eq!(policy.history_limit(), 10);
        assert!(policy.auto_rollback() && !policy.revert_spec() && !policy.paused());
    }

    #[test]
    fn values_outside_of_the_ranges_are_clamped() {
        let extreme = |value| RolloutPolicy {
            grace_period_seconds: Some(value),
            deploy_timeout_seconds: Some(value),
            switch_dwell_seconds: Some(value),
            cleanup_delay_seconds: Some(value),
            history_limit: Some(value),
            auto_rollback: AutoRollback { failure_threshold_seconds: Some(value), ..AutoRollback::default() },
            paused: None,
        };
        let low = extreme(i32::MIN);
        assert_eq!((low.grace_period(), low.deploy_timeout(), low.switch_dwell()), (0, 5, 0));
        assert_eq!((low.cleanup_delay(), low.failure_threshold(), low.history_limit()), (3, 0, 2));
        let high = extreme(i32::MAX);
        assert_eq!((high.grace_period(), high.deploy_timeout(), high.switch_dwell()), (3600, 7200, 600));
        assert_eq!((high.cleanup_delay(), high.failure_threshold(), high.history_limit()), (3600, 3600, 10));
    }
}
