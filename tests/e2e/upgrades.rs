//! Successful releases: upgrades, edits and rollbacks, in every step.

use serde_json::json;

use crate::real_node::on_node;
use crate::resource_under_load::ResourceUnderLoad;

/// The steps of a rollout in their order.
const STEPS: [&str; 4] = ["Deploying", "Switching", "Watching", "Prune"];

#[test]
fn upgrades_and_ways_back() {
    on_node(async |cluster| {
        let mut resource = ResourceUnderLoad::open(cluster, "upgrades", &json!({})).await;
        for phase in ["upgrade", "a second one, back to back"] {
            resource.phase(phase);
            let tag = resource.upgrade().await;
            resource.serves(tag).await;
        }
        undo(&mut resource).await;
        rollback(&mut resource).await;
        abort(&mut resource).await;
        resource.close().await;
    });
}

/// Returns to the previous spec while the previous Pods run: traffic switches back at once.
async fn undo(resource: &mut ResourceUnderLoad) {
    resource.phase("undo by an edit in Watching");
    resource.keep_old_pods(60).await;
    let (before, switches) = (resource.tag(), resource.switches());
    resource.upgrade().await;
    resource.step("Watching").await;
    resource.ask(before, &[], &[]).await;
    resource.rolling_back().await;
    resource.serves(before).await;
    assert_eq!(resource.switches(), switches + 2, "there and back");
}

async fn rollback(resource: &mut ResourceUnderLoad) {
    resource.phase("manual rollback to a warm color");
    let before = resource.tag() - 1;
    let good = resource.version(before);
    resource.keep_old_pods(60).await;
    resource.upgrade().await;
    resource.step("Watching").await;
    resource.subject.annotate("e6data.io/rollback-to", &good).await.unwrap();
    resource.rolling_back().await;
    resource.serves(before).await;
    resource.phase("manual rollback to a color that is gone");
    let tag = resource.upgrade().await;
    resource.serves(tag).await;
    resource.subject.annotate("e6data.io/rollback-to", &good).await.unwrap();
    resource.serves(before).await;
    resource.phase("restart");
    resource.subject.annotate("e6data.io/restart", "now").await.unwrap();
    let switches = resource.switches();
    resource.step("Switching").await;
    resource.serves(before).await;
    assert_eq!(resource.switches(), switches + 1);
}

/// Returns to the previous spec before the switch: traffic does not move.
async fn abort(resource: &mut ResourceUnderLoad) {
    resource.phase("abort");
    let tag = resource.upgrade().await;
    resource.serves(tag).await;
    let switches = resource.switches();
    resource.upgrade().await;
    resource.step("Deploying").await;
    resource.ask(tag, &[], &[]).await;
    resource.serves(tag).await;
    assert_eq!(resource.switches(), switches, "traffic never moved");
}

#[test]
#[ignore = "`make e2e-all` runs it"]
fn edits_in_every_step() {
    on_node(async |cluster| {
        let mut resource = ResourceUnderLoad::open(cluster, "edits", &json!({"switchDwellSeconds": 2})).await;
        for step in STEPS {
            resource.phase(&format!("edit in {step}"));
            resource.upgrade().await;
            resource.step(step).await;
            let tag = resource.upgrade().await;
            resource.serves(tag).await;
        }
        resource.close().await;
    });
}
