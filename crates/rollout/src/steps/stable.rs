//! Step Stable: one color exists and receives traffic.

use api::names::Color;
use api::status::Side;

use super::prune::to_delete;
use super::start::next_release;
use crate::actions::{apply_settings, missing_objects, record_active, route_fronts};
use crate::context::Context;
use crate::plan::{Effect, Plan, ResourcePatch};
use crate::transition::Transition;

/// Starts the next release, or repairs the objects of the active one.
pub(super) fn plan(ctx: &Context) -> Option<Plan> {
    if let plan @ Some(_) = next_release(ctx) {
        return plan;
    }
    let active = ctx.active()?;
    route_fronts(ctx)
        .or_else(|| missing_objects(ctx, &active, true))
        .or_else(|| record_active(ctx, &active))
        .or_else(|| prune_orphans(ctx, active.strategy))
        .or_else(|| apply_settings(ctx))
        .or_else(|| revert_spec(ctx, &active))
}

/// Enters Prune if objects of ours exist that belong to no release of the history. Only Prune deletes.
fn prune_orphans(ctx: &Context, active: Color) -> Option<Plan> {
    if to_delete(ctx, Some(active)).is_empty() {
        return None;
    }
    let mut transition = Transition::new(ctx);
    transition.prune();
    transition.commit()
}

/// Writes the template of the active release back into the spec after an automatic rollback, if `revertSpec` asks so.
fn revert_spec(ctx: &Context, active: &Side) -> Option<Plan> {
    let hash = ctx.hash_of(&active.version)?;
    let refused = ctx.facts.restore_refused.is_some() || ctx.facts.deferred.requests;
    if !ctx.policy().revert_spec || refused || !ctx.blocked() || !ctx.has_template(hash) {
        return None;
    }
    let patch = ResourcePatch { restore: Some(active.version.clone()), remove: vec![] };
    Some(Plan::of(Effect::PatchResource(patch)))
}
