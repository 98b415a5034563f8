//! Actions of users, and failures, on a real kube-apiserver.
//!
//! All scenarios share one cluster. Each scenario has its own namespace, operator process and timeline
//! ([`testbed::harness::TestEnv`]). Assertions read the timeline, the API server and its audit log, never the operator's
//! own reports. At the end of each scenario all invariants of its history are checked ([`testbed::invariants`]).

// A test fails by unwrapping, indexing or panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod adoption;
mod after_switch;
mod deletion;
mod demo;
mod edits;
mod endpoints;
mod external_changes;
mod in_place;
mod invalid_input;
mod kubectl_plugin;
mod numbers;
mod operator_process;
mod pod_failures;
mod rejected_writes;
mod release_history;
mod status_loss;
mod wait_times;

use testbed::harness::Suite;

/// Common cluster and settings of these tests.
pub static SUITE: Suite =
    Suite::new("scenarios", env!("CARGO_BIN_EXE_e6-operator"), env!("CARGO_TARGET_TMPDIR"))
        .on_existing_cluster();
