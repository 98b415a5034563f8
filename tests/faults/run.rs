//! Runs a scenario behind a proxy, without faults or with the faults of a case.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use testbed::harness::{NAME, POLL_INTERVAL, ProxiedOperator, TestCluster, WatchedResource, variables};
use testbed::proxy::{Fault, Plan, Write};
use testbed::{History, Kind, UserAction, invariants, pace};

use crate::case::Case;
use crate::final_state::{Counts, End, counts, end, is_ours, unnumbered};
use crate::fixtures;
use crate::scenario::{Cue, Scenario, at_rest};
use crate::violations::{self, Seen};

/// Time that a fault may add to a run (I37).
const PER_FAULT: Duration = Duration::from_secs(30);

/// Factor by which the API server's own delay may extend a run: the operator cancels a late request and repeats it later.
const DELAY_FACTOR: u32 = 4;

/// Time limit of a run without faults.
const REFERENCE_LIMIT: Duration = Duration::from_secs(120);

/// A run has ended after so long without an event.
const QUIET: Duration = Duration::from_millis(600);

/// Time limit for the timeline to record the last events.
const SETTLE: Duration = Duration::from_secs(30);

/// The run of a scenario without faults.
pub struct Reference {
    /// The writes of the operator.
    pub writes: Vec<Write>,
    /// The duration in seconds.
    pub seconds: f64,
    /// The objects at the end.
    pub end: End,
    /// The created and deleted objects.
    pub counts: Counts,
}

impl Reference {
    /// Returns the kinds of its writes, such as `PATCH services`.
    pub fn kinds(&self) -> Vec<String> {
        self.writes.iter().map(|write| format!("{} {}", write.target.verb, write.target.resource)).collect()
    }
}

/// The run of a case.
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// The violations. Empty if the run passed.
    pub violations: Vec<String>,
    /// Each of its faults had an effect.
    pub injected: bool,
    /// The duration in seconds.
    pub seconds: f64,
    /// The sum of the API server's own delays.
    pub late: Duration,
    writes: Vec<Write>,
    log: PathBuf,
}

/// A scenario that runs.
struct Run<'a> {
    cluster: &'a TestCluster,
    scenario: Scenario,
    /// The actions of the scenario.
    actions: Vec<(Cue, UserAction)>,
    /// Number of performed actions.
    done: usize,
    resource: WatchedResource,
    operator: ProxiedOperator,
    start: Instant,
    /// The resource was deleted.
    deleted: bool,
}

/// Runs a scenario without faults.
pub async fn reference(cluster: &TestCluster, scenario: Scenario) -> Reference {
    let namespace = format!("reference-{scenario}");
    let mut run = Run::start(cluster, &namespace, scenario, Plan::default()).await;
    let ended = run.finish(REFERENCE_LIMIT, |_| true).await;
    let seconds = run.start.elapsed().as_secs_f64();
    let history = run.history().await;
    let events = run.events().await;
    assert!(ended, "{scenario} did not end; see {}", run.operator.process.log().display());
    let seen = run.seen(&history, events, &[]);
    let violations = violations::invariants(&seen);
    assert!(violations.is_empty(), "{scenario} without faults: {violations:#?}");
    assert!(!seen.events.is_empty(), "{scenario} has no Event");
    Reference {
        writes: run.operator.proxy.writes(),
        seconds,
        end: end(&history, &namespace),
        counts: counts(&history, &namespace),
    }
}

/// Runs a case and compares it with the run without faults.
pub async fn run(cluster: &TestCluster, case: &Case, reference: &Reference) -> Outcome {
    let namespace = case.namespace();
    let mut run = Run::start(cluster, &namespace, case.scenario, case.plan()).await;
    let faults = case.faults();
    let allowed = PER_FAULT * u32::try_from(faults.len()).unwrap();
    let limit = Duration::from_secs_f64(reference.seconds) + allowed;
    let any_end = case.fault == Fault::Delete;
    // A delayed write may use one epoch more; `violations::judge` decides whether it did.
    let delayed = faults.iter().any(|fault| matches!(fault, Fault::Delay(_)));
    let right = |is: End| is == reference.end || (delayed && unnumbered(&is) == unnumbered(&reference.end));
    let ended = run.finish(limit, |history| any_end || right(end(history, &namespace))).await;
    let seconds = run.start.elapsed().as_secs_f64();
    let history = run.history().await;
    let events = run.events().await;
    let mut violations = violations::judge(&run.seen(&history, events, &faults), reference);
    let late = run.operator.proxy.lateness();
    if !ended {
        violations.push(format!(
            "I37: not at the end of the run without faults within {limit:.1?}; the API server was late by {late:.1?}"
        ));
    }
    if !run.operator.process.is_running() {
        violations.push("the operator ended by itself".to_owned());
    }
    let observed = run.operator.proxy.observed();
    Outcome {
        case: *case,
        violations,
        injected: faults.iter().all(|fault| observed.contains(fault)),
        seconds,
        late,
        writes: run.operator.proxy.writes(),
        log: run.operator.process.log().to_path_buf(),
    }
}

