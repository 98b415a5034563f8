//! How a release is rolled out: `spec.rollout`.
//!
//! None of this shapes pods, so none of it is part of a release: a change is obeyed at once, even in mid-rollout.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{is_default, rules};

/// Tuning of blue-green releases. All durations are whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::invalid(
    "(has(self.switchDwellSeconds) ? self.switchDwellSeconds : 10) \
     + (has(self.cleanupDelaySeconds) ? self.cleanupDelaySeconds : 30) >= 3",
    "switchDwellSeconds + cleanupDelaySeconds must be at least 3: nodes follow a switch about a second late; raise \
     one of them",
))]
pub struct RolloutPolicy {
    /// How long a new release must be ready without a break before traffic moves to it. 0 to 3600 s, default 120.
    /// The first release does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("gracePeriodSeconds", 0, 3600, "set a number of seconds in that range"))]
    pub grace_period_seconds: Option<i32>,
    /// How long a new release may take to become ready before it is given up. 5 to 7200 s, default 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("deployTimeoutSeconds", 5, 7200, "set a number of seconds in that range"))]
    pub deploy_timeout_seconds: Option<i32>,
    /// How long the new release is watched after the switch, and at least until EndpointSlices prove it, before the
    /// old one counts as spare. 0 to 600 s, default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("switchDwellSeconds", 0, 600, "set a number of seconds in that range"))]
    pub switch_dwell_seconds: Option<i32>,
    /// How long the old release is kept warm after that, for an immediate way back. 0 to 3600 s, default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("cleanupDelaySeconds", 0, 3600, "set a number of seconds in that range"))]
    pub cleanup_delay_seconds: Option<i32>,
    /// What happens to a release that fails.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auto_rollback: AutoRollback,
    /// True starts no new release; one under way finishes, and a rollback asked for is still done. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// How many releases are remembered. 2 to 10, default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range("historyLimit", 2, 10, "set a number of releases in that range"))]
    pub history_limit: Option<i32>,
}

/// What happens to a release that fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoRollback {
    /// True gives up a failed release, keeps or restores the one that served, and does not try again unless asked.
    /// False stays with it and waits for a person. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How long a release that is being deployed may fail hard (crash, unpullable image, refused pod) before it is
    /// given up. 0 to 3600 s, default 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::range(
        "failureThresholdSeconds", 0, 3600, "set a number of seconds in that range; 0 gives up at the first failure"
    ))]
    pub failure_threshold_seconds: Option<i32>,
    /// True writes the serving release back into the spec after an automatic rollback. Default false, since a tool
    /// that follows a Git repository would write it forth again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert_spec: Option<bool>,
}

/// The value, or the default, within the legal range: a server without CEL lets illegal values pass.
fn seconds(value: Option<i32>, default: i32, low: i32, high: i32) -> i64 {
    i64::from(value.unwrap_or(default).clamp(low, high))
}

impl RolloutPolicy {
    /// Seconds of unbroken readiness before a switch.
    pub fn grace_period(&self) -> i64 {
        seconds(self.grace_period_seconds, 120, 0, 3600)
    }

    /// Seconds that a release may take to become ready.
    pub fn deploy_timeout(&self) -> i64 {
        seconds(self.deploy_timeout_seconds, 600, 5, 7200)
    }

    /// Seconds of watch after a proved switch.
    pub fn switch_dwell(&self) -> i64 {
        seconds(self.switch_dwell_seconds, 10, 0, 600)
    }

    /// Seconds that the old release stays warm; at least 3 together with [`Self::switch_dwell`].
    pub fn cleanup_delay(&self) -> i64 {
        seconds(self.cleanup_delay_seconds, 30, 0, 3600).max(3 - self.switch_dwell())
    }

    /// Seconds of hard failure before a release is given up.
    pub fn failure_threshold(&self) -> i64 {
        seconds(self.auto_rollback.failure_threshold_seconds, 120, 0, 3600)
    }

    /// Whether a failed release is given up by itself.
    pub fn auto_rollback(&self) -> bool {
        self.auto_rollback.enabled.unwrap_or(true)
    }

    /// Whether an automatic rollback also rewrites the spec.
    pub fn revert_spec(&self) -> bool {
        self.auto_rollback.revert_spec.unwrap_or(false)
    }

    /// Whether no new release is to be started.
    pub fn paused(&self) -> bool {
        self.paused.unwrap_or(false)
    }

    /// How many records the history holds.
    pub fn history_limit(&self) -> usize {
        usize::try_from(self.history_limit.unwrap_or(10).clamp(2, 10)).unwrap_or(10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_guide() {
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
    fn illegal_values_are_clamped() {
        let wild = |value| RolloutPolicy {
            grace_period_seconds: Some(value),
            deploy_timeout_seconds: Some(value),
            switch_dwell_seconds: Some(value),
            cleanup_delay_seconds: Some(value),
            history_limit: Some(value),
            auto_rollback: AutoRollback { failure_threshold_seconds: Some(value), ..AutoRollback::default() },
            paused: None,
        };
        let low = wild(i32::MIN);
        assert_eq!((low.grace_period(), low.deploy_timeout(), low.switch_dwell()), (0, 5, 0));
        assert_eq!((low.cleanup_delay(), low.failure_threshold(), low.history_limit()), (3, 0, 2));
        let high = wild(i32::MAX);
        assert_eq!((high.grace_period(), high.deploy_timeout(), high.switch_dwell()), (3600, 7200, 600));
        assert_eq!((high.cleanup_delay(), high.failure_threshold(), high.history_limit()), (3600, 3600, 10));
    }
}
