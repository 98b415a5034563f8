//! The input about the resource: its spec, annotations and metadata, reduced to what decisions need.

use crate::facts::Image;
use api::names::PerComponent;

/// The resource, reduced to what decisions need.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Intent {
    /// The resource's name.
    pub name: String,
    /// The resource's namespace.
    pub namespace: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// True if the resource is being deleted. The operator then does nothing more.
    pub deleted: bool,
    /// The release that the spec describes.
    pub wanted: Wanted,
    /// Violated validation rules of the spec; empty if it is valid.
    pub violations: Vec<String>,
    /// The command that updates the CRD, if the installed one lacks fields that the operator needs.
    pub crd_outdated: Option<String>,
    /// Rollout tuning.
    pub policy: Policy,
    /// Requests by annotation.
    pub requests: Requests,
    /// Ports of the front Services.
    pub ports: PerComponent<i32>,
    /// Messages about images below the minimum version that this operator supports.
    pub old_images: Vec<String>,
}

/// The release that a spec describes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The hash of its template.
    pub hash: String,
    /// Its images.
    pub images: PerComponent<Image>,
    /// The version name that the user sets in `spec.releaseVersion`.
    pub release_version: Option<String>,
}

/// `spec.rollout` with defaults, clamped to the legal ranges. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools)] // the spec's own switches
pub struct Policy {
    /// Grace period: continuous readiness of all Pods before the switch.
    pub grace: i64,
    /// Longest time in which a release must become ready.
    pub deploy_timeout: i64,
    /// Shortest time in Switching.
    pub dwell: i64,
    /// How long the previous release keeps running after the switch is proved.
    pub cleanup_delay: i64,
    /// True if the operator rolls back a failed release automatically.
    pub auto_rollback: bool,
    /// How long a hard failure lasts before the release fails.
    pub failure_threshold: i64,
    /// True if an automatic rollback also writes the template of the active release into the spec.
    pub revert_spec: bool,
    /// True if no new release may start.
    pub paused: bool,
    /// Length of the history, 2 to 10 records.
    pub history_limit: usize,
}

/// Requests by annotation. An empty value counts as a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requests {
    /// `e6data.io/rollback-to`.
    pub rollback_to: Option<String>,
    /// `e6data.io/retry`.
    pub retry: Option<String>,
    /// `e6data.io/restart`.
    pub restart: Option<String>,
}
