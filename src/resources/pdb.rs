//! The `PodDisruptionBudget` of a component. It follows the spec in place.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde_json::json;

use super::{labels, meta, selector, settings_digest};
use api::component::DisruptionBudgetSpec;
use api::names::{self, Color, Component, Owner};

/// Renders the budget of a component, which selects the active color; `None` if the spec disables it.
pub fn disruption_budget(
    owner: &Owner,
    component: Component,
    active: Color,
    spec: &DisruptionBudgetSpec,
) -> Option<PodDisruptionBudget> {
    spec.enabled.unwrap_or(false).then(|| {
        let min_available = spec.min_available.clone();
        let max_unavailable = match &min_available {
            // Kubernetes rejects both fields together; a server without CEL accepts them in the resource.
            Some(_) => None,
            None => Some(spec.max_unavailable.clone().unwrap_or(IntOrString::Int(1))),
        };
        let digest = settings_digest(&json!({
            "strategy": active, "minAvailable": min_available, "maxUnavailable": max_unavailable,
        }));
        let annotations = super::strings([(names::APPLIED_SETTINGS, digest.as_str())]);
        let labels = labels(&owner.name, component, None);
        PodDisruptionBudget {
            metadata: meta(owner, names::front(&owner.name, component), labels, annotations),
            spec: Some(PodDisruptionBudgetSpec {
                min_available,
                max_unavailable,
                selector: Some(LabelSelector {
                    match_labels: Some(selector(&owner.name, component, active)),
                    match_expressions: None,
                }),
                ..PodDisruptionBudgetSpec::default()
            }),
            status: None,
        }
    })
}
