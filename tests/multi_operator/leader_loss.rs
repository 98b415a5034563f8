//! Leaders that receive SIGTERM, lose the API server, or have wrong clocks.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use testbed::State;
use testbed::pace;
use testbed::proxy::Outage;
use testbed::resource::{merge, quick};

use crate::SUITE;
use crate::rollout_scenario::serves;
use testbed::harness::{ProxiedOperator, TIME_LIMIT, TestCluster, WatchedResource, variables};

/// Returns the spec of a resource with long steps, so that the test can act in each.
fn slow() -> serde_json::Value {
    let mut spec = quick("1", "1");
    let waits = json!({"gracePeriodSeconds": 3, "switchDwellSeconds": 3, "cleanupDelaySeconds": 4});
    merge(&mut spec, &json!({"rollout": waits}));
    spec
}

/// A leader and a standby operator.
struct Pair {
    resource: WatchedResource,
    first: ProxiedOperator,
    second: ProxiedOperator,
}

impl Pair {
    /// Starts both operators. The first is the leader.
    async fn new(cluster: &TestCluster, namespace: &str) -> Self {
        let resource = cluster.resource(namespace).await;
        let first = cluster.operator(namespace, "a", &[]).await;
        leads(&first).await;
        let second = cluster.operator(namespace, "b", &[]).await;
        stands_by(&second).await;
        Self { resource, first, second }
    }

    /// Returns the violations at the end, whether or not the first operator still runs.
    async fn violations(&self) -> Vec<String> {
        let mut found = self.resource.violations().await;
        found.extend(self.first.late_writes());
        found.extend(self.second.late_writes());
        found.extend(self.first.violations());
        found.extend(self.second.violations());
        found
    }

    async fn assert_sound(&self, tag: &str) {
        let rests = self.resource.rests(TIME_LIMIT, |state| serves(state, tag)).await;
        assert!(rests, "{}: {tag} does not serve; {}", self.resource.namespace, self.resource.last());
        let found = self.violations().await;
        assert!(found.is_empty(), "{}: {found:#?}", self.resource.namespace);
    }
}

