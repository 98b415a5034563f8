//! Runs a scenario behind a proxy, undisturbed or under one fault, and judges what an outside eye saw.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use testbed::proxy::{Plan, Proxy, Upstream, Write};
use testbed::{Cluster, History, Kind, Operator, Options, Timeline, oracle};

use crate::case::Case;
use crate::end::{Counts, End, counts, differences, end};
use crate::scenario::{NAME, Scenario, act, at_rest, resources};

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

/// How long a run may take, on two busy cores. Its timers make 5 s, a lost write up to 10 more.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long nothing may happen before a run counts as ended.
const QUIET: Duration = Duration::from_millis(600);

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(100);

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
    upstream: Upstream,
    _cluster: Cluster,
}

/// How an undisturbed run went.
pub struct Reference {
    /// Its writes.
    pub writes: Vec<Write>,
    /// How long it took.
    pub seconds: f64,
    end: End,
    counts: Counts,
}

/// How a run under a fault went.
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// What is wrong.
    pub violations: Vec<String>,
    /// Whether the fault struck.
    pub struck: bool,
    /// How long it took.
    pub seconds: f64,
    writes: Vec<Write>,
    log: PathBuf,
}

/// A scenario that is being played.
struct Play<'a> {
    bench: &'a Bench,
    namespace: String,
    scenario: Scenario,
    timeline: Timeline,
    proxy: Proxy,
    operator: Operator,
    log: PathBuf,
    start: Instant,
    victim: Option<String>,
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
            tokio::time::sleep(LOOK).await;
        }
        let dir = logs();
        // A copy: a build meanwhile would change it under the test.
        let binary = dir.join("e6-operator");
        let built =
            std::env::var("E6_OPERATOR").unwrap_or_else(|_| env!("CARGO_BIN_EXE_e6-operator").to_owned());
        std::fs::copy(built, &binary).unwrap();
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

    /// Plays a scenario without faults.
    pub async fn undisturbed(&self, scenario: Scenario) -> Reference {
        let mut play = self.set_up(format!("reference-{scenario}"), scenario, Plan::default()).await;
        let ended = play.go(|_| true).await;
        let history = play.history().await;
        assert!(ended, "{scenario} did not end by itself; see {}", play.log.display());
        let violations = invariants(&history);
        assert!(violations.is_empty(), "{scenario} undisturbed: {violations:#?}");
        Reference {
            writes: play.proxy.writes(),
            seconds: play.start.elapsed().as_secs_f64(),
            end: end(&history, &play.namespace),
            counts: counts(&history, &play.namespace),
        }
    }

    /// Plays a case and compares it with the undisturbed run.
    pub async fn run(&self, case: &Case, reference: &Reference) -> Outcome {
        let fault = Plan::on_write(case.number, case.fault);
        let mut play = self.set_up(case.namespace(), case.scenario, fault).await;
        let namespace = play.namespace.clone();
        let ended = play.go(|history| end(history, &namespace) == reference.end).await;
        let seconds = play.start.elapsed().as_secs_f64();
        let history = play.history().await;
        let mut violations = invariants(&history);
        if !ended {
            violations.push(format!("I36: not at the end of the undisturbed run within {PATIENCE:?}"));
        }
        violations.extend(unlike("I36", &reference.end, &end(&history, &namespace)));
        let (should, is) = (json!(reference.counts), json!(counts(&history, &namespace)));
        violations.extend(
            differences(&should, &is).into_iter().map(|text| format!("I36: created, deleted {text}")),
        );
        if !play.operator.is_running() {
            violations.push("the operator ended by itself".to_owned());
        }
        if play.operator.log_text().contains("panicked") {
            violations.push("the operator panicked".to_owned());
        }
        let writes = play.proxy.writes();
        let struck = writes.iter().any(|write| write.fault.is_some());
        Outcome { case: *case, violations, struck, seconds, writes, log: play.log.clone() }
    }

    async fn set_up(&self, namespace: String, scenario: Scenario, plan: Plan) -> Play<'_> {
        let timeline = Timeline::start(self.client.clone(), Some(&namespace)).await.unwrap();
        let kubeconfig = self.dir.join(format!("{namespace}.kubeconfig"));
        let proxy = Proxy::start(&self.upstream, &kubeconfig, plan).await.unwrap();
        let log = self.dir.join(format!("{namespace}.log"));
        act(&self.client, &namespace, scenario, scenario.deed()).await;
        let start = Instant::now();
        let operator = self.operator(&namespace, &proxy, &log);
        Play { bench: self, namespace, scenario, timeline, proxy, operator, log, start, victim: None }
    }

    fn operator(&self, namespace: &str, proxy: &Proxy, log: &std::path::Path) -> Operator {
        let mut args = ARGS.to_vec();
        args.extend(["--watch-namespace", namespace]);
        Operator::spawn(&self.binary, proxy.kubeconfig(), &args, log).unwrap()
    }
}

