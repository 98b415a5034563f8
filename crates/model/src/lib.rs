//! An exhaustive model: the real [`super::plan`], the shell's preconditions, and everything that may happen around
//! them, searched breadth first (invariants tagged m; what it covers and what not: `docs/proof.md`).
//!
//! - `state`: what a state is. `times`: ages instead of a clock. `tables`: from numbers to what the core is given.
//! - `shell`: an operator, one or two of them, crashing and stalling between any two requests.
//! - `env`: users, nodes, controllers, other hands. `world`: the laws that hold whoever looks; those of a decision are
//!   the simulator's (`sim::laws`). `drain`: where every state leads when faults stop.
//! - `search`: the search. `ablation`: guards that can be taken away to see that they are needed.

#![cfg(test)]

mod ablation;
mod ablations;
mod drain;
mod env;
mod laws;
mod search;
mod shell;
mod state;
mod tables;
mod tell;
mod tests;
mod times;
mod world;
