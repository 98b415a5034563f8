//! The namespace is deleted in mid-rollout.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};
use testbed::History;
use testbed::proxy::Fault;
use testbed::resource::quick;
use testbed::watcher::{self, Waived};

use crate::bench::{Bench, PATIENCE};

/// Writes of an operator after the deletion of its namespace began, beyond the rest of its rollout: what is in the way is
/// told, and told otherwise.
const MORE_WRITES: usize = 3;

/// Of these, how many the API server may refuse since nothing can be created any more: two that were sent side by side,
/// and two of a pass that the first ones had not told yet.
const MOST_REFUSED: usize = 4;

/// Each write of a first rollout and of an upgrade at which the namespace goes.
const WRITES: [(&str, usize); 2] = [("create", 14), ("upgrade", 21)];

/// How many at a time.
const PARALLEL: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_deleted_at_any_write_is_gone_and_no_rollout_begins_in_it() {
    let bench = Bench::shared("gone").await;
    let all = std::env::var("E6_RIVALS").is_ok_and(|text| text == "all");
    // Two writes side by side are alike.
    let step = if all { 1 } else { 2 };
    let cases =
        WRITES.into_iter().flat_map(|(story, count)| (1..=count).step_by(step).map(move |n| (story, n)));
    let struck: Vec<bool> = futures::stream::iter(cases)
        .map(|(story, number)| delete_at(&bench, story, number))
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let missed = struck.iter().filter(|struck| !**struck).count();
    println!("gone: {} cases, {missed} after the last write", struck.len());
    assert!(missed <= WRITES.len(), "a rollout may have a write less: {missed} were over before their write");
    bench.tidy();
}

/// Deletes the namespace while a write is on its way; false if there was no such write.
async fn delete_at(bench: &Bench, story: &str, number: usize) -> bool {
    let name = format!("gone-{story}-{number}");
    let stage = bench.stage(&name).await;
    let mut actor = bench.actor(&name, "a", &["--leader-elect=false"]).await;
    let spec = quick("1", "1");
    if story == "upgrade" {
        stage.deploy(&spec).await;
    }
    let act = async {
        let done = if story == "upgrade" {
            stage.subject.upgrade("2", "2").await
        } else {
            stage.subject.create(&spec).await
        };
        done.unwrap();
    };
    let over = stage.rests(PATIENCE, |state| state.is_stable());
    let held = actor.held(number, Fault::HoldBefore, act, over).await;
    let before = stage.history().await;
    let namespaces: Api<Namespace> = Api::all(bench.client.clone());
    namespaces.delete(&name, &DeleteParams::background()).await.unwrap();
    let start = Instant::now();
    let so_far = actor.proxy.writes().len();
    let struck = held.is_some();
    if let Some(held) = held {
        held.done();
    }
    while namespaces.get_opt(&name).await.unwrap().is_some() {
        assert!(start.elapsed() < PATIENCE, "{name} hangs");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let gone = actor.proxy.writes().len();
    // A pass that failed would come back.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let all = actor.proxy.writes();
    let texts: Vec<String> = all[so_far..].iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), gone, "{name}: written after the namespace was gone: {texts:#?}");
    let refused = all[so_far..].iter().filter(|write| write.status == Some(403)).count();
    assert!(refused <= MOST_REFUSED, "{name}: {refused} writes were refused: {texts:#?}");
    let writes = gone - so_far;
    let rest = WRITES.iter().find(|(known, _)| *known == story).unwrap().1.saturating_sub(number);
    assert!(writes <= rest + MORE_WRITES, "{name}: {writes} writes into a namespace that goes: {texts:#?}");
    let mut trouble = actor.trouble(false);
    trouble.extend(judged(&before, &stage.timeline.history()));
    assert!(trouble.is_empty(), "{name}: {trouble:#?}");
    struck
}

/// Rules about what is there: once the namespace goes, another hand deletes everything, in an order of its own.
const OF_WHAT_IS_THERE: [&str; 3] = ["I1", "I8", "I9"];

/// What is wrong with what was seen before the deletion, and after it.
fn judged(before: &History, all: &History) -> Vec<String> {
    let found = |history| watcher::check(history, &Waived { late_writes: PATIENCE, ..Waived::default() });
    let later = found(all).into_iter().filter(|finding| !OF_WHAT_IS_THERE.contains(&finding.invariant));
    found(before).into_iter().chain(later).map(|finding| finding.to_string()).collect()
}
