//! The core of the operator: the next step for one resource, as a pure function (design D3 to D14, D19).
//!
//! [`plan`] takes facts and returns one decision. It knows no client, no clock and no Kubernetes object. The controller
//! turns objects into [`Facts`], calls `plan`, carries out the [`Effect`], and calls it again.
//!
//! An effect either persists a decision (one status update) or makes the cluster match the persisted decision, never
//! both (design D14). A crash between two writes therefore leaves a state from which the next reconcile continues.
//!
//! | module | holds |
//! |---|---|
//! | [`intent`], [`facts`] | the input: the resource as the user wrote it, and its objects |
//! | [`mod@plan`] | the output: effects, actions, Events |
//! | `context` | the input of one decision, and questions about it |
//! | [`health`] | judgments on one color |
//! | `assessment` | why and when a release fails, before and after the switch |
//! | [`history`] | order and content of the release history |
//! | `steps` | the state machine |
//! | `actions` | writes that several steps share |
//! | `requests` | rollback, retry and restart by annotation |
//! | `transition` | the next persisted status |
//! | `conditions` | phase, conditions and counts of a status |
//! | `adoption` | objects that an earlier operator made |
//! | `recovery` | a status that is missing, lost, or contradicts the objects |

mod actions;
mod adoption;
mod assessment;
mod conditions;
mod context;
pub mod facts;
pub mod health;
pub mod history;
pub mod intent;
pub mod plan;
mod recovery;
mod requests;
mod steps;
mod transition;

use api::status::{MetadataServicesStatus, Step};
use jiff::Timestamp;

use context::{Context, round_up_to_second};
use transition::Transition;

pub use facts::{Facts, ReleaseRef};
pub use intent::Intent;
pub use plan::{Action, Effect, EventNote, EventReason, Plan, ResourcePatch, WriteClass};

/// Decides the next effect for a resource.
///
/// `status` is the persisted status. `None`, or a status without `rollout`, means that it was never written or is lost.
/// `now` is the API server's time, and never later than the true time.
pub fn plan(intent: &Intent, status: Option<&MetadataServicesStatus>, facts: &Facts, now: Timestamp) -> Plan {
    if intent.deleted || status.is_some_and(is_newer) {
        return Plan::idle();
    }
    if let Some(adoption) = adopt(facts) {
        return adoption;
    }
    let empty = MetadataServicesStatus::default();
    let status = status.unwrap_or(&empty);
    let now_for_record = round_up_to_second(now);
    let consistent = |rollout: &&_| recovery::validity::is_consistent(status, rollout, facts);
    let Some(rollout) = status.rollout.as_ref().filter(consistent) else {
        return recovery::plan(intent, status, facts, now_for_record);
    };
    let ctx = Context { intent, status, rollout, facts, now, now_for_record };
    if let Some(plan) = reset_future_times(&ctx) {
        return plan;
    }
    let requested = if facts.deferred.requests { None } else { requests::plan(&ctx) };
    let next = requested.or_else(|| steps::plan(&ctx)).unwrap_or(Plan::idle());
    match next.effect {
        Effect::Wait => conditions::refresh(&ctx, next),
        Effect::UpdateStatus(_) | Effect::Write(_) | Effect::PatchResource(_) => next,
    }
}

/// Returns whether a release is pending that should have become ready by now.
pub fn is_overdue(intent: &Intent, status: &MetadataServicesStatus, now: Timestamp) -> bool {
    status.rollout.as_ref().is_some_and(|rollout| assessment::is_overdue(&intent.policy, rollout, now))
}

/// Returns the status update that reports why a plan cannot be carried out (see [`Facts::taken`], [`Facts::refused`]).
///
/// Returns `None` if the status reports it already.
pub fn explain(
    intent: &Intent,
    status: Option<&MetadataServicesStatus>,
    facts: &Facts,
    now: Timestamp,
) -> Option<Plan> {
    let empty = MetadataServicesStatus::default();
    let status = status.unwrap_or(&empty);
    if is_newer(status) {
        return None;
    }
    let Some(rollout) = &status.rollout else { return recovery::explain(intent, status, facts, now) };
    let ctx = Context { intent, status, rollout, facts, now, now_for_record: round_up_to_second(now) };
    // A rejection that outlasts the deploy timeout fails the release like any other cause.
    if assessment::is_overdue(ctx.policy(), rollout, now)
        && let Some(plan) = steps::deploying::fail_for(&ctx, conditions::problem(&ctx))
    {
        return Some(plan);
    }
    let plan = conditions::refresh(&ctx, Plan::idle());
    matches!(plan.effect, Effect::UpdateStatus(_)).then_some(plan)
}

/// Returns whether a newer operator wrote the status, with a step that this one does not know.
///
/// Then nothing is touched until an operator that knows the step runs again. A status update would lose the step.
fn is_newer(status: &MetadataServicesStatus) -> bool {
    status.rollout.as_ref().is_some_and(|rollout| rollout.step == Step::Unknown)
}

/// Writes our owner reference on objects of ours that have none, before anything else is decided (design D5).
fn adopt(facts: &Facts) -> Option<Plan> {
    let group = facts.adoptable.iter().cloned().map(Action::Adopt).collect();
    Plan::write(vec![group])
}

/// Resets times in the future to now.
///
/// Such times were persisted while the API server's clock was ahead. Without the reset, a wait would last longer by the
/// amount that the clock was set back.
fn reset_future_times(ctx: &Context) -> Option<Plan> {
    if ctx.rollout.step == Step::Stable {
        return None;
    }
    let mut transition = Transition::new(ctx);
    if transition.reset_future_times(ctx.latest_past()) { transition.commit() } else { None }
}
