//! What the user wants, as the core sees it.

use super::facts::Image;
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
    /// Whether it is being deleted: then nothing is done any more.
    pub deleted: bool,
    /// The release that the spec describes.
    pub wanted: Wanted,
    /// What is wrong with the spec; empty if it is valid.
    pub violations: Vec<String>,
    /// The command that mends an installed CRD without fields that the operator needs, if it is so.
    pub crd_outdated: Option<String>,
    /// Rollout tuning.
    pub policy: Policy,
    /// Requests by annotation.
    pub requests: Requests,
    /// Ports of the front Services.
    pub ports: PerComponent<i32>,
    /// Components whose image is older than this operator supports, with the minimum, for people.
    pub old_images: Vec<String>,
}

/// The release that a spec describes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The hash of its template.
    pub hash: String,
    /// Its images.
    pub images: PerComponent<Image>,
    /// The name that the user gives it.
    pub release_version: Option<String>,
}

/// `spec.rollout`, with defaults filled in and clamped to the legal ranges. Seconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools)] // the spec's own switches
pub struct Policy {
    /// Continuous readiness before the switch.
    pub grace: i64,
    /// Upper bound of becoming ready.
    pub deploy_timeout: i64,
    /// Least time in Switching.
    pub dwell: i64,
    /// How long the old color is kept warm after the switch was proved.
    pub cleanup_delay: i64,
    /// Whether a failed release is rolled back by itself.
    pub auto_rollback: bool,
    /// How long a hard failure lasts before the release fails.
    pub failure_threshold: i64,
    /// Whether an automatic rollback also writes the serving template back into the spec.
    pub revert_spec: bool,
    /// Whether no new release may start.
    pub paused: bool,
    /// Length of the history, 2..=10.
    pub history_limit: usize,
}

/// Requests by annotation; an empty value is a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requests {
    /// `e6data.io/rollback-to`.
    pub rollback_to: Option<String>,
    /// `e6data.io/retry`.
    pub retry: Option<String>,
    /// `e6data.io/restart`.
    pub restart: Option<String>,
}
