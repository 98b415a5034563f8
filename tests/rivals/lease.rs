//! Leaders that are told to stop, are cut off from the API server, or have wrong clocks.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use testbed::State;
use testbed::proxy::Outage;
use testbed::resource::{merge, quick};

use crate::bench::{Actor, Bench, PATIENCE, Stage};
use crate::story::serves;

/// A resource whose steps last long enough to be met in them.
fn slow() -> serde_json::Value {
    let mut spec = quick("1", "1");
    let waits = json!({"gracePeriodSeconds": 3, "switchDwellSeconds": 3, "cleanupDelaySeconds": 4});
    merge(&mut spec, &json!({"rollout": waits}));
    spec
}

/// A leader and one that stands by.
struct Pair {
    stage: Stage,
    first: Actor,
    second: Actor,
}

impl Pair {
    /// Both run, the first leads.
    async fn new(bench: &Bench, namespace: &str) -> Self {
        let stage = bench.stage(namespace).await;
        let first = bench.actor(namespace, "a", &[]).await;
        leads(&first).await;
        let second = bench.actor(namespace, "b", &[]).await;
        stands_by(&second).await;
        Self { stage, first, second }
    }

    /// What is wrong in the end, with the first operator gone or not.
    async fn violations(&self) -> Vec<String> {
        let mut found = self.stage.violations().await;
        found.extend(self.first.late_writes());
        found.extend(self.second.late_writes());
        found.extend(self.first.findings());
        found.extend(self.second.findings());
        found
    }

    async fn assert_sound(&self, tag: &str) {
        let rests = self.stage.rests(PATIENCE, |state| serves(state, tag)).await;
        assert!(rests, "{}: {tag} does not serve; {}", self.stage.namespace, self.stage.last());
        let found = self.violations().await;
        assert!(found.is_empty(), "{}: {found:#?}", self.stage.namespace);
    }
}

