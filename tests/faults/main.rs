//! Every write of every scenario goes wrong in every way: the operator is killed before it and after it, its answer is
//! lost, it is refused, or held up; watches break, stall, or forget; a restarted operator is shown old lists. Whatever
//! happens, the end must be that of an undisturbed run, by the same objects created and deleted, within bounded time,
//! and an outside eye must have seen no invariant broken ([`testbed::watcher`]).
//!
//! The undisturbed run of a scenario says how many writes it has and how it ends. Each case then has a namespace, a
//! proxy and an operator of its own, many at a time in one cluster.
//!
//! By default a spread is run. `E6_FAULTS=all` runs everything, `E6_FAULTS=2/8` the second of eight parts of it;
//! `E6_FAULTS_DONE` names a file by which a run is taken up where it was stopped. `E6_CASE=scenario:n:fault` (or
//! `scenario:n:fault:m:fault`) runs one case (several, separated by commas); `E6_PARALLEL` says how many at a time; `E6_OPERATOR` names another binary than
//! the one just built.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows only the test functions as tests"
)]

mod bench;
mod busy;
mod case;
mod deed;
mod end;
mod judge;
mod nursery;
mod pace;
mod progress;
mod run;
mod scenario;
mod silence;

use std::collections::BTreeMap;
use std::time::Instant;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};

use crate::bench::Bench;
use crate::case::Case;
use crate::pace::Pace;
use crate::progress::Progress;
use crate::run::{Outcome, Reference};
use crate::scenario::Scenario;

/// Cases that are prepared together.
const BATCH: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_may_go_wrong() {
    let start = Instant::now();
    let asked = case::asked();
    let progress = Progress::read();
    let bench = Bench::start().await;
    let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(|one| asked.includes(*one)).collect();
    let references = references(&bench, &scenarios).await;
    let mut cases = asked.cases(|scenario| references[&scenario].kinds());
    let count = cases.len();
    cases.retain(|case| !progress.has(case));
    println!("{count} cases, {} of them to be run, up to {} at a time", cases.len(), case::parallel());
    let outcomes = play(&bench, &cases, &references, &progress).await;
    summary(&outcomes, &references, count, start);
    bench.tidy();
}

#[tokio::test]
async fn what_asks_for_time_is_left_alone_whatever_comes() {
    let bench = Bench::start().await;
    busy::left_alone(&bench).await;
    bench.tidy();
}

#[tokio::test]
#[ignore = "takes five minutes; make faults runs it"]
async fn a_silent_watch_at_rest_is_found_out() {
    let bench = Bench::start().await;
    silence::at_rest(&bench).await;
    bench.tidy();
}

/// Plays the cases, while the next ones are prepared.
async fn play(
    bench: &Bench,
    cases: &[Case],
    references: &BTreeMap<Scenario, Reference>,
    progress: &Progress,
) -> Vec<Outcome> {
    let (mut sender, prepared) = mpsc::channel(BATCH);
    let nursing = async move {
        for batch in cases.chunks(BATCH) {
            nursery::prepare(bench, batch.iter().map(|case| (case.namespace(), case.scenario)).collect())
                .await;
            for case in batch {
                sender.send(case).await.unwrap();
            }
        }
    };
    let pace = &Pace::up_to(case::parallel());
    let playing = prepared
        .map(async |case: &Case| {
            let held = pace.place().await;
            let outcome = bench.run(case, &references[&case.scenario]).await;
            pace.leave(held, outcome.late);
            outcome
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
    futures::join!(nursing, playing).1
}

/// The undisturbed runs, all at a time.
async fn references(bench: &Bench, scenarios: &[Scenario]) -> BTreeMap<Scenario, Reference> {
    let namespaces = scenarios.iter().map(|one| (format!("reference-{one}"), *one)).collect();
    nursery::prepare(bench, namespaces).await;
    let runs = scenarios.iter().map(async |scenario| {
        let reference = bench.undisturbed(*scenario).await;
        println!("{scenario}: {} writes in {:.1} s", reference.writes.len(), reference.seconds);
        for write in &reference.writes {
            println!("  {write}");
        }
        (*scenario, reference)
    });
    futures::future::join_all(runs).await.into_iter().collect()
}

/// `count` cases were asked for, of which some may have been run before.
fn summary(outcomes: &[Outcome], references: &BTreeMap<Scenario, Reference>, count: usize, start: Instant) {
    let bad: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).collect();
    let missed: Vec<Case> =
        outcomes.iter().filter(|outcome| !outcome.struck).map(|outcome| outcome.case).collect();
    let names = |cases: &[Case]| cases.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let slowest = outcomes.iter().map(|outcome| outcome.seconds).fold(0.0, f64::max);
    let late = outcomes.iter().map(|outcome| outcome.late.as_secs_f64()).fold(0.0, f64::max);
    println!(
        "faults: {} cases, {} violations in {} of them, {} not struck ({}); slowest {slowest:.1} s, API server late by {late:.1} s at most; {:.0} s in all",
        outcomes.len(),
        bad.iter().map(|outcome| outcome.violations.len()).sum::<usize>(),
        bad.len(),
        missed.len(),
        names(&missed),
        start.elapsed().as_secs_f64(),
    );
    // A run may have fewer writes than the undisturbed one, and after the last writes nothing may be read or watched any
    // more. While a first fault is being got over, there may be no watch yet for a second one to strike.
    let unheard = |case: &Case| case.then.is_some_and(|(_, second)| second.is_felt_later());
    let early: Vec<Case> = missed
        .iter()
        .copied()
        .filter(|case| {
            case.last() + case.scenario.late() <= references[&case.scenario].writes.len() && !unheard(case)
        })
        .collect();
    assert!(early.is_empty(), "faults without an effect: {}", names(&early));
    assert!(missed.len() * 20 <= count + 20, "too many faults had no effect: {}", names(&missed));
    let bad: Vec<Case> = bad.iter().map(|outcome| outcome.case).collect();
    assert!(
        bad.is_empty(),
        "failed; to repeat: E6_CASE={} cargo test --test faults -- --nocapture",
        names(&bad)
    );
}
