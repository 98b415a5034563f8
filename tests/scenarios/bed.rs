//! The bed of a scenario: a namespace of its own in the one cluster, an operator of its own, and independent eyes.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::audit::AuditLog;
use testbed::watcher::{self, Call, Waived};
use testbed::{Cluster, Entry, History, Kind, Operator, Options, State, Subject, Timeline};
use tokio::sync::OnceCell;

use crate::rights;

/// How long anything may take: two cores run many operators at once.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The user agent of the operator.
pub const AGENT: &str = "e6-operator/";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The one cluster of this binary, with the CRD.
pub async fn cluster() -> &'static Cluster {
    let start = async || {
        let _ = std::fs::remove_dir_all(logs());
        let cluster = Cluster::start_or_use(Options::default()).await.unwrap();
        install_crd(&cluster.client().unwrap(), "crds/metadataservices.e6data.io.yaml").await;
        cluster
    };
    CLUSTER.get_or_init(start).await
}

/// A file of the repository as an object.
pub fn manifest<T: serde::de::DeserializeOwned>(path: &str) -> T {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Installs a CRD from a file of the repository.
pub async fn install_crd(client: &Client, path: &str) {
    let crd: serde_json::Value = manifest(path);
    testbed::resource::install_crd(client, &crd, PATIENCE).await.unwrap();
}

/// Creates a namespace of its own.
pub async fn namespace(client: &Client, label: &str) -> String {
    // The process id keeps runs against one existing cluster apart.
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{label}-{}-{number}", std::process::id());
    let object: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
    name
}

/// One case of a test that runs several at once.
pub type Case = (&'static str, Box<dyn FnOnce() + Send>);

/// Names a case. It runs in a thread and a runtime of its own.
pub fn case<F: Future<Output = ()>>(name: &'static str, run: impl FnOnce() -> F + Send + 'static) -> Case {
    let blocking = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run());
    };
    (name, Box::new(blocking))
}

