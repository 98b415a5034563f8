//! Settings that follow the spec in place, compared with the settings that were last applied (design D3).

use super::resource::ObservedResource;
use super::views::{Meta, ServiceAccountView};
use crate::resources::deployment::InPlace;
use crate::resources::pdb::disruption_budget;
use crate::resources::service::front_digest;
use crate::resources::service_account::{service_account, service_account_name};
use api::names::{self, APPLIED_REPLICAS, APPLIED_SETTINGS, Color, Component};
use api::template::ReleaseTemplate;
use rollout::facts::{Extra, Facts, ObjectId, Setting};

/// Adds stale settings and surplus optional objects to the facts.
pub(super) fn compare(observed: &ObservedResource<'_>, facts: &mut Facts) {
    let spec = &observed.resource.spec;
    for component in Component::ALL {
        let wanted = InPlace::of(spec.component(component));
        for color in Color::ALL {
            if is_scale_stale(observed, component, color, &wanted) {
                facts.stale.push(Setting::Scale(component, color));
            }
        }
        if is_front_stale(observed, component) {
            facts.stale.push(Setting::Front(component));
        }
        budget(observed, component, facts);
    }
    account(observed, facts);
}

/// Returns whether the settings that were last applied to a Deployment differ from the spec.
fn is_scale_stale(
    observed: &ObservedResource<'_>,
    component: Component,
    color: Color,
    wanted: &InPlace,
) -> bool {
    let found = observed.deployments.ours(&names::workload(&observed.owner.name, component, color));
    let [replicas, digest] = wanted.annotations();
    found.filter(|object| !object.is_terminating()).is_some_and(|object| {
        object.annotation(APPLIED_REPLICAS) != Some(&replicas.1)
            || object.annotation(APPLIED_SETTINGS) != Some(&digest.1)
    })
}

/// Returns whether the settings that were last applied to a front Service differ from the spec.
fn is_front_stale(observed: &ObservedResource<'_>, component: Component) -> bool {
    let digest = front_digest(component, &observed.resource.spec.component(component).service);
    let found = observed.services.ours(&names::front(&observed.owner.name, component));
    found.is_some_and(|object| object.annotation(APPLIED_SETTINGS) != Some(digest.as_str()))
}

fn budget(observed: &ObservedResource<'_>, component: Component, facts: &mut Facts) {
    let extra = Extra::DisruptionBudget(component);
    let owner = &observed.owner;
    let name = names::front(&owner.name, component);
    // The watch reports the end of a deletion, also of a foreign object.
    let mut holders = observed.snapshot.budgets.iter().filter(|object| object.object_name() == name);
    if holders.any(|object| object.is_terminating()) {
        return;
    }
    let found = observed.budgets.find(&name);
    if found.is_some_and(|found| found.is_adoptable) {
        return facts.adoptable.push(ObjectId::Extra(extra));
    }
    let policy = &observed.resource.spec.component(component).pod_disruption_budget;
    let active = observed.status().and_then(|status| status.active_strategy);
    let wanted = active.and_then(|color| disruption_budget(owner, component, color, policy));
    match (wanted, found) {
        (Some(wanted), found) => {
            let applied = found.and_then(|found| found.object.annotation(APPLIED_SETTINGS));
            if applied != wanted.annotation(APPLIED_SETTINGS) {
                facts.stale.push(Setting::Extra(extra));
            }
        }
        (None, Some(_)) if !policy.enabled.unwrap_or(false) => facts.surplus.push(extra),
        (None, _) => {}
    }
}

/// Compares the ServiceAccount. An account that only an earlier release used is surplus once that release has no revision.
fn account(observed: &ObservedResource<'_>, facts: &mut Facts) {
    if orphaned_account(observed).is_some() {
        return facts.adoptable.push(ObjectId::Extra(Extra::ServiceAccount));
    }
    if let Some(wanted) = service_account(&observed.owner, &observed.resource.spec.service_account) {
        let found = observed.accounts.ours(wanted.object_name());
        if found.and_then(|object| object.annotation(APPLIED_SETTINGS)) != wanted.annotation(APPLIED_SETTINGS)
        {
            facts.stale.push(Setting::ACCOUNT);
        }
    }
    if surplus_account(observed).is_some() {
        facts.surplus.push(Extra::ServiceAccount);
    }
}

/// Returns an account of the resource that lost its owner reference (design D5).
pub fn orphaned_account<'a>(observed: &ObservedResource<'a>) -> Option<&'a ServiceAccountView> {
    let mut accounts = observed.accounts.iter();
    accounts.find(|found| found.is_adoptable && !found.object.is_terminating()).map(|found| found.object)
}

/// Returns an account of the resource that neither the spec nor any recorded release names.
pub fn surplus_account<'a>(observed: &ObservedResource<'a>) -> Option<&'a ServiceAccountView> {
    // A cached revision has no template, so the cache cannot show that an account is unused.
    let templates: Option<Vec<&ReleaseTemplate>> =
        observed.snapshot.revisions.iter().map(|revision| revision.template.as_deref()).collect();
    let name = &observed.owner.name;
    let mut used: Vec<String> = templates?
        .iter()
        .filter_map(|template| service_account_name(name, &template.spec().service_account))
        .collect();
    used.extend(service_account_name(name, &observed.resource.spec.service_account));
    let is_unused = |account: &&ServiceAccountView| !used.iter().any(|name| name == account.object_name());
    observed.accounts.all_ours().filter(|account| !account.is_terminating()).find(is_unused)
}
