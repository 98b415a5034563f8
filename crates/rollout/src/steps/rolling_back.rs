//! Step RollingBack: the front Services return to the previous release; the step ends when that is proved.

use api::names::{Color, PerComponent};
use api::status::Side;

use crate::actions::{apply_settings, record_active, restore_active, route_fronts};
use crate::context::{Context, Desired};
use crate::facts::{Deployment, Workload};
use crate::plan::Plan;
use crate::transition::Transition;

/// Routes both front Services back, waits for the dwell time, the cleanup delay and the proof, and enters Prune.
pub(super) fn plan(ctx: &Context) -> Option<Plan> {
    let active = ctx.active()?;
    let color = ctx.facts.colors.get(active.strategy);
    let other = other_side(ctx, active.strategy);
    if let Some(other) = other.as_ref().filter(|_| lost_deployment(color)) {
        let mut transition = Transition::new(ctx);
        transition.keep(other);
        return transition.commit();
    }
    // Neither side can serve. The active release is completed before traffic moves to it.
    if lost_deployment(color)
        && let plan @ Some(_) = restore_active(ctx)
    {
        return plan;
    }
    route_fronts(ctx)
        .or_else(|| restore_active(ctx))
        .or_else(|| apply_settings(ctx))
        .or_else(|| record_active(ctx, &active))
        .or_else(|| {
            let delay = ctx.policy().dwell + ctx.policy().cleanup_delay;
            let left = ctx.last_switch().saturating_add(delay) - ctx.now.as_second();
            if left > 0 {
                return Some(Plan::wait(left));
            }
            let waived = ctx.desired() == Desired::Spec && ctx.in_step() >= ctx.policy().deploy_timeout;
            if ctx.proved(active.strategy) || waived {
                let mut transition = Transition::new(ctx);
                transition.prune();
                return transition.commit();
            }
            Some(Plan::poll())
        })
}

fn lost_deployment(color: &PerComponent<Workload>) -> bool {
    color.any(|workload| !matches!(workload.deployment, Deployment::Present(_)))
}

/// The release on the inactive color, if both its Deployments exist and the history has its record.
fn other_side(ctx: &Context, active: Color) -> Option<Side> {
    let strategy = active.other();
    let color = ctx.facts.colors.get(strategy);
    let version = &color.storage.deployment.state()?.tag.version;
    let same = &color.schema.deployment.state()?.tag.version == version;
    (same && ctx.status.record(version).is_some()).then(|| Side { strategy, version: version.clone() })
}