/// Runs cases side by side, each to its end, and fails with the names of those that failed.
pub fn together(cases: Vec<Case>) {
    let running: Vec<_> = cases.into_iter().map(|(name, run)| (name, std::thread::spawn(run))).collect();
    let mut failed = vec![];
    for (name, handle) in running {
        if handle.join().is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// A namespace with an operator and a watch.
pub struct Bed {
    pub client: Client,
    pub namespace: String,
    pub timeline: Timeline,
    /// What the watcher of invariants is to overlook.
    pub waived: Waived,
    /// The CRD was changed, which breaks all watches of resources.
    pub gaps: bool,
    operator: Option<Operator>,
    kubeconfig: PathBuf,
    audit: Option<PathBuf>,
    args: Vec<String>,
    log: PathBuf,
}

impl Bed {
    /// A bed with a running operator.
    pub async fn new(label: &str) -> Self {
        Self::with(label, &[]).await
    }

    /// The same with further flags.
    pub async fn with(label: &str, args: &[&str]) -> Self {
        let mut bed = Self::idle(label, args).await;
        bed.start();
        bed
    }

    /// A bed whose operator does not run yet.
    pub async fn idle(label: &str, args: &[&str]) -> Self {
        let cluster = cluster().await;
        let mut bed = Self::on(cluster, label, args).await;
        if let Some(kubeconfig) = rights::kubeconfig(cluster).await {
            bed.act_as(kubeconfig);
        }
        bed
    }

    /// A bed in a given cluster, whose operator does not run yet.
    pub async fn on(cluster: &Cluster, label: &str, args: &[&str]) -> Self {
        let client = cluster.client().unwrap();
        let namespace = namespace(&client, label).await;
        let timeline = Timeline::start(client.clone(), Some(&namespace)).await.unwrap();
        let all = [
            ("--watch-namespace", namespace.as_str()),
            ("--leader-elect-namespace", &namespace),
            ("--metrics-bind-address", "0"),
            ("--health-probe-bind-address", "0"),
        ]
        .iter()
        .map(|(flag, value)| format!("{flag}={value}"))
        .collect::<Vec<_>>();
        let mut bed = Self {
            client,
            timeline,
            waived: Waived::default(),
            gaps: false,
            operator: None,
            kubeconfig: cluster.kubeconfig().to_owned(),
            audit: cluster.audit_log().map(Path::to_owned),
            args: all,
            log: logs().join(format!("{namespace}.log")),
            namespace,
        };
        for arg in args {
            bed.set_arg(arg);
        }
        bed
    }

    /// Sets a flag of the operator's next start, as `--flag=value`.
    pub fn set_arg(&mut self, arg: &str) {
        let flag = arg.split('=').next();
        self.args.retain(|known| known.split('=').next() != flag);
        self.args.push(arg.to_owned());
    }

    /// Lets the operator act as another user.
    pub fn act_as(&mut self, kubeconfig: &Path) {
        kubeconfig.clone_into(&mut self.kubeconfig);
    }

    /// Starts the operator.
    pub fn start(&mut self) {
        self.operator = Some(self.second());
    }

    /// One more operator with the same flags; it ends when dropped.
    pub fn second(&self) -> Operator {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let binary = Path::new(env!("CARGO_BIN_EXE_e6-operator"));
        Operator::spawn(binary, &self.kubeconfig, &args, &self.log).unwrap()
    }

    /// The operator's process.
    pub fn operator(&mut self) -> &mut Operator {
        self.operator.as_mut().unwrap()
    }

    /// What the operator has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills the operator (SIGKILL). Its lease is removed, so that the next one need not wait for its end.
    pub async fn kill(&mut self) {
        self.operator().kill();
        self.operator = None;
        let leases: Api<Lease> = self.api();
        leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    }

    /// Kills the operator and starts another.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.start();
    }

    /// The API of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The API of a watched kind, without types.
    pub fn objects(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// Creates an object from JSON.
    pub async fn create(&self, kind: Kind, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.objects(kind).create(&PostParams::default(), &object).await.unwrap();
    }

    /// Applies a merge patch to an object.
    pub async fn patch(&self, kind: Kind, name: &str, patch: &Value) {
        self.objects(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Deletes an object as `kubectl delete` does.
    pub async fn delete(&self, kind: Kind, name: &str) {
        self.objects(kind).delete(name, &DeleteParams::background()).await.unwrap();
    }

    /// A resource in this namespace.
    pub fn subject(&self, name: &str) -> Subject {
        Subject::new(&self.client, &self.namespace, name)
    }

    /// Creates a resource and waits until it is Stable; gives the version that serves.
    pub async fn deploy(&self, name: &str, spec: &Value) -> (Subject, String) {
        let subject = self.subject(name);
        subject.create(spec).await.unwrap();
        let entry = self.stable(&subject).await;
        let version = State(&entry).active().to_owned();
        (subject, version)
    }

    /// Waits until something holds of all that was seen.
    pub async fn wait<T>(&self, what: &str, check: impl FnMut(&History) -> Option<T>) -> T {
        self.timeline.wait_until(&format!("{}: {what}", self.namespace), PATIENCE, check).await.unwrap()
    }

    /// Waits until something holds of a resource.
    pub async fn until(
        &self,
        subject: &Subject,
        what: &str,
        check: impl Fn(State<'_>) -> bool,
    ) -> Arc<Entry> {
        let found = |history: &History| {
            let state = subject.state(history)?;
            check(state).then(|| history.latest(Kind::MetadataServices, &subject.name).cloned())?
        };
        let answer = self.timeline.wait_until(&format!("{}: {what}", self.namespace), PATIENCE, found).await;
        answer.unwrap_or_else(|error| {
            let history = self.timeline.history();
            let last = subject.state(&history).map(|state| state.0.object["status"].to_string());
            panic!("{error}\nits status: {}", last.unwrap_or_default())
        })
    }

    /// Waits until a resource is in a step.
    pub async fn step(&self, subject: &Subject, step: &str) -> Arc<Entry> {
        self.until(subject, &format!("step {step}"), |state| state.step() == step).await
    }

    /// Waits until nothing is under way or asked for.
    pub async fn settled(&self, subject: &Subject) -> Arc<Entry> {
        self.until(subject, "to be settled", |state| state.is_settled()).await
    }

    /// Waits until the release that the spec describes serves, and nothing is under way.
    pub async fn stable(&self, subject: &Subject) -> Arc<Entry> {
        self.until(subject, "to be Stable", |state| state.is_stable()).await
    }

    /// Waits until the release with this storage tag serves and the spec asks for nothing else.
    pub async fn serves(&self, subject: &Subject, tag: &str) -> Arc<Entry> {
        let check = |state: State<'_>| state.is_stable() && state.active() == state.version_of_tag(tag);
        self.until(subject, &format!("{tag} to serve"), check).await
    }

    /// Waits until an automatic rollback is over: settled, on the release with this tag, Degraded.
    pub async fn rolled_back(&self, subject: &Subject, to: &str) -> Arc<Entry> {
        let check = |state: State<'_>| {
            state.is_settled() && state.phase() == "Degraded" && state.active() == state.version_of_tag(to)
        };
        self.until(subject, &format!("a rollback to {to}"), check).await
    }

    /// Everything that was seen, up to now.
    pub async fn history(&self) -> History {
        self.timeline.settle(PATIENCE).await.unwrap();
        self.timeline.history()
    }

    /// Lets time pass in which nothing should happen.
    pub async fn linger(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// The Events about a resource: type, reason and message.
    pub async fn events(&self, name: &str) -> Vec<(String, String, String)> {
        let events: Api<Event> = self.api();
        let all = events.list(&ListParams::default()).await.unwrap();
        let about = all.items.into_iter().filter(|event| {
            event.involved_object.kind.as_deref() == Some("MetadataServices")
                && event.involved_object.name.as_deref() == Some(name)
        });
        let parts = |event: Event| [event.type_, event.reason, event.message].map(Option::unwrap_or_default);
        about.map(|event| parts(event).into()).collect()
    }

    /// Waits for an Event with this type and reason whose message holds a text.
    pub async fn event(&self, name: &str, kind: &str, reason: &str, text: &str) {
        let start = Instant::now();
        loop {
            let events = self.events(name).await;
            if events.iter().any(|event| event.0 == kind && event.1 == reason && event.2.contains(text)) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "no Event {kind} {reason} {text:?} in {events:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the operator asked of the API server about this namespace; `None` for a cluster without an audit log.
    pub async fn audit(&self) -> Option<AuditLog> {
        // A line may come a moment after its answer.
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.logged(&format!("\"namespace\":\"{}\"", self.namespace))
    }

    /// What operators asked of the API server, of the lines of the audit log that hold a text: the log is that of all
    /// scenarios, and only these are parsed.
    fn logged(&self, mark: &str) -> Option<AuditLog> {
        let text = std::fs::read_to_string(self.audit.as_ref()?).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let lines = whole.lines().filter(|line| line.contains(mark)).map(|line| format!("{line}\n"));
        Some(AuditLog::parse(&lines.collect::<String>()).unwrap().by_agent(AGENT))
    }

    /// Checks the invariants over all that was seen, and leaves the namespace.
    pub async fn finish(self) {
        // First what was asked, then what became of it: the operator may still be writing.
        let audit = self.audit().await;
        let history = self.history().await;
        assert!(self.timeline.gaps() == 0 || self.gaps, "the watch has gaps");
        let mut broken = watcher::check(&history, &self.waived);
        broken.extend(watcher::at_rest(&history, &self.waived));
        let mut refused = vec![];
        if let Some(audit) = audit {
            let of_the_crd = self.logged(rights::OF_THE_CRD);
            refused = rights::record(of_the_crd.iter().chain([&audit]), &self.namespace);
            broken.extend(watcher::writes_changed_something(&history, &audit));
            broken.extend(reads_before_writes(&history, &audit));
        }
        let mut broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
        broken.extend(refused);
        assert!(broken.is_empty(), "{}: broken invariants:\n{}", self.namespace, broken.join("\n"));
        self.leave().await;
    }

    /// Leaves the namespace unjudged.
    pub async fn leave(mut self) {
        drop(self.operator.take());
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let _ = namespaces.delete(&self.namespace, &DeleteParams::background()).await;
    }
}

/// I41, where one resource has the namespace for itself: requests of several are not told apart.
fn reads_before_writes(history: &History, audit: &AuditLog) -> Vec<watcher::Finding> {
    let names: BTreeSet<&str> =
        history.of_kind(Kind::MetadataServices).map(|one| one.name.as_str()).collect();
    match names.iter().collect::<Vec<_>>().as_slice() {
        [one] => watcher::live_reads(audit.requests().iter().filter_map(Call::of), one),
        _ => vec![],
    }
}

/// Where the logs of the operators go.
fn logs() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scenarios");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(25)..];
            eprintln!("--- the operator of {} wrote:\n{}", self.namespace, tail.join("\n"));
        }
    }
}
