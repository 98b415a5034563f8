//! What users do with the operator, and what may go wrong, on a real kube-apiserver.
//!
//! One cluster serves all scenarios; each has a namespace, an operator process and a watch of its own. What is
//! asserted is seen by that watch, by own reads and in the API server's audit log, not told by the operator. After
//! each scenario the whole history is checked against the invariants ([`testbed::watcher`]).

// Unwrapping, indexing and panicking are how a test fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod after_switch;
mod bed;
mod clocks;
mod damage;
mod deletion;
mod demo;
mod edits;
mod endpoints;
mod hands;
mod history;
mod in_place;
mod lost_status;
mod meddling;
mod numbers;
mod plugin;
mod process;
mod refused;
mod rights;
mod unwilling;
