//! Zero failed requests, on a real node: clients ask both front Services without a break while releases come and go.
//!
//! Each test has a cluster with a real node of its own, an operator, a resource whose pods are `examples/workload.rs`,
//! and two clients (`examples/load.rs`), one on the node and one in a pod. It needs root, and says so where it has
//! none. The watcher of the scenarios checks the invariants here too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows only the test functions as tests"
)]

#[path = "../scenarios/bed.rs"]
#[allow(dead_code, reason = "a part of it is enough here")]
mod bed;
#[path = "../scenarios/rights.rs"]
#[allow(dead_code, reason = "a part of it is enough here")]
mod rights;

mod bad;
mod crowd;
mod disturbed;
mod ground;
mod install;
mod lost;
mod measure;
mod moods;
mod peers;
mod servers;
mod stage;
mod upgrades;
