//! From the resource to the core's [`Intent`]. Pure.

use kube::ResourceExt;

use crate::observe::derive::images;
use crate::resources::Defaults;
use crate::resources::service::front_port;
use crate::version::Version;
use api::names::{Component, PerComponent, RESTART, RETRY, ROLLBACK_TO};
use api::template::ReleaseTemplate;
use api::{MetadataServices, MetadataServicesSpec};
use rollout::intent::{Intent, Policy, Requests, Wanted};

/// What the operator's own flags say about releases.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the renderer fills in.
    pub defaults: Defaults,
    /// The oldest supported images; `None` judges nothing.
    pub minimum: PerComponent<Option<Version>>,
}

/// Reduces a resource to what decisions need.
pub fn intent(
    resource: &MetadataServices,
    violations: Vec<String>,
    crd_outdated: Option<String>,
    settings: &Settings,
) -> Intent {
    let annotation = |key: &str| resource.annotations().get(key).cloned();
    Intent {
        name: resource.name_any(),
        namespace: resource.namespace().unwrap_or_default(),
        generation: resource.metadata.generation.unwrap_or(0),
        deleted: resource.metadata.deletion_timestamp.is_some(),
        wanted: wanted(&resource.spec, &settings.defaults),
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

fn wanted(spec: &MetadataServicesSpec, defaults: &Defaults) -> Wanted {
    let template = ReleaseTemplate::of(spec);
    Wanted {
        hash: template.hash().as_str().to_owned(),
        images: images(&template, defaults),
        release_version: spec.release_version.clone().filter(|version| !version.is_empty()),
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

/// Contract A8: the three leading numbers of a tag are compared; a tag without them is not judged.
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
