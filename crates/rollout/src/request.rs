//! Requests that users make by annotation: rollback, retry, restart (design D10, D11).
//!
//! A request is first noted in the status (`rollout.request`), then acted on and its annotation removed. So a crash
//! in between neither loses it nor does it twice.

use super::health::shorten;
use super::shift::Transition;
use super::{Context, Desired, Effect, EventReason, Plan, ResourcePatch};
use api::names::{RESTART, RETRY, ROLLBACK_TO};
use api::status::{RecordStatus, ReleaseRecord, Request, Step, Trigger};

/// What a pending request leads to; `None` if there is none, or it has to wait for its step.
pub(super) fn plan(ctx: &Context) -> Option<Plan> {
    let requests = &ctx.intent.requests;
    if let Some(value) = &requests.rollback_to {
        return rollback(ctx, value);
    }
    // A rollback that is accepted and not under way yet goes first.
    let noted = ctx.rollout.request.as_ref();
    if noted.is_some_and(|one| one.kind == Trigger::Rollback && one.refused.is_none()) && !done(ctx) {
        return None;
    }
    let retried = requests.retry.as_ref().and_then(|value| retry(ctx, value));
    retried.or_else(|| requests.restart.as_ref().and_then(|value| restart(ctx, value)))
}

fn amend(restore: Option<String>, annotation: &'static str) -> Option<Plan> {
    Some(Plan {
        effect: Effect::PatchResource(ResourcePatch { restore, remove: vec![annotation] }),
        notes: vec![],
        requeue_after: None,
    })
}

/// Whether this very request is noted already.
fn noted<'a>(ctx: &'a Context, kind: Trigger, value: &str) -> Option<&'a Request> {
    ctx.rollout.request.as_ref().filter(|request| request.kind == kind && request.value == value)
}

/// Whether it is noted, and was not refused: what was refused once may have a meaning by now.
fn accepted(ctx: &Context, kind: Trigger, value: &str) -> bool {
    noted(ctx, kind, value).is_some_and(|request| request.refused.is_none())
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
        return amend(Some(record.version.clone()), ROLLBACK_TO);
    }
    accept_rollback(ctx, value, record)
}

/// The record that a rollback names, or why it cannot be gone back to.
fn target<'a>(ctx: &'a Context, value: &str) -> Result<&'a ReleaseRecord, String> {
    let choices = || {
        let good: Vec<&str> = ctx
            .status
            .release_history
            .iter()
            .filter(|record| record.activated_at.is_some())
            .map(|record| record.version.as_str())
            .collect();
        if good.is_empty() {
            "there is none yet".to_owned()
        } else {
            format!("there are: {}", good.join(", "))
        }
    };
    if value.is_empty() {
        return Err(format!("the value is empty; name a release that served, {}", choices()));
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

/// Notes the rollback. A release that failed once but was good is asked for by name: its block is lifted.
fn accept_rollback(ctx: &Context, value: &str, record: &ReleaseRecord) -> Option<Plan> {
    let mut transition = Transition::of(ctx);
    transition.note(Trigger::Rollback, value, None);
    if record.status == RecordStatus::Failed {
        transition.unblock(&record.version);
    }
    transition.tell(EventReason::RequestAccepted, format!("rolling back to {value}"));
    transition.commit()
}

/// Notes why a request cannot be met, then takes its annotation away. A long value is cut: it may be anything.
fn refuse(ctx: &Context, kind: Trigger, value: &str, why: &str) -> Option<Plan> {
    let annotation = match kind {
        Trigger::Retry => RETRY,
        Trigger::Restart => RESTART,
        Trigger::Rollback | Trigger::AutoRollback | Trigger::Spec => ROLLBACK_TO,
    };
    let value = &shorten(value);
    let message = format!("{annotation}={value} refused: {why}");
    if noted(ctx, kind, value).is_some_and(|request| request.refused.as_ref() == Some(&message)) {
        return amend(None, annotation);
    }
    let mut transition = Transition::of(ctx);
    transition.note(kind, value, Some(message.clone()));
    transition.tell(EventReason::RequestRefused, message);
    transition.commit()
}

fn retry(ctx: &Context, value: &str) -> Option<Plan> {
    if accepted(ctx, Trigger::Retry, value) {
        return amend(None, RETRY);
    }
    match ctx.rollout.step {
        Step::Stable if ctx.blocked() && (ctx.policy().paused || ctx.desired() == Desired::Unknown) => None,
        Step::Stable if ctx.blocked() => {
            let mut transition = Transition::of(ctx);
            transition.note(Trigger::Retry, value, None);
            transition.start(Trigger::Retry);
            transition.commit()
        }
        // Whatever is under way may still fail: keep the request until it is known whether it has a meaning.
        Step::Switching | Step::Watching | Step::RollingBack | Step::Prune | Step::Unknown => None,
        Step::Deploying if ctx.active().is_some() => None,
        Step::Stable | Step::Deploying => {
            refuse(ctx, Trigger::Retry, value, "no failed release waits for a retry")
        }
    }
}

fn restart(ctx: &Context, value: &str) -> Option<Plan> {
    if accepted(ctx, Trigger::Restart, value) {
        return amend(None, RESTART);
    }
    if ctx.rollout.step != Step::Stable || ctx.policy().paused {
        return None;
    }
    // A wanted release goes first and replaces every pod anyway; one that may not start holds this back too.
    if ctx.desired() != Desired::Active {
        return None;
    }
    let active = ctx.active()?;
    let hash = ctx.hash_of(&active.version)?;
    if !ctx.has_template(hash) {
        return refuse(ctx, Trigger::Restart, value, "the serving release's ControllerRevision is gone");
    }
    let mut transition = Transition::of(ctx);
    transition.note(Trigger::Restart, value, None);
    transition.restart(&active);
    transition.commit()
}

/// Forgets an accepted request once its annotation is gone and it has been acted on.
pub(super) fn done(ctx: &Context) -> bool {
    ctx.rollout.request.as_ref().is_some_and(|request| {
        let annotation = match request.kind {
            Trigger::Rollback => &ctx.intent.requests.rollback_to,
            Trigger::Retry => &ctx.intent.requests.retry,
            Trigger::Restart => &ctx.intent.requests.restart,
            Trigger::AutoRollback | Trigger::Spec => &None,
        };
        // A rollback is acted on when its release is on its way, or serves.
        let unready_time_began = request.kind != Trigger::Rollback
            || ctx.desired() != Desired::Spec
            || ctx.rollout.target.as_ref().is_some_and(|target| target.version == request.value);
        request.refused.is_none() && annotation.is_none() && unready_time_began
    })
}
