//! The namespace is deleted during a rollout.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};
use testbed::invariants::{self, Waived};
use testbed::proxy::Fault;
use testbed::resource::quick;
use testbed::{History, pace};

use crate::SUITE;
use testbed::harness::{TIME_LIMIT, TestCluster, variables};

/// Number of writes of an operator after the deletion of its namespace started, in addition to the rest of its
/// rollout: conditions may report the rejection, and a changed rejection.
const MORE_WRITES: usize = 3;

/// Number of these writes that the API server may reject because the namespace is terminating: two concurrent writes,
/// and two of a reconcile that started before their answers.
const MOST_REFUSED: usize = 4;

/// Number of writes of a first release and of an upgrade, at each of which the namespace is deleted.
const WRITES: [(&str, usize); 2] = [("create", 14), ("upgrade", 21)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_deleted_at_any_write_is_gone_and_no_rollout_begins_in_it() {
    let cluster = SUITE.shared("namespace-deletion").await;
    let all = variables::is_all(variables::MULTI_OPERATOR);
    // Neighboring writes behave alike.
    let step = if all { 1 } else { 2 };
    let cases = WRITES
        .into_iter()
        .flat_map(|(scenario, count)| (1..=count).step_by(step).map(move |n| (scenario, n)));
    let injected: Vec<bool> = futures::stream::iter(cases)
        .map(async |(scenario, number)| {
            let _place = SUITE.places().place().await;
            delete_at(&cluster, scenario, number).await
        })
        .buffer_unordered(variables::parallel(8))
        .collect()
        .await;
    let missed = injected.iter().filter(|injected| !**injected).count();
    println!("namespace deletion: {} cases, {missed} after the last write", injected.len());
    assert!(missed <= WRITES.len(), "a rollout may have a write less: {missed} were over before their write");
    cluster.remove_logs();
}

/// Deletes the namespace during a write. Returns false if there was no such write.
async fn delete_at(cluster: &TestCluster, scenario: &str, number: usize) -> bool {
    let name = format!("gone-{scenario}-{number}");
    let resource = cluster.resource(&name).await;
    let mut operator = cluster.operator(&name, "a", &["--leader-elect=false"]).await;
    let spec = quick("1", "1");
    if scenario == "upgrade" {
        resource.deploy(&spec).await;
    }
    let act = async {
        let done = if scenario == "upgrade" {
            resource.subject.upgrade("2", "2").await
        } else {
            resource.subject.create(&spec).await
        };
        done.unwrap();
    };
    let over = resource.rests(TIME_LIMIT, |state| state.is_stable());
    let held = operator.held(number, Fault::HoldBefore, act, over).await;
    let before = resource.history().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces.delete(&name, &DeleteParams::background()).await.unwrap();
    let start = Instant::now();
    let so_far = operator.proxy.writes().len();
    let injected = held.is_some();
    if let Some(held) = held {
        held.done();
    }
    while namespaces.get_opt(&name).await.unwrap().is_some() {
        assert!(pace::elapsed(start) < TIME_LIMIT, "{name} hangs");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let gone = operator.proxy.writes().len();
    // A failed reconcile would be repeated within this time.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let all = operator.proxy.writes();
    let texts: Vec<String> = all[so_far..].iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), gone, "{name}: written after the namespace was gone: {texts:#?}");
    let refused = all[so_far..].iter().filter(|write| write.status == Some(403)).count();
    assert!(refused <= MOST_REFUSED, "{name}: {refused} writes were refused: {texts:#?}");
    let writes = gone - so_far;
    let rest = WRITES.iter().find(|(known, _)| *known == scenario).unwrap().1.saturating_sub(number);
    assert!(writes <= rest + MORE_WRITES, "{name}: {writes} writes into a namespace that goes: {texts:#?}");
    let mut trouble = operator.trouble(false);
    trouble.extend(judged(&before, &resource.timeline.history()));
    assert!(trouble.is_empty(), "{name}: {trouble:#?}");
    injected
}

/// Invariants of existing objects. In a terminating namespace another client deletes all objects, in any order.
const OF_WHAT_IS_THERE: [&str; 3] = ["I1", "I8", "I9"];

/// Returns the violations before the deletion and after it.
fn judged(before: &History, all: &History) -> Vec<String> {
    let found =
        |history| invariants::check(history, &Waived { late_writes: TIME_LIMIT, ..Waived::default() });
    let later = found(all).into_iter().filter(|violation| !OF_WHAT_IS_THERE.contains(&violation.invariant));
    found(before).into_iter().chain(later).map(|violation| violation.to_string()).collect()
}
