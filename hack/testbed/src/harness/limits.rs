//! Time limits and names that all tests share.

use std::time::Duration;

/// Time limit of one wait, in the time of the cluster ([`crate::pace`]). It allows for an expired lease and a rollout.
pub const TIME_LIMIT: Duration = Duration::from_secs(90);

/// Time between two checks of a state that no watch reports.
pub const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The prefix of the operator's user agent.
pub const USER_AGENT: &str = "e6-operator/";

/// The name of the resource in namespaces that hold exactly one.
pub const NAME: &str = "mds";
