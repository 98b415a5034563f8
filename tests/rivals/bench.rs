//! The bench: a cluster with the CRD, namespaces with an outside eye, and operators behind proxies of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::crd::crd;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;
use testbed::proxy::{Fault, Halt, Plan, Proxy, Upstream};
use testbed::resource::install_crd;
use testbed::watcher::{self, Waived};
use testbed::{Cluster, History, Operator, Options, State, Subject, Timeline};
use tokio::sync::OnceCell;

/// How long anything may take on two busy cores: a lease that runs out and a rollout make half of it.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How long nothing may happen before something counts as ended.
const QUIET: Duration = Duration::from_millis(1_200);

/// How often a state is looked at.
pub const LOOK: Duration = Duration::from_millis(100);

/// An instance writes until so long after it began its last successful renewal.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// What a request may take from the operator to the proxy on a busy machine.
const ON_THE_WAY: Duration = Duration::from_millis(500);

static CLUSTER: OnceCell<Arc<Cluster>> = OnceCell::const_new();

/// A cluster and the ways to it.
pub struct Bench {
    /// The administrator's client.
    pub client: Client,
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Where logs and kubeconfigs go.
    pub dir: PathBuf,
    binary: PathBuf,
    upstream: Upstream,
}

impl Bench {
    /// A bench in the one cluster of this binary, to which nothing may happen. `label` names the directory of logs.
    pub async fn shared(label: &str) -> Self {
        let start = async || {
            let cluster = Cluster::start(Options::default()).await.unwrap();
            install_crd(&cluster.client().unwrap(), &crd(), PATIENCE).await.unwrap();
            Arc::new(cluster)
        };
        Self::on(CLUSTER.get_or_init(start).await.clone(), label).await
    }

    /// A bench in a cluster of its own.
    pub async fn own(label: &str, options: Options) -> Self {
        let cluster = Cluster::start(options).await.unwrap();
        install_crd(&cluster.client().unwrap(), &crd(), PATIENCE).await.unwrap();
        Self::on(Arc::new(cluster), label).await
    }

