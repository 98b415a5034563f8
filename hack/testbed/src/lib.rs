//! A real control plane on loopback, and eyes of its own, for tests and the demo.
//!
//! [`Cluster::start`] runs etcd, kube-apiserver, kube-controller-manager, kube-scheduler and KWOK (which plays
//! the node) from pinned Go modules; [`Operator`] runs the operator's binary beside it; [`Timeline`] watches the
//! objects with a client of its own, and [`audit`] reads what the API server says was asked of it. Tests and the
//! demo judge by the last two, never by what the operator reports about itself.

pub mod assets;
pub mod audit;
pub mod certs;
pub mod cluster;
mod components;
pub mod error;
mod etcd;
mod golang;
pub mod history;
mod kubeconfig;
pub mod kwok;
pub mod node;
pub mod operator;

pub mod ports;
pub mod process;
pub mod proxy;
pub mod resource;
pub mod timeline;
pub mod watcher;

pub use cluster::{Cluster, Options};
pub use error::{Error, Result};
pub use history::{Entry, History, Kind, Verb};
pub use operator::Operator;
pub use proxy::Proxy;
pub use resource::{State, Subject};
pub use timeline::Timeline;
