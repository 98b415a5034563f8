//! Many rollouts under random faults: memory and metric series stay flat (I44), nothing is orphaned, no invariant is
//! broken.
//!
//! One operator, which is measured, lives through all of it; a second one believes that it leads too, and is killed
//! at random writes, stopped and started. Both talk to the API server by proxies that fail them at random. Each
//! resource has a namespace of its own, in which deeds follow each other: good and bad releases, changes of mind,
//! rollbacks, restarts, deletion. After each the resource must rest where it should.
//!
//! `E6_SOAK` says how many rollouts (60), `E6_SEED` repeats a run, `E6_SOAK_REPORT` names a file for the report.

mod deeds;
mod figures;
mod trouble;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use testbed::Options;

use self::deeds::Life;
use self::figures::Figures;
use self::trouble::{Chance, Rival};
use crate::bench::{Bench, NAME};

/// How many rollouts a run has when nobody says.
const SHORT: usize = 60;

/// Resources that are rolled out side by side.
const RESOURCES: usize = 20;

/// What all parts of a soak share.
pub struct Soak {
    bench: Bench,
    seed: u64,
    wanted: usize,
    begun: AtomicUsize,
    done: AtomicUsize,
    start: Instant,
}

impl Soak {
    /// A ticket for another rollout, if there is one left.
    fn ticket(&self) -> bool {
        self.begun.fetch_add(1, Ordering::Relaxed) < self.wanted
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rollouts_under_random_faults_leave_nothing_behind() {
    let wanted = variable("E6_SOAK").map_or(SHORT, |text| text.parse().unwrap());
    let seed = variable("E6_SEED").map_or_else(trouble::any_seed, |text| text.parse().unwrap());
    println!("soak: {wanted} rollouts on {RESOURCES} resources; to repeat: E6_SEED={seed}");
    let options = Options { apiserver_args: vec!["--watch-cache=false".into()], ..Options::default() };
    let bench = Bench::own("soak", options).await;
    let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let soak = Soak { bench, seed, wanted, begun, done, start: Instant::now() };
    let port = testbed::ports::free_port().unwrap();
    let flags = vec!["--leader-elect=false".to_owned(), format!("--metrics-bind-address=127.0.0.1:{port}")];
    let mut steady = soak.bench.actor_with("soak-steady", flags, &[]).await;
    steady.proxy.plan(trouble::steady_plan(seed));
    let rival = Rival::start(&soak).await;
    let lives = join_all((0..RESOURCES).map(async |number| Life::new(&soak, number).await.live().await));
    let (lives, figures, rival) =
        futures::join!(lives, Figures::collect(&soak, &steady, port), rival.live(&soak));
    assert!(steady.operator.is_running(), "the operator ended by itself; see {}", soak.bench.dir.display());
    let mut violations: Vec<String> = lives.iter().flat_map(|life| life.violations.clone()).collect();
    violations.extend(deeds::left_over(&soak).await);
    violations.extend(steady.panic().into_iter().chain(steady.proxy.undecided(NAME)));
    violations.extend(rival.trouble.iter().cloned());
    let events = figures::events(&soak).await;
    let report = figures.report(&soak, &lives, &steady, &rival, events, violations.len());
    println!("{report}");
    if let Some(path) = variable("E6_SOAK_REPORT") {
        std::fs::write(path, &report).unwrap();
    }
    assert!(violations.is_empty(), "E6_SEED={seed}: {violations:#?}");
    figures.assert_flat();
    figures::assert_few(events);
    let struck = steady.proxy.writes().iter().any(|write| write.fault.is_some());
    assert!(struck && rival.kills > 0, "nothing went wrong: the run tells nothing");
    let Soak { bench, .. } = soak;
    bench.tidy();
}

/// How long one rollout may take on a machine that is busy with many.
const PATIENCE: Duration = Duration::from_secs(180);

/// A source of chance of its own for each part, so that a seed repeats what each does.
fn chance(soak: &Soak, part: u64) -> Chance {
    Chance::new(soak.seed).branch(part)
}
