//! Objects beside the releases: `ServiceAccount` and `PodDisruptionBudget`. Both follow the spec in place.

use k8s_openapi::{
    api::{
        core::v1::ServiceAccount,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde_json::json;

use super::{Strings, applied, common_labels, labels, meta, selector, settings_digest};

use api::names::{self, Color, Component, Owner};
use api::{component::DisruptionBudgetSpec, spec::ServiceAccountSpec};

/// Name of the `ServiceAccount` of the pods; `None` is the namespace's default one.
pub fn service_account_name(name: &str, spec: &ServiceAccountSpec) -> Option<String> {
    let created = spec.create.unwrap_or(false).then(|| name.to_owned());
    spec.name.clone().or(created)
}

/// The `ServiceAccount`, if one is to be created.
pub fn service_account(owner: &Owner, spec: &ServiceAccountSpec) -> Option<ServiceAccount> {
    let name = service_account_name(&owner.name, spec).filter(|_| spec.create.unwrap_or(false))?;
    let mut annotations = spec.annotations.clone();
    let digest = settings_digest(&json!({"annotations": spec.annotations}));
    annotations.insert(names::APPLIED_SETTINGS.into(), digest);
    annotations.extend(applied::keys(&spec.annotations, &Strings::new()));
    Some(ServiceAccount {
        metadata: meta(owner, name, common_labels(&owner.name), annotations),
        ..ServiceAccount::default()
    })
}

/// The budget of a component, if one is wanted; it selects the color that serves.
pub fn disruption_budget(
    owner: &Owner,
    component: Component,
    serving: Color,
    spec: &DisruptionBudgetSpec,
) -> Option<PodDisruptionBudget> {
    spec.enabled.unwrap_or(false).then(|| {
        let min_available = spec.min_available.clone();
        let max_unavailable = match &min_available {
            // Kubernetes refuses both; a server without CEL lets them pass here.
            Some(_) => None,
            None => Some(spec.max_unavailable.clone().unwrap_or(IntOrString::Int(1))),
        };
        let digest = settings_digest(&json!({
            "strategy": serving, "minAvailable": min_available, "maxUnavailable": max_unavailable,
        }));
        let annotations = super::strings([(names::APPLIED_SETTINGS, digest.as_str())]);
        let labels = labels(&owner.name, component, None);
        PodDisruptionBudget {
            metadata: meta(owner, names::front(&owner.name, component), labels, annotations),
            spec: Some(PodDisruptionBudgetSpec {
                min_available,
                max_unavailable,
                selector: Some(LabelSelector {
                    match_labels: Some(selector(&owner.name, component, serving)),
                    match_expressions: None,
                }),
                ..PodDisruptionBudgetSpec::default()
            }),
            status: None,
        }
    })
}
