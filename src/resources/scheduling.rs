//! Node selection of the Pods of a component.

use k8s_openapi::{
    api::core::v1::{Affinity, PodSpec, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{Release, RenderError, config_map::workspace, selector, some};
use api::embed::typed;
use api::names::Component;

/// The taint of nodes that are reserved for a workspace; its value is the workspace.
const WORKSPACE_TAINT: &str = "e6data-workspace-name";
/// The node label of Karpenter.
const KARPENTER_POOL: &str = "karpenter.sh/nodepool";

/// Sets the scheduling fields of a Pod.
pub fn schedule(release: &Release<'_>, component: Component, pod: &mut PodSpec) -> Result<(), RenderError> {
    let spec = release.template.spec();
    let part = spec.component(component);

    let mut node_selector = spec.node_selector.clone();
    node_selector.extend(spec.karpenter_node_pool.clone().map(|pool| (KARPENTER_POOL.to_owned(), pool)));
    node_selector.extend(part.node_selector.clone());

    let mut tolerations = vec![Toleration {
        key: Some(WORKSPACE_TAINT.into()),
        operator: Some("Equal".into()),
        value: Some(workspace(spec, &release.owner.namespace).to_owned()),
        effect: Some("NoSchedule".into()),
        ..Toleration::default()
    }];
    tolerations.extend(spec.tolerations.iter().chain(&part.tolerations).cloned());

    pod.node_selector = some(node_selector);
    pod.tolerations = Some(tolerations);
    pod.affinity = affinity(release, component)?;
    pod.topology_spread_constraints = Some(spread(release, component));
    pod.priority_class_name.clone_from(&spec.priority_class_name);
    Ok(())
}

/// Returns the affinity of the component, else the common one.
fn affinity(release: &Release<'_>, component: Component) -> Result<Option<Affinity>, RenderError> {
    let spec = release.template.spec();
    let own = spec.component(component).affinity.as_ref();
    let (value, field) = match (own, spec.affinity.as_ref()) {
        (Some(value), _) => (value, format!("spec.{component}.affinity")),
        (None, Some(value)) => (value, "spec.affinity".to_owned()),
        (None, None) => return Ok(None),
    };
    typed(value).map(Some).map_err(|message| RenderError { field, message })
}

/// Returns the user's spread constraints; the default spreads over nodes if possible. A user cannot know the color, so a
/// constraint without a selector gets one for the component and color. Without a selector, Kubernetes counts no Pods.
fn spread(release: &Release<'_>, component: Component) -> Vec<TopologySpreadConstraint> {
    let own = LabelSelector {
        match_labels: Some(selector(&release.owner.name, component, release.color)),
        match_expressions: None,
    };
    let given = &release.template.spec().topology_spread_constraints;
    if given.is_empty() {
        return vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "kubernetes.io/hostname".into(),
            when_unsatisfiable: "ScheduleAnyway".into(),
            label_selector: Some(own),
            ..TopologySpreadConstraint::default()
        }];
    }
    let filled = |constraint: &TopologySpreadConstraint| TopologySpreadConstraint {
        label_selector: constraint.label_selector.clone().or_else(|| Some(own.clone())),
        ..constraint.clone()
    };
    given.iter().map(filled).collect()
}
