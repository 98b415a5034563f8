//! The cluster, and the ways to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::crd::crd;
use kube::Client;
use testbed::proxy::{Plan, Proxy, Upstream};
use testbed::resource::install_crd;
use testbed::{Cluster, Operator, Options, Timeline};
use tokio::sync::{Mutex, MutexGuard};

use crate::nursery;
use crate::scenario::Scenario;

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

/// How long the definition may take to be served, and an operator to start.
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
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    /// Starts a cluster with the CRD in it, when the bench before is gone: two at a time would be late.
    pub async fn start() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let cluster = Cluster::start(Options::default()).await.unwrap();
        let client = cluster.client().unwrap();
        install_crd(&client, &crd(), PATIENCE).await.unwrap();
        let dir = logs();
        let binary = Operator::own_copy(&operator(), &dir).unwrap();
        Self {
            client,
            kubeconfig: cluster.kubeconfig().to_path_buf(),
            binary,
            dir,
            upstream: Upstream::of(cluster.kubeconfig()).await.unwrap(),
            _cluster: cluster,
            _turn: turn,
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

/// A resource where its scenario begins, watched, and an operator behind a proxy that has filled its caches.
pub struct Stage {
    /// What an outside eye sees.
    pub timeline: Timeline,
    /// Between the operator and the API server.
    pub proxy: Proxy,
    /// It is killed when dropped.
    _operator: Operator,
}

impl Stage {
    /// Sets it up in a namespace.
    pub async fn set(bench: &Bench, namespace: &str, scenario: Scenario, plan: Plan) -> Self {
        nursery::prepare(bench, vec![(namespace.to_owned(), scenario)]).await;
        let timeline = Timeline::start(bench.client.clone(), Some(namespace)).await.unwrap();
        let kubeconfig = bench.dir.join(format!("{namespace}.kubeconfig"));
        let proxy = Proxy::start(&bench.upstream, &kubeconfig, plan).await.unwrap();
        let operator = bench.operator(namespace, &proxy, &bench.dir.join(format!("{namespace}.log")));
        until("the operator to start", || operator.log_text().contains("caches are filled")).await;
        Self { timeline, proxy, _operator: operator }
    }
}

/// Waits for something that no watch tells.
pub async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "no end of the wait for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
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
