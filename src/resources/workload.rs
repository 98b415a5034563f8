//! The Deployment of a component on a color.

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde_json::{Value, json};

use super::{Release, RenderError, pod, selector, settings_digest};

use api::ComponentSpec;
use api::names::{self, Component};

/// Settings of a Deployment that follow the spec in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InPlace {
    /// Pods to have: the spec's, or more while the color takes over from one that was scaled up.
    pub replicas: i32,
    /// Pods that the spec asks for; recorded, so that another hand's scaling is told from a change of the spec.
    pub spec_replicas: i32,
    /// Seconds that a pod must be ready to count as available.
    pub min_ready_seconds: i32,
    /// Seconds without progress after which the Deployment is said to be stuck.
    pub progress_deadline_seconds: i32,
}

impl InPlace {
    /// What a component's spec asks for, within the legal ranges: a server without CEL lets illegal values pass.
    pub fn of(part: &ComponentSpec) -> Self {
        let min_ready_seconds = part.min_ready_seconds.unwrap_or(0).clamp(0, 3600);
        let progress = part.progress_deadline_seconds.unwrap_or(600).clamp(60, 86_400);
        Self {
            replicas: part.replicas(),
            spec_replicas: part.replicas(),
            min_ready_seconds,
            // Kubernetes refuses a Deployment whose deadline is not beyond the readiness time.
            progress_deadline_seconds: progress.max(min_ready_seconds + 1),
        }
    }

    /// The same with at least so many pods, as the serving color has now (design D8).
    #[must_use]
    pub fn at_least(self, replicas: i32) -> Self {
        Self { replicas: self.replicas.max(replicas), ..self }
    }

    /// Digest of the settings besides `replicas`.
    pub fn digest(&self) -> String {
        settings_digest(&json!({
            "minReadySeconds": self.min_ready_seconds,
            "progressDeadlineSeconds": self.progress_deadline_seconds,
        }))
    }

    /// Annotations that record what was applied.
    pub fn annotations(&self) -> [(&'static str, String); 2] {
        [(names::APPLIED_REPLICAS, self.spec_replicas.to_string()), (names::APPLIED_SETTINGS, self.digest())]
    }

    /// A merge patch that applies them to a Deployment as it was seen. `replicas` is left out if `scale` is false:
    /// the spec's number did not change, so another hand's scaling stays.
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

/// Renders it.
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
    fn settings_are_legal_whatever_the_spec_says() {
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
    fn a_pending_color_starts_as_large_as_the_serving_one() {
        let settings = InPlace::of(&ComponentSpec::default()).at_least(7);
        assert_eq!((settings.replicas, settings.spec_replicas), (7, 1));
        assert_eq!(settings.at_least(3).replicas, 7);
    }

    #[test]
    fn another_hands_scaling_stays() {
        let settings = InPlace::of(&ComponentSpec::default());
        assert!(settings.patch("1", false)["spec"].get("replicas").is_none());
        assert_eq!(settings.patch("1", true)["spec"]["replicas"], 1);
        assert_eq!(settings.patch("1", true)["metadata"]["resourceVersion"], "1");
    }
}
