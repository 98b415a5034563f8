//! Several resources at once.

use serde_json::json;

use crate::SUITE;
use crate::real_node::on_node;
use crate::resource_under_load::{RATE, ResourceUnderLoad};

#[test]
#[ignore = "`make e2e-all` runs it"]
fn three_resources_upgrade_at_once() {
    on_node(async |cluster| {
        let mut resources = vec![];
        for name in ["a", "b", "c"] {
            let mut env = SUITE.env_on(cluster, "crowd", &[]).await;
            env.start();
            resources.push(ResourceUnderLoad::with(env, &json!({}), name, RATE / 3).await);
        }
        for resource in &mut resources {
            resource.phase("upgrade");
            resource.upgrade().await;
        }
        for resource in &resources {
            resource.serves(resource.tag()).await;
        }
        for resource in resources {
            resource.close().await;
        }
    });
}
