//! Step Prune: the objects of the inactive color are deleted. No other step deletes anything.

use api::names::Color;

use super::start::{next_release, resume_restart};
use crate::actions::{apply_settings, restore_active, route_fronts};
use crate::context::{Context, Desired};
use crate::facts::{Deployment, ObjectId, ObjectState};
use crate::plan::{Action, EventReason, Plan};
use crate::transition::Transition;

/// Deletes the objects that the active release does not need. Then starts the next release, or enters Stable.
pub(super) fn plan(ctx: &Context) -> Option<Plan> {
    if let plan @ Some(_) = route_fronts(ctx).or_else(|| restore_active(ctx)) {
        return plan;
    }
    let active = ctx.status.active_strategy;
    let to_delete = to_delete(ctx, active);
    if !to_delete.is_empty() {
        return Plan::write(to_delete);
    }
    if !Color::ALL.into_iter().filter(|color| Some(*color) != active).all(|color| is_gone(ctx, color)) {
        return apply_settings(ctx).or_else(|| Some(Plan::poll()));
    }
    if let plan @ Some(_) = next_release(ctx) {
        return plan;
    }
    // Without an active release and with none to start, the resource waits for a spec that can be deployed.
    let color = active?;
    if let plan @ Some(_) = resume_restart(ctx) {
        return plan;
    }
    let mut transition = Transition::new(ctx);
    transition.finish();
    let version = ctx.status.active_release_version.as_deref().unwrap_or_default();
    let text = format!("deleted the objects of the inactive color; {version} is active on {color}");
    transition.event(EventReason::CleanupDone, text);
    transition.commit()
}

/// The deletions that are due: the objects of inactive colors, and ControllerRevisions that left the history.
pub(super) fn to_delete(ctx: &Context, active: Option<Color>) -> Vec<Vec<Action>> {
    let mut groups = [vec![], vec![], vec![]];
    let [deployments, services, rest] = &mut groups;
    for color in Color::ALL.into_iter().filter(|color| Some(*color) != active) {
        for (component, workload) in ctx.facts.colors.get(color).iter() {
            if matches!(workload.deployment, Deployment::Present(_)) {
                deployments.push(Action::Delete(ObjectId::Deployment(component, color)));
            }
            if matches!(workload.service, ObjectState::Present(_)) {
                services.push(Action::Delete(ObjectId::Service(component, color)));
            }
            if matches!(workload.config_map, ObjectState::Present(_)) {
                rest.push(Action::Delete(ObjectId::ConfigMap(component, color)));
            }
        }
    }
    let trimmed =
        ctx.facts.revisions.iter().filter(|revision| ctx.status.record(&revision.version).is_none());
    rest.extend(trimmed.map(|revision| Action::Delete(ObjectId::Revision(revision.version.clone()))));
    // An undecided spec may ask for an optional object in a field that an older CRD hides.
    let surplus = ctx.facts.surplus.iter().filter(|_| ctx.desired() != Desired::Unknown);
    rest.extend(surplus.map(|extra| Action::Delete(ObjectId::Extra(*extra))));
    groups.into_iter().filter(|group| !group.is_empty()).collect()
}

/// Returns whether a color has no Deployment, ReplicaSet, Service or ConfigMap, and no Pod that is not terminating
/// matches its selector (design D7).
fn is_gone(ctx: &Context, color: Color) -> bool {
    ctx.facts.colors.get(color).all(|workload| {
        workload.deployment == Deployment::Absent
            && workload.service == ObjectState::Absent
            && workload.config_map == ObjectState::Absent
            && !workload.replica_sets
            && workload.pods.alive == 0
    })
}
