//! Writes that several steps share: they make the cluster match the persisted decision.

use api::names::Color;
use api::status::{RecordStatus, Side, Step};

use crate::context::{Context, Desired};
use crate::facts::{
    Deployment, Extra, Front, FrontState, ObjectId, ObjectState, ReleaseRef, Setting, Workload, is_epoch,
};
use crate::plan::{Action, Effect, Plan};
use crate::transition::Transition;

/// Creates the front Services that do not exist, concurrently.
pub(crate) fn create_fronts(ctx: &Context) -> Option<Plan> {
    let absent = ctx.facts.front.iter().filter(|(_, front)| **front == Front::Absent);
    Plan::write(vec![absent.map(|(component, _)| Action::CreateFront(component)).collect()])
}

/// Makes both front Services carry the decision, concurrently.
pub(crate) fn route_fronts(ctx: &Context) -> Option<Plan> {
    if let plan @ Some(_) = create_fronts(ctx) {
        return plan;
    }
    let decision = ctx.decision();
    // Before the first release is active, the Services select `none` with the epoch of their creation.
    let right = |state: &FrontState| match decision.color {
        Some(_) => state.carries(&decision),
        None => state.exact && state.selects.is_none(),
    };
    let wrong = ctx.facts.front.iter().filter_map(|(of, front)| Some((of, front.state()?)));
    let wrong: Vec<_> = wrong.filter(|(_, state)| !right(state)).collect();
    if let plan @ Some(_) = raise_epoch(ctx, wrong.iter().map(|(_, state)| state.epoch).max()) {
        return plan;
    }
    let group: Vec<_> = wrong.iter().map(|(of, _)| Action::Route(*of, decision.clone())).collect();
    if group.is_empty() && ctx.facts.front.any(|front| front.state().is_none()) {
        return Some(Plan::wait(1));
    }
    Plan::write(vec![group])
}

/// Raises the epoch of the decision above `stamped`, the highest epoch of the front Services to be patched.
///
/// A higher epoch comes from another client, or from a decision before the status was lost whose patch landed later.
/// Epochs on objects never decrease, so the decision takes the next one (ADR 15).
fn raise_epoch(ctx: &Context, stamped: Option<i64>) -> Option<Plan> {
    let later = stamped.filter(|stamped| *stamped > ctx.rollout.epoch)?;
    let next = Some(later + 1).filter(|next| is_epoch(*next))?;
    let mut transition = Transition::new(ctx);
    transition.set_epoch(next);
    transition.commit()
}

/// Restores the selectors of the front Services while a release is pending.
///
/// The annotations of the last decision may differ: only the selector decides where traffic goes.
pub(crate) fn restore_routes(ctx: &Context) -> Option<Plan> {
    let decision = ctx.decision();
    let lost = |front: &Front| front.state().is_none_or(|state| !state.routes_to(&decision));
    if ctx.facts.front.any(lost) { route_fronts(ctx) } else { None }
}

/// Creates the objects of a release that its color lacks.
///
/// `is_active`: the color receives traffic. Then a missing Deployment is created even if foreign Pods match the
/// selector. On a pending color such Pods would receive traffic after the switch, or keep the color from being Full.
pub(crate) fn missing_objects(ctx: &Context, side: &Side, is_active: bool) -> Option<Plan> {
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
        let blocked_by_pods =
            !is_active && workload.deployment == Deployment::Absent && workload.pods.alive > 0;
        waiting |= blocked_by_pods;
        for ((is_absent, id), group) in absent.into_iter().zip(&mut groups) {
            let is_deployment = matches!(id, ObjectId::Deployment(..));
            if is_absent && !(is_deployment && blocked_by_pods) {
                group.push(Action::Create(id, ctx.release_ref(side, ctx.rollout.epoch)));
            }
        }
    }
    Plan::write(groups).or_else(|| waiting.then(|| Plan::wait(1)))
}

/// Creates the objects of the active release that another client deleted.
pub(crate) fn restore_active(ctx: &Context) -> Option<Plan> {
    missing_objects(ctx, &ctx.active()?, true).filter(|plan| plan.effect != Effect::Wait)
}

/// Applies the ServiceAccount before the first Pods of a color use it.
///
/// Without the account Pods are rejected, and the ReplicaSet controller retries ever more rarely. The account's
/// annotations (a cloud role, for example) reach Pods only at their creation.
pub(crate) fn service_account(ctx: &Context, side: &Side) -> Option<Plan> {
    let lacks = |workload: &Workload| workload.deployment == Deployment::Absent;
    let stale = may_apply_settings(ctx) && ctx.facts.stale.contains(&Setting::ACCOUNT);
    let needed = stale && ctx.facts.colors.get(side.strategy).any(lacks);
    Plan::write(vec![needed.then_some(Action::ApplyServiceAccount).into_iter().collect()])
}

/// Returns whether the settings of the spec are known and no settings were deferred in this reconcile.
fn may_apply_settings(ctx: &Context) -> bool {
    ctx.desired() != Desired::Unknown && !ctx.facts.deferred.settings
}

/// Applies the settings that follow the spec in place, except those of a color that is being left.
pub(crate) fn apply_settings(ctx: &Context) -> Option<Plan> {
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
    Plan::write(vec![group])
}

/// Marks failed releases on their ControllerRevisions, so that the verdict outlives the status (design D6).
pub(crate) fn record_failures(ctx: &Context) -> Option<Plan> {
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
    Plan::write(vec![group])
}

/// Records the active release as the newest good one, so that a rebuilt status agrees with it.
///
/// Traffic may have returned to it from a release that was recorded later.
pub(crate) fn record_active(ctx: &Context, active: &Side) -> Option<Plan> {
    let hash = ctx.hash_of(&active.version)?;
    let good = || ctx.facts.revisions.iter().filter(|revision| revision.failed.is_none());
    let newest = good().map(|revision| revision.number).max();
    let recorded = good().find(|revision| revision.version == active.version);
    if recorded.is_some_and(|revision| Some(revision.number) == newest) || !ctx.has_template(hash) {
        return None;
    }
    let tagged = ctx.release_ref(active, ctx.rollout.epoch);
    Plan::write(vec![vec![Action::RecordRevision { tagged, failed: None }]])
}