async fn leads(actor: &Actor) {
    let start = Instant::now();
    while actor.proxy.renewals().is_empty() {
        assert!(start.elapsed() < PATIENCE, "it does not lead: {}", actor.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn stands_by(actor: &Actor) {
    let start = Instant::now();
    while !actor.log().contains("standing by") {
        assert!(start.elapsed() < PATIENCE, "it does not stand by: {}", actor.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// SIGTERM in each step of an upgrade: the lease is given back, and the next operator acts within about a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_told_to_stop_hands_over_within_a_second() {
    let bench = Bench::shared("sigterm").await;
    let steps = ["Stable", "Deploying", "Switching", "Watching"];
    let waits = join_all(steps.map(|step| hand_over(&bench, step))).await;
    println!(
        "hand-over by SIGTERM: {}",
        waits.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("; ")
    );
    for (text, wait) in waits {
        assert!(wait < Duration::from_millis(1_500), "{text}");
    }
    bench.tidy();
}

async fn hand_over(bench: &Bench, step: &str) -> (String, Duration) {
    let mut pair = Pair::new(bench, &format!("sigterm-{}", step.to_lowercase())).await;
    pair.stage.deploy(&slow()).await;
    if step != "Stable" {
        pair.stage.subject.upgrade("2", "2").await.unwrap();
        pair.stage.until(step, |state| state.step() == step).await;
    }
    let start = Instant::now();
    pair.first.operator.terminate(Duration::from_secs(5)).unwrap();
    let ended = start.elapsed();
    leads(&pair.second).await;
    let led = pair.second.proxy.renewals()[0].saturating_duration_since(start);
    if step == "Stable" {
        pair.stage.subject.upgrade("2", "2").await.unwrap();
    }
    pair.assert_sound("2").await;
    (format!("{step}: ended after {ended:.2?}, led after {led:.2?}"), led.saturating_sub(ended))
}

/// Every kind of outage of one operator while many resources are rolled out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_stops_writing_in_time_and_another_takes_over() {
    let bench = Bench::shared("outage").await;
    futures::join!(cut_off(&bench, Outage::Leases), cut_off(&bench, Outage::All), short_outage(&bench));
    bench.tidy();
}

/// How many resources keep the operators busy.
const MANY: usize = 8;

/// The lease cannot be renewed, by itself or with everything else, from the middle of a rollout on.
async fn cut_off(bench: &Bench, outage: Outage) {
    let label = format!("outage-{outage:?}").to_lowercase();
    let stage = async |number: usize| bench.stage(&format!("{label}-{number}")).await;
    let stages: Vec<Stage> = join_all((0..MANY).map(stage)).await;
    let names: Vec<&str> = stages.iter().map(|stage| stage.namespace.as_str()).collect();
    let flags =
        [format!("--watch-namespace={}", names.join(",")), format!("--leader-elect-namespace={}", names[0])];
    let mut first = bench.actor_with(&format!("{label}-a"), flags.to_vec(), &[]).await;
    leads(&first).await;
    let second = bench.actor_with(&format!("{label}-b"), flags.to_vec(), &[]).await;
    stands_by(&second).await;
    join_all(stages.iter().map(async |stage| stage.deploy(&slow()).await)).await;
    first.proxy.outage(outage);
    let cut = Instant::now();
    // One after the other, so that there is always something to write.
    for stage in &stages {
        stage.subject.upgrade("2", "2").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_300)).await;
    }
    assert!(first.ends_by_itself(Duration::from_secs(10)).await, "{label}: it goes on without its lease");
    let lost = cut.elapsed();
    assert!(first.log().contains("another replica takes over"), "{}", first.log());
    let written = first.proxy.writes().iter().filter(|write| write.at > cut).count();
    if outage == Outage::Leases {
        assert!(written > 10, "{label}: only {written} writes after the lease could not be renewed");
    }
    leads(&second).await;
    let taken = second.proxy.renewals()[0] - cut;
    println!("{label}: {written} writes after the cut, ended after {lost:.1?}, taken over after {taken:.1?}");
    // Healed, it comes back as one that stands by.
    first.proxy.outage(Outage::None);
    first.start_again();
    let mut found = vec![];
    for stage in &stages {
        let rests = stage.rests(PATIENCE, |state| serves(state, "2")).await;
        assert!(rests, "{}: 2 does not serve; {}", stage.namespace, stage.last());
        found.extend(stage.violations().await);
    }
    found.extend(first.late_writes());
    found.extend(second.late_writes());
    found.extend(first.panic());
    found.extend(second.panic());
    assert!(!second.proxy.writes().is_empty(), "{label}: nothing was taken over");
    assert!(found.is_empty(), "{label}: {found:#?}");
}

/// An outage shorter than the renew deadline changes nothing but the time.
async fn short_outage(bench: &Bench) {
    let pair = Pair::new(bench, "outage-short").await;
    pair.stage.deploy(&slow()).await;
    for step in ["Deploying", "Watching"] {
        let tag = if step == "Watching" { "3" } else { "2" };
        pair.stage.subject.upgrade(tag, tag).await.unwrap();
        pair.stage.until(step, |state| state.step() == step).await;
        pair.first.proxy.outage(Outage::All);
        tokio::time::sleep(Duration::from_secs(4)).await;
        pair.first.proxy.outage(Outage::None);
        pair.assert_sound(tag).await;
    }
    assert!(pair.second.proxy.renewals().is_empty(), "the lease was lost in an outage of 4 s");
}

/// Clocks that are wrong by minutes: of the nodes, and of the API servers that two operators talk to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_clocks_end_no_wait_early_and_hold_nothing_up() {
    let bench = Bench::shared("clocks").await;
    let library = wrong_clock(&bench);
    futures::join!(
        wrong_nodes(&bench, &library, 420),
        wrong_nodes(&bench, &library, -420),
        wrong_rivals(&bench, &library, 420),
        wrong_rivals(&bench, &library, -420),
        wrong_servers(&bench, 300),
        wrong_servers(&bench, -300),
    );
    bench.tidy();
}

/// Compiles the wrong clock (`hack/testbed/native/skew.c`) and gives the library's path.
fn wrong_clock(bench: &Bench) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/testbed/native/skew.c");
    let library = bench.dir.join("libskew.so").display().to_string();
    let done = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o", &library]).arg(source).status();
    assert!(done.is_ok_and(|status| status.success()), "the C compiler `cc` is needed");
    library
}

/// An operator on a node whose clock is wrong by so many seconds.
async fn skewed(bench: &Bench, library: &str, seconds: i64, label: &str, flags: Vec<String>) -> Actor {
    let skew = seconds.to_string();
    bench.actor_with(label, flags, &[("LD_PRELOAD", library), ("E6_SKEW", &skew)]).await
}

/// The clocks of both nodes are wrong, in opposite directions; the first operator is killed in each wait, and the
/// second takes it over with another idea of what time it is.
async fn wrong_nodes(bench: &Bench, library: &str, seconds: i64) {
    let label = format!("clocks-nodes{seconds}").replace('-', "m");
    let stage = bench.stage(&label).await;
    let flags = vec![format!("--watch-namespace={label}"), "--leader-elect=false".to_owned()];
    let start = async |name: &str, seconds| {
        skewed(bench, library, seconds, &format!("{label}-{name}"), flags.clone()).await
    };
    let mut first = start("a", seconds).await;
    stage.deploy(&slow()).await;
    assert_clock_is_wrong(&first, seconds);
    let mut found = vec![];
    stage.subject.upgrade("2", "2").await.unwrap();
    for (step, seconds) in [("Deploying", -seconds), ("Switching", seconds), ("Watching", -seconds)] {
        stage.until(step, |state| state.step() == step).await;
        first.operator.kill();
        found.extend(first.findings());
        first = start(step, seconds).await;
    }
    assert!(stage.rests(PATIENCE, |state| serves(state, "2")).await, "{label}: {}", stage.last());
    found.extend(stage.violations().await);
    found.extend(first.findings());
    assert!(found.is_empty(), "{label}: {found:#?}");
    waits_are_whole_and_no_longer(&stage).await;
}

