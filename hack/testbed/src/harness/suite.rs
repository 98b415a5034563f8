//! A test binary: its operator, its directory and its shared cluster.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::sync::OnceCell;

use super::operator_command::OperatorCommand;
use super::setup::{CRD, install_crd};
use super::shipped_rights::ShippedRights;
use super::test_cluster::TestCluster;
use super::test_env::TestEnv;
use super::variables;
use crate::pace::Places;
use crate::{Cluster, Operator, Options};

/// A test binary. It is a static of its `main.rs`, so that all tests of the binary share one cluster.
#[derive(Debug)]
pub struct Suite {
    name: &'static str,
    built: &'static str,
    temporary: &'static str,
    accepts_existing: bool,
    cluster: OnceCell<Arc<Cluster>>,
    rights: OnceCell<Option<ShippedRights>>,
    binary: OnceLock<PathBuf>,
    places: OnceLock<Places>,
}

impl Suite {
    /// Returns a suite. `built` is `env!("CARGO_BIN_EXE_e6-operator")`, `temporary` is `env!("CARGO_TARGET_TMPDIR")`.
    pub const fn new(name: &'static str, built: &'static str, temporary: &'static str) -> Self {
        Self {
            name,
            built,
            temporary,
            accepts_existing: false,
            cluster: OnceCell::const_new(),
            rights: OnceCell::const_new(),
            binary: OnceLock::new(),
            places: OnceLock::new(),
        }
    }

    /// Uses the cluster of `E6_KUBECONFIG` if that is set.
    #[must_use]
    pub const fn on_existing_cluster(mut self) -> Self {
        self.accepts_existing = true;
        self
    }

    /// Returns the shared cluster, with the CRD. The first call starts it.
    pub async fn cluster(&self) -> &Arc<Cluster> {
        let start = async || {
            let options = Options::default();
            let cluster = if self.accepts_existing {
                Cluster::start_or_use(options).await.unwrap()
            } else {
                Cluster::start(options).await.unwrap()
            };
            install_crd(&cluster.client().unwrap(), CRD).await;
            Arc::new(cluster)
        };
        self.cluster.get_or_init(start).await
    }

    /// Returns the shared cluster for tests with operators behind proxies. `label` names the directory of the logs.
    pub async fn shared(&self, label: &str) -> TestCluster {
        TestCluster::new(Arc::clone(self.cluster().await), self.binary(), self.dir().join(label)).await
    }

    /// Starts a cluster for one test. `label` names the directory of the logs.
    pub async fn own(&self, label: &str, options: Options) -> TestCluster {
        let cluster = Cluster::start(options).await.unwrap();
        install_crd(&cluster.client().unwrap(), CRD).await;
        TestCluster::new(Arc::new(cluster), self.binary(), self.dir().join(label)).await
    }

    /// Returns a namespace of the shared cluster with a running operator, which has the shipped rights.
    pub async fn env(&'static self, label: &str) -> TestEnv {
        self.env_with(label, &[]).await
    }

    /// Like [`Suite::env`], with further flags of the operator.
    pub async fn env_with(&'static self, label: &str, flags: &[&str]) -> TestEnv {
        let mut env = self.idle_env(label, flags).await;
        env.start();
        env
    }

    /// Like [`Suite::env_with`], but the operator does not run yet.
    pub async fn idle_env(&'static self, label: &str, flags: &[&str]) -> TestEnv {
        let cluster = self.cluster().await;
        let mut env = self.env_on(cluster, label, flags).await;
        let rights = self.rights.get_or_init(async || ShippedRights::grant(cluster).await).await;
        if let Some(rights) = rights {
            env.act_as(&rights.kubeconfig);
        }
        env
    }

    /// Returns a namespace of `cluster` without a running operator. The operator has all rights.
    pub async fn env_on(&'static self, cluster: &Cluster, label: &str, flags: &[&str]) -> TestEnv {
        let place = self.places().place().await;
        let kubeconfig = cluster.kubeconfig().to_path_buf();
        let command = OperatorCommand::new(self.binary().to_path_buf(), kubeconfig, self.dir());
        let mut env = TestEnv::new(cluster, label, command, self.used_rights(), place).await;
        for flag in flags {
            env.set_flag(flag);
        }
        env
    }

    /// Returns the places for cases of this binary: as many as the cluster keeps up with, at most [`variables::PARALLEL`].
    /// A test may take two places; there are always more places than such tests.
    pub fn places(&self) -> &Places {
        self.places.get_or_init(|| Places::up_to(variables::parallel(8)))
    }

    /// Returns the copy of the operator's binary that this process runs: a build meanwhile does not change it.
    pub fn binary(&self) -> &Path {
        self.binary.get_or_init(|| {
            self.remove_old_copies();
            Operator::own_copy(&variables::operator(Path::new(self.built)), &self.dir()).unwrap()
        })
    }

    /// Returns the directory of this process for logs and kubeconfigs. The logs of failed tests stay there.
    pub fn dir(&self) -> PathBuf {
        let dir = self.parent().join(std::process::id().to_string());
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Returns the directory in which the shipped-rights tests note the rights that operators used.
    fn used_rights(&self) -> PathBuf {
        Path::new(self.temporary).join("rights")
    }

    fn parent(&self) -> PathBuf {
        Path::new(self.temporary).join(self.name)
    }

    /// Removes the binaries of processes that have ended, and their directories if no logs are left in them.
    fn remove_old_copies(&self) {
        for dir in std::fs::read_dir(self.parent()).into_iter().flatten().flatten() {
            if !Path::new("/proc").join(dir.file_name()).exists() {
                let _ = std::fs::remove_file(dir.path().join("e6-operator"));
                let _ = std::fs::remove_dir(dir.path());
            }
        }
    }
}
