//! The input of one decision, and the questions that several modules ask about it. Nothing here changes anything.

use api::names::{Color, Component};
use api::status::{
    MetadataServicesStatus, RecordStatus, ReleaseRecord, Rollout, Side, Step, Trigger, elapsed,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::facts::{Facts, ReleaseRef, Route};
use crate::intent::{Intent, Policy};

/// The release that the operator should run (design D10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Desired {
    /// Undecided: the spec is invalid, or the CRD is too old to trust it.
    Unknown,
    /// The active release: the spec describes it, or the spec's release is blocked.
    Active,
    /// The spec's release, which is not active.
    Spec,
}

/// Everything that one decision is based on.
pub(crate) struct Context<'a> {
    /// The resource as the user wrote it.
    pub intent: &'a Intent,
    /// The persisted status.
    pub status: &'a MetadataServicesStatus,
    /// The state machine's part of the status.
    pub rollout: &'a Rollout,
    /// The objects of the resource.
    pub facts: &'a Facts,
    /// The time that waits are measured against; never later than the true time.
    pub now: Timestamp,
    /// The time that is persisted: whole seconds, rounded up, so that no wait that starts now ends early.
    pub now_for_record: Timestamp,
}

impl<'a> Context<'a> {
    /// The rollout settings of the spec.
    pub fn policy(&self) -> &'a Policy {
        &self.intent.policy
    }

    /// The active release and its color.
    pub fn active(&self) -> Option<Side> {
        self.status.active()
    }

    /// The template hash of a recorded version.
    pub fn hash_of(&self, version: &str) -> Option<&'a str> {
        self.status.record(version).map(|record| record.hash.as_str())
    }

    /// The template hash of the active release.
    pub fn active_hash(&self) -> Option<&'a str> {
        self.hash_of(self.status.active_release_version.as_deref()?)
    }

    /// A reference to a recorded release, with an epoch.
    pub fn release_ref(&self, side: &Side, epoch: i64) -> ReleaseRef {
        let hash = self.hash_of(&side.version).unwrap_or_default().to_owned();
        ReleaseRef { version: side.version.clone(), hash, epoch }
    }

    /// The record of the spec's release.
    pub fn wanted_record(&self) -> Option<&'a ReleaseRecord> {
        self.status.record_of_hash(&self.intent.wanted.hash)
    }

    /// Returns whether the spec's release failed and no retry was requested. A first release is never blocked.
    pub fn blocked(&self) -> bool {
        self.status.active_strategy.is_some()
            && self.wanted_record().is_some_and(|record| record.status == RecordStatus::Failed)
    }

    /// The release that the operator should run.
    pub fn desired(&self) -> Desired {
        if !self.intent.violations.is_empty() || self.intent.crd_outdated.is_some() {
            Desired::Unknown
        } else if self.active_hash() == Some(&self.intent.wanted.hash) || self.blocked() {
            Desired::Active
        } else {
            Desired::Spec
        }
    }

    /// Returns whether no rollout is in progress and `paused` keeps the next one from starting.
    ///
    /// Before the first release is active, the resource waits in Prune with a clean color.
    pub fn is_paused(&self) -> bool {
        let waits = self.rollout.step == Step::Prune && self.active().is_none();
        self.policy().paused && (self.rollout.step == Step::Stable || waits)
    }

    /// Seconds in this step.
    pub fn in_step(&self) -> i64 {
        elapsed(&self.rollout.since, self.now)
    }

    /// The decision that both front Services must carry.
    pub fn decision(&self) -> Route {
        decision(self.status, self.rollout)
    }

    /// Returns whether both front Services carry the decision.
    pub fn stamped(&self) -> bool {
        let decision = self.decision();
        self.facts.front.all(|front| front.state().is_some_and(|state| state.carries(&decision)))
    }

    /// Returns whether the EndpointSlices of both front Services list this color and nothing else.
    pub fn proved(&self, color: Color) -> bool {
        self.facts.front.all(|front| front.state().is_some_and(|state| state.proves(color)))
    }

    /// The time of the last switch, in seconds since 1970: the later annotation of the two front Services.
    pub fn last_switch(&self) -> i64 {
        // A time in the future was written by another client. It must not block the rollout.
        let latest = self
            .facts
            .front
            .iter()
            .filter_map(|(_, front)| front.state()?.switched_at)
            .filter(|at| *at <= self.latest_past())
            .max();
        latest.unwrap_or(0).max(self.rollout.since.0.as_second())
    }

    /// The latest time, in seconds since 1970, that is not in the future however times are rounded.
    pub fn latest_past(&self) -> i64 {
        self.now.as_second().saturating_add(5)
    }

    /// Returns whether the operator has the template of a release. A record with an unknown template has no hash.
    pub fn has_template(&self, hash: &str) -> bool {
        if hash.is_empty() {
            return false;
        }
        (self.intent.violations.is_empty() && self.intent.wanted.hash == hash)
            || self.facts.revisions.iter().any(|revision| revision.hash == hash)
    }

    /// Since when a component of the pending release shows a hard failure.
    pub fn failing_since(&self, component: Component) -> Option<&'a Time> {
        match component {
            Component::Storage => self.rollout.timers.storage_failing_since.as_ref(),
            Component::Schema => self.rollout.timers.schema_failing_since.as_ref(),
        }
    }

    /// Returns whether the recorded request was accepted, was carried out, and its annotation is gone.
    pub fn request_is_done(&self) -> bool {
        self.rollout.request.as_ref().is_some_and(|request| {
            let annotation = match request.kind {
                Trigger::Rollback => &self.intent.requests.rollback_to,
                Trigger::Retry => &self.intent.requests.retry,
                Trigger::Restart => &self.intent.requests.restart,
                Trigger::AutoRollback | Trigger::Adoption | Trigger::Spec => &None,
            };
            // A rollback is carried out when its release is pending or active.
            let started = request.kind != Trigger::Rollback
                || self.desired() != Desired::Spec
                || self.rollout.target.as_ref().is_some_and(|target| target.version == request.value);
            request.refused.is_none() && annotation.is_none() && started
        })
    }
}

/// The decision that a status holds.
pub(crate) fn decision(status: &MetadataServicesStatus, rollout: &Rollout) -> Route {
    let side = match rollout.step {
        Step::Switching => rollout.target.clone(),
        Step::Stable | Step::Deploying | Step::Watching | Step::RollingBack | Step::Prune | Step::Unknown => {
            status.active()
        }
    };
    match side {
        Some(side) => Route { color: Some(side.strategy), version: side.version, epoch: rollout.epoch },
        None => Route { color: None, version: String::new(), epoch: rollout.epoch },
    }
}

/// Rounds up to whole seconds, since Kubernetes times have no fractions.
pub(crate) fn round_up_to_second(now: Timestamp) -> Timestamp {
    let second = now.as_second().saturating_add(i64::from(now.subsec_nanosecond() > 0));
    Timestamp::from_second(second).unwrap_or(now)
}
