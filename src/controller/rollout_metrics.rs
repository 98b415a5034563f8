//! Counters of rollouts and rollbacks. Each rollout counts once, when the status with its outcome has been stored.

use crate::metrics::{Metrics, RollbackTrigger, Rollout};
use api::MetadataServicesStatus;
use api::status::{Rollback, Step, Trigger};
use rollout::EventReason;

/// Counts the rollout and the rollback that a stored status completes.
pub(super) fn count_status(
    metrics: &Metrics,
    before: Option<&MetadataServicesStatus>,
    after: &MetadataServicesStatus,
) {
    if succeeded(before, after) {
        metrics.rollout(Rollout::Succeeded);
    }
    let known = before.and_then(|status| status.last_rollback.as_ref());
    if let Some(rollback) = after.last_rollback.as_ref().filter(|rollback| Some(*rollback) != known) {
        metrics.rollback(trigger(before, after, rollback));
    }
}

/// Counts the rollout that an Event reports as ended without success.
pub(super) fn count_event(metrics: &Metrics, what: EventReason) {
    let ended = match what {
        EventReason::RolloutFailed => Rollout::Failed,
        EventReason::Aborted => Rollout::Aborted,
        EventReason::Superseded => Rollout::Superseded,
        EventReason::Undone => Rollout::RolledBack,
        _ => return,
    };
    metrics.rollout(ended);
}

/// Returns whether a release has passed its time under watch after the switch, or is the first active release.
fn succeeded(before: Option<&MetadataServicesStatus>, after: &MetadataServicesStatus) -> bool {
    let active = before.and_then(|status| status.active_release_version.as_ref());
    match (step(before), step(Some(after))) {
        (Some(Step::Watching), Some(Step::Prune)) => active == after.active_release_version.as_ref(),
        (Some(Step::Switching), Some(Step::Stable)) => active.is_none(),
        _ => false,
    }
}

/// Returns the trigger of a rollback. A manual rollback to the previous release comes from an annotation or from an edit of
/// the spec.
fn trigger(
    before: Option<&MetadataServicesStatus>,
    after: &MetadataServicesStatus,
    rollback: &Rollback,
) -> RollbackTrigger {
    let request = before.and_then(|status| status.rollout.as_ref()?.request.as_ref());
    let asked = request.is_some_and(|request| {
        request.kind == Trigger::Rollback && request.refused.is_none() && request.value == rollback.to
    });
    match (rollback.trigger.as_str(), step(Some(after))) {
        ("Manual", Some(Step::RollingBack)) if !asked => RollbackTrigger::Undo,
        ("Manual", _) => RollbackTrigger::Manual,
        _ => RollbackTrigger::Automatic,
    }
}

fn step(status: Option<&MetadataServicesStatus>) -> Option<Step> {
    status?.rollout.as_ref().map(|rollout| rollout.step)
}
