//! A real control plane on loopback, and tools that observe it, for tests and the demo.
//!
//! [`Cluster::start`] runs etcd, kube-apiserver, kube-controller-manager, kube-scheduler and KWOK, which simulates
//! the node, from pinned Go modules. [`Operator`] runs the operator's binary beside it. [`Timeline`] watches the
//! objects with its own client, and [`audit`] reads the audit log of the API server. Tests and the demo check the objects
//! and requests that these two show, never the operator's own reports. [`harness`] contains the common parts of the tests.

pub mod addresses;
pub mod assets;
pub mod audit;
pub mod certs;
pub mod cluster;
pub mod demo;
pub mod error;
mod etcd;
mod golang;
pub mod harness;
pub mod history;
pub mod invariants;
mod kubeconfig;
pub mod kwok;
mod local_cluster;
pub mod node;
pub mod operator;
pub mod options;
pub mod pace;
pub mod ports;
pub mod predecessor;
pub mod process;
mod programs;
pub mod proxy;
pub mod repository;
pub mod resource;
mod run_dir;
pub mod timeline;
pub mod user_action;

pub use cluster::Cluster;
pub use error::{Error, Result};
pub use history::{Entry, History, Kind, Verb};
pub use operator::Operator;
pub use options::Options;
pub use proxy::Proxy;
pub use resource::{State, Subject};
pub use timeline::Timeline;
pub use user_action::UserAction;
