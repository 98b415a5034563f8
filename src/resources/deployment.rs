//! The Deployment of a component on a color.

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde_json::{Value, json};

use super::{Release, RenderError, pod, selector, settings_digest};
use api::ComponentSpec;
use api::names::{self, Component};

/// The settings of a Deployment that follow the spec in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InPlace {
    /// Number of Pods: the spec's, or more if the active color was scaled up.
    pub replicas: i32,
    /// Number of Pods in the spec. An annotation records it, to distinguish a change of the spec from scaling by another client.
    pub spec_replicas: i32,
    /// Seconds that a Pod must be ready to count as available.
    pub min_ready_seconds: i32,
    /// Seconds without progress after which the Deployment reports a failure.
    pub progress_deadline_seconds: i32,
}

impl InPlace {
    /// Returns the settings in a component's spec, within the legal ranges. A server without CEL accepts illegal values.
    pub fn of(part: &ComponentSpec) -> Self {
        let min_ready_seconds = part.min_ready_seconds.unwrap_or(0).clamp(0, 3600);
        let progress = part.progress_deadline_seconds.unwrap_or(600).clamp(60, 86_400);
        Self {
            replicas: part.replicas(),
            spec_replicas: part.replicas(),
            min_ready_seconds,
            // Kubernetes rejects a Deployment whose deadline does not exceed its readiness time.
            progress_deadline_seconds: progress.max(min_ready_seconds + 1),
        }
    }

    /// Returns the settings with at least as many Pods as the active color has (design D8).
    #[must_use]
    pub fn at_least(self, replicas: i32) -> Self {
        Self { replicas: self.replicas.max(replicas), ..self }
    }

    /// Returns the digest of the settings without `replicas`.
    pub fn digest(&self) -> String {
        settings_digest(&json!({
            "minReadySeconds": self.min_ready_seconds,
            "progressDeadlineSeconds": self.progress_deadline_seconds,
        }))
    }

    /// Returns the annotations that record the applied settings.
    pub fn annotations(&self) -> [(&'static str, String); 2] {
        [(names::APPLIED_REPLICAS, self.spec_replicas.to_string()), (names::APPLIED_SETTINGS, self.digest())]
    }

    /// Returns the merge patch that applies the settings. `replicas` is left out if `scale` is false: the spec's number did not
    /// change, so scaling by another client stays.
    pub fn patch(&self, resource_version: &str, scale: bool) -> Value {
        let [replicas, settings] = self.annotations();
        let mut patch = json!({
            "metadata": {
                "resourceVersion": resource_version,
                "annotations": {replicas.0: replicas.1, settings.0: settings.1},
            },
            "spec": {
                "minReadySeconds": self.min_ready_seconds,
                "progressDeadlineSeconds": self.progress_deadline_seconds,
            },
        });
        if scale && let Some(spec) = patch.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("replicas".into(), self.replicas.into());
        }
        patch
    }
}

/// Renders the Deployment.
pub fn deployment(
    release: &Release<'_>,
    component: Component,
    in_place: &InPlace,
) -> Result<Deployment, RenderError> {
    let name = names::workload(&release.owner.name, component, release.color);
    let mut metadata = release.meta(name, component);
    let recorded = in_place.annotations().map(|(key, value)| (key.to_owned(), value));
    metadata.annotations.get_or_insert_default().extend(recorded);
    Ok(Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(in_place.replicas),
            min_ready_seconds: Some(in_place.min_ready_seconds),
            progress_deadline_seconds: Some(in_place.progress_deadline_seconds),
            selector: LabelSelector {
                match_labels: Some(selector(&release.owner.name, component, release.color)),
                match_expressions: None,
            },
            template: pod::template(release, component)?,
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_legal_for_any_spec() {
        let wild = ComponentSpec {
            replicas: Some(-1),
            min_ready_seconds: Some(5000),
            progress_deadline_seconds: Some(1),
            ..ComponentSpec::default()
        };
        let settings = InPlace::of(&wild);
        assert_eq!((settings.replicas, settings.min_ready_seconds), (1, 3600));
        assert_eq!(settings.progress_deadline_seconds, 3601);
    }

    #[test]
    fn a_pending_color_starts_as_large_as_the_active_one() {
        let settings = InPlace::of(&ComponentSpec::default()).at_least(7);
        assert_eq!((settings.replicas, settings.spec_replicas), (7, 1));
        assert_eq!(settings.at_least(3).replicas, 7);
    }

    #[test]
    fn scaling_by_another_client_stays() {
        let settings = InPlace::of(&ComponentSpec::default());
        assert!(settings.patch("1", false)["spec"].get("replicas").is_none());
        assert_eq!(settings.patch("1", true)["spec"]["replicas"], 1);
        assert_eq!(settings.patch("1", true)["metadata"]["resourceVersion"], "1");
    }
}
