//! From Kubernetes objects to [`Intent`] and [`Facts`], the input of the core. Pure.
//!
//! Watches fill the [`cache`] and live reads fill a [`Snapshot`]; both decode objects into the small [`views`].
//! [`ObservedResource`] judges the ownership of each object and hashes the template of the spec once. [`observe`] derives
//! intent and facts from these judgements.

pub mod cache;
#[cfg(test)]
mod edited;
pub mod facts;
pub mod intent;
mod metadata;
pub mod ownership;
mod pods;
pub mod predecessor;
pub mod resource;
pub mod settings;
pub mod views;

pub use intent::Settings;
pub use resource::{ObservedResource, Snapshot};

use rollout::{Facts, Intent};

/// Derives the input of one decision. `violations` are the findings of the validator for the spec; `crd_outdated` is the
/// command that updates an outdated CRD.
pub fn observe(
    observed: &ObservedResource<'_>,
    violations: Vec<String>,
    crd_outdated: Option<String>,
    settings: &Settings,
) -> (Intent, Facts) {
    let intent = intent::intent(observed, violations, crd_outdated, settings);
    (intent, facts::facts(observed, &settings.defaults))
}
