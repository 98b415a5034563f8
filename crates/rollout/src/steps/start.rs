//! The start of a release: from Stable, or from Prune once the inactive color is empty.

use api::status::{RecordStatus, Trigger};

use crate::context::{Context, Desired};
use crate::plan::Plan;
use crate::transition::Transition;

/// Starts the spec's release if it is desired and not paused. A rollback starts although the resource is paused.
pub(super) fn next_release(ctx: &Context) -> Option<Plan> {
    let trigger = trigger(ctx);
    let held = ctx.policy().paused && trigger != Trigger::Rollback;
    if ctx.desired() != Desired::Spec || held {
        return None;
    }
    let mut transition = Transition::new(ctx);
    transition.start(trigger);
    transition.commit()
}

/// The trigger of the spec's release: an accepted rollback, the trigger of the earlier attempt, or a change of the spec.
fn trigger(ctx: &Context) -> Trigger {
    let record = ctx.wanted_record();
    match (&ctx.rollout.request, record) {
        (Some(request), Some(record))
            if request.kind == Trigger::Rollback
                && request.refused.is_none()
                && request.value == record.version =>
        {
            Trigger::Rollback
        }
        (_, Some(record)) if record.status == RecordStatus::Pending => record.trigger,
        _ => Trigger::Spec,
    }
}

/// Resumes a restart whose color had to be pruned first.
pub(super) fn resume_restart(ctx: &Context) -> Option<Plan> {
    let active = ctx.active()?;
    let is_restart = ctx.rollout.target.as_ref().is_some_and(|target| target.version == active.version);
    let superseded = ctx.desired() == Desired::Spec;
    let possible = ctx.hash_of(&active.version).is_some_and(|hash| ctx.has_template(hash));
    if !is_restart || superseded || !possible {
        return None;
    }
    let mut transition = Transition::new(ctx);
    transition.restart(&active);
    transition.commit()
}
