//! Names and addresses that the programs of a cluster share.

/// The loopback address. A cluster with a simulated node listens only there.
pub const LOOPBACK: &str = "127.0.0.1";

/// The range of the cluster IPs of Services.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";

/// The range of the IPs of Pods on a real node.
pub const POD_RANGE: &str = "10.244.0.0/24";

/// The name of the real node.
pub const REAL_NODE: &str = "node";

/// The address of the real node, and of the API server beside it.
pub const REAL_NODE_ADDRESS: &str = "10.89.0.10";

/// The name of the node that KWOK simulates.
pub const SIMULATED_NODE: &str = "kwok";
