//! A leader is paused at a write, another operator takes over, and the first one resumes.
//!
//! *lease*: both operators use leader election. The first is paused (SIGSTOP) for longer than its lease, before its
//! write reaches the API server or after the API server has carried it out. The second finishes the rollout. Then the
//! write is delivered late and the first resumes: it must start no write, and end (I38, I39).
//!
//! *twins*: neither uses leader election, so both act as leader. The write of the first is held until the second has
//! finished, then delivered late, and both continue (I38).

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use futures::StreamExt;
use testbed::harness::{POLL_INTERVAL, ProxiedOperator, TIME_LIMIT, TestCluster, WatchedResource, variables};
use testbed::pace;
use testbed::proxy::{Fault, Halt, Write};

use crate::SUITE;
use crate::rollout_scenario::Scenario;

/// Maximum time of a request from an operator to the API server.
const ON_THE_WAY: Duration = Duration::from_millis(200);

/// The relation of the two operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Lease,
    Twins,
}

/// Lateness of the cluster by which an operator may lose its lease although it is not paused.
const STARVED: Duration = Duration::from_secs(2);

/// Maximum number of times a case runs.
const ATTEMPTS: usize = 4;

/// One write at which the first operator is paused.
#[derive(Debug, Clone, Copy)]
struct Case {
    scenario: Scenario,
    mode: Mode,
    number: usize,
    fault: Fault,
}

