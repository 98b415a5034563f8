//! An exhaustive model of the state machine: a breadth-first search of every event around the real `rollout::plan`,
//! with the preconditions of the controller's writes. `docs/proof.md` states the bounds.
//!
//! - `state`: a state of the model. `ages`: ages in place of a clock. `interner`: numbers for statuses and plans, and
//!   the input of the core.
//! - `writer`: an operator. There are one or two; each may crash or stall between two requests.
//! - `environment`: users, nodes, controllers and other clients. `state_invariants`: invariants of every write and
//!   state. The invariants of a decision are in `simulator::invariants`.
//! - `run_to_rest`: the end that each state leads to without further events.
//! - `search`, `searches`: the search and its cases. `ablation`, `ablation_cases`: removed guards, and searches that
//!   need each guard. `invariant_cases`: a violation of each invariant.
//! - `scenario_text`: scenarios as text.

#![cfg(test)]

mod ablation;
mod ablation_cases;
mod ages;
mod cluster_of_state;
mod environment;
mod interner;
mod invariant_cases;
mod run_to_rest;
mod scenario_text;
mod search;
mod searches;
mod state;
mod state_invariants;
mod writer;
