//! Requests that users make by annotation: rollback, retry, restart (design D10, D11).
//!
//! A request is first noted in the status (`rollout.request`), then acted on and its annotation removed. So a crash
//! in between neither loses it nor does it twice.

use super::health::shorten;
use super::shift::Shift;
use super::{Amend, Answer, Ctx, Move, Plan, Want, What};
use crate::api::status::{RecordStatus, ReleaseRecord, Request, Step, Trigger};
use crate::names::{RESTART, RETRY, ROLLBACK_TO};

/// What a pending request leads to; `None` if there is none, or it has to wait for its step.
pub(super) fn plan(ctx: &Ctx) -> Answer {
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

fn amend(restore: Option<String>, annotation: &'static str) -> Answer {
    Some(Plan {
        next: Move::Amend(Amend { restore, remove: vec![annotation] }),
        notices: vec![],
        again: None,
    })
}

/// Whether this very request is noted already.
fn noted<'a>(ctx: &'a Ctx, kind: Trigger, value: &str) -> Option<&'a Request> {
    ctx.rollout.request.as_ref().filter(|request| request.kind == kind && request.value == value)
}

/// Whether it is noted, and was not refused: what was refused once may have a meaning by now.
fn accepted(ctx: &Ctx, kind: Trigger, value: &str) -> bool {
    noted(ctx, kind, value).is_some_and(|request| request.refused.is_none())
}

fn rollback(ctx: &Ctx, value: &str) -> Answer {
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
fn target<'a>(ctx: &'a Ctx, value: &str) -> Result<&'a ReleaseRecord, String> {
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
    let name = crate::names::revision(&ctx.intent.name, value);
    let kept = ctx.facts.revisions.iter().find(|revision| revision.version == value);
    let flaw =
        kept.map_or("it is gone", |kept| kept.flaw.as_deref().unwrap_or("it records another template"));
    Err(format!("its ControllerRevision {name} cannot be used: {flaw}; {}", choices()))
}

/// Notes the rollback. A release that failed once but was good is asked for by name: its block is lifted.
fn accept_rollback(ctx: &Ctx, value: &str, record: &ReleaseRecord) -> Answer {
    let mut shift = Shift::of(ctx);
    shift.note(Trigger::Rollback, value, None);
    if record.status == RecordStatus::Failed {
        shift.unblock(&record.version);
    }
    shift.tell(What::RequestAccepted, format!("rolling back to {value}"));
    shift.commit()
}

/// Notes why a request cannot be met, then takes its annotation away. A long value is cut: it may be anything.
fn refuse(ctx: &Ctx, kind: Trigger, value: &str, why: &str) -> Answer {
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
    let mut shift = Shift::of(ctx);
    shift.note(kind, value, Some(message.clone()));
    shift.tell(What::RequestRefused, message);
    shift.commit()
}

fn retry(ctx: &Ctx, value: &str) -> Answer {
    if accepted(ctx, Trigger::Retry, value) {
        return amend(None, RETRY);
    }
    match ctx.rollout.step {
        Step::Stable if ctx.blocked() && (ctx.policy().paused || ctx.want() == Want::Nothing) => None,
        Step::Stable if ctx.blocked() => {
            let mut shift = Shift::of(ctx);
            shift.note(Trigger::Retry, value, None);
            shift.start(Trigger::Retry);
            shift.commit()
        }
        // Whatever is under way may still fail: keep the request until it is known whether it has a meaning.
        Step::Switching | Step::Grace | Step::RollingBack | Step::Prune | Step::Unknown => None,
        Step::Deploying if ctx.active().is_some() => None,
        Step::Stable | Step::Deploying => {
            refuse(ctx, Trigger::Retry, value, "no failed release waits for a retry")
        }
    }
}

fn restart(ctx: &Ctx, value: &str) -> Answer {
    if accepted(ctx, Trigger::Restart, value) {
        return amend(None, RESTART);
    }
    if ctx.rollout.step != Step::Stable || ctx.policy().paused {
        return None;
    }
    // A wanted release goes first and replaces every pod anyway; one that may not start holds this back too.
    if ctx.want() != Want::Active {
        return None;
    }
    let active = ctx.active()?;
    let hash = ctx.hash_of(&active.version)?;
    if !ctx.has_template(hash) {
        return refuse(ctx, Trigger::Restart, value, "the serving release's ControllerRevision is gone");
    }
    let mut shift = Shift::of(ctx);
    shift.note(Trigger::Restart, value, None);
    shift.restart(&active);
    shift.commit()
}

/// Forgets an accepted request once its annotation is gone and it has been acted on.
pub(super) fn done(ctx: &Ctx) -> bool {
    ctx.rollout.request.as_ref().is_some_and(|request| {
        let annotation = match request.kind {
            Trigger::Rollback => &ctx.intent.requests.rollback_to,
            Trigger::Retry => &ctx.intent.requests.retry,
            Trigger::Restart => &ctx.intent.requests.restart,
            Trigger::AutoRollback | Trigger::Spec => &None,
        };
        // A rollback is acted on when its release is on its way, or serves.
        let begun = request.kind != Trigger::Rollback
            || ctx.want() != Want::Spec
            || ctx.rollout.target.as_ref().is_some_and(|target| target.version == request.value);
        request.refused.is_none() && annotation.is_none() && begun
    })
}
