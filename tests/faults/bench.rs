//! The cluster, and the ways to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use testbed::proxy::{Proxy, Upstream};
use testbed::{Cluster, Operator, Options};

use crate::deed::resources;

/// Flags of every operator here: it leads at once, and takes no port.
pub const ARGS: [&str; 7] = [
    "run",
    "--leader-elect=false",
    "--metrics-bind-address",
    "0",
    "--health-probe-bind-address",
    "0",
    "--log-level=info,e6_operator=debug",
];

/// How long the definition may take to be served.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster and the ways to it.
pub struct Bench {
    /// The administrator's client.
    pub client: Client,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The operator's binary.
    pub binary: PathBuf,
    /// Where logs and kubeconfigs go.
    pub dir: PathBuf,
    /// The proxies' way to the API server.
    pub upstream: Upstream,
    _cluster: Cluster,
}

impl Bench {
    /// Starts a cluster with the CRD in it.
    pub async fn start() -> Self {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        let client = cluster.client().unwrap();
        let crd: CustomResourceDefinition =
            serde_json::from_value(serde_json::to_value(e6_operator::api::crd::crd()).unwrap()).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &crd).await.unwrap();
        let start = Instant::now();
        while resources(&client, None).list(&ListParams::default()).await.is_err() {
            assert!(start.elapsed() < PATIENCE, "the CRD is not served");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let dir = logs();
        // A copy: a build meanwhile would change it under the test.
        let binary = dir.join("e6-operator");
        std::fs::copy(operator(), &binary).unwrap();
        Self {
            client,
            kubeconfig: cluster.kubeconfig().to_path_buf(),
            binary,
            dir,
            upstream: Upstream::of(cluster.kubeconfig()).await.unwrap(),
            _cluster: cluster,
        }
    }

    /// Removes the logs, which nobody needs when all went well.
    pub fn tidy(self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    /// Starts an operator for one namespace, behind a proxy.
    pub fn operator(&self, namespace: &str, proxy: &Proxy, log: &Path) -> Operator {
        let mut args = ARGS.to_vec();
        args.extend(["--watch-namespace", namespace]);
        Operator::spawn(&self.binary, proxy.kubeconfig(), &args, log).unwrap()
    }
}

/// The operator to be tried: `E6_OPERATOR`, or the one just built.
pub fn operator() -> PathBuf {
    std::env::var("E6_OPERATOR").unwrap_or_else(|_| env!("CARGO_BIN_EXE_e6-operator").to_owned()).into()
}

/// A directory of this run's own: it stays when a case fails.
fn logs() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
