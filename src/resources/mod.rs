//! Renderers: from a release to Kubernetes objects, as pure functions.
//!
//! The objects of a release never change after their creation (design D3), except for settings that follow the spec in
//! place. The defaults here belong to [`HASH_VERSION`](api::template::HASH_VERSION): a changed default changes the
//! meaning of old templates, so the goldens in `tests/golden/` contain them.

pub mod config_map;
pub mod controller_revision;
pub mod deployment;
pub mod last_applied;
pub mod pdb;
pub mod pod;
pub mod scheduling;
pub mod service;
pub mod service_account;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use api::names::{self, Color, Component, Owner};
use api::template::{ReleaseHash, ReleaseTemplate, canonical};

/// String to string, sorted: labels, annotations, selectors.
pub type Strings = BTreeMap<String, String>;

/// The part of a rendering that comes from the operator's configuration and the API server. The ControllerRevision of a
/// release contains it, so that a rollback restores the same Pods also after a change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// Registry, or registry and path, of images without one in the spec; empty means the node's default registry.
    pub image_repository: String,
    /// True if the API server accepts the sleep action of a preStop hook (Kubernetes 1.30 and later).
    pub sleep_action: bool,
}

impl Defaults {
    /// Returns the defaults of a release that was recorded with `self`, under the current defaults `now`. An API server that
    /// no longer accepts the sleep action would reject it.
    #[must_use]
    pub fn under(&self, now: &Self) -> Self {
        Self {
            image_repository: self.image_repository.clone(),
            sleep_action: self.sleep_action && now.sleep_action,
        }
    }
}

/// A release on a color: the source of its objects.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// The resource.
    pub owner: &'a Owner,
    /// The release template.
    pub template: &'a ReleaseTemplate,
    /// The color of the objects.
    pub color: Color,
    /// The version.
    pub version: &'a str,
    /// The hash of the template.
    pub hash: &'a ReleaseHash,
    /// The epoch of the decision that creates the objects.
    pub epoch: i64,
    /// The defaults of the operator and the API server.
    pub defaults: &'a Defaults,
}

/// A field of a spec that cannot be rendered. [`api::validate`] usually reports it first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct RenderError {
    /// The path of the field, such as `spec.storage.extraVolumes[0]`.
    pub field: String,
    /// The problem and the remedy.
    pub message: String,
}

impl Release<'_> {
    /// Returns the metadata of an object of the color.
    fn meta(&self, name: String, component: Component) -> ObjectMeta {
        let labels = labels(&self.owner.name, component, Some(self.color));
        meta(self.owner, name, labels, self.annotations())
    }

    /// Returns the annotations with the release of an object.
    fn annotations(&self) -> Strings {
        strings([
            (names::RELEASE_VERSION, self.version),
            (names::RELEASE_HASH, self.hash.as_str()),
            (names::EPOCH, &self.epoch.to_string()),
        ])
    }
}

/// Returns the three labels by which Services, Deployments and PodDisruptionBudgets select Pods.
pub fn selector(name: &str, component: Component, color: Color) -> Strings {
    strings([
        (names::LABEL_APP, name),
        (names::LABEL_COMPONENT, component.as_str()),
        (names::LABEL_STRATEGY, color.as_str()),
    ])
}

/// Returns the labels of an object of a component, and of a color if the object has one.
pub fn labels(name: &str, component: Component, color: Option<Color>) -> Strings {
    let mut labels = common_labels(name);
    labels.insert(names::LABEL_COMPONENT.into(), component.as_str().into());
    labels.insert("app.kubernetes.io/component".into(), component.as_str().into());
    if let Some(color) = color {
        labels.insert(names::LABEL_STRATEGY.into(), color.as_str().into());
    }
    labels
}

/// Returns the labels of every object of a resource.
pub fn common_labels(name: &str) -> Strings {
    strings([
        (names::LABEL_APP, name),
        ("app.kubernetes.io/name", "metadata-services"),
        ("app.kubernetes.io/instance", name),
        ("app.kubernetes.io/part-of", "e6data"),
        (names::LABEL_MANAGED_BY, names::MANAGER),
    ])
}

/// Returns the metadata of an owned object.
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

/// Returns the digest of settings that follow the spec in place. Equal digests mean that the settings are applied.
pub fn settings_digest(settings: &Value) -> String {
    let digest = format!("{:x}", Sha256::digest(canonical(settings).as_bytes()));
    digest.get(..16).unwrap_or(&digest).to_owned()
}

fn strings<const N: usize>(pairs: [(&str, &str); N]) -> Strings {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Returns `None` for an empty list or map, which Kubernetes leaves out.
fn some<T: IntoIterator + Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}
