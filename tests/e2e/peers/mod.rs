//! The same upgrade and the same failing release with this operator and with common alternatives: `make bench-peers`
//! writes the table of `docs/zero-downtime.md`.

mod controllers;

use std::sync::Arc;

use testbed::{Cluster, Entry, History, Kind, Options, assets};
use traffic::record::{Record, RequestKind, now};
use traffic::report::Report;

use crate::SUITE;
use crate::measure::{median, mixed, publish, seconds};
use crate::real_node::try_on_node;
use crate::resource_under_load::{Load, NAME, RATE, front};
use controllers::Peer;
use testbed::harness::{TestEnv, variables};

/// Runs of each, unless `E6_TEST_RUNS` says otherwise.
const RUNS: usize = 5;

/// Seconds until a bad release turns bad, after it began to listen.
const BAD_AFTER: &str = "15";

/// Seconds that a bad release is watched, from when all its pods are ready.
const WATCHED: u64 = 55;

/// Seconds at the end of that time without a failed request: clients are safe.
const QUIET: u64 = 5;

/// Seconds that the schema's pods take to start in the uneven upgrade.
const LATE: &str = "10";

/// Microseconds within which a machine that is not busy answers.
const QUICK: u64 = 300_000;

/// Result of a run. Times are in microseconds.
#[derive(Debug)]
struct Run {
    /// Failed requests, and how long both releases answered: of an upgrade, and of the uneven one.
    upgrades: Vec<[u64; 2]>,
    /// Requests that failed by the bad release.
    failed: u64,
    /// From the first of them to the last; none if they did not end.
    safe_after: Option<u64>,
}

#[test]
#[ignore = "an hour; `make bench-peers` runs it"]
fn peers() {
    // It may have to be downloaded, which cannot be done from the node's network.
    assets::argo_rollouts().unwrap();
    let count = variables::number(variables::RUNS, RUNS);
    let mut all: Vec<(Peer, Vec<Run>)> = Peer::ALL.map(|peer| (peer, vec![])).into();
    for number in 1..=count {
        // In turns, so that what else this machine does hits all alike.
        for (peer, runs) in &mut all {
            if number > 1 && !peer.upgrades() {
                // Its bad release never serves: there is nothing to take a median of.
                continue;
            }
            let done = try_on_node(Options::default(), async |cluster| run(cluster, *peer).await);
            let done = done.unwrap_or_else(|reason| panic!("{}: {reason}", peer.name()));
            eprintln!("{} {number}: {done:?}", peer.name());
            runs.push(done);
        }
        tell(number, &all);
    }
}

/// Writes the table of the finished runs, so that an interrupted benchmark keeps its results.
fn tell(count: usize, all: &[(Peer, Vec<Run>)]) {
    let rows: String = all.iter().map(|(peer, runs)| row(*peer, runs)).collect();
    publish(
        "peers",
        &format!(
            "| median (worst) of {count} | upgrade: failed requests | both releases answer | the same, schema 10 s \
             late: failed requests | both releases answer | turns bad: failed requests | from the first to the last \
             |\n|---|---|---|---|---|---|---|\n{rows}"
        ),
    );
}

/// Runs a peer from its first release on its own cluster.
async fn run(cluster: &Cluster, peer: Peer) -> Run {
    let env = SUITE.env_on(cluster, "peer", &[]).await;
    let mut run = peer.open(cluster, env).await;
    settled(&run.env, 1).await;
    // kube-proxy follows the first endpoints about a second late.
    run.env.linger(3).await;
    let fronts = [front(&run.env, NAME, "storage").await, front(&run.env, NAME, "schema").await];
    quiet(&run.env, &fronts).await;
    let load = Load::start(&format!("{}-{}", run.env.namespace, peer.label()), &fronts, RATE);
    run.env.linger(3).await;
    let mut spans = vec![];
    if peer.upgrades() {
        for late in [false, true] {
            let since = now();
            let more: &[(&str, &str)] = if late { &[("START_SECONDS", LATE)] } else { &[] };
            let tag = run.ask(&[], more).await;
            settled(&run.env, tag).await;
            run.env.linger(2).await;
            spans.push((since, now()));
        }
    }
    let since = now();
    let bad = [("BAD_SECONDS", BAD_AFTER)];
    let tag = run.ask(&bad, &bad).await;
    ready(&run.env, tag).await;
    run.env.linger(WATCHED).await;
    spans.push((since, now()));
    judge(&load.stop(), &spans)
}

