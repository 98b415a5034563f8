//! Good releases: upgrades, edits and ways back, in every step.

use serde_json::json;

use crate::ground::on_node;
use crate::stage::Stage;

/// The step a resource is in while the release of a rollout goes through it, in their order.
const STEPS: [&str; 4] = ["Deploying", "Switching", "Watching", "Prune"];

#[test]
fn upgrades_and_ways_back() {
    on_node(async |cluster| {
        let mut stage = Stage::open(cluster, "upgrades", &json!({})).await;
        for scene in ["upgrade", "a second one, back to back"] {
            stage.scene(scene);
            let tag = stage.upgrade().await;
            stage.serves(tag).await;
        }
        undo(&mut stage).await;
        rollback(&mut stage).await;
        abort(&mut stage).await;
        stage.close().await;
    });
}

/// Editing back while the old color is warm: traffic returns at once.
async fn undo(stage: &mut Stage) {
    stage.scene("undo by an edit in Watching");
    stage.warm(60).await;
    let (before, switches) = (stage.tag(), stage.switches());
    stage.upgrade().await;
    stage.step("Watching").await;
    stage.ask(before, &[], &[]).await;
    stage.returns().await;
    stage.serves(before).await;
    assert_eq!(stage.switches(), switches + 2, "there and back");
}

async fn rollback(stage: &mut Stage) {
    stage.scene("manual rollback to a warm color");
    let before = stage.tag() - 1;
    let good = stage.version(before);
    stage.warm(60).await;
    stage.upgrade().await;
    stage.step("Watching").await;
    stage.subject.annotate("e6data.io/rollback-to", &good).await.unwrap();
    stage.returns().await;
    stage.serves(before).await;
    stage.scene("manual rollback to a color that is gone");
    let tag = stage.upgrade().await;
    stage.serves(tag).await;
    stage.subject.annotate("e6data.io/rollback-to", &good).await.unwrap();
    stage.serves(before).await;
    stage.scene("restart");
    stage.subject.annotate("e6data.io/restart", "now").await.unwrap();
    let switches = stage.switches();
    stage.step("Switching").await;
    stage.serves(before).await;
    assert_eq!(stage.switches(), switches + 1);
}

/// Editing back before the switch: nothing moves.
async fn abort(stage: &mut Stage) {
    stage.scene("abort");
    let tag = stage.upgrade().await;
    stage.serves(tag).await;
    let switches = stage.switches();
    stage.upgrade().await;
    stage.step("Deploying").await;
    stage.ask(tag, &[], &[]).await;
    stage.serves(tag).await;
    assert_eq!(stage.switches(), switches, "traffic never moved");
}

#[test]
#[ignore = "`make e2e-all` runs it"]
fn edits_in_every_step() {
    on_node(async |cluster| {
        let mut stage = Stage::open(cluster, "edits", &json!({"switchDwellSeconds": 2})).await;
        for step in STEPS {
            stage.scene(&format!("edit in {step}"));
            stage.upgrade().await;
            stage.step(step).await;
            let tag = stage.upgrade().await;
            stage.serves(tag).await;
        }
        stage.close().await;
    });
}
