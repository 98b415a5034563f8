//! Requests by annotation: rollback, retry, restart (design D10, D11).
//!
//! A request is first recorded in the status (`rollout.request`), then carried out, and then its annotation is removed.
//! A crash in between neither loses the request nor carries it out twice.

use api::names::{RESTART, RETRY, ROLLBACK_TO};
use api::status::{RecordStatus, ReleaseRecord, Request, Step, Trigger};

use crate::context::{Context, Desired};
use crate::health::shorten;
use crate::plan::{Effect, EventReason, Plan, ResourcePatch};
use crate::transition::Transition;

/// The plan of a request; `None` if there is none, or if it waits for another step.
pub(crate) fn plan(ctx: &Context) -> Option<Plan> {
    let requests = &ctx.intent.requests;
    if let Some(value) = &requests.rollback_to {
        return rollback(ctx, value);
    }
    // An accepted rollback that is not carried out yet comes first.
    let noted = ctx.rollout.request.as_ref();
    if noted.is_some_and(|one| one.kind == Trigger::Rollback && one.refused.is_none())
        && !ctx.request_is_done()
    {
        return None;
    }
    let retried = requests.retry.as_ref().and_then(|value| retry(ctx, value));
    retried.or_else(|| requests.restart.as_ref().and_then(|value| restart(ctx, value)))
}

fn patch_resource(restore: Option<String>, annotation: &'static str) -> Option<Plan> {
    Some(Plan::of(Effect::PatchResource(ResourcePatch { restore, remove: vec![annotation] })))
}

/// The recorded request, if it is this one.
fn recorded<'a>(ctx: &'a Context, kind: Trigger, value: &str) -> Option<&'a Request> {
    ctx.rollout.request.as_ref().filter(|request| request.kind == kind && request.value == value)
}

/// Returns whether this request is recorded as accepted. A refused one is checked again: it may be valid by now.
fn accepted(ctx: &Context, kind: Trigger, value: &str) -> bool {
    recorded(ctx, kind, value).is_some_and(|request| request.refused.is_none())
}

fn rollback(ctx: &Context, value: &str) -> Option<Plan> {
    let record = match target(ctx, value) {
        Ok(record) => record,
        Err(why) => return refuse(ctx, Trigger::Rollback, value, &why),
    };
    if let Some(objection) = &ctx.facts.restore_refused {
        let why = format!("the recorded template of {} is not valid today: {objection}", record.version);
        return refuse(ctx, Trigger::Rollback, value, &why);
    }
    if accepted(ctx, Trigger::Rollback, value) {
        return patch_resource(Some(record.version.clone()), ROLLBACK_TO);
    }
    accept_rollback(ctx, value, record)
}

/// The record that a rollback names, or why it is no rollback target.
fn target<'a>(ctx: &'a Context, value: &str) -> Result<&'a ReleaseRecord, String> {
    let choices = || {
        let good: Vec<&str> = ctx
            .status
            .release_history
            .iter()
            .filter(|record| record.activated_at.is_some() && ctx.has_template(&record.hash))
            .map(|record| record.version.as_str())
            .collect();
        if good.is_empty() {
            "no release has served yet".to_owned()
        } else {
            format!("releases that served: {}", good.join(", "))
        }
    };
    if value.is_empty() {
        return Err(format!("the value is empty; name a release that served; {}", choices()));
    }
    let Some(record) = ctx.status.record(value) else {
        return Err(format!("the history has no release of this name; {}", choices()));
    };
    if record.activated_at.is_none() {
        return Err(format!("this release never served; {}", choices()));
    }
    if ctx.has_template(&record.hash) {
        return Ok(record);
    }
    let name = api::names::revision(&ctx.intent.name, value);
    let kept = ctx.facts.revisions.iter().find(|revision| revision.version == value);
    let flaw =
        kept.map_or("it is gone", |kept| kept.flaw.as_deref().unwrap_or("it records another template"));
    Err(format!("its ControllerRevision {name} cannot be used: {flaw}; {}", choices()))
}

/// Records the rollback. A failed release that served before is unblocked, since the user names it.
fn accept_rollback(ctx: &Context, value: &str, record: &ReleaseRecord) -> Option<Plan> {
    let mut transition = Transition::new(ctx);
    transition.record_request(Trigger::Rollback, value, None);
    if record.status == RecordStatus::Failed {
        transition.unblock(&record.version);
    }
    transition.event(EventReason::RequestAccepted, format!("rolling back to {value}"));
    transition.commit()
}

/// Records why a request is refused, then removes its annotation. A long value is shortened.
fn refuse(ctx: &Context, kind: Trigger, value: &str, why: &str) -> Option<Plan> {
    let annotation = match kind {
        Trigger::Retry => RETRY,
        Trigger::Restart => RESTART,
        Trigger::Rollback | Trigger::AutoRollback | Trigger::Adoption | Trigger::Spec => ROLLBACK_TO,
    };
    let value = &shorten(value);
    let message = format!("{annotation}={value} refused: {why}");
    if recorded(ctx, kind, value).is_some_and(|request| request.refused.as_ref() == Some(&message)) {
        return patch_resource(None, annotation);
    }
    let mut transition = Transition::new(ctx);
    transition.record_request(kind, value, Some(message.clone()));
    transition.event(EventReason::RequestRefused, message);
    transition.commit()
}

fn retry(ctx: &Context, value: &str) -> Option<Plan> {
    if accepted(ctx, Trigger::Retry, value) {
        return patch_resource(None, RETRY);
    }
    match ctx.rollout.step {
        Step::Stable if ctx.blocked() && (ctx.policy().paused || ctx.desired() == Desired::Unknown) => None,
        Step::Stable if ctx.blocked() => {
            let mut transition = Transition::new(ctx);
            transition.record_request(Trigger::Retry, value, None);
            transition.start(Trigger::Retry);
            transition.commit()
        }
        // The rollout in progress may still fail: the request stays until that is decided.
        Step::Switching | Step::Watching | Step::RollingBack | Step::Prune | Step::Unknown => None,
        Step::Deploying if ctx.active().is_some() => None,
        Step::Stable | Step::Deploying => {
            refuse(ctx, Trigger::Retry, value, "no failed release waits for a retry")
        }
    }
}

fn restart(ctx: &Context, value: &str) -> Option<Plan> {
    if accepted(ctx, Trigger::Restart, value) {
        return patch_resource(None, RESTART);
    }
    if ctx.rollout.step != Step::Stable || ctx.policy().paused {
        return None;
    }
    // A desired release replaces every Pod anyway, so the restart waits for it, also while it may not start.
    if ctx.desired() != Desired::Active {
        return None;
    }
    let active = ctx.active()?;
    let hash = ctx.hash_of(&active.version)?;
    if !ctx.has_template(hash) {
        return refuse(ctx, Trigger::Restart, value, "the ControllerRevision of the active release is gone");
    }
    let mut transition = Transition::new(ctx);
    transition.record_request(Trigger::Restart, value, None);
    transition.restart(&active);
    transition.commit()
}
