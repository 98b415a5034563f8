//! A cluster whose namespaces hold one resource each, with operators behind proxies.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::Client;

use super::operator_command::OperatorCommand;
use super::proxied_operator::ProxiedOperator;
use super::setup::create_namespace;
use super::watched_resource::WatchedResource;
use crate::Cluster;
use crate::proxy::{Plan, Proxy, Upstream};

/// A cluster with the CRD. The clients are bound to the runtime of the test.
pub struct TestCluster {
    /// The client of the administrator.
    pub client: Client,
    /// The cluster.
    pub control_plane: Arc<Cluster>,
    /// The directory of logs and kubeconfigs.
    pub dir: PathBuf,
    binary: PathBuf,
    upstream: Upstream,
}

impl TestCluster {
    pub(super) async fn new(cluster: Arc<Cluster>, binary: &Path, dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).unwrap();
        Self {
            client: cluster.client().unwrap(),
            upstream: Upstream::of(cluster.kubeconfig()).await.unwrap(),
            binary: binary.to_path_buf(),
            control_plane: cluster,
            dir,
        }
    }

    /// Removes the logs of a test that passed.
    pub fn remove_logs(self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    /// Creates a namespace and watches it. The resource in it does not exist yet.
    pub async fn resource(&self, namespace: &str) -> WatchedResource {
        create_namespace(&self.client, namespace).await;
        WatchedResource::watch(&self.client, namespace).await
    }

    /// Returns the command of an operator that talks to the API server directly.
    pub fn command(&self, label: &str) -> OperatorCommand {
        self.command_as(self.control_plane.kubeconfig(), label)
    }

    fn command_as(&self, kubeconfig: &Path, label: &str) -> OperatorCommand {
        let log = self.dir.join(format!("{label}.log"));
        OperatorCommand::new(self.binary.clone(), kubeconfig.to_path_buf(), log)
            .with_flags(["--log-level=info,e6_operator=debug"])
    }

    /// Starts an operator for one namespace behind its own proxy. `name` distinguishes the operators of a namespace.
    pub async fn operator(&self, namespace: &str, name: &str, flags: &[&str]) -> ProxiedOperator {
        let mut all =
            vec![format!("--watch-namespace={namespace}"), format!("--leader-elect-namespace={namespace}")];
        all.extend(flags.iter().map(ToString::to_string));
        self.operator_with(&format!("{namespace}-{name}"), all, &[]).await
    }

    /// Starts an operator with these flags and variables behind its own proxy.
    pub async fn operator_with(
        &self,
        label: &str,
        flags: Vec<String>,
        env: &[(&str, &str)],
    ) -> ProxiedOperator {
        self.faulty_operator(label, flags, env, Plan::default()).await
    }

    /// Starts an operator behind its own proxy, which injects the faults of `plan`.
    pub async fn faulty_operator(
        &self,
        label: &str,
        flags: Vec<String>,
        env: &[(&str, &str)],
        plan: Plan,
    ) -> ProxiedOperator {
        let kubeconfig = self.dir.join(format!("{label}.kubeconfig"));
        let proxy = Proxy::start(&self.upstream, &kubeconfig, plan).await.unwrap();
        let command = self.command_as(&kubeconfig, label).with_flags(flags).with_env(env);
        ProxiedOperator::start(proxy, command)
    }
}
