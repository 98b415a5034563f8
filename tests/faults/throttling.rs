//! An operator that receives a 429 waits for `Retry-After`, even if the resource changes meanwhile.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::harness::{NAME, TestCluster};
use testbed::proxy::{Fault, Plan};
use testbed::{History, Kind, UserAction};

use crate::fixtures::prepared;
use crate::scenario::{Scenario, is_complete};

/// Time limit for the request after the 429.
const LIMIT: Duration = Duration::from_secs(60);

/// A time that is short compared to `Retry-After`.
const SHORT: Duration = Duration::from_millis(300);

/// The first write of a requested retry gets a 429. The test removes the request, so that no work is left, and repeats it,
/// all within `Retry-After`. A reconcile without work must not end the wait early.
pub async fn retry_after_is_respected(cluster: &TestCluster) {
    let plan = Plan::on_write(1, Fault::Answer(429));
    let (resource, operator) = prepared(cluster, "throttling", Scenario::Upgrade, plan).await;
    UserAction::Retry.perform(&resource.subject).await.unwrap();
    testbed::harness::wait_for("the 429", || !operator.proxy.writes().is_empty()).await;
    for request in [Value::Null, json!("again")] {
        let annotations = json!({"metadata": {"annotations": {"e6data.io/retry": request}}});
        resource.subject.patch(&annotations).await.unwrap();
        tokio::time::sleep(SHORT).await;
    }
    let complete = |history: &History| {
        let owner = history.live(Kind::MetadataServices, NAME)?;
        is_complete(&UserAction::Retry, &owner.object).then_some(())
    };
    resource.timeline.wait_until("the retry to be answered", LIMIT, complete).await.unwrap();
    assert!(operator.proxy.writes().len() > 1, "{:?}", operator.proxy.writes());
    assert_eq!(operator.violations(), Vec::<String>::new());
    assert_eq!(resource.violations().await, Vec::<String>::new());
}