/// A directory of this run's own: it stays when a case fails.
fn logs() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

impl Play<'_> {
    /// Plays until the resource rests, `right` says that it rests where it should, and nothing happens any more.
    async fn go(&mut self, right: impl Fn(&History) -> bool) -> bool {
        let mut quiet: Option<(usize, Instant)> = None;
        while self.start.elapsed() < PATIENCE {
            let kill = tokio::time::timeout(LOOK, self.proxy.kill()).await;
            if let Ok(kill) = kill {
                self.operator.kill();
                kill.done();
                self.operator = self.bench.operator(&self.namespace, &self.proxy, &self.log);
            }
            let history = self.timeline.history();
            self.strike(&history).await;
            let owner = history.live(Kind::MetadataServices, NAME);
            let rests = owner.is_some_and(|owner| at_rest(&owner.object))
                && self.story_told()
                && self.proxy.is_idle()
                && right(&history);
            let size = history.entries().len();
            match quiet.filter(|(seen, _)| rests && *seen == size) {
                Some((_, since)) if since.elapsed() > QUIET => return true,
                Some(_) => {}
                None => quiet = rests.then(|| (size, Instant::now())),
            }
        }
        false
    }

    /// Whether all that the scenario has in store has happened.
    fn story_told(&self) -> bool {
        self.scenario != Scenario::LateRollback || self.victim.is_some()
    }

    /// What happens to the pods on the way.
    async fn strike(&mut self, history: &History) {
        if self.victim.is_some() {
            return;
        }
        let Some(pod) = self.scenario.victim(history) else { return };
        let api: Api<Pod> = Api::namespaced(self.bench.client.clone(), &self.namespace);
        let unready = json!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
            {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady"},
        ]}});
        api.patch_status(&pod, &PatchParams::default(), &Patch::Strategic(&unready)).await.unwrap();
        self.victim = Some(pod);
    }

    /// All that was seen, up to now.
    async fn history(&self) -> History {
        self.timeline.settle(Duration::from_secs(30)).await.unwrap();
        assert_eq!(self.timeline.gaps(), 0, "the timeline has gaps: the API server forgot too early");
        self.timeline.history()
    }
}

fn invariants(history: &History) -> Vec<String> {
    let mut violations = oracle::check(history, NAME);
    violations.extend(oracle::colours_settled(history, NAME));
    violations
}

fn unlike(what: &str, should: &End, is: &End) -> Vec<String> {
    let found = differences(&json!(should), &json!(is));
    found.into_iter().map(|text| format!("{what}: {text}")).collect()
}

impl Outcome {
    /// Prints a case that failed, so that it can be repeated.
    pub fn report(&self) {
        if self.violations.is_empty() {
            return;
        }
        println!("FAILED {} after {:.1} s; log {}", self.case, self.seconds, self.log.display());
        for violation in self.violations.iter().take(30) {
            println!("  {violation}");
        }
        for write in &self.writes {
            println!("    {write}");
        }
        println!("  to repeat: E6_CASE={} cargo test --test crash -- --nocapture", self.case);
    }
}
