//! Zero failed requests on a real node: two clients send requests to both front Services during rollouts and failures.
//!
//! Each test has its own cluster with a real node, an operator, a resource whose Pods run `examples/workload.rs`, and
//! two clients (`examples/load.rs`). The first client runs on the node, the second in a Pod. The tests need root; without
//! root they print a reason and skip. Each test checks the invariants of its history as the scenarios do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows only the test functions as tests"
)]

mod adoption;
mod concurrent_upgrades;
mod failed_releases;
mod measure;
mod operator_outage;
mod operator_upgrade;
mod peers;
mod pod_churn;
mod pod_faults;
mod real_node;
mod resource_under_load;
mod servers;
mod upgrades;

use testbed::harness::Suite;

/// Common clusters and settings of these tests.
pub static SUITE: Suite = Suite::new("e2e", env!("CARGO_BIN_EXE_e6-operator"), env!("CARGO_TARGET_TMPDIR"));
