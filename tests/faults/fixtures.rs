//! Brings resources to the state in which their scenarios start. One operator, without faults, prepares many at a time.

use std::time::{Duration, Instant};

use testbed::harness::{
    NAME, OperatorCommand, ProxiedOperator, TestCluster, WatchedResource, create_namespace, wait_for,
};
use testbed::proxy::Plan;
use testbed::{Operator, Subject, UserAction, pace};

use crate::scenario::{Scenario, is_complete};

/// Flags of every operator of these tests: it leads without a lease.
pub const FLAGS: [&str; 1] = ["--leader-elect=false"];

/// Time limit for one batch.
const LIMIT: Duration = Duration::from_secs(180);

/// Time between two checks of the resources.
const INTERVAL: Duration = Duration::from_millis(500);

/// Number of preparations that start at each check.
const STARTS: usize = 2;

/// A resource between its creation and the start of its scenario.
struct Preparation {
    subject: Subject,
    actions: Vec<UserAction>,
    /// Its position in the order of the starts.
    position: usize,
    /// Number of performed actions.
    done: usize,
}

impl Preparation {
    /// Returns whether the last action is complete.
    async fn rests(&self) -> bool {
        match self.done.checked_sub(1).and_then(|last| self.actions.get(last)) {
            None | Some(UserAction::LimitPods(_)) => true,
            Some(action) => is_complete(action, &self.subject.get().await.unwrap()),
        }
    }
}

/// Creates the namespaces and performs the preparation of each scenario in them. Stops the operator before it returns.
pub async fn prepare(cluster: &TestCluster, namespaces: Vec<(String, Scenario)>) {
    let start = Instant::now();
    let mut open = vec![];
    for (position, (namespace, scenario)) in namespaces.into_iter().enumerate() {
        create_namespace(&cluster.client, &namespace).await;
        let subject = Subject::new(&cluster.client, &namespace, NAME);
        open.push(Preparation { subject, actions: scenario.preparation(), position, done: 0 });
    }
    let command = command(cluster, &open);
    let mut operator = command.start();
    let mut started = 0;
    loop {
        started += STARTS;
        for preparation in open.iter_mut().filter(|one| one.position < started) {
            if !preparation.rests().await {
                continue;
            }
            if let Some(action) = preparation.actions.get(preparation.done) {
                action.perform(&preparation.subject).await.unwrap();
            }
            preparation.done += 1;
        }
        open.retain(|one| one.done <= one.actions.len());
        let Some(first) = open.first() else { break };
        check(&mut operator, &command);
        assert!(
            pace::elapsed(start) < LIMIT,
            "{} resources are not prepared, among them {}; see {}",
            open.len(),
            first.subject.namespace,
            command.log.display()
        );
        tokio::time::sleep(INTERVAL).await;
    }
    operator.kill();
}

fn check(operator: &mut Operator, command: &OperatorCommand) {
    assert!(operator.is_running(), "the operator ended; see {}", command.log.display());
}

/// Returns the command of an operator for these namespaces only: in the others, scenarios may run.
fn command(cluster: &TestCluster, open: &[Preparation]) -> OperatorCommand {
    let names: Vec<&str> = open.iter().map(|one| one.subject.namespace.as_str()).collect();
    let watched = format!("--watch-namespace={}", names.join(","));
    cluster.command("preparation").with_flags(FLAGS).with_flags([watched])
}

/// Starts an operator for one namespace behind a proxy, which injects the faults of `plan`.
pub async fn operator(cluster: &TestCluster, namespace: &str, plan: Plan) -> ProxiedOperator {
    let flags = FLAGS.map(str::to_owned).into_iter().chain([format!("--watch-namespace={namespace}")]);
    cluster.faulty_operator(namespace, flags.collect(), &[], plan).await
}

/// Returns a prepared resource, and an operator behind a proxy whose caches are filled.
pub async fn prepared(
    cluster: &TestCluster,
    namespace: &str,
    scenario: Scenario,
    plan: Plan,
) -> (WatchedResource, ProxiedOperator) {
    prepare(cluster, vec![(namespace.to_owned(), scenario)]).await;
    let resource = WatchedResource::watch(&cluster.client, namespace).await;
    let operator = operator(cluster, namespace, plan).await;
    wait_for("the operator to start", || operator.log().contains("caches are filled")).await;
    (resource, operator)
}
