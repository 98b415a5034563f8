//! Watches that fall silent while nothing is under way: the operator's client finds them out by itself.

use std::time::{Duration, Instant};

use testbed::Kind;
use testbed::proxy::Plan;
use testbed::watcher::{self, Waived};

use crate::bench::{Bench, Stage};
use crate::scenario::{NAME, Scenario};

/// After how long without a word the client gives a watch up.
const IDLE: Duration = Duration::from_secs(295);

/// How long the upgrade itself may take.
const UPGRADE: Duration = Duration::from_secs(60);

/// An edit that no watch tells is found and carried out.
pub async fn at_rest(bench: &Bench) {
    let (namespace, scenario) = ("silence", Scenario::Upgrade);
    let Stage { timeline, proxy, .. } = &Stage::set(bench, namespace, scenario, Plan::default()).await;
    // The watches follow their lists.
    tokio::time::sleep(Duration::from_secs(2)).await;
    proxy.stall_watches();
    let (_, deed) = scenario.story()[0];
    deed.act(&bench.client, namespace, scenario).await;
    let edited = Instant::now();
    let over = |history: &testbed::History| {
        history.live(Kind::MetadataServices, NAME).filter(|owner| deed.is_over(&owner.object)).map(|_| ())
    };
    timeline.wait_until("the edit to be carried out", IDLE + UPGRADE, over).await.unwrap();
    // Were it sooner, a watch told it.
    assert!(edited.elapsed() > UPGRADE, "the watches were not silent: {:?}", edited.elapsed());
    println!(
        "silence: an edit that no watch told was carried out after {:.0} s",
        edited.elapsed().as_secs_f64()
    );
    timeline.settle(UPGRADE).await.unwrap();
    assert_eq!(watcher::check(&timeline.history(), &Waived::default()), []);
}
