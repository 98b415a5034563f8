//! How a cluster is started, and the environment variables that change it.

use std::path::PathBuf;

/// The variable with the kubeconfig of an existing cluster, which is used instead of a new one.
pub const USE_VARIABLE: &str = "E6_KUBECONFIG";

/// The variable that keeps temporary run directories, and so the logs, after their clusters have stopped.
pub const KEEP_VARIABLE: &str = "E6_TEST_KEEP";

/// How to start a cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The run directory. None means a new temporary directory. Processes and files that an earlier cluster left in
    /// a given directory are removed first.
    pub dir: Option<PathBuf>,
    /// Further flags of kube-apiserver, such as `--watch-cache=false`. A repeated flag overrides the default.
    pub apiserver_args: Vec<String>,
    /// Further DNS names or IP addresses in the certificate of the API server.
    pub server_names: Vec<String>,
    /// Keeps a temporary run directory when the cluster stops, as `E6_TEST_KEEP` does for all clusters. A given
    /// `dir` is always kept.
    pub keep: bool,
    /// The processes outlive this process, until `Cluster::stop_recorded` ends them.
    pub detached: bool,
    /// The mode of kube-proxy on a real node: `iptables`, `nftables` or `ipvs`. None means `iptables`.
    pub proxy_mode: Option<String>,
}
