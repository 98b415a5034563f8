//! Failed releases: rolled back before the switch and after it.

use serde_json::json;

use crate::pod_faults::{self, set_behavior};
use crate::real_node::on_node;
use crate::resource_under_load::{RATE, ResourceUnderLoad};

#[test]
#[ignore = "`make e2e-all` runs it"]
fn rolled_back_before_the_switch() {
    on_node(async |cluster| {
        let mut resource =
            ResourceUnderLoad::open(cluster, "before", &json!({"deployTimeoutSeconds": 8})).await;
        let good = resource.tag();
        let bad: [(&str, &[(&str, &str)]); 3] = [
            ("it crashes", &[("CRASH_SECONDS", "1")]),
            ("it is never ready", &[("NEVER_READY", "1")]),
            ("its liveness fails", &[("UNLIVE_SECONDS", "0"), ("DRAIN_SECONDS", "0")]),
        ];
        // The liveness probe fails two seconds after readiness: before the switch, if Pods must stay ready for
        // longer.
        resource.subject.edit(&json!({"schema": {"minReadySeconds": 4}})).await.unwrap();
        let switches = resource.switches();
        for (phase, variables) in bad {
            resource.phase(phase);
            resource.upgrade_with(&[], variables).await;
            resource.step("Deploying").await;
            resource.rolled_back(good).await;
        }
        resource.phase("its image is missing");
        resource.subject.edit(&json!({"schema": {"imageTag": "missing"}})).await.unwrap();
        resource.step("Deploying").await;
        resource.rolled_back(good).await;
        assert_eq!(resource.switches(), switches, "traffic never moved");
        resource.close().await;
    });
}

/// An unready release that still answers causes no failed request. A crashing release breaks its own connections
/// until kubelet and kube-proxy notice, for each Pod.
#[test]
fn rolled_back_after_the_switch() {
    on_node(async |cluster| {
        let mut resource = ResourceUnderLoad::open(cluster, "after", &json!({"switchDwellSeconds": 4})).await;
        let good = resource.tag();
        for step in ["Switching", "Watching"] {
            for (component, behavior) in [("storage", "unready"), ("schema", "unlive"), ("storage", "gone")] {
                resource.phase(&format!("{component} is {behavior} in {step}"));
                let switches = resource.switches();
                resource.keep_old_pods(60).await;
                resource.upgrade().await;
                resource.step(step).await;
                // After kube-proxy has followed, the clients reach the broken Pods.
                resource.env.linger(1).await;
                if behavior != "unready" {
                    // Half of the Pods refuse connections for two seconds at most, and break the open ones.
                    resource.own_failures(15, u64::from(RATE) * 2);
                }
                set_behavior(&resource, component, behavior, 1).await;
                resource.rolling_back().await;
                resource.rolled_back(good).await;
                assert_eq!(resource.switches(), switches + 2, "there and back");
            }
        }
        resource.close().await;
    });
}

/// Events that look like a failure of the release. The release stays active.
#[test]
fn no_rollback_without_a_fault() {
    on_node(async |cluster| {
        let mut resource =
            ResourceUnderLoad::open(cluster, "no-fault", &json!({"cleanupDelaySeconds": 12})).await;
        for phase in ["a deleted pod", "an evicted pod", "a scale-up"] {
            resource.phase(&format!("{phase} in Watching"));
            let switches = resource.switches();
            let tag = resource.upgrade().await;
            resource.step("Watching").await;
            match phase {
                "a deleted pod" => pod_faults::delete_one(&resource, "storage").await,
                "an evicted pod" => pod_faults::evict_one(&resource, "schema").await,
                _ => resource.subject.edit(&json!({"storage": {"replicas": 4}})).await.unwrap(),
            }
            resource.serves(tag).await;
            assert_eq!(resource.switches(), switches + 1, "no way back");
        }
        resource.close().await;
    });
}
