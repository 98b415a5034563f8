//! Brings many resources to where their scenarios begin, all by one operator that nothing happens to.

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use serde_json::json;
use testbed::Operator;

use crate::bench::{ARGS, Bench};
use crate::deed::{Deed, resources};
use crate::scenario::{NAME, Scenario};

/// How long all of them may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How many more are begun at each look.
const MORE: usize = 2;

/// A namespace on its way to where its scenario begins.
struct Child {
    namespace: String,
    scenario: Scenario,
    /// Its place in the row in which they are begun.
    place: usize,
    done: usize,
}

impl Child {
    fn last(&self) -> Option<Deed> {
        self.scenario.before()[..self.done].last().copied()
    }

    fn next(&self) -> Option<Deed> {
        self.scenario.before().get(self.done).copied()
    }
}

/// Creates the namespaces and does in each what its scenario has before. The operator is gone when this returns.
pub async fn prepare(bench: &Bench, namespaces: Vec<(String, Scenario)>) {
    let start = Instant::now();
    let mut children = vec![];
    for (place, (namespace, scenario)) in namespaces.into_iter().enumerate() {
        create_namespace(bench, &namespace).await;
        children.push(Child { namespace, scenario, place, done: 0 });
    }
    let log = bench.dir.join("nursery.log");
    let mut operator = operator(bench, &children, &log);
    let mut begun = 0;
    loop {
        begun += MORE;
        for child in children.iter_mut().filter(|child| child.place < begun) {
            if !rests(bench, child).await {
                continue;
            }
            if let Some(deed) = child.next() {
                deed.act(&bench.client, &child.namespace, child.scenario).await;
            }
            child.done += 1;
        }
        children.retain(|child| child.done <= child.scenario.before().len());
        if children.is_empty() {
            break;
        }
        assert!(operator.is_running(), "the operator ended; see {}", log.display());
        let first = &children[0].namespace;
        assert!(
            start.elapsed() < PATIENCE,
            "{} not prepared, as {first}; see {}",
            children.len(),
            log.display()
        );
        tokio::time::sleep(LOOK).await;
    }
    operator.kill();
}

/// Whether what was done last has come to its end.
async fn rests(bench: &Bench, child: &Child) -> bool {
    match child.last() {
        None | Some(Deed::Limit) => true,
        Some(deed) => {
            let there = resources(&bench.client, Some(&child.namespace)).get(NAME).await.unwrap();
            deed.is_over(&serde_json::to_value(&there).unwrap())
        }
    }
}

/// An operator for these namespaces only: others may be in the middle of their scenarios.
fn operator(bench: &Bench, children: &[Child], log: &Path) -> Operator {
    let names: Vec<&str> = children.iter().map(|child| child.namespace.as_str()).collect();
    let names = names.join(",");
    let mut args = ARGS.to_vec();
    args.extend(["--watch-namespace", &names]);
    Operator::spawn(&bench.binary, &bench.kubeconfig, &args, log).unwrap()
}

async fn create_namespace(bench: &Bench, name: &str) {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::all(bench.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}
