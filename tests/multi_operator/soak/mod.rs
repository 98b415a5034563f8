//! Many rollouts under random faults: memory and metric series stay flat (I44), no object is orphaned, and no invariant is
//! violated.
//!
//! One operator is measured and runs all the time. A second operator also acts as leader, and is killed at random writes,
//! paused and restarted. Both reach the API server through proxies that inject random faults. Each resource has its own
//! namespace, in which a random user starts rollouts: good and failing releases, changes during a rollout, rollbacks,
//! restarts, deletion. After each rollout the resource must come to rest in the expected state.
//!
//! [`testbed::harness::variables`] lists the environment variables: number of rollouts, seed, file of the report.

mod measurements;
mod random_faults;
mod random_user;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use testbed::Options;
use testbed::harness::{NAME, TestCluster, variables};

use self::measurements::Measurements;
use self::random_faults::{Chance, FaultyOperator};
use self::random_user::RandomUser;
use crate::SUITE;

/// Default number of rollouts.
const DEFAULT: usize = 60;

/// Number of resources.
const RESOURCES: usize = 20;

/// Time limit of one rollout on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Common state of all parts of a soak.
pub struct Soak {
    cluster: TestCluster,
    seed: u64,
    /// Number of rollouts of this run.
    wanted: usize,
    started: AtomicUsize,
    done: AtomicUsize,
    start: Instant,
}

impl Soak {
    /// Returns whether another rollout may start, and counts it.
    fn ticket(&self) -> bool {
        self.started.fetch_add(1, Ordering::Relaxed) < self.wanted
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }
}

/// Returns the random numbers of a part. With the same seed each part repeats its actions.
fn chance(soak: &Soak, part: u64) -> Chance {
    Chance::new(soak.seed).branch(part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rollouts_under_random_faults_leave_nothing_behind() {
    let wanted = variables::number(variables::SOAK, DEFAULT);
    let seed =
        variables::get(variables::SEED).map_or_else(random_faults::any_seed, |text| text.parse().unwrap());
    let repeat = format!("{}={seed}", variables::SEED);
    println!("soak: {wanted} rollouts on {RESOURCES} resources; to repeat: {repeat}");
    // Without a watch cache the timelines have no gaps.
    let options = Options { apiserver_args: vec!["--watch-cache=false".into()], ..Options::default() };
    let cluster = SUITE.own("soak", options).await;
    let (started, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let soak = Soak { cluster, seed, wanted, started, done, start: Instant::now() };
    let port = testbed::ports::free_port().unwrap();
    let flags = vec!["--leader-elect=false".to_owned(), format!("--metrics-bind-address=127.0.0.1:{port}")];
    let mut measured = soak.cluster.operator_with("soak-measured", flags, &[]).await;
    measured.proxy.plan(random_faults::plan(seed));
    let faulty = FaultyOperator::start(&soak).await;
    let users = join_all((0..RESOURCES).map(async |number| RandomUser::new(&soak, number).await.run().await));
    let (users, measurements, faulty) =
        futures::join!(users, Measurements::collect(&soak, &measured, port), faulty.run(&soak));
    let running = measured.process.is_running();
    assert!(running, "the operator ended by itself; see {}", soak.cluster.dir.display());
    let mut violations: Vec<String> = users.iter().flat_map(|user| user.violations.clone()).collect();
    violations.extend(random_user::left_over(&soak).await);
    violations.extend(measured.panic().into_iter().chain(measured.proxy.undecided(NAME)));
    violations.extend(faulty.trouble.iter().cloned());
    let events = measurements::events(&soak).await;
    let report = measurements.report(&soak, &users, &measured, &faulty, events, violations.len());
    println!("{report}");
    if let Some(path) = variables::get(variables::SOAK_REPORT) {
        std::fs::write(path, &report).unwrap();
    }
    assert!(violations.is_empty(), "{repeat}: {violations:#?}");
    measurements.assert_flat();
    measurements::assert_few(events);
    let injected = measured.proxy.writes().iter().any(|write| write.fault.is_some());
    assert!(injected && faulty.kills > 0, "no fault was injected: the run proves nothing");
    soak.cluster.remove_logs();
}