async fn leads(operator: &ProxiedOperator) {
    let start = Instant::now();
    while operator.proxy.renewals().is_empty() {
        assert!(pace::elapsed(start) < TIME_LIMIT, "it does not lead: {}", operator.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn stands_by(operator: &ProxiedOperator) {
    let start = Instant::now();
    while !operator.log().contains("standing by") {
        assert!(pace::elapsed(start) < TIME_LIMIT, "it does not stand by: {}", operator.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// SIGTERM in each step of an upgrade: the lease is given back, and the next operator acts within about a second, on a
/// cluster that is not late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_leader_hands_over_within_a_second() {
    let cluster = SUITE.shared("sigterm").await;
    let steps = ["Stable", "Deploying", "Switching", "Watching"];
    let waits = join_all(steps.map(|step| hand_over(&cluster, step))).await;
    println!(
        "hand-over by SIGTERM: {}",
        waits.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("; ")
    );
    for (text, wait) in waits {
        assert!(wait < Duration::from_millis(1_500), "{text}");
    }
    cluster.remove_logs();
}

async fn hand_over(cluster: &TestCluster, step: &str) -> (String, Duration) {
    let mut pair = Pair::new(cluster, &format!("sigterm-{}", step.to_lowercase())).await;
    pair.resource.deploy(&slow()).await;
    if step != "Stable" {
        pair.resource.subject.upgrade("2", "2").await.unwrap();
        pair.resource.until(step, |state| state.step() == step).await;
    }
    let start = Instant::now();
    pair.first.process.terminate(Duration::from_secs(5)).unwrap();
    let ended = start.elapsed();
    leads(&pair.second).await;
    let led = pair.second.proxy.renewals()[0].saturating_duration_since(start);
    let slower = pace::slower(pace::lateness(start));
    if step == "Stable" {
        pair.resource.subject.upgrade("2", "2").await.unwrap();
    }
    pair.assert_sound("2").await;
    (
        format!("{step}: ended after {ended:.2?}, led after {led:.2?}"),
        led.saturating_sub(ended).div_f64(slower),
    )
}

/// Each kind of outage of one operator, while many resources are upgraded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_stops_writing_in_time_and_another_takes_over() {
    let cluster = SUITE.shared("outage").await;
    futures::join!(cut_off(&cluster, Outage::Leases), cut_off(&cluster, Outage::All), short_outage(&cluster));
    cluster.remove_logs();
}

/// Number of resources that keep the operators busy.
const MANY: usize = 8;

/// The leader loses the lease requests, or all requests, during a rollout.
async fn cut_off(cluster: &TestCluster, outage: Outage) {
    let label = format!("outage-{outage:?}").to_lowercase();
    let resource = async |number: usize| cluster.resource(&format!("{label}-{number}")).await;
    let resources: Vec<WatchedResource> = join_all((0..MANY).map(resource)).await;
    let names: Vec<&str> = resources.iter().map(|resource| resource.namespace.as_str()).collect();
    let flags =
        [format!("--watch-namespace={}", names.join(",")), format!("--leader-elect-namespace={}", names[0])];
    let mut first = cluster.operator_with(&format!("{label}-a"), flags.to_vec(), &[]).await;
    leads(&first).await;
    let second = cluster.operator_with(&format!("{label}-b"), flags.to_vec(), &[]).await;
    stands_by(&second).await;
    join_all(resources.iter().map(async |resource| resource.deploy(&slow()).await)).await;
    first.proxy.outage(outage);
    let cut = Instant::now();
    // The upgrades start one after another, so that there is always a pending write.
    for resource in &resources {
        resource.subject.upgrade("2", "2").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_300)).await;
    }
    assert!(first.ends_by_itself(Duration::from_secs(10)).await, "{label}: it goes on without its lease");
    let lost = cut.elapsed();
    assert!(first.log().contains("another replica takes over"), "{}", first.log());
    let written = first.proxy.writes().iter().filter(|write| write.at > cut).count();
    let slower = pace::slower(pace::lateness(cut));
    if outage == Outage::Leases {
        let most = f64::from(u32::try_from(written).unwrap()) * slower;
        assert!(most > 10.0, "{label}: only {written} writes after the lease could not be renewed");
    }
    leads(&second).await;
    let taken = second.proxy.renewals()[0] - cut;
    println!("{label}: {written} writes after the cut, ended after {lost:.1?}, taken over after {taken:.1?}");
    // After the outage it becomes the standby operator.
    first.proxy.outage(Outage::None);
    first.restart();
    let mut found = vec![];
    for resource in &resources {
        let rests = resource.rests(TIME_LIMIT, |state| serves(state, "2")).await;
        assert!(rests, "{}: 2 does not serve; {}", resource.namespace, resource.last());
        found.extend(resource.violations().await);
    }
    found.extend(first.late_writes());
    found.extend(second.late_writes());
    found.extend(first.panic());
    found.extend(second.panic());
    assert!(!second.proxy.writes().is_empty(), "{label}: nothing was taken over");
    assert!(found.is_empty(), "{label}: {found:#?}");
}

/// An outage shorter than the renew deadline only delays the rollout.
async fn short_outage(cluster: &TestCluster) {
    let pair = Pair::new(cluster, "outage-short").await;
    let start = Instant::now();
    pair.resource.deploy(&slow()).await;
    for step in ["Deploying", "Watching"] {
        let tag = if step == "Watching" { "3" } else { "2" };
        pair.resource.subject.upgrade(tag, tag).await.unwrap();
        pair.resource.until(step, |state| state.step() == step).await;
        pair.first.proxy.outage(Outage::All);
        tokio::time::sleep(Duration::from_secs(4)).await;
        pair.first.proxy.outage(Outage::None);
        pair.assert_sound(tag).await;
    }
    // On a late cluster the outage lasts longer than the lease.
    let late = pace::lateness(start);
    let kept = pair.second.proxy.renewals().is_empty();
    assert!(
        kept || late > Duration::from_secs(2),
        "the lease was lost in an outage of 4 s, late by {late:?}"
    );
}

/// Clocks that are wrong by minutes: of the nodes, and of the API servers of two operators.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_clocks_end_no_wait_early_and_delay_nothing() {
    let cluster = SUITE.shared("clocks").await;
    let library = wrong_clock(&cluster);
    futures::join!(
        wrong_nodes(&cluster, &library, 420),
        wrong_nodes(&cluster, &library, -420),
        wrong_candidates(&cluster, &library, 420),
        wrong_candidates(&cluster, &library, -420),
        wrong_servers(&cluster, 300),
        wrong_servers(&cluster, -300),
    );
    cluster.remove_logs();
}

/// Compiles the wrong clock (`hack/testbed/native/skew.c`) and returns the path of the library.
fn wrong_clock(cluster: &TestCluster) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/testbed/native/skew.c");
    let library = cluster.dir.join("libskew.so").display().to_string();
    let done = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o", &library]).arg(source).status();
    assert!(done.is_ok_and(|status| status.success()), "the C compiler `cc` is needed");
    library
}