/// The result of a case.
struct Outcome {
    case: Case,
    violations: Vec<String>,
    injected: bool,
    /// Number of writes of the second operator. Without a write it took nothing over.
    taken_over: usize,
    /// The writes at the proxies, for messages.
    writes: Vec<String>,
    seconds: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_pauses_at_any_write_and_resumes_when_another_leads() {
    let start = Instant::now();
    let cluster = SUITE.shared("takeover").await;
    let counts =
        futures::future::join_all(Scenario::ALL.map(|scenario| undisturbed(&cluster, scenario))).await;
    let cases = cases(&counts);
    println!(
        "takeover: {counts:?} writes; {} cases, up to {} at a time",
        cases.len(),
        variables::parallel(8)
    );
    let outcomes: Vec<Outcome> = futures::stream::iter(cases)
        .map(async |case| {
            let _place = SUITE.places().place().await;
            play(&cluster, case).await
        })
        .buffer_unordered(variables::parallel(8))
        .inspect(Outcome::report)
        .collect()
        .await;
    let bad: Vec<String> =
        outcomes.iter().filter(|one| !one.violations.is_empty()).map(|one| one.case.to_string()).collect();
    let missed = outcomes.iter().filter(|one| !one.injected).count();
    let idle = outcomes.iter().filter(|one| one.injected && one.taken_over == 0).count();
    println!(
        "takeover: {} cases, {} violations; {missed} without a fault, {idle} with nothing left to take over; slowest {:.1} s; {}",
        outcomes.len(),
        outcomes.iter().map(|one| one.violations.len()).sum::<usize>(),
        outcomes.iter().map(|one| one.seconds).fold(0.0, f64::max),
        pace::report(start),
    );
    assert!(missed * 10 <= outcomes.len(), "{missed} of {} faults did not strike", outcomes.len());
    assert!(idle * 10 <= outcomes.len(), "in {idle} of {} cases nothing was taken over", outcomes.len());
    assert!(
        bad.is_empty(),
        "failed; to repeat: E6_TEST_CASE={} cargo test --test multi_operator takeover -- --nocapture",
        bad.join(",")
    );
    cluster.remove_logs();
}

/// Returns the selected cases. The default is a paused leader at every write of the upgrade, alternately before and
/// after it, and a selection of the others.
fn cases(counts: &[usize]) -> Vec<Case> {
    if let Some(text) = variables::get(variables::CASE) {
        return text.split(',').map(|case| case.parse().unwrap()).collect();
    }
    let all = variables::is_all(variables::MULTI_OPERATOR);
    let mut cases = vec![];
    // Cases with a lease start first, since they take longest.
    for mode in [Mode::Lease, Mode::Twins] {
        for (scenario, count) in Scenario::ALL.into_iter().zip(counts) {
            for number in 1..=*count {
                for (turn, fault) in [Fault::HoldBefore, Fault::HoldAfter].into_iter().enumerate() {
                    let usual = match mode {
                        Mode::Lease if scenario == Scenario::Upgrade => (number + turn) % 2 == 0,
                        Mode::Lease => (number + turn) % 6 == 0,
                        Mode::Twins => (number + turn) % 3 == 0,
                    };
                    if all || usual {
                        cases.push(Case { scenario, mode, number, fault });
                    }
                }
            }
        }
    }
    cases
}

/// Returns the number of writes of a scenario without a fault.
async fn undisturbed(cluster: &TestCluster, scenario: Scenario) -> usize {
    let resource = cluster.resource(&format!("reference-{scenario}")).await;
    let operator = cluster.operator(&resource.namespace, "a", &["--leader-elect=false"]).await;
    scenario.begin(&resource).await;
    let before = operator.proxy.writes().len();
    scenario.act(&resource).await;
    assert!(
        resource.rests(TIME_LIMIT, |state| scenario.is_over(state)).await,
        "{scenario} does not end: {}",
        resource.last()
    );
    let violations = resource.violations().await;
    assert!(violations.is_empty(), "{scenario} undisturbed: {violations:#?}");
    let writes = operator.proxy.writes().split_off(before);
    println!("{scenario}:");
    for write in &writes {
        println!("  {write}");
    }
    writes.len()
}

/// Runs a case, and repeats it if the machine was so late that an operator lost its lease.
async fn play(cluster: &TestCluster, case: Case) -> Outcome {
    for attempt in 1..=ATTEMPTS {
        if let Some(outcome) = run(cluster, case, attempt).await {
            return outcome;
        }
        println!("takeover: {case} is repeated, the machine was too late for a lease");
    }
    panic!("{case}: an operator lost its lease in {ATTEMPTS} attempts, on a machine that is too late");
}

/// Returns whether an operator ended because the machine gave it no time to renew its lease.
fn is_starved(operator: &mut ProxiedOperator, since: Instant) -> bool {
    !operator.process.is_running()
        && operator.log().contains("could not be renewed")
        && pace::lateness(since) > STARVED
}

/// Completes when an operator is starved.
async fn starves(operator: &mut ProxiedOperator, since: Instant) {
    while !is_starved(operator, since) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Runs a case in a new namespace. None if an operator was starved, so that the case proves nothing.
async fn run(cluster: &TestCluster, case: Case, attempt: usize) -> Option<Outcome> {
    let start = Instant::now();
    let resource = cluster.resource(&format!("{}-{attempt}", case.namespace())).await;
    let election = format!("--leader-elect={}", case.mode == Mode::Lease);
    let mut first = cluster.operator(&resource.namespace, "a", &[&election]).await;
    tokio::select! {
        () = case.scenario.begin(&resource) => {}
        () = starves(&mut first, start) => return None,
    }
    // The second operator is on standby, and observes the lease while it is held.
    let mut second = match case.mode {
        Mode::Lease => Some(cluster.operator(&resource.namespace, "b", &[&election]).await),
        Mode::Twins => None,
    };
    let over = |state: testbed::State<'_>| case.scenario.is_over(state);
    let held = first
        .held(case.number, case.fault, case.scenario.act(&resource), resource.rests(TIME_LIMIT, over))
        .await;
    let mut violations = vec![];
    let injected = held.is_some();
    if is_starved(&mut first, start) {
        return None;
    }
    if let Some(held) = held {
        if case.mode == Mode::Lease {
            // The operator may have permitted other writes together with the held one. They are sent before the
            // pause, since it resumes after the permission check.
            tokio::time::sleep(ON_THE_WAY + pace::late_now()).await;
            let paused = first.process.pause();
            if is_starved(&mut first, start) {
                return None;
            }
            assert!(paused, "{case}: the first operator has ended");
        }
        let second = match &mut second {
            Some(second) => second,
            none => none.insert(cluster.operator(&resource.namespace, "b", &[&election]).await),
        };
        violations.extend(take_over(&resource, case, &mut first, second, held).await);
    }
    if !resource.rests(TIME_LIMIT, over).await {
        violations.push(format!("I36: not at rest where it should: {}", resource.last()));
    }
    if second.as_mut().is_some_and(|second| is_starved(second, start)) {
        return None;
    }
    violations.extend(judge(&resource, case).await);
    violations.extend(second.as_mut().map(|second| fit(second, case.mode)).unwrap_or_default());
    if case.mode == Mode::Twins {
        violations.extend(fit(&mut first, case.mode));
    }
    let mut writes = lines(&first, "a", start);
    writes.extend(second.iter().flat_map(|second| lines(second, "b", start)));
    let taken_over = second.map_or(0, |second| second.proxy.writes().len());
    Some(Outcome { case, violations, injected, taken_over, writes, seconds: start.elapsed().as_secs_f64() })
}

/// The second operator finishes the rollout. Then the held write of the first one arrives, and that one resumes.
async fn take_over(
    resource: &WatchedResource,
    case: Case,
    first: &mut ProxiedOperator,
    second: &ProxiedOperator,
    held: Halt,
) -> Vec<String> {
    let mut violations = vec![];
    if !resource.reaches(TIME_LIMIT, |state| case.scenario.is_over(state)).await {
        violations.push(format!("I37: the second operator did not finish: {}", resource.last()));
    }
    if case.mode == Mode::Lease {
        leads(second).await;
    }
    held.done();
    // The write arrives while its sender is paused.
    tokio::time::sleep(ON_THE_WAY + pace::late_now()).await;
    if case.mode == Mode::Lease {
        first.process.resume();
        violations.extend(wakes_to_end(first).await);
    }
    violations
}

fn lines(operator: &ProxiedOperator, name: &str, start: Instant) -> Vec<String> {
    operator.proxy.writes().iter().map(|write| line(name, write, start)).collect()
}

fn line(name: &str, write: &Write, start: Instant) -> String {
    format!("{:>7.3} {name} {write}", (write.at - start).as_secs_f64())
}

/// Waits until an operator holds its lease, which is visible even without a pending write.
async fn leads(operator: &ProxiedOperator) {
    let start = Instant::now();
    while operator.proxy.renewals().is_empty() {
        assert!(pace::elapsed(start) < TIME_LIMIT, "no takeover: {}", operator.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// I39: an operator that resumes while another one leads starts no write, and ends.
async fn wakes_to_end(first: &mut ProxiedOperator) -> Vec<String> {
    if !first.ends_by_itself(Duration::from_secs(10)).await {
        return vec!["I39: the first operator did not end when it woke up without its lease".to_owned()];
    }
    let late = first.late_writes();
    late.into_iter().chain(first.trouble(true)).collect()
}

/// Returns the violations of an operator that must still run.
fn fit(operator: &mut ProxiedOperator, mode: Mode) -> Vec<String> {
    let late = if mode == Mode::Lease { operator.late_writes() } else { vec![] };
    late.into_iter().chain(operator.trouble(false)).collect()
}

/// Returns the violated invariants, and a difference in the release history.
async fn judge(resource: &WatchedResource, case: Case) -> Vec<String> {
    let mut found = resource.violations().await;
    let history = resource.timeline.history();
    let summary = resource.subject.state(&history).map(|state| state.summary()).unwrap_or_default();
    if summary != case.scenario.summary() {
        found.push(format!("I36: the history is {summary:?}"));
    }
    found
}

impl Case {
    fn namespace(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.mode == Mode::Lease { "lease" } else { "twins" };
        write!(f, "{}:{mode}:{}:{}", self.scenario, self.number, self.fault)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        let [scenario, mode, number, fault] = parts.as_slice() else {
            return Err(format!("{text} is not scenario:mode:n:fault"));
        };
        let mode = match *mode {
            "lease" => Mode::Lease,
            "twins" => Mode::Twins,
            other => return Err(format!("no mode {other}")),
        };
        let number = number.parse().map_err(|_| format!("{number} is not the number of a write"))?;
        Ok(Self { scenario: scenario.parse()?, mode, number, fault: fault.parse()? })
    }
}

impl Outcome {
    fn report(&self) {
        if self.violations.is_empty() {
            return;
        }
        println!("FAILED {} after {:.1} s", self.case, self.seconds);
        for violation in self.violations.iter().take(20) {
            println!("  {violation}");
        }
        for write in &self.writes {
            println!("    {write}");
        }
    }
}