/// Waits until every client is answered at once: figures taken on a busy machine would be the machine's.
async fn quiet(env: &TestEnv, fronts: &[String; 2]) {
    for _ in 0..60 {
        let load = Load::start(&format!("{}-quiet", env.namespace), fronts, RATE);
        env.linger(5).await;
        let records = load.stop();
        let slow =
            |one: &&Record| one.kind == RequestKind::Fresh && (one.outcome.is_err() || one.took > QUICK);
        match records.iter().filter(slow).count() {
            0 => return,
            slow => eprintln!("the machine is busy: {slow} requests failed or took long; waiting"),
        }
        env.linger(10).await;
    }
    panic!("this machine is too busy to measure anything");
}

/// Reads a run off its records: the spans are the upgrades, if there were any, and the bad release.
fn judge(records: &[Record], spans: &[(u64, u64)]) -> Run {
    eprintln!("{}", Report::of(records));
    let failed = |(since, until): (u64, u64)| -> Vec<u64> {
        let within =
            records.iter().filter(|one| (since..until).contains(&one.asked()) && one.outcome.is_err());
        within.map(Record::asked).collect()
    };
    let upgrades = spans[..spans.len() - 1].iter().zip(2..).map(|(span, tag)| {
        let (_, mixed) = mixed(records, &tag.to_string(), span.0, span.1).expect("it answered");
        [failed(*span).len() as u64, mixed]
    });
    let upgrades = upgrades.collect();
    let (since, until) = spans[spans.len() - 1];
    let bad = failed((since, until));
    let ended = bad.iter().max().is_none_or(|last| last + QUIET * 1_000_000 < until);
    let span = || bad.iter().max().zip(bad.iter().min()).map_or(0, |(last, first)| last - first);
    Run { upgrades, failed: bad.len() as u64, safe_after: ended.then(span) }
}

fn row(peer: Peer, runs: &[Run]) -> String {
    let number = |count: u64| count.to_string();
    let mut cells = vec![peer.name().to_owned()];
    for upgrade in 0..2 {
        for (part, show) in [(0, &number as &dyn Fn(u64) -> String), (1, &seconds)] {
            let found = runs.iter().filter_map(|run| run.upgrades.get(upgrade)?.get(part).copied()).collect();
            cells.push(median(found, show).unwrap_or_else(|| "not measured".to_owned()));
        }
    }
    cells.push(median(runs.iter().map(|run| run.failed).collect(), &number).unwrap_or_default());
    let ended: Vec<u64> = runs.iter().filter_map(|run| run.safe_after).collect();
    let endless = runs.len() - ended.len();
    cells.push(match (median(ended, &seconds), endless) {
        (Some(times), 0) => times,
        (Some(times), endless) => format!("{times}; {endless} of {} did not end", runs.len()),
        (None, _) => format!("did not end in {WATCHED} s"),
    });
    format!("| {} |\n", cells.join(" | "))
}

/// The pods that are there, and the tags of their images.
fn pods(history: &History) -> impl Iterator<Item = (&Arc<Entry>, u32)> {
    let all = history.all_live(Kind::Pod).into_iter().filter(|pod| pod.label("app") == Some(NAME));
    all.filter_map(|pod| {
        let image = pod.text("/spec/containers/0/image");
        Some((pod, image.rsplit(':').next()?.parse().ok()?))
    })
}

/// Waits until two pods of each component are ready with this tag.
async fn ready(env: &TestEnv, tag: u32) {
    let check = |history: &History| {
        let ready = pods(history).filter(|(pod, of)| *of == tag && pod.condition("Ready") == "True");
        (ready.count() == 4).then_some(())
    };
    env.wait(&format!("four ready pods of {tag}"), check).await;
}

/// The same, and nothing else is left.
async fn settled(env: &TestEnv, tag: u32) {
    ready(env, tag).await;
    let check = |history: &History| pods(history).all(|(_, of)| of == tag).then_some(());
    env.wait(&format!("the pods before {tag} to be gone"), check).await;
}