/// Two operators that stand for election, on nodes whose clocks are wrong in opposite directions: the leader is stopped in
/// the last wait for longer than its lease, and wakes up when the other one leads.
async fn wrong_rivals(bench: &Bench, library: &str, seconds: i64) {
    let label = format!("clocks-rivals{seconds}").replace('-', "m");
    let stage = bench.stage(&label).await;
    let flags = vec![format!("--watch-namespace={label}"), format!("--leader-elect-namespace={label}")];
    let mut first = skewed(bench, library, seconds, &format!("{label}-a"), flags.clone()).await;
    leads(&first).await;
    let mut second = skewed(bench, library, -seconds, &format!("{label}-b"), flags).await;
    stands_by(&second).await;
    assert_clock_is_wrong(&first, seconds);
    assert_clock_is_wrong(&second, -seconds);
    stage.deploy(&slow()).await;
    stage.subject.upgrade("2", "2").await.unwrap();
    stage.until("Watching", |state| state.step() == "Watching").await;
    assert!(first.operator.pause(), "{label}: the first operator has ended");
    let paused = Instant::now();
    leads(&second).await;
    let taken = second.proxy.renewals()[0].saturating_duration_since(paused);
    println!("{label}: taken over {taken:.1?} after the stop");
    assert!(taken < Duration::from_secs(30), "{label}: the lease was held up by a clock: {taken:.1?}");
    first.operator.resume();
    assert!(first.ends_by_itself(Duration::from_secs(10)).await, "{label}: it goes on without its lease");
    assert!(stage.rests(PATIENCE, |state| serves(state, "2")).await, "{label}: {}", stage.last());
    let mut found = stage.violations().await;
    found.extend(first.late_writes().into_iter().chain(second.late_writes()));
    found.extend(first.trouble(true).into_iter().chain(second.trouble(false)));
    assert!(found.is_empty(), "{label}: {found:#?}");
}

/// The log is dated by the node's clock.
#[allow(clippy::disallowed_methods, reason = "the clock of the node is what is looked at")]
fn assert_clock_is_wrong(actor: &Actor, seconds: i64) {
    let log = actor.log();
    let said = log.split_whitespace().find_map(|word| word.parse::<Timestamp>().ok());
    let said = said.unwrap_or_else(|| panic!("no time in the log: {log}"));
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let off = i64::try_from(since.as_secs()).unwrap() - said.as_second() + seconds;
    assert!(
        (0..60).contains(&off),
        "the clock of the process is not {seconds} s off; is it linked statically?"
    );
}

/// I42: each wait of [`slow`] lasted as long as asked, and not much longer than a start of the operator takes.
async fn waits_are_whole_and_no_longer(stage: &Stage) {
    let history = stage.history().await;
    for (step, seconds) in [("Switching", 3.0), ("Watching", 4.0)] {
        let states: Vec<State<'_>> = stage.subject.states(&history).collect();
        // The last stay: a first release goes through Switching at once.
        let last = states.iter().rposition(|state| state.step() == step).unwrap();
        let first = states[..last].iter().rposition(|state| state.step() != step).unwrap() + 1;
        let left = states[last + 1];
        let took = left.0.at.saturating_sub(states[first].0.at).as_secs_f64();
        assert!(
            (seconds - 0.3..seconds + 8.0).contains(&took),
            "{}: {step} took {took:.1} s",
            stage.namespace
        );
    }
}

/// The API servers that the two operators talk to disagree about the time by minutes. Waits may then end early (so the
/// deploy timeout here is longer than that), but nothing else may break, and nothing may be held up for minutes.
async fn wrong_servers(bench: &Bench, seconds: i64) {
    let label = format!("clocks-servers{seconds}").replace('-', "m");
    let mut pair = Pair::new(bench, &label).await;
    pair.second.proxy.skew(seconds);
    pair.second.start_again();
    stands_by(&pair.second).await;
    let mut spec = slow();
    merge(&mut spec, &json!({"rollout": {"deployTimeoutSeconds": 600}}));
    pair.stage.deploy(&spec).await;
    for (step, tag) in [("Deploying", "2"), ("Switching", "3"), ("Watching", "4")] {
        pair.stage.subject.upgrade(tag, tag).await.unwrap();
        pair.stage.until(step, |state| state.step() == step).await;
        pair.first.operator.terminate(Duration::from_secs(5)).unwrap();
        let start = Instant::now();
        let rests = pair.stage.rests(PATIENCE, |state| serves(state, tag)).await;
        assert!(rests, "{label}: {tag} does not serve after {step}: {}", pair.stage.last());
        assert!(
            start.elapsed() < Duration::from_secs(40),
            "{label}: {step} was held up for {:?}",
            start.elapsed()
        );
        // The other way round next: the second operator's times are met by the first.
        pair.first.start_again();
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::mem::swap(&mut pair.first, &mut pair.second);
    }
    let mut found = pair.violations().await;
    // How long something waited is only as true as the servers' clocks.
    found.retain(|text| !text.contains("s after the switch, not"));
    assert!(found.is_empty(), "{label}: {found:#?}");
}
