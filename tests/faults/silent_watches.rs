//! Watches that stop sending events while nothing is pending: the operator's client detects them by itself.

use std::time::{Duration, Instant};

use testbed::harness::{NAME, TestCluster};
use testbed::proxy::Plan;
use testbed::{History, Kind};

use crate::fixtures::prepared;
use crate::scenario::{Scenario, is_complete};

/// Time without data after which the client closes a watch.
const IDLE: Duration = Duration::from_secs(295);

/// Time limit for the upgrade itself.
const UPGRADE: Duration = Duration::from_secs(60);

/// The operator carries out an edit that no watch reported.
pub async fn are_detected_at_rest(cluster: &TestCluster) {
    let scenario = Scenario::Upgrade;
    let (resource, operator) = prepared(cluster, "silent-watches", scenario, Plan::default()).await;
    // The watches open after their lists.
    tokio::time::sleep(Duration::from_secs(2)).await;
    operator.proxy.stall_watches();
    let (_, action) = scenario.actions().swap_remove(0);
    action.perform(&resource.subject).await.unwrap();
    let edited = Instant::now();
    let complete = |history: &History| {
        let owner = history.live(Kind::MetadataServices, NAME)?;
        is_complete(&action, &owner.object).then_some(())
    };
    resource.timeline.wait_until("the edit to be carried out", IDLE + UPGRADE, complete).await.unwrap();
    let seconds = edited.elapsed().as_secs_f64();
    assert!(edited.elapsed() > UPGRADE, "the watches were not silent: {seconds:.0} s");
    println!("silent watches: the operator carried out an unreported edit after {seconds:.0} s");
    assert_eq!(resource.violations().await, Vec::<String>::new());
}