impl<'a> Run<'a> {
    /// Performs the first actions in a prepared namespace, then starts the operator.
    async fn start(cluster: &'a TestCluster, namespace: &str, scenario: Scenario, plan: Plan) -> Self {
        let resource = WatchedResource::watch(&cluster.client, namespace).await;
        let actions = scenario.actions();
        let mut done = 0;
        for (_, action) in actions.iter().take_while(|(cue, _)| *cue == Cue::Start) {
            action.perform(&resource.subject).await.unwrap();
            done += 1;
        }
        let start = Instant::now();
        let operator = fixtures::operator(cluster, namespace, plan).await;
        Self { cluster, scenario, actions, done, resource, operator, start, deleted: false }
    }

    /// Continues until all actions are performed, the resource is at rest, `right` holds and the namespace is quiet.
    /// Returns false at the end of the time limit.
    async fn finish(&mut self, limit: Duration, right: impl Fn(&History) -> bool) -> bool {
        let mut quiet: Option<(usize, Instant)> = None;
        while pace::elapsed(self.start) < limit + DELAY_FACTOR * self.operator.proxy.lateness() {
            self.serve_proxy().await;
            let history = self.resource.timeline.history();
            self.perform_next(&history).await;
            let size = history.entries().len();
            if !(self.is_performed() && self.operator.proxy.is_idle()) {
                quiet = None;
                continue;
            }
            match quiet {
                Some((seen, since)) if seen == size => {
                    if since.elapsed() > QUIET + pace::late_now() {
                        return true;
                    }
                }
                _ => quiet = (self.rests(&history) && right(&history)).then(|| (size, Instant::now())),
            }
        }
        false
    }

    /// Performs the action that a fault of the proxy requires, if there is one now.
    async fn serve_proxy(&mut self) {
        let Ok(halt) = tokio::time::timeout(POLL_INTERVAL, self.operator.proxy.halt()).await else { return };
        if halt.fault == Fault::Delete {
            self.perform(&UserAction::Delete).await;
            return halt.done();
        }
        self.operator.process.kill();
        halt.done();
        self.operator.restart();
    }

    /// Performs the next action if its time has come.
    async fn perform_next(&mut self, history: &History) {
        let next = self.actions.get(self.done).filter(|(cue, _)| cue.is_given(history));
        if let Some((_, action)) = next.cloned() {
            self.done += 1;
            self.perform(&action).await;
        }
    }

    async fn perform(&mut self, action: &UserAction) {
        action.perform(&self.resource.subject).await.unwrap();
        self.deleted |= matches!(action, UserAction::Delete | UserAction::DeleteInForeground);
    }

    fn is_performed(&self) -> bool {
        self.deleted || self.done == self.actions.len()
    }

    fn rests(&self, history: &History) -> bool {
        let owner = history.live(Kind::MetadataServices, NAME);
        if !self.deleted {
            return owner.is_some_and(|owner| at_rest(&owner.object));
        }
        let left = Kind::MADE.into_iter().flat_map(|kind| history.all_live(kind)).any(|entry| is_ours(entry));
        let pods = history.all_live(Kind::Pod).into_iter().any(|pod| !invariants::is_terminating(pod));
        owner.is_none() && !left && !pods
    }

    /// Returns everything that happened until now.
    async fn history(&self) -> History {
        let timeline = &self.resource.timeline;
        timeline.settle(SETTLE).await.unwrap();
        assert_eq!(timeline.gaps(), 0, "{}: the timeline has gaps", self.scenario);
        timeline.history()
    }

    /// Returns the Events of the resource, as JSON.
    async fn events(&self) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.cluster.client.clone(), &self.resource.namespace);
        let events = api.list(&ListParams::default()).await.unwrap();
        let ours = events.items.iter().filter(|event| event.involved_object.name.as_deref() == Some(NAME));
        ours.map(|event| serde_json::to_string(event).unwrap()).collect()
    }

    fn seen<'b>(&'b self, history: &'b History, events: Vec<String>, faults: &'b [Fault]) -> Seen<'b> {
        let proxy = &self.operator.proxy;
        Seen {
            scenario: self.scenario,
            history,
            namespace: &self.resource.namespace,
            faults,
            requests: proxy.violations(NAME),
            writes: proxy.writes(),
            late: proxy.lateness(),
            calls: proxy.calls(),
            log: self.operator.log(),
            events,
            deleted: self.deleted,
        }
    }
}

impl Outcome {
    /// Prints a failed case, and how to repeat it.
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
        println!("  to repeat: {}={} cargo test --test faults -- --nocapture", variables::CASE, self.case);
    }
}
