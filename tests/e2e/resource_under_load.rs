//! A resource under load, whose rollouts must not cause a failed request.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{LogParams, PostParams};
use serde_json::{Value, json};
use testbed::node::static_programs;
use testbed::resource::{merge, quick};
use testbed::{Cluster, Operator, Subject};
use traffic::record::{FrontService, Record, now};
use traffic::report::Report;

use crate::SUITE;
use testbed::harness::TestEnv;

/// New connections per second from the node to each front Service.
pub const RATE: u32 = 500;

/// New connections per second from the client Pod to each front Service.
const POD_RATE: u32 = 50;

/// The name of the resource.
pub const NAME: &str = "a";

/// The name of the client Pod.
const CLIENT: &str = "client";

/// A resource, an operator and two clients.
pub struct ResourceUnderLoad {
    pub env: TestEnv,
    pub subject: Subject,
    load: Load,
    phases: Vec<Phase>,
    tag: u32,
}

/// The client on the node.
pub struct Load {
    process: Operator,
    records: PathBuf,
}

/// A part of a test, from its start to the next phase.
struct Phase {
    name: String,
    from: u64,
    /// The end of the time in which the workload itself causes failures, and their maximum number.
    own: Option<(u64, u64)>,
}

/// Returns a component whose answers name it, with probes every second.
pub fn component(tag: u32, more: &[(&str, &str)]) -> Value {
    let label = |name: &str| json!({"fieldRef": {"fieldPath": format!("metadata.labels['{name}']")}});
    let release = json!({"fieldRef": {"fieldPath": "metadata.annotations['e6data.io/release-version']"}});
    let mut env = vec![
        json!({"name": "COMPONENT", "valueFrom": label("component")}),
        json!({"name": "COLOR", "valueFrom": label("strategy")}),
        json!({"name": "RELEASE", "valueFrom": release}),
        json!({"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
    ];
    env.extend(more.iter().map(|(name, value)| json!({"name": name, "value": value})));
    let probe =
        |path: &str| json!({"httpGet": {"path": path, "port": 0}, "periodSeconds": 1, "failureThreshold": 2});
    json!({
        "imageTag": tag.to_string(), "replicas": 2, "env": env,
        "readinessProbe": probe("/readyz"), "livenessProbe": probe("/livez"),
    })
}

/// Returns a release of both components with one tag and further variables.
pub fn release(tag: u32, storage: &[(&str, &str)], schema: &[(&str, &str)]) -> Value {
    let mut both = json!({"storage": component(tag, storage), "schema": component(tag, schema)});
    for (component, port) in [("storage", 9005), ("schema", 9006)] {
        for probe in ["readinessProbe", "livenessProbe"] {
            both[component][probe]["httpGet"]["port"] = json!(port);
        }
    }
    both
}

/// Returns the spec of the first release: short timers, two Pods per component.
pub fn spec(rollout: &Value) -> Value {
    let mut spec = quick("1", "1");
    merge(&mut spec, &release(1, &[], &[]));
    merge(&mut spec, &json!({"imageRepository": "e2e", "rollout": rollout}));
    spec
}

impl ResourceUnderLoad {
    /// Starts an operator, a resource and two clients.
    pub async fn open(cluster: &Cluster, label: &str, rollout: &Value) -> Self {
        let mut env = SUITE.env_on(cluster, label, &[]).await;
        env.start();
        Self::with(env, rollout, NAME, RATE).await
    }

    /// Like [`Self::open`], in an existing environment, for a resource of any name and rate.
    pub async fn with(env: TestEnv, rollout: &Value, name: &str, rate: u32) -> Self {
        let (subject, _) = env.deploy(name, &spec(rollout)).await;
        Self::serving(env, subject, rate).await
    }

    /// Like [`Self::with`], for a resource whose front Services have ready Pods.
    pub async fn serving(env: TestEnv, subject: Subject, rate: u32) -> Self {
        let name = &subject.name.clone();
        // kube-proxy follows the first selection about a second late. From then on no request may fail.
        env.linger(2).await;
        let fronts = [front(&env, name, "storage").await, front(&env, name, "schema").await];
        let load = Load::start(&format!("{}-{name}", env.namespace), &fronts, rate);
        start_client_pod(&env, name, &fronts).await;
        let mut resource = Self { env, subject, load, phases: vec![], tag: 1 };
        resource.phase("opening");
        resource.env.linger(2).await;
        resource
    }

    /// Starts the next phase.
    pub fn phase(&mut self, name: &str) {
        eprintln!("  {}: {name}", self.env.namespace);
        self.phases.push(Phase { name: name.to_owned(), from: now(), own: None });
    }

    /// Allows at most `most` failures in the next seconds of this phase, which the workload itself causes.
    pub fn own_failures(&mut self, seconds: u64, most: u64) {
        self.phases.last_mut().unwrap().own = Some((now() + seconds * 1_000_000, most));
    }

    /// Returns the newest requested tag.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// Asks for a release with a new tag. Returns the tag.
    pub async fn upgrade(&mut self) -> u32 {
        self.upgrade_with(&[], &[]).await
    }

    /// The same, with more variables for storage and for schema.
    pub async fn upgrade_with(&mut self, storage: &[(&str, &str)], schema: &[(&str, &str)]) -> u32 {
        self.tag += 1;
        self.ask(self.tag, storage, schema).await;
        self.tag
    }

    /// Asks for an earlier release.
    pub async fn ask(&self, tag: u32, storage: &[(&str, &str)], schema: &[(&str, &str)]) {
        self.subject.edit(&release(tag, storage, schema)).await.unwrap();
    }

    /// Waits until the release with this tag is active and the resource is Stable.
    pub async fn serves(&self, tag: u32) {
        self.env.serves(&self.subject, &tag.to_string()).await;
    }

    /// Waits until the resource is in a step.
    pub async fn step(&self, step: &str) {
        self.env.step(&self.subject, step).await;
    }

    /// Asserts that the resource is in a step.
    pub fn step_is(&self, step: &str) {
        let history = self.env.timeline.history();
        assert_eq!(self.subject.state(&history).unwrap().step(), step);
    }

    /// Waits for a rollback, and shortens the time that its old Pods are kept.
    pub async fn rolling_back(&self) {
        self.step("RollingBack").await;
        self.keep_old_pods(2).await;
    }

    /// Sets the time for which the operator keeps the Pods of the previous color.
    pub async fn keep_old_pods(&self, seconds: u32) {
        self.subject.edit(&json!({"rollout": {"cleanupDelaySeconds": seconds}})).await.unwrap();
    }

    /// Waits until an automatic rollback to this tag is over.
    pub async fn rolled_back(&self, to: u32) {
        self.env.rolled_back(&self.subject, &to.to_string()).await;
    }

    /// Returns the version of the release with this tag.
    pub fn version(&self, tag: u32) -> String {
        let history = self.env.timeline.history();
        self.subject.state(&history).unwrap().version_of_tag(&tag.to_string())
    }

    /// Returns the number of switches of the storage Service.
    pub fn switches(&self) -> usize {
        let history = self.env.timeline.history();
        let name = format!("{}-storage", self.subject.name);
        let mut colors: Vec<String> = history
            .of(testbed::Kind::Service, &name)
            .map(|entry| entry.text("/spec/selector/strategy").to_owned())
            .collect();
        colors.dedup();
        colors.len() - 1
    }

    /// Stops the clients, and fails with every failed request outside the allowed ones. Returns the records of the
    /// client on the node.
    pub async fn close(self) -> Vec<Record> {
        let (env, records) = self.part().await;
        env.finish().await;
        records
    }

    /// Like [`Self::close`], without a check of the invariants.
    pub async fn leave(self) -> Vec<Record> {
        self.part().await.1
    }

    /// Like [`Self::leave`], but keeps the environment.
    async fn part(self) -> (TestEnv, Vec<Record>) {
        self.env.linger(1).await;
        let logs =
            self.env.api::<Pod>().logs(&client(&self.subject.name), &LogParams::default()).await.unwrap();
        let outside = self.load.stop();
        // The last line of the log may be incomplete, and the log ends with a summary.
        let inside: Vec<Record> = logs.lines().filter_map(|line| line.parse().ok()).collect();
        eprintln!("from the node: {}", Report::of(&outside));
        eprintln!("from a pod: {}", Report::of(&inside));
        assert!(outside.len() > 1000, "{} answers", outside.len());
        assert!(inside.len() > 100, "{} answers", inside.len());
        let mut wrong = wrong_doors(&outside);
        wrong.extend(self.phases.iter().enumerate().flat_map(|(number, phase)| {
            let until = self.phases.get(number + 1).map_or(u64::MAX, |next| next.from);
            phase.judge(outside.iter().chain(&inside), until)
        }));
        assert!(wrong.is_empty(), "{}:\n{}", self.env.namespace, wrong.join("\n"));
        (self.env, outside)
    }
}

impl Load {
    /// Sends requests to both front Services, by address and port, until it is stopped.
    pub fn start(label: &str, fronts: &[String; 2], rate: u32) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("e2e");
        std::fs::create_dir_all(&dir).unwrap();
        let records = dir.join(format!("{label}.records"));
        let out = records.display().to_string();
        let rate = rate.to_string();
        let args = ["--storage", &fronts[0], "--schema", &fronts[1], "--rate", &rate, "--records", &out];
        let log = records.with_extension("log");
        let process =
            Operator::spawn(&static_programs::load().unwrap(), &PathBuf::new(), &args, &log).unwrap();
        Self { process, records }
    }

    /// Stops the client and returns its records.
    pub fn stop(mut self) -> Vec<Record> {
        // It exits with 1 if a request failed, which the records show.
        let _ = self.process.terminate(Duration::from_secs(15));
        let text = std::fs::read_to_string(&self.records).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Phase {
    /// Returns the failures outside the allowed ones among the requests until the next phase.
    fn judge<'a>(&self, records: impl Iterator<Item = &'a Record>, until: u64) -> Vec<String> {
        let within = records.filter(|record| (self.from..until).contains(&record.asked()));
        let failed: Vec<&Record> = within.filter(|record| record.outcome.is_err()).collect();
        let (own, most) = self.own.unwrap_or_default();
        let (own, operator): (Vec<&Record>, Vec<&Record>) =
            failed.into_iter().partition(|record| record.asked() < own);
        if !own.is_empty() {
            eprintln!("  {}: {} requests failed by the workload's own doing", self.name, own.len());
        }
        let mut wrong = vec![];
        if own.len() as u64 > most {
            wrong.push(format!(
                "{}: {} failures of the workload's own, {most} are its share",
                self.name,
                own.len()
            ));
        }
        if !operator.is_empty() {
            wrong.push(format!("{}: {} failed requests, the first:", self.name, operator.len()));
            wrong.extend(operator.iter().take(10).map(|record| format!("  {record}")));
        }
        wrong
    }
}

/// Returns the answers of one component at the front Service of the other.
fn wrong_doors(records: &[Record]) -> Vec<String> {
    let wrong = records.iter().filter(|record| {
        let front = if record.front == FrontService::Storage { "storage" } else { "schema" };
        record.outcome.as_ref().is_ok_and(|origin| origin.component != front)
    });
    wrong.take(5).map(|record| format!("at the wrong front: {record}")).collect()
}

/// Returns address and port of a front Service.
pub async fn front(env: &TestEnv, name: &str, component: &str) -> String {
    let service = env.api::<Service>().get(&format!("{name}-{component}")).await.unwrap();
    let spec = service.spec.unwrap();
    format!("{}:{}", spec.cluster_ip.unwrap(), spec.ports.unwrap()[0].port)
}

fn client(name: &str) -> String {
    format!("{CLIENT}-{name}")
}

/// Starts the client Pod.
async fn start_client_pod(env: &TestEnv, name: &str, fronts: &[String; 2]) {
    let rate = POD_RATE.to_string();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": client(name)},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": CLIENT, "image": "e2e/load:1", "command": ["/load"],
            "args": [
                "--storage", fronts[0], "--schema", fronts[1], "--rate", rate, "--kept", "2", "--slow", "1",
                "--records", "-",
            ],
        }]},
    }))
    .unwrap();
    env.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
}
