//! A resource under load: what is played on it must not cost a request.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{LogParams, PostParams};
use serde_json::{Value, json};
use testbed::node::programs;
use testbed::resource::{merge, quick};
use testbed::{Cluster, Operator, Subject};
use traffic::record::{Door, Record, now};
use traffic::report::Report;

use crate::bed::Bed;

/// New connections per second to each door, from the node.
pub const RATE: u32 = 500;

/// New connections per second to each door, from a pod.
const POD_RATE: u32 = 50;

/// The name of the resource.
pub const NAME: &str = "a";

/// The pod with a client.
const CLIENT: &str = "client";

/// A resource, an operator and two clients.
pub struct Stage {
    pub bed: Bed,
    pub subject: Subject,
    load: Load,
    scenes: Vec<Scene>,
    tag: u32,
}

/// The client on the node.
pub struct Load {
    process: Operator,
    records: PathBuf,
}

/// A part of the play, from its beginning until the next one's.
struct Scene {
    name: String,
    from: u64,
    /// Failures that are the workload's own: until when, and how many at most.
    own: Option<(u64, u64)>,
}

/// A component that says who it is and is probed every second.
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

/// A release of both components under one tag; the first with more variables.
pub fn release(tag: u32, storage: &[(&str, &str)], schema: &[(&str, &str)]) -> Value {
    let mut both = json!({"storage": component(tag, storage), "schema": component(tag, schema)});
    for (component, port) in [("storage", 9005), ("schema", 9006)] {
        for probe in ["readinessProbe", "livenessProbe"] {
            both[component][probe]["httpGet"]["port"] = json!(port);
        }
    }
    both
}

/// What a resource looks like at first: fast timers, two pods a component.
pub fn spec(rollout: &Value) -> Value {
    let mut spec = quick("1", "1");
    merge(&mut spec, &release(1, &[], &[]));
    merge(&mut spec, &json!({"imageRepository": "e2e", "rollout": rollout}));
    spec
}

impl Stage {
    /// An operator, a resource that serves, and clients that ask.
    pub async fn open(cluster: &Cluster, label: &str, rollout: &Value) -> Self {
        let mut bed = Bed::on(cluster, label, &[]).await;
        bed.start();
        Self::with(bed, rollout, NAME, RATE).await
    }

    /// The same in a bed that is there, for a resource of any name and any rate.
    pub async fn with(bed: Bed, rollout: &Value, name: &str, rate: u32) -> Self {
        let (subject, _) = bed.deploy(name, &spec(rollout)).await;
        // kube-proxy follows the first selection about a second late; from then on no request may fail.
        bed.linger(2).await;
        let doors = [door(&bed, name, "storage").await, door(&bed, name, "schema").await];
        let load = Load::start(&format!("{}-{name}", bed.namespace), &doors, rate);
        inside(&bed, name, &doors).await;
        let mut stage = Self { bed, subject, load, scenes: vec![], tag: 1 };
        stage.scene("opening");
        stage.bed.linger(2).await;
        stage
    }

    /// Begins the next part.
    pub fn scene(&mut self, name: &str) {
        eprintln!("  {}: {name}", self.bed.namespace);
        self.scenes.push(Scene { name: name.to_owned(), from: now(), own: None });
    }

    /// In the present scene, at most so many requests may fail from now on for so long, since the workload itself
    /// breaks connections.
    pub fn own_failures(&mut self, seconds: u64, most: u64) {
        self.scenes.last_mut().unwrap().own = Some((now() + seconds * 1_000_000, most));
    }

    /// The newest tag that was asked for.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// Asks for a release under a new tag; gives the tag.
    pub async fn upgrade(&mut self) -> u32 {
        self.upgrade_with(&[], &[]).await
    }

    /// The same, with more variables for storage and for schema.
    pub async fn upgrade_with(&mut self, storage: &[(&str, &str)], schema: &[(&str, &str)]) -> u32 {
        self.tag += 1;
        self.ask(self.tag, storage, schema).await;
        self.tag
    }

    /// Asks for a release that was there before.
    pub async fn ask(&self, tag: u32, storage: &[(&str, &str)], schema: &[(&str, &str)]) {
        self.subject.edit(&release(tag, storage, schema)).await.unwrap();
    }

    /// Waits until the release with this tag serves and nothing is under way.
    pub async fn serves(&self, tag: u32) {
        self.bed.serves(&self.subject, &tag.to_string()).await;
    }

    /// Waits until the resource is in a step.
    pub async fn step(&self, step: &str) {
        self.bed.step(&self.subject, step).await;
    }

    /// The resource must be in a step now.
    pub fn step_is(&self, step: &str) {
        let history = self.bed.timeline.history();
        assert_eq!(self.subject.state(&history).unwrap().step(), step);
    }

    /// Waits for the way back, whose old color then need not stay for a minute.
    pub async fn returns(&self) {
        self.step("RollingBack").await;
        self.warm(2).await;
    }

