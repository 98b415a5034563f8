//! An API server that asks for time (429) gets it, whatever happens to the resource meanwhile.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::proxy::{Fault, Plan};
use testbed::watcher::{self, Waived};
use testbed::{History, Kind};

use crate::bench::{Bench, Stage, until};
use crate::deed::{Deed, resources};
use crate::scenario::{NAME, Scenario};

/// How long each part may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short in comparison with what the API server asks for.
const MOMENT: Duration = Duration::from_millis(300);

/// The first write of a request by annotation is answered with 429. The request is taken back, so that there is nothing to
/// do, and made again, all before the time is over: that there was nothing to do in between is no reason to come earlier.
pub async fn left_alone(bench: &Bench) {
    let (namespace, scenario) = ("busy", Scenario::Upgrade);
    let plan = Plan::on_write(1, Fault::Answer(429));
    let Stage { timeline, proxy, .. } = &Stage::set(bench, namespace, scenario, plan).await;
    Deed::Retry.act(&bench.client, namespace, scenario).await;
    until("the 429", || !proxy.writes().is_empty()).await;
    for request in [Value::Null, json!("again")] {
        let annotations = json!({"metadata": {"annotations": {"e6data.io/retry": request}}});
        let api = resources(&bench.client, Some(namespace));
        api.patch(NAME, &PatchParams::default(), &Patch::Merge(&annotations)).await.unwrap();
        tokio::time::sleep(MOMENT).await;
    }
    let over = |history: &History| {
        let owner = history.live(Kind::MetadataServices, NAME)?;
        Deed::Retry.is_over(&owner.object).then_some(())
    };
    timeline.wait_until("the request to be answered", PATIENCE, over).await.unwrap();
    timeline.settle(PATIENCE).await.unwrap();
    assert!(proxy.writes().len() > 1, "{:?}", proxy.writes());
    assert_eq!(proxy.findings(NAME), Vec::<String>::new());
    assert_eq!(watcher::check(&timeline.history(), &Waived::default()), []);
}
