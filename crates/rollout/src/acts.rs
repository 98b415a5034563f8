//! Acts that several steps share: what makes the cluster match the persisted decision.

use super::facts::{
    Deployment, Extra, Front, FrontState, ObjectId, ObjectState, Setting, Workload, is_epoch,
};
use super::shift::Transition;
use super::{Action, Context, Desired, Effect, Plan, ReleaseRef};
use api::names::Color;
use api::status::{RecordStatus, Side, Step};

pub(super) fn create_fronts(ctx: &Context) -> Option<Plan> {
    let absent = ctx.facts.front.iter().filter(|(_, front)| **front == Front::Absent);
    Plan::act(vec![absent.map(|(component, _)| Action::CreateFront(component)).collect()])
}

/// Makes both front Services carry the decision, side by side.
pub(super) fn route_fronts(ctx: &Context) -> Option<Plan> {
    if let answer @ Some(_) = create_fronts(ctx) {
        return answer;
    }
    let decision = ctx.decision();
    // Before anything served, the fronts keep `none` under whatever epoch they were created with.
    let right = |state: &FrontState| match decision.color {
        Some(_) => state.carries(&decision),
        None => state.exact && state.selects.is_none(),
    };
    let wrong = ctx.facts.front.iter().filter_map(|(of, front)| Some((of, front.state()?)));
    let wrong: Vec<_> = wrong.filter(|(_, state)| !right(state)).collect();
    if let answer @ Some(_) = raise_epoch(ctx, wrong.iter().map(|(_, state)| state.epoch).max()) {
        return answer;
    }
    let group: Vec<_> = wrong.iter().map(|(of, _)| Action::Route(*of, decision.clone())).collect();
    if group.is_empty() && ctx.facts.front.any(|front| front.state().is_none()) {
        return Some(Plan::wait(1));
    }
    Plan::act(vec![group])
}

/// A front Service that is to be pointed carries a later number than the decision: another hand's, or one that was decided
/// before a loss of the status and landed after it. Stamps never go down, so the decision takes a number above it.
fn raise_epoch(ctx: &Context, stamped: Option<i64>) -> Option<Plan> {
    let later = stamped.filter(|stamped| *stamped > ctx.rollout.epoch)?;
    let next = Some(later + 1).filter(|next| is_epoch(*next))?;
    let mut transition = Transition::of(ctx);
    transition.renumber(next);
    transition.commit()
}

/// While a release is on its way, the fronts keep serving what serves; only the routing is mended, the stamp of
/// the last decision may stay.
pub(super) fn restore_routes(ctx: &Context) -> Option<Plan> {
    let decision = ctx.decision();
    let lost = |front: &Front| front.state().is_none_or(|state| !state.routes_to(&decision));
    if ctx.facts.front.any(lost) { route_fronts(ctx) } else { None }
}

/// Creates what a color lacks of a release. For a serving color also what was deleted by hand.
pub(super) fn missing_objects(ctx: &Context, side: &Side, serving: bool) -> Option<Plan> {
    let hash = ctx.hash_of(&side.version)?;
    if !ctx.has_template(hash) {
        return None;
    }
    let mut groups = vec![vec![], vec![], vec![]];
    let mut waiting = false;
    for (component, workload) in ctx.facts.colors.get(side.strategy).iter() {
        let absent = [
            (workload.config_map == ObjectState::Absent, ObjectId::ConfigMap(component, side.strategy)),
            (workload.service == ObjectState::Absent, ObjectId::Service(component, side.strategy)),
            (workload.deployment == Deployment::Absent, ObjectId::Deployment(component, side.strategy)),
        ];
        waiting |= workload.config_map == ObjectState::Terminating
            || workload.service == ObjectState::Terminating
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
pub(super) fn restore_active(ctx: &Context) -> Option<Plan> {
    missing_objects(ctx, &ctx.active()?, true).filter(|plan| plan.effect != Effect::Wait)
}

pub(super) fn tag(ctx: &Context, side: &Side, epoch: i64) -> ReleaseRef {
    let hash = ctx.hash_of(&side.version).unwrap_or_default().to_owned();
    ReleaseRef { version: side.version.clone(), hash, epoch }
}

/// The ServiceAccount comes before pods of its own. Without it they are refused, and then tried ever more rarely; and what it
/// says, as which cloud role they have, is given to pods when they are made.
pub(super) fn account(ctx: &Context, side: &Side) -> Option<Plan> {
    let lacks = |workload: &Workload| workload.deployment == Deployment::Absent;
    let stale = may_apply_settings(ctx) && ctx.facts.stale.contains(&Setting::ACCOUNT);
    let comes = stale && ctx.facts.colors.get(side.strategy).any(lacks);
    Plan::act(vec![comes.then_some(Action::ApplyServiceAccount).into_iter().collect()])
}

/// Whether what the spec asks for beside its release is known, and was not put off in this pass.
fn may_apply_settings(ctx: &Context) -> bool {
    ctx.desired() != Desired::Unknown && !ctx.facts.deferred.settings
}

/// Applies what follows the spec in place, unless it concerns a color that is on its way out.
pub(super) fn settle(ctx: &Context) -> Option<Plan> {
    if !may_apply_settings(ctx) {
        return None;
    }
    let leaving = matches!(ctx.rollout.step, Step::Prune | Step::RollingBack)
        .then(|| ctx.status.active_strategy.map(Color::other))
        .flatten();
    let applies = |setting: &&Setting| match setting {
        Setting::Scale(_, color) => Some(*color) != leaving,
        Setting::Front(_) | Setting::Extra(Extra::ServiceAccount) => true,
        Setting::Extra(Extra::DisruptionBudget(_)) => ctx.status.active_strategy.is_some(),
    };
    let group =
        ctx.facts.stale.iter().filter(applies).map(|setting| Action::ApplySetting(*setting)).collect();
    Plan::act(vec![group])
}

/// The first act of a step that a failure led to: the mark outlives the status (design D6).
pub(super) fn record_failures(ctx: &Context) -> Option<Plan> {
    let group: Vec<_> = ctx
        .status
        .release_history
        .iter()
        .filter(|record| record.status == RecordStatus::Failed && ctx.has_template(&record.hash))
        .filter(|record| !ctx.facts.is_marked(&record.version))
        .map(|record| Action::RecordRevision {
            tagged: ReleaseRef {
                version: record.version.clone(),
                hash: record.hash.clone(),
                epoch: ctx.rollout.epoch,
            },
            failed: Some(record.message.clone().unwrap_or_else(|| "failed".into())),
        })
        .collect();
    Plan::act(vec![group])
}