    /// Keeps the color that lost for so many seconds.
    pub async fn warm(&self, seconds: u32) {
        self.subject.edit(&json!({"rollout": {"cleanupDelaySeconds": seconds}})).await.unwrap();
    }

    /// Waits until an automatic rollback to this tag is over.
    pub async fn rolled_back(&self, to: u32) {
        self.bed.rolled_back(&self.subject, &to.to_string()).await;
    }

    /// The version of the release with this tag.
    pub fn version(&self, tag: u32) -> String {
        let history = self.bed.timeline.history();
        self.subject.state(&history).unwrap().version_of_tag(&tag.to_string())
    }

    /// How often the storage Service has been led elsewhere.
    pub fn switches(&self) -> usize {
        let history = self.bed.timeline.history();
        let name = format!("{}-storage", self.subject.name);
        let mut colors: Vec<String> = history
            .of(testbed::Kind::Service, &name)
            .map(|entry| entry.text("/spec/selector/strategy").to_owned())
            .collect();
        colors.dedup();
        colors.len() - 1
    }

    /// Ends the clients; fails with every request that failed though it should not have. Gives the records made on
    /// the node.
    pub async fn close(self) -> Vec<Record> {
        let (bed, records) = self.part().await;
        bed.finish().await;
        records
    }

    /// The same without a look at the invariants, in the midst of things.
    pub async fn leave(self) -> Vec<Record> {
        self.part().await.1
    }

    /// The same, leaving the bed.
    async fn part(self) -> (Bed, Vec<Record>) {
        self.bed.linger(1).await;
        let logs =
            self.bed.api::<Pod>().logs(&client(&self.subject.name), &LogParams::default()).await.unwrap();
        let outside = self.load.stop();
        // The log's last line may be cut, and it ends with a summary.
        let inside: Vec<Record> = logs.lines().filter_map(|line| line.parse().ok()).collect();
        eprintln!("from the node: {}", Report::of(&outside));
        eprintln!("from a pod: {}", Report::of(&inside));
        assert!(outside.len() > 1000, "{} answers", outside.len());
        assert!(inside.len() > 100, "{} answers", inside.len());
        let mut wrong = wrong_doors(&outside);
        wrong.extend(self.scenes.iter().enumerate().flat_map(|(number, scene)| {
            let until = self.scenes.get(number + 1).map_or(u64::MAX, |next| next.from);
            scene.judge(outside.iter().chain(&inside), until)
        }));
        assert!(wrong.is_empty(), "{}:\n{}", self.bed.namespace, wrong.join("\n"));
        (self.bed, outside)
    }
}

impl Load {
    /// Asks both doors, given as address and port, until it is stopped.
    pub fn start(label: &str, doors: &[String; 2], rate: u32) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("e2e");
        std::fs::create_dir_all(&dir).unwrap();
        let records = dir.join(format!("{label}.records"));
        let out = records.display().to_string();
        let rate = rate.to_string();
        let args = ["--storage", &doors[0], "--schema", &doors[1], "--rate", &rate, "--records", &out];
        let log = records.with_extension("log");
        let process = Operator::spawn(&programs::load().unwrap(), &PathBuf::new(), &args, &log).unwrap();
        Self { process, records }
    }

    /// Ends it; gives what it wrote down.
    pub fn stop(mut self) -> Vec<Record> {
        // It ends with 1 if a request failed, which others judge.
        let _ = self.process.terminate(Duration::from_secs(15));
        let text = std::fs::read_to_string(&self.records).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Scene {
    /// The failures that should not have been among requests asked until the next scene.
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

/// Answers of one component at the other's door.
fn wrong_doors(records: &[Record]) -> Vec<String> {
    let wrong = records.iter().filter(|record| {
        let door = if record.door == Door::Storage { "storage" } else { "schema" };
        record.outcome.as_ref().is_ok_and(|origin| origin.component != door)
    });
    wrong.take(5).map(|record| format!("at the wrong door: {record}")).collect()
}

/// Address and port of a front Service.
pub async fn door(bed: &Bed, name: &str, component: &str) -> String {
    let service = bed.api::<Service>().get(&format!("{name}-{component}")).await.unwrap();
    let spec = service.spec.unwrap();
    format!("{}:{}", spec.cluster_ip.unwrap(), spec.ports.unwrap()[0].port)
}

fn client(name: &str) -> String {
    format!("{CLIENT}-{name}")
}

/// Starts the client in a pod.
async fn inside(bed: &Bed, name: &str, doors: &[String; 2]) {
    let rate = POD_RATE.to_string();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": client(name)},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": CLIENT, "image": "e2e/load:1", "command": ["/load"],
            "args": [
                "--storage", doors[0], "--schema", doors[1], "--rate", rate, "--kept", "2", "--slow", "1",
                "--records", "-",
            ],
        }]},
    }))
    .unwrap();
    bed.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
}