/// Starts an operator on a node with a wrong clock.
async fn skewed(
    cluster: &TestCluster,
    library: &str,
    seconds: i64,
    label: &str,
    flags: Vec<String>,
) -> ProxiedOperator {
    let skew = seconds.to_string();
    cluster.operator_with(label, flags, &[("LD_PRELOAD", library), (variables::SKEW, &skew)]).await
}

/// The clocks of both nodes are wrong in opposite directions. The first operator is killed in each wait, and the
/// second continues the wait with another time.
async fn wrong_nodes(cluster: &TestCluster, library: &str, seconds: i64) {
    let label = format!("clocks-nodes{seconds}").replace('-', "m");
    let resource = cluster.resource(&label).await;
    let flags = vec![format!("--watch-namespace={label}"), "--leader-elect=false".to_owned()];
    let start = async |name: &str, seconds| {
        skewed(cluster, library, seconds, &format!("{label}-{name}"), flags.clone()).await
    };
    let mut first = start("a", seconds).await;
    resource.deploy(&slow()).await;
    assert_clock_is_wrong(&first, seconds);
    let mut found = vec![];
    resource.subject.upgrade("2", "2").await.unwrap();
    for (step, seconds) in [("Deploying", -seconds), ("Switching", seconds), ("Watching", -seconds)] {
        resource.until(step, |state| state.step() == step).await;
        first.process.kill();
        found.extend(first.violations());
        first = start(step, seconds).await;
    }
    assert!(resource.rests(TIME_LIMIT, |state| serves(state, "2")).await, "{label}: {}", resource.last());
    found.extend(resource.violations().await);
    found.extend(first.violations());
    assert!(found.is_empty(), "{label}: {found:#?}");
    waits_are_whole_and_no_longer(&resource).await;
}

/// Two operators with leader election, on nodes with clocks that are wrong in opposite directions. The leader is
/// paused in the last wait for longer than its lease, and resumes when the other operator leads.
async fn wrong_candidates(cluster: &TestCluster, library: &str, seconds: i64) {
    let label = format!("clocks-candidates{seconds}").replace('-', "m");
    let resource = cluster.resource(&label).await;
    let flags = vec![format!("--watch-namespace={label}"), format!("--leader-elect-namespace={label}")];
    let mut first = skewed(cluster, library, seconds, &format!("{label}-a"), flags.clone()).await;
    leads(&first).await;
    let mut second = skewed(cluster, library, -seconds, &format!("{label}-b"), flags).await;
    stands_by(&second).await;
    assert_clock_is_wrong(&first, seconds);
    assert_clock_is_wrong(&second, -seconds);
    resource.deploy(&slow()).await;
    resource.subject.upgrade("2", "2").await.unwrap();
    resource.until("Watching", |state| state.step() == "Watching").await;
    assert!(first.process.pause(), "{label}: the first operator has ended");
    let paused = Instant::now();
    leads(&second).await;
    let taken = pace::between(paused, second.proxy.renewals()[0]);
    println!("{label}: taken over {taken:.1?} after the stop");
    assert!(taken < Duration::from_secs(30), "{label}: the lease was held up by a clock: {taken:.1?}");
    first.process.resume();
    assert!(first.ends_by_itself(Duration::from_secs(10)).await, "{label}: it goes on without its lease");
    assert!(resource.rests(TIME_LIMIT, |state| serves(state, "2")).await, "{label}: {}", resource.last());
    let mut found = resource.violations().await;
    found.extend(first.late_writes().into_iter().chain(second.late_writes()));
    found.extend(first.trouble(true).into_iter().chain(second.trouble(false)));
    assert!(found.is_empty(), "{label}: {found:#?}");
}

