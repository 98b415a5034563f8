//! The E6 Operator: blue-green releases of the e6data metadata services.
//!
//! The way of a change through the crate (see also `docs/architecture.md`):
//!
//! 1. [`controller`] watches; an event names a resource to look at (`controller::watch`, `observe::index`).
//! 2. A pass (`controller::pass`) reads, and [`observe`] turns objects into small facts.
//! 3. [`rollout`] decides, as a pure function, on one thing to do next.
//! 4. `controller::write` does it, with preconditions, from objects that [`resources`] renders; then the pass looks
//!    again.
//!
//! [`api`] is the custom resource, [`names`] what the operator calls things on the cluster; [`leader`], [`clock`],
//! [`client`], [`metrics`], [`server`], [`telemetry`], [`version`] and [`cli`] make it a [`process`]. Under another name the same binary
//! is the kubectl [`plugin`].

pub mod cli;
pub mod client;
pub mod clock;
pub mod controller;
pub mod leader;
pub mod metrics;
pub mod observe;
pub mod plugin;
pub mod process;
pub mod resources;
pub mod server;
pub mod telemetry;
pub mod version;
