//! Renderers: from a release to Kubernetes objects, as pure functions.
//!
//! What is rendered for a release never changes after it was created (design D3), except for the settings that
//! the spec says are applied in place. The defaults that are filled in here belong to
//! [`HASH_VERSION`](api::template::HASH_VERSION): changing one changes what an old template means, so the
//! goldens in `tests/golden/` hold them.

pub mod applied;
pub mod config;
pub mod pod;
pub mod revision;
pub mod scheduling;
pub mod service;
pub mod support;
pub mod workload;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use api::names::{self, Color, Component, Owner};
use api::template::{ReleaseHash, ReleaseTemplate, canonical};

/// String to string, sorted: labels, annotations, selectors.
pub type Strings = BTreeMap<String, String>;

/// What the operator's configuration and the server contribute to a rendering. It is recorded with a release, so that
/// a rollback brings back what ran even if the configuration has changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// Registry, or registry and path, of images whose spec names none; empty means the node's default registry.
    pub image_repository: String,
    /// Whether the server knows the sleep action of a preStop hook (Kubernetes 1.30 and later).
    pub sleep_action: bool,
}

impl Defaults {
    /// What a release that was recorded with `self` is rendered from now: a server that has lost the sleep action
    /// would refuse it.
    #[must_use]
    pub fn under(&self, now: &Self) -> Self {
        Self {
            image_repository: self.image_repository.clone(),
            sleep_action: self.sleep_action && now.sleep_action,
        }
    }
}

/// A release on a color: what all its objects are rendered from.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// The resource.
    pub owner: &'a Owner,
    /// What shapes the pods.
    pub template: &'a ReleaseTemplate,
    /// The side it is deployed to.
    pub color: Color,
    /// Its name.
    pub version: &'a str,
    /// Its identity.
    pub hash: &'a ReleaseHash,
    /// Epoch of the decision that creates its objects.
    pub epoch: i64,
    /// The rest.
    pub defaults: &'a Defaults,
}

/// A part of a spec that no object can be rendered from; [`api::validate`] finds it first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct RenderError {
    /// Path of the field, such as `spec.storage.extraVolumes[0]`.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Release<'_> {
    /// Metadata of an object of the color.
    fn meta(&self, name: String, component: Component) -> ObjectMeta {
        let labels = labels(&self.owner.name, component, Some(self.color));
        meta(self.owner, name, labels, self.annotations())
    }

    /// Annotations by which an object says which release it belongs to.
    fn annotations(&self) -> Strings {
        strings([
            (names::RELEASE_VERSION, self.version),
            (names::RELEASE_HASH, self.hash.as_str()),
            (names::EPOCH, &self.epoch.to_string()),
        ])
    }
}

/// The three labels by which Services, Deployments and budgets select pods; never others.
pub fn selector(name: &str, component: Component, color: Color) -> Strings {
    strings([
        (names::LABEL_APP, name),
        (names::LABEL_COMPONENT, component.as_str()),
        (names::LABEL_STRATEGY, color.as_str()),
    ])
}

/// Labels of an object of a component, and of one color if it belongs to one.
pub fn labels(name: &str, component: Component, color: Option<Color>) -> Strings {
    let mut labels = common_labels(name);
    labels.insert(names::LABEL_COMPONENT.into(), component.as_str().into());
    labels.insert("app.kubernetes.io/component".into(), component.as_str().into());
    if let Some(color) = color {
        labels.insert(names::LABEL_STRATEGY.into(), color.as_str().into());
    }
    labels
}

/// Labels of every object of a resource.
pub fn common_labels(name: &str) -> Strings {
    strings([
        (names::LABEL_APP, name),
        ("app.kubernetes.io/name", "metadata-services"),
        ("app.kubernetes.io/instance", name),
        ("app.kubernetes.io/part-of", "e6data"),
        (names::LABEL_MANAGED_BY, names::MANAGER),
    ])
}

/// Metadata of an owned object.
fn meta(owner: &Owner, name: String, labels: Strings, annotations: Strings) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(owner.namespace.clone()),
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![owner.reference()]),
        ..ObjectMeta::default()
    }
}

/// Digest of settings that follow the spec in place: equal digests mean that there is nothing to apply.
pub fn settings_digest(settings: &Value) -> String {
    let digest = format!("{:x}", Sha256::digest(canonical(settings).as_bytes()));
    digest.get(..16).unwrap_or(&digest).to_owned()
}

fn strings<const N: usize>(pairs: [(&str, &str); N]) -> Strings {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Kubernetes' way to say "none" of a list or map is to leave it out.
fn some<T: IntoIterator + Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}
