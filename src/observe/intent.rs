//! From a resource to the [`Intent`] of the core. Pure.

use kube::ResourceExt;

use super::facts::images;
use super::resource::ObservedResource;
use crate::resources::Defaults;
use crate::resources::service::front_port;
use crate::version::Version;
use api::MetadataServicesSpec;
use api::names::{Component, PerComponent, RESTART, RETRY, ROLLBACK_TO};
use rollout::intent::{Intent, Policy, Requests, Wanted};

/// The operator's own configuration of releases.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Defaults of the renderer.
    pub defaults: Defaults,
    /// The oldest supported image versions; `None` supports all.
    pub minimum: PerComponent<Option<Version>>,
}

/// Reduces a resource to the input of decisions.
pub fn intent(
    observed: &ObservedResource<'_>,
    violations: Vec<String>,
    crd_outdated: Option<String>,
    settings: &Settings,
) -> Intent {
    let resource = observed.resource;
    let annotation = |key: &str| resource.annotations().get(key).cloned();
    Intent {
        name: observed.owner.name.clone(),
        namespace: observed.owner.namespace.clone(),
        generation: resource.metadata.generation.unwrap_or(0),
        deleted: resource.metadata.deletion_timestamp.is_some(),
        wanted: Wanted {
            hash: observed.hash.as_str().to_owned(),
            images: images(&observed.template, &settings.defaults),
            release_version: resource.spec.release_version.clone().filter(|version| !version.is_empty()),
        },
        violations,
        crd_outdated,
        policy: policy(&resource.spec),
        requests: Requests {
            rollback_to: annotation(ROLLBACK_TO),
            retry: annotation(RETRY),
            restart: annotation(RESTART),
        },
        ports: PerComponent::from_fn(|component| {
            front_port(component, &resource.spec.component(component).service)
        }),
        old_images: old_images(&resource.spec, &settings.minimum),
    }
}

fn policy(spec: &MetadataServicesSpec) -> Policy {
    let rollout = &spec.rollout;
    Policy {
        grace: rollout.grace_period(),
        deploy_timeout: rollout.deploy_timeout(),
        dwell: rollout.switch_dwell(),
        cleanup_delay: rollout.cleanup_delay(),
        auto_rollback: rollout.auto_rollback(),
        failure_threshold: rollout.failure_threshold(),
        revert_spec: rollout.revert_spec(),
        paused: rollout.paused(),
        history_limit: rollout.history_limit(),
    }
}

/// Lists the components whose image tag is older than the minimum (contract A8). A tag without three leading numbers is
/// accepted.
fn old_images(spec: &MetadataServicesSpec, minimum: &PerComponent<Option<Version>>) -> Vec<String> {
    Component::ALL
        .into_iter()
        .filter_map(|component| {
            let tag = &spec.component(component).image_tag;
            let least = (*minimum.get(component))?;
            (Version::of_tag(tag)? < least).then(|| format!("{component} image {tag} is older than {least}"))
        })
        .collect()
}
