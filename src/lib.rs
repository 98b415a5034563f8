//! The E6 Operator: blue-green releases of the e6data metadata services.
//!
//! The path of a change through the crate (see also `docs/architecture.md`):
//!
//! 1. The watches of [`controller`] fill the caches of [`observe`] and trigger a reconcile of a resource.
//! 2. The reconcile (`controller::reconcile`) reads the resource and its objects; [`observe`] derives facts from them.
//! 3. [`rollout`] decides on one effect, as a pure function of the facts.
//! 4. `controller::write` carries it out, with preconditions, from objects that [`resources`] renders. Then the reconcile
//!    reads again.
//!
//! [`api`] is the custom resource and [`names`] has the names of its objects. [`leader`], [`clock`], [`client`],
//! [`metrics`], [`server`], [`telemetry`], [`version`] and [`cli`] are the parts of the [`process`]. Under another name the
//! same binary is the kubectl [`plugin`].

pub mod cli;
pub mod client;
pub mod clock;
pub mod controller;
pub mod leader;
pub mod metrics;
pub mod namespaced_name;
pub mod observe;
pub mod plugin;
pub mod process;
pub mod resources;
pub mod server;
pub mod telemetry;
pub mod version;
