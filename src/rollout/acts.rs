//! Acts that several steps share: what makes the cluster match the persisted decision.

use super::facts::{Deployment, Extra, Front, FrontState, ObjectId, Piece, Setting, Workload, is_epoch};
use super::shift::Shift;
use super::{Action, Answer, Ctx, Move, Plan, Tagged, Want};
use crate::api::status::{RecordStatus, Side, Step};
use crate::names::Colour;

pub(super) fn create_fronts(ctx: &Ctx) -> Answer {
    let absent = ctx.facts.front.iter().filter(|(_, front)| **front == Front::Absent);
    Plan::act(vec![absent.map(|(component, _)| Action::CreateFront(component)).collect()])
}

/// Makes both front Services carry the decision, side by side.
pub(super) fn point_fronts(ctx: &Ctx) -> Answer {
    if let answer @ Some(_) = create_fronts(ctx) {
        return answer;
    }
    let decision = ctx.decision();
    // Before anything served, the fronts keep `none` under whatever epoch they were created with.
    let right = |state: &FrontState| match decision.colour {
        Some(_) => state.carries(&decision),
        None => state.exact && state.selects.is_none(),
    };
    let wrong = ctx.facts.front.iter().filter_map(|(of, front)| Some((of, front.state()?)));
    let wrong: Vec<_> = wrong.filter(|(_, state)| !right(state)).collect();
    if let answer @ Some(_) = outnumber(ctx, wrong.iter().map(|(_, state)| state.epoch).max()) {
        return answer;
    }
    let group: Vec<_> = wrong.iter().map(|(of, _)| Action::Point(*of, decision.clone())).collect();
    if group.is_empty() && ctx.facts.front.any(|front| front.state().is_none()) {
        return Some(Plan::wait(1));
    }
    Plan::act(vec![group])
}

/// A front Service that is to be pointed carries a later number than the decision: another hand's, or one that was decided
/// before a loss of the status and landed after it. Stamps never go down, so the decision takes a number above it.
fn outnumber(ctx: &Ctx, stamped: Option<i64>) -> Answer {
    let later = stamped.filter(|stamped| *stamped > ctx.rollout.epoch)?;
    let next = Some(later + 1).filter(|next| is_epoch(*next))?;
    let mut shift = Shift::of(ctx);
    shift.renumber(next);
    shift.commit()
}

/// While a release is on its way, the fronts keep serving what serves; only the routing is mended, the stamp of
/// the last decision may stay.
pub(super) fn mend_routes(ctx: &Ctx) -> Answer {
    let decision = ctx.decision();
    let lost = |front: &Front| front.state().is_none_or(|state| !state.routes_to(&decision));
    if ctx.facts.front.any(lost) { point_fronts(ctx) } else { None }
}

/// Creates what a colour lacks of a release. For a serving colour also what was deleted by hand.
pub(super) fn missing_parts(ctx: &Ctx, side: &Side, serving: bool) -> Answer {
    let hash = ctx.hash_of(&side.version)?;
    if !ctx.has_template(hash) {
        return None;
    }
    let mut groups = vec![vec![], vec![], vec![]];
    let mut waiting = false;
    for (component, workload) in ctx.facts.colours.get(side.strategy).iter() {
        let absent = [
            (workload.config_map == Piece::Absent, ObjectId::ConfigMap(component, side.strategy)),
            (workload.service == Piece::Absent, ObjectId::Service(component, side.strategy)),
            (workload.deployment == Deployment::Absent, ObjectId::Deployment(component, side.strategy)),
        ];
        waiting |= workload.config_map == Piece::Terminating
            || workload.service == Piece::Terminating
            || workload.deployment == Deployment::Terminating;
        // Pods of something else behind the selector would be served, or block Full for ever.
        let blocked_by_strays =
            !serving && workload.deployment == Deployment::Absent && workload.pods.alive > 0;
        waiting |= blocked_by_strays;
        for ((is_absent, id), group) in absent.into_iter().zip(&mut groups) {
            let is_deployment = matches!(id, ObjectId::Deployment(..));
            if is_absent && !(is_deployment && blocked_by_strays) {
                group.push(Action::Create(id, tag(ctx, side, ctx.rollout.epoch)));
            }
        }
    }
    Plan::act(groups).or_else(|| waiting.then(|| Plan::wait(1)))
}

/// Makes again what the serving release lost to another hand, in a step that is about something else.
pub(super) fn mend_serving(ctx: &Ctx) -> Answer {
    missing_parts(ctx, &ctx.active()?, true).filter(|plan| plan.next != Move::Wait)
}

pub(super) fn tag(ctx: &Ctx, side: &Side, epoch: i64) -> Tagged {
    let hash = ctx.hash_of(&side.version).unwrap_or_default().to_owned();
    Tagged { version: side.version.clone(), hash, epoch }
}

/// The ServiceAccount comes before pods of its own. Without it they are refused, and then tried ever more rarely; and what it
/// says, as which cloud role they have, is given to pods when they are made.
pub(super) fn account(ctx: &Ctx, side: &Side) -> Answer {
    let lacks = |workload: &Workload| workload.deployment == Deployment::Absent;
    let stale = may_settle(ctx) && ctx.facts.stale.contains(&Setting::ACCOUNT);
    let comes = stale && ctx.facts.colours.get(side.strategy).any(lacks);
    Plan::act(vec![comes.then_some(Action::Account).into_iter().collect()])
}

/// Whether what the spec asks for beside its release is known, and was not put off in this pass.
fn may_settle(ctx: &Ctx) -> bool {
    ctx.want() != Want::Nothing && !ctx.facts.held.settings
}

/// Applies what follows the spec in place, unless it concerns a colour that is on its way out.
pub(super) fn settle(ctx: &Ctx) -> Answer {
    if !may_settle(ctx) {
        return None;
    }
    let leaving = matches!(ctx.rollout.step, Step::Prune | Step::RollingBack)
        .then(|| ctx.status.active_strategy.map(Colour::other))
        .flatten();
    let applies = |setting: &&Setting| match setting {
        Setting::Scale(_, colour) => Some(*colour) != leaving,
        Setting::Front(_) | Setting::Extra(Extra::ServiceAccount) => true,
        Setting::Extra(Extra::DisruptionBudget(_)) => ctx.status.active_strategy.is_some(),
    };
    let group = ctx.facts.stale.iter().filter(applies).map(|setting| Action::Settle(*setting)).collect();
    Plan::act(vec![group])
}

/// The first act of a step that a failure led to: the mark outlives the status (design D6).
pub(super) fn record_failures(ctx: &Ctx) -> Answer {
    let group: Vec<_> = ctx
        .status
        .release_history
        .iter()
        .filter(|record| record.status == RecordStatus::Failed && ctx.has_template(&record.hash))
        .filter(|record| !ctx.facts.is_marked(&record.version))
        .map(|record| Action::Record {
            tagged: Tagged {
                version: record.version.clone(),
                hash: record.hash.clone(),
                epoch: ctx.rollout.epoch,
            },
            failed: Some(record.message.clone().unwrap_or_else(|| "failed".into())),
        })
        .collect();
    Plan::act(vec![group])
}
