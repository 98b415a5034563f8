//! Settings that follow the spec in place, compared with what was applied (design D3).

use super::derive::{Ownership, World, ownership};
use super::views::{Meta, ServiceAccountView};
use crate::resources::service::front_digest;
use crate::resources::support::{disruption_budget, service_account, service_account_name};
use crate::resources::workload::InPlace;
use api::MetadataServicesSpec;
use api::names::{self, APPLIED_REPLICAS, APPLIED_SETTINGS, Color, Component, Owner};
use api::template::ReleaseTemplate;
use rollout::facts::{Extra, Facts, ObjectId, Setting};

/// Adds to the facts which settings are stale, and which optional objects are not wanted any more.
pub fn compare(
    world: &World,
    owner: &Owner,
    spec: &MetadataServicesSpec,
    active: Option<Color>,
    facts: &mut Facts,
) {
    for component in Component::ALL {
        let wanted = InPlace::of(spec.component(component));
        for color in Color::ALL {
            if is_scale_stale(world, owner, component, color, &wanted) {
                facts.stale.push(Setting::Scale(component, color));
            }
        }
        if is_front_stale(world, owner, component, spec) {
            facts.stale.push(Setting::Front(component));
        }
        budget(world, owner, component, spec, active, facts);
    }
    account(world, owner, spec, facts);
    facts.adoptable.sort();
}

/// The Deployment's settings as they were last applied differ from what the spec asks for now.
fn is_scale_stale(
    world: &World,
    owner: &Owner,
    component: Component,
    color: Color,
    wanted: &InPlace,
) -> bool {
    let name = names::workload(&owner.name, component, color);
    let found = world.deployments.iter().find(|object| object.object_name() == name);
    let [replicas, digest] = wanted.annotations();
    found
        .filter(|object| ownership(object.as_ref(), owner) == Ownership::Ours && !object.is_terminating())
        .is_some_and(|object| {
            object.annotation(APPLIED_REPLICAS) != Some(&replicas.1)
                || object.annotation(APPLIED_SETTINGS) != Some(&digest.1)
        })
}

fn is_front_stale(world: &World, owner: &Owner, component: Component, spec: &MetadataServicesSpec) -> bool {
    let name = names::front(&owner.name, component);
    let found = world.services.iter().find(|object| object.object_name() == name);
    let digest = front_digest(component, &spec.component(component).service);
    found.is_some_and(|object| {
        ownership(object.as_ref(), owner) == Ownership::Ours
            && object.annotation(APPLIED_SETTINGS) != Some(digest.as_str())
    })
}

fn budget(
    world: &World,
    owner: &Owner,
    component: Component,
    spec: &MetadataServicesSpec,
    active: Option<Color>,
    facts: &mut Facts,
) {
    let extra = Extra::DisruptionBudget(component);
    let name = names::front(&owner.name, component);
    let there = world.budgets.iter().find(|object| object.object_name() == name);
    let found = match there.map(|object| (object, ownership(object.as_ref(), owner))) {
        // When it is gone, that is an event.
        Some((object, _)) if object.is_terminating() => return,
        Some((object, Ownership::Ours)) => Some(object),
        Some((_, Ownership::Adoptable)) => return facts.adoptable.push(ObjectId::Extra(extra)),
        Some((_, Ownership::Foreign)) | None => None,
    };
    let policy = &spec.component(component).pod_disruption_budget;
    let wanted = active.and_then(|color| disruption_budget(owner, component, color, policy));
    match (wanted, found) {
        (Some(wanted), found) => {
            let applied = found.and_then(|object| object.annotation(APPLIED_SETTINGS));
            if applied != wanted.annotation(APPLIED_SETTINGS) {
                facts.stale.push(Setting::Extra(extra));
            }
        }
        (None, Some(_)) if !policy.enabled.unwrap_or(false) => facts.surplus.push(extra),
        (None, _) => {}
    }
}

/// The ServiceAccount is wanted by the spec; one that only an earlier release used goes when that release has gone.
fn account(world: &World, owner: &Owner, spec: &MetadataServicesSpec, facts: &mut Facts) {
    if orphaned_account(world, owner).is_some() {
        return facts.adoptable.push(ObjectId::Extra(Extra::ServiceAccount));
    }
    let ours = |name: &str| {
        world.accounts.iter().find(|object| {
            object.object_name() == name && ownership(object.as_ref(), owner) == Ownership::Ours
        })
    };
    if let Some(wanted) = service_account(owner, &spec.service_account) {
        let applied = ours(wanted.object_name()).and_then(|object| object.annotation(APPLIED_SETTINGS));
        if applied != wanted.annotation(APPLIED_SETTINGS) {
            facts.stale.push(Setting::ACCOUNT);
        }
    }
    if surplus_account(world, owner, spec).is_some() {
        facts.surplus.push(Extra::ServiceAccount);
    }
}

/// Whether the spec asks for a ServiceAccount to be made.
pub fn wants_account(owner: &Owner, spec: &MetadataServicesSpec) -> bool {
    service_account(owner, &spec.service_account).is_some()
}

/// An account of ours that lost its owner (design D5).
pub fn orphaned_account<'w>(world: &'w World, owner: &Owner) -> Option<&'w ServiceAccountView> {
    let orphaned = |object: &&ServiceAccountView| {
        ownership(*object, owner) == Ownership::Adoptable && !object.is_terminating()
    };
    world.accounts.iter().map(AsRef::as_ref).find(orphaned)
}

/// An account of ours that neither the spec nor any recorded release names.
pub fn surplus_account(world: &World, owner: &Owner, spec: &MetadataServicesSpec) -> Option<String> {
    // A cached revision has no template: then nothing is known to be unused.
    let templates: Option<Vec<&ReleaseTemplate>> =
        world.revisions.iter().map(|revision| revision.template.as_deref()).collect();
    let templates = templates?;
    let mut used: Vec<String> = templates
        .iter()
        .filter_map(|template| service_account_name(&owner.name, &template.spec().service_account))
        .collect();
    used.extend(service_account_name(&owner.name, &spec.service_account));
    world
        .accounts
        .iter()
        .filter(|object| ownership(object.as_ref(), owner) == Ownership::Ours && !object.is_terminating())
        .map(|object| object.object_name().to_owned())
        .find(|name| !used.contains(name))
}
