//! The common parts of the operator's tests: a cluster with the CRD, namespaces, operators, time limits and waits.
//!
//! A test binary has one [`Suite`]. A test takes one of these from it:
//!
//! - [`TestEnv`]: a namespace, a [`crate::Timeline`] of it, and one operator that talks to the API server directly.
//! - [`TestCluster`]: a cluster whose namespaces each hold one [`WatchedResource`], and any number of operators
//!   behind proxies ([`ProxiedOperator`]).
//!
//! Tests check the objects and requests that the timeline and the audit log show, never the operator's own reports. A
//! helper that cannot continue panics, and so fails its test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "the harness is part of the tests, and a panic is how a test fails"
)]

mod limits;
mod operator_command;
mod parallel_cases;
mod proxied_operator;
mod setup;
mod shipped_rights;
mod suite;
mod test_cluster;
mod test_env;
pub mod variables;
mod watched_resource;

pub use limits::{NAME, POLL_INTERVAL, TIME_LIMIT, USER_AGENT};
pub use operator_command::OperatorCommand;
pub use parallel_cases::{Case, case, together};
pub use proxied_operator::ProxiedOperator;
pub use setup::{CRD, create_namespace, install_crd, manifest, wait_for};
pub use suite::Suite;
pub use test_cluster::TestCluster;
pub use test_env::TestEnv;
pub use watched_resource::WatchedResource;
