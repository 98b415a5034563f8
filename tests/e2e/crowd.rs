//! Several resources at once.

use serde_json::json;

use crate::bed::Bed;
use crate::ground::on_node;
use crate::stage::{RATE, Stage};

#[test]
#[ignore = "`make e2e-all` runs it"]
fn three_resources_upgrade_at_once() {
    on_node(async |cluster| {
        let mut stages = vec![];
        for name in ["a", "b", "c"] {
            let mut bed = Bed::on(cluster, "crowd", &[]).await;
            bed.start();
            stages.push(Stage::with(bed, &json!({}), name, RATE / 3).await);
        }
        for stage in &mut stages {
            stage.scene("upgrade");
            stage.upgrade().await;
        }
        for stage in &stages {
            stage.serves(stage.tag()).await;
        }
        for stage in stages {
            stage.close().await;
        }
    });
}
