//! The upgrade from an earlier operator under load: this operator adopts what runs, and the next release replaces it.

use serde_json::json;
use testbed::predecessor::Predecessor;

use crate::SUITE;
use crate::real_node::on_node;
use crate::resource_under_load::{NAME, RATE, ResourceUnderLoad, spec};

/// No request fails from before the operator starts until the release of the spec serves. The earlier release runs another
/// tag, and names its ports differently.
#[test]
fn the_release_of_an_earlier_operator_is_adopted_and_replaced() {
    on_node(async |cluster| {
        let mut env = SUITE.env_on(cluster, "adoption", &[]).await;
        env.waived.status = true;
        let subject = env.subject(NAME);
        let mut wanted = spec(&json!({"paused": true}));
        testbed::resource::merge(&mut wanted, &crate::resource_under_load::release(2, &[], &[]));
        subject.create(&wanted).await.unwrap();
        let earlier = Predecessor::of(&subject).await.unwrap();
        earlier.leave("green", |component| format!("e2e/{component}:1"), None).await.unwrap();
        let mut resource = ResourceUnderLoad::serving(env, subject, RATE).await;
        resource.phase("adopted");
        resource.env.start();
        resource.env.event(NAME, "Normal", "Adopted", "its template is unknown").await;
        resource.env.linger(5).await;
        resource.step_is("Stable");
        resource.phase("replaced by the release of the spec");
        resource.subject.edit(&json!({"rollout": {"paused": false}})).await.unwrap();
        resource.serves(2).await;
        resource.close().await;
    });
}