    async fn on(cluster: Arc<Cluster>, label: &str) -> Self {
        let client = cluster.client().unwrap();
        let dir =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("rivals-{label}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let built =
            std::env::var("E6_OPERATOR").unwrap_or_else(|_| env!("CARGO_BIN_EXE_e6-operator").to_owned());
        let binary = Operator::own_copy(Path::new(&built), &dir).unwrap();
        let upstream = Upstream::of(cluster.kubeconfig()).await.unwrap();
        Self { client, cluster, dir, binary, upstream }
    }

    /// Removes the logs, which nobody needs when all went well.
    pub fn tidy(self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    /// A new namespace with an eye on it.
    pub async fn stage(&self, namespace: &str) -> Stage {
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let timeline = Timeline::start(self.client.clone(), Some(namespace)).await.unwrap();
        let subject = Subject::new(&self.client, namespace, NAME);
        Stage { namespace: namespace.to_owned(), timeline, subject, late_writes: Duration::ZERO }
    }

    /// An operator for one namespace behind a proxy of its own. `name` tells it from others of the namespace.
    pub async fn actor(&self, namespace: &str, name: &str, flags: &[&str]) -> Actor {
        let mut all =
            vec![format!("--watch-namespace={namespace}"), format!("--leader-elect-namespace={namespace}")];
        all.extend(flags.iter().map(ToString::to_string));
        self.actor_with(&format!("{namespace}-{name}"), all, &[]).await
    }

    /// An operator with these flags and variables behind a proxy of its own.
    pub async fn actor_with(&self, label: &str, flags: Vec<String>, env: &[(&str, &str)]) -> Actor {
        let kubeconfig = self.dir.join(format!("{label}.kubeconfig"));
        let proxy = Proxy::start(&self.upstream, &kubeconfig, Plan::default()).await.unwrap();
        let mut args = vec!["run".to_owned(), "--log-level=info,e6_operator=debug".to_owned()];
        for flag in ["--metrics-bind-address", "--health-probe-bind-address"] {
            if !flags.iter().any(|one| one.starts_with(flag)) {
                args.push(format!("{flag}=0"));
            }
        }
        args.extend(flags);
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let log = self.dir.join(format!("{label}.log"));
        let binary = self.binary.clone();
        let operator = spawn(&binary, &proxy, &args, &env, &log);
        Actor { proxy, operator, binary, args, env, log }
    }
}

/// The name of the resource in every namespace.
pub const NAME: &str = "mds";

/// An operator behind a proxy of its own.
pub struct Actor {
    /// Its way to the API server.
    pub proxy: Proxy,
    /// Its process.
    pub operator: Operator,
    binary: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
}

type Env = Vec<(String, String)>;

fn spawn(binary: &Path, proxy: &Proxy, args: &[String], env: &Env, log: &Path) -> Operator {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Operator::spawn_with(binary, proxy.kubeconfig(), &args, &env, log).unwrap()
}

impl Actor {
    /// Starts the process anew, as a kubelet would.
    pub fn start_again(&mut self) {
        self.operator.kill();
        self.operator = spawn(&self.binary, &self.proxy, &self.args, &self.env, &self.log);
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.operator.log_text()
    }

    /// Does something, and gives the `number`-th write from then on, held; `None` when it is over before.
    pub async fn held(
        &mut self,
        number: usize,
        fault: Fault,
        act: impl Future<Output = ()>,
        over: impl Future<Output = bool>,
    ) -> Option<Halt> {
        self.proxy.plan(Plan::on_write(self.proxy.writes().len() + number, fault));
        act.await;
        tokio::select! {
            held = self.proxy.halt() => Some(held),
            _ = over => None,
        }
    }

    /// That it panicked, if it did.
    pub fn panic(&self) -> Option<String> {
        self.log().contains("panicked").then(|| "the operator panicked".to_owned())
    }

    /// What is wrong with what it said and asked for, with one resource to work for.
    pub fn findings(&self) -> Vec<String> {
        self.proxy.findings(NAME).into_iter().chain(self.panic()).collect()
    }

    /// The same, and what is wrong with the process; `ended`: it had to end.
    pub fn trouble(&mut self, ended: bool) -> Vec<String> {
        let mut found = self.findings();
        if self.operator.is_running() == ended {
            found.push(
                if ended { "the operator did not end" } else { "the operator ended by itself" }.to_owned(),
            );
        }
        found
    }

    /// I39: writes that it began after the deadline of the lease that it held.
    pub fn late_writes(&self) -> Vec<String> {
        let renewals = self.proxy.renewals();
        let writes = self.proxy.writes().into_iter();
        let late = writes.filter_map(|write| {
            let renewed = renewals.iter().rev().find(|renewed| **renewed <= write.at);
            let since = renewed.map(|renewed| write.at - *renewed);
            let in_time = since.is_some_and(|since| since < RENEW_DEADLINE + ON_THE_WAY);
            (!in_time).then(|| format!("I39: {write} came {since:?} after the last renewal"))
        });
        late.collect()
    }

    /// Waits until the process has ended by itself; false when it has not in time.
    pub async fn ends_by_itself(&mut self, patience: Duration) -> bool {
        let start = Instant::now();
        while self.operator.is_running() {
            if start.elapsed() > patience {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }
}

/// A namespace with a resource in it, and an eye on both.
pub struct Stage {
    /// The namespace.
    pub namespace: String,
    /// The eye.
    pub timeline: Timeline,
    /// The resource.
    pub subject: Subject,
    /// How long after the resource's deletion writes may land that were held up on their way.
    pub late_writes: Duration,
}

impl Stage {
    /// Waits until something holds of the resource; false when it did not in time.
    pub async fn reaches(&self, patience: Duration, check: impl Fn(State<'_>) -> bool) -> bool {
        let found = |history: &History| self.subject.state(history).is_some_and(&check).then_some(());
        self.timeline.wait_until("", patience, found).await.is_ok()
    }

    /// Waits until something holds of the resource, or fails with its status.
    pub async fn until(&self, what: &str, check: impl Fn(State<'_>) -> bool) {
        let seen = self.reaches(PATIENCE, check).await;
        assert!(seen, "{}: {what} was not seen; {}", self.namespace, self.last());
    }

    /// Its last status, for messages.
    pub fn last(&self) -> String {
        let history = self.timeline.history();
        let state = self.subject.state(&history);
        state.map_or_else(|| "it is gone".into(), |state| format!("its status: {}", state.0.object["status"]))
    }

    /// Creates the resource and waits until it is Stable.
    pub async fn deploy(&self, spec: &serde_json::Value) {
        self.subject.create(spec).await.unwrap();
        self.until("Stable", |state| state.is_stable()).await;
    }

    /// Waits until something holds and then nothing happens any more; false when that was not in time.
    pub async fn rests(&self, patience: Duration, check: impl Fn(State<'_>) -> bool) -> bool {
        let start = Instant::now();
        let mut quiet: Option<(usize, Instant)> = None;
        while start.elapsed() < patience {
            let history = self.timeline.history();
            let holds = self.subject.state(&history).is_some_and(&check);
            let size = history.entries().len();
            match quiet.filter(|(seen, _)| holds && *seen == size) {
                Some((_, since)) if since.elapsed() > QUIET => return true,
                Some(_) => {}
                None => quiet = holds.then(|| (size, Instant::now())),
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// All that was seen, up to now.
    pub async fn history(&self) -> History {
        self.timeline.settle(PATIENCE).await.unwrap();
        self.timeline.history()
    }

    /// What is wrong with all that was seen of a resource that rests now.
    pub async fn violations(&self) -> Vec<String> {
        let mut found = judged(&self.history().await, self.late_writes);
        if self.timeline.gaps() > 0 {
            found.push("the timeline has gaps: what it did not see was not judged".to_owned());
        }
        found
    }

    /// Lets the eye go and takes another, which sees everything from now on.
    pub async fn look_anew(&mut self, client: &Client) {
        self.timeline = Timeline::start(client.clone(), Some(&self.namespace)).await.unwrap();
    }
}

/// What is wrong with a history at whose end all resources rest.
fn judged(history: &History, late_writes: Duration) -> Vec<String> {
    let waived = Waived { late_writes, ..Waived::default() };
    let found = watcher::check(history, &waived).into_iter().chain(watcher::at_rest(history, &waived));
    found.map(|finding| finding.to_string()).collect()
}