/// The node's clock writes the times in the log.
#[allow(clippy::disallowed_methods, reason = "the clock of the node is what is looked at")]
fn assert_clock_is_wrong(operator: &ProxiedOperator, seconds: i64) {
    let log = operator.log();
    let said = log.split_whitespace().find_map(|word| word.parse::<Timestamp>().ok());
    let said = said.unwrap_or_else(|| panic!("no time in the log: {log}"));
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let off = i64::try_from(since.as_secs()).unwrap() - said.as_second() + seconds;
    assert!(
        (0..60).contains(&off),
        "the clock of the process is not {seconds} s off; is it linked statically?"
    );
}

/// I42: each wait of [`slow`] lasts as long as the spec says, and at most the start time of an operator longer.
async fn waits_are_whole_and_no_longer(resource: &WatchedResource) {
    let history = resource.history().await;
    for (step, seconds) in [("Switching", 3.0), ("Watching", 4.0)] {
        let states: Vec<State<'_>> = resource.subject.states(&history).collect();
        // The last time in the step counts, since a first release passes Switching at once.
        let last = states.iter().rposition(|state| state.step() == step).unwrap();
        let first = states[..last].iter().rposition(|state| state.step() != step).unwrap() + 1;
        let (entered, left) = (states[first].0, states[last + 1].0);
        let took = left.at.saturating_sub(entered.at).as_secs_f64();
        let late = entered.late.as_secs_f64();
        let most = seconds + 8.0 * pace::slower(entered.late.max(left.late));
        assert!(
            (seconds - 0.3 - late..most).contains(&took),
            "{}: {step} took {took:.1} s",
            resource.namespace
        );
    }
}

/// The API servers of the two operators have clocks that differ by minutes. Waits may end early, so the deploy
/// timeout is longer than the difference. No other invariant may break, and no rollout may stop for minutes.
async fn wrong_servers(cluster: &TestCluster, seconds: i64) {
    let label = format!("clocks-servers{seconds}").replace('-', "m");
    let mut pair = Pair::new(cluster, &label).await;
    pair.second.proxy.skew(seconds);
    pair.second.restart();
    stands_by(&pair.second).await;
    let mut spec = slow();
    merge(&mut spec, &json!({"rollout": {"deployTimeoutSeconds": 600}}));
    pair.resource.deploy(&spec).await;
    for (step, tag) in [("Deploying", "2"), ("Switching", "3"), ("Watching", "4")] {
        pair.resource.subject.upgrade(tag, tag).await.unwrap();
        pair.resource.until(step, |state| state.step() == step).await;
        pair.first.process.terminate(Duration::from_secs(5)).unwrap();
        let start = Instant::now();
        let rests = pair.resource.rests(TIME_LIMIT, |state| serves(state, tag)).await;
        assert!(rests, "{label}: {tag} does not serve after {step}: {}", pair.resource.last());
        assert!(
            pace::elapsed(start) < Duration::from_secs(40),
            "{label}: {step} was held up for {:?}",
            start.elapsed()
        );
        // The other way round next: the second operator's times are met by the first.
        pair.first.restart();
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::mem::swap(&mut pair.first, &mut pair.second);
    }
    let mut found = pair.violations().await;
    // How long something waited is only as true as the servers' clocks.
    found.retain(|text| !text.contains("s after the switch, not"));
    assert!(found.is_empty(), "{label}: {found:#?}");
}
