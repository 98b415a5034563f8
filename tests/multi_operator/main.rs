//! Two operators at the same time, and failures of the control plane: no invariant is violated, and every resource comes
//! to rest on the expected release.
//!
//! - [`takeover`]: a leader is paused at a write for longer than its lease, a second operator takes over, the first one
//!   resumes. In another mode both operators act as leader.
//! - [`leader_loss`]: leaders that receive SIGTERM, lose the API server, or have wrong clocks.
//! - [`control_plane_faults`], [`outdated_crd`], [`namespace_deletion`]: failures around the operator.
//! - [`soak`]: many rollouts under random faults.
//!
//! [`testbed::harness::variables`] lists the environment variables.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows only the test functions as tests"
)]

mod control_plane_faults;
mod leader_loss;
mod namespace_deletion;
mod outdated_crd;
mod rollout_scenario;
mod soak;
mod takeover;

use testbed::harness::Suite;

/// Common cluster and settings of these tests.
pub static SUITE: Suite =
    Suite::new("multi_operator", env!("CARGO_BIN_EXE_e6-operator"), env!("CARGO_TARGET_TMPDIR"));
