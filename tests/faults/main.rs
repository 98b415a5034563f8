//! A fault at every write of every scenario: the operator is killed before the write and after it, the answer is lost, the
//! write is rejected or delayed; watches break, stall or expire; a restarted operator gets stale lists. Each run must end
//! like the run without faults, with the same created and deleted objects, within bounded time and without a violated
//! invariant ([`testbed::invariants`]).
//!
//! The run of a scenario without faults determines its writes and its end. Each case then has its own namespace, proxy and
//! operator; many cases run at a time in one cluster. The default is a selection of the cases.
//! [`testbed::harness::variables`] lists the environment variables that select others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows only the test functions as tests"
)]

mod case;
mod final_state;
mod fixtures;
mod progress;
mod run;
mod scenario;
mod silent_watches;
mod throttling;
mod violations;

use std::collections::BTreeMap;
use std::time::Instant;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use testbed::Options;
use testbed::harness::{Suite, TestCluster, variables};
use testbed::pace;
use tokio::sync::{Mutex, MutexGuard};

use crate::case::Case;
use crate::progress::Progress;
use crate::run::{Outcome, Reference};
use crate::scenario::Scenario;

/// Common cluster and settings of these tests.
pub static SUITE: Suite =
    Suite::new("faults", env!("CARGO_BIN_EXE_e6-operator"), env!("CARGO_TARGET_TMPDIR"));

/// Number of cases that are prepared together.
const BATCH: usize = 24;

/// Starts a cluster once the cluster of the previous test has stopped: two at a time would be late.
async fn cluster() -> (MutexGuard<'static, ()>, TestCluster) {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    (turn, SUITE.own("logs", Options::default()).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_may_go_wrong() {
    let start = Instant::now();
    let asked = case::asked();
    let progress = Progress::read();
    let (_turn, cluster) = cluster().await;
    let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(|one| asked.includes(*one)).collect();
    let references = references(&cluster, &scenarios).await;
    let mut cases = asked.cases(|scenario| references[&scenario].kinds());
    let count = cases.len();
    cases.retain(|case| !progress.has(case));
    println!("{count} cases, {} of them to be run, up to {} at a time", cases.len(), case::parallel());
    let outcomes = run_all(&cluster, &cases, &references, &progress).await;
    summary(&outcomes, &references, count, start);
    cluster.remove_logs();
}

#[tokio::test]
async fn retry_after_is_respected_whatever_happens() {
    let (_turn, cluster) = cluster().await;
    throttling::retry_after_is_respected(&cluster).await;
    cluster.remove_logs();
}

#[tokio::test]
#[ignore = "takes five minutes; `make faults` runs it"]
async fn silent_watches_are_detected_at_rest() {
    let (_turn, cluster) = cluster().await;
    silent_watches::are_detected_at_rest(&cluster).await;
    cluster.remove_logs();
}

/// Runs the cases, and prepares the next ones meanwhile.
async fn run_all(
    cluster: &TestCluster,
    cases: &[Case],
    references: &BTreeMap<Scenario, Reference>,
    progress: &Progress,
) -> Vec<Outcome> {
    let (mut sender, prepared) = mpsc::channel(BATCH);
    let preparing = async move {
        for batch in cases.chunks(BATCH) {
            fixtures::prepare(cluster, batch.iter().map(|case| (case.namespace(), case.scenario)).collect())
                .await;
            for case in batch {
                sender.send(case).await.unwrap();
            }
        }
    };
    let places = SUITE.places();
    let running = prepared
        .map(async |case: &Case| {
            let _place = places.place().await;
            run::run(cluster, case, &references[&case.scenario]).await
        })
        .buffer_unordered(case::parallel())
        .enumerate()
        .map(|(done, outcome)| {
            outcome.report();
            progress.note(&outcome);
            if (done + 1) % 25 == 0 {
                println!("{} of {} cases", done + 1, cases.len());
            }
            outcome
        })
        .collect();
    futures::join!(preparing, running).1
}

/// Runs all scenarios without faults, at the same time.
async fn references(cluster: &TestCluster, scenarios: &[Scenario]) -> BTreeMap<Scenario, Reference> {
    let namespaces = scenarios.iter().map(|one| (format!("reference-{one}"), *one)).collect();
    fixtures::prepare(cluster, namespaces).await;
    let runs = scenarios.iter().map(async |scenario| {
        let reference = run::reference(cluster, *scenario).await;
        println!("{scenario}: {} writes in {:.1} s", reference.writes.len(), reference.seconds);
        for write in &reference.writes {
            println!("  {write}");
        }
        (*scenario, reference)
    });
    futures::future::join_all(runs).await.into_iter().collect()
}

/// Prints the results, and fails if a case failed. `count` includes cases of earlier runs.
fn summary(outcomes: &[Outcome], references: &BTreeMap<Scenario, Reference>, count: usize, start: Instant) {
    let bad: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).collect();
    let missed: Vec<Case> =
        outcomes.iter().filter(|outcome| !outcome.injected).map(|outcome| outcome.case).collect();
    let names = |cases: &[Case]| cases.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let slowest = outcomes.iter().map(|outcome| outcome.seconds).fold(0.0, f64::max);
    let late = outcomes.iter().map(|outcome| outcome.late.as_secs_f64()).fold(0.0, f64::max);
    println!(
        "faults: {} cases, {} violations in {} of them, {} without an effect ({}); slowest {slowest:.1} s, API server late by {late:.1} s at most; {}",
        outcomes.len(),
        bad.iter().map(|outcome| outcome.violations.len()).sum::<usize>(),
        bad.len(),
        missed.len(),
        names(&missed),
        pace::report(start),
    );
    // A run may have fewer writes than the reference, and after the last writes the operator may not read or watch again.
    // During the recovery from a first fault there may be no watch that a second fault could affect.
    let unheard = |case: &Case| case.then.is_some_and(|(_, second)| second.shows_later());
    let early: Vec<Case> = missed
        .iter()
        .copied()
        .filter(|case| {
            case.last() + case.scenario.optional_writes() <= references[&case.scenario].writes.len()
                && !unheard(case)
        })
        .collect();
    assert!(early.is_empty(), "faults without an effect: {}", names(&early));
    assert!(missed.len() * 20 <= count + 20, "too many faults had no effect: {}", names(&missed));
    let bad: Vec<Case> = bad.iter().map(|outcome| outcome.case).collect();
    assert!(
        bad.is_empty(),
        "failed; to repeat: {}={} cargo test --test faults -- --nocapture",
        variables::CASE,
        names(&bad)
    );
}
