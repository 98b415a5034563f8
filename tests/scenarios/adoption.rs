//! An upgrade from an earlier operator: it left Deployments, Services, `ConfigMaps` and a status, and this operator takes over.

use serde_json::{Value, json};
use testbed::Options;
use testbed::harness::{CRD, TIME_LIMIT, TestEnv, case, manifest, together};
use testbed::predecessor::{Predecessor, VERSION};
use testbed::resource::{install_crd, merge, quick};
use testbed::{Kind, State, Subject, pace};

use crate::SUITE;

/// Creates a resource with what an earlier operator left on green: images with this tag and, unless `status` is null, a
/// status. The operator does not run yet.
async fn left_behind(label: &str, spec: &Value, tag: &str, status: Value) -> (TestEnv, Subject, Predecessor) {
    let mut env = SUITE.idle_env(&format!("adopt-{label}"), &[]).await;
    // The state machine begins with a status that the operator derives from the objects.
    env.waived.status = true;
    let subject = env.subject("a");
    subject.create(spec).await.unwrap();
    let earlier = Predecessor::of(&subject).await.unwrap();
    let image = |component: &str| format!("example.com/{component}:{tag}");
    earlier.leave("green", image, Some(&status).filter(|status| !status.is_null())).await.unwrap();
    (env, subject, earlier)
}

/// Returns name, UID and template of the objects on a color, which an adoption must not change.
async fn identities(env: &TestEnv, color: &str) -> Vec<(String, Value, Value)> {
    let history = env.history().await;
    let kinds = [Kind::Deployment, Kind::Pod, Kind::Service, Kind::ConfigMap];
    let all =
        kinds.into_iter().flat_map(|kind| history.all_live(kind).into_iter().cloned().collect::<Vec<_>>());
    let mut found: Vec<_> = all
        .filter(|one| one.label("strategy") == Some(color))
        .map(|one| {
            let part = |pointer| one.get(pointer).cloned().unwrap_or_default();
            let fixed = json!([
                part("/spec/template"),
                part("/spec/replicas"),
                part("/data"),
                part("/spec/clusterIP")
            ]);
            (format!("{:?} {}", one.kind, one.name), part("/metadata/uid"), fixed)
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Returns the UIDs and addresses of the front Services.
async fn fronts(env: &TestEnv) -> Vec<(String, String)> {
    let history = env.history().await;
    let of = |name: &str| {
        let front = history.live(Kind::Service, name).unwrap();
        (front.text("/metadata/uid").to_owned(), front.text("/spec/clusterIP").to_owned())
    };
    ["a-storage", "a-schema"].map(of).into()
}

/// Fails unless both front Services always listed a ready endpoint.
fn assert_served(history: &testbed::History, from: usize) {
    crate::demo::assert_both_served(history, from, "a");
}

#[test]
fn what_runs_the_images_of_the_spec_is_adopted_untouched() {
    let paused = json!({"rollout": {"paused": true}});
    let half = json!({"phase": "Stable", "activeStrategy": "green"});
    together(vec![
        case("whole", || adopted("whole", json!({}), Predecessor::status("green", "1"), VERSION)),
        case("paused", move || adopted("paused", paused, Predecessor::status("green", "1"), VERSION)),
        case("half", move || adopted("half", json!({}), half, "adopted-")),
        case("no status", || adopted("none", json!({}), Value::Null, "adopted-")),
    ]);
}

async fn adopted(label: &'static str, patch: Value, status: Value, version: &'static str) {
    let mut spec = quick("1", "1");
    merge(&mut spec, &patch);
    let (mut env, subject, _) = left_behind(label, &spec, "1", status).await;
    let (before, services) = (identities(&env, "green").await, fronts(&env).await);
    let from = env.history().await.entries().len();
    env.start();
    env.event("a", "Normal", "Adopted", "it runs the images of the spec").await;
    let entry = env.stable(&subject).await;
    let state = State(&entry);
    assert!(state.active().starts_with(version), "{:?}", state.summary());
    env.linger(3).await;
    assert_eq!(identities(&env, "green").await, before, "Pods, templates, sizes and data stay");
    assert_eq!(fronts(&env).await, services, "the front Services keep UID and address");
    assert_served(&env.history().await, from);
    // The next release is a blue-green rollout with as many Pods as the adopted one.
    subject.edit(&json!({"rollout": {"paused": false}})).await.unwrap();
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    let history = env.history().await;
    assert_served(&history, from);
    assert_eq!(history.live(Kind::Deployment, "a-storage-blue").unwrap().number("/spec/replicas"), 2);
    assert_eq!(fronts(&env).await, services);
    // The adopted release has a template, so a rollback restores it as a release of this operator.
    let version = state.active().to_owned();
    subject.annotate("e6data.io/rollback-to", &version).await.unwrap();
    env.serves(&subject, "1").await;
    env.finish().await;
}

#[test]
fn other_images_are_replaced_by_a_rollout_unless_the_resource_is_paused() {
    together(vec![
        case("tags", || replaced("tags", json!({}))),
        case("paused", || replaced("tags-paused", json!({"rollout": {"paused": true}}))),
    ]);
}

async fn replaced(label: &'static str, patch: Value) {
    let mut spec = quick("2", "2");
    merge(&mut spec, &patch);
    let (mut env, subject, _) = left_behind(label, &spec, "1", Predecessor::status("green", "1")).await;
    let before = identities(&env, "green").await;
    let from = env.history().await.entries().len();
    env.start();
    env.event("a", "Normal", "Adopted", "its template is unknown").await;
    if patch != json!({}) {
        let waits = |state: State<'_>| {
            state.step() == "Stable" && state.condition("SpecApplied", "reason") == "Paused"
        };
        let entry = env.until(&subject, "to wait", waits).await;
        assert_eq!(State(&entry).active(), VERSION);
        env.linger(3).await;
        assert_eq!(identities(&env, "green").await, before);
        subject.edit(&json!({"rollout": {"paused": false}})).await.unwrap();
    }
    let entry = env.serves(&subject, "2").await;
    assert_eq!(State(&entry).color(), "blue");
    assert_served(&env.history().await, from);
    subject.annotate("e6data.io/rollback-to", VERSION).await.unwrap();
    env.event("a", "Warning", "RequestRefused", "cannot be used: it is gone").await;
    env.finish().await;
}

/// The operator is killed after each of its first writes, and starts again.
#[tokio::test]
async fn an_operator_that_is_killed_in_an_adoption_completes_it() {
    let spec = quick("1", "1");
    let (mut env, subject, _) = left_behind("killed", &spec, "1", Predecessor::status("green", "1")).await;
    let before = identities(&env, "green").await;
    let from = env.history().await.entries().len();
    for _ in 0..4 {
        let count = env.timeline.history().entries().len();
        env.start();
        env.wait("a write", |history| (history.entries().len() > count).then_some(())).await;
        env.kill().await;
    }
    env.start();
    let entry = env.stable(&subject).await;
    assert_eq!(State(&entry).active(), VERSION);
    assert_eq!(identities(&env, "green").await, before);
    assert_served(&env.history().await, from);
    env.finish().await;
}

/// Everything that cannot be adopted is named, and nothing is written to it.
#[test]
fn what_cannot_be_adopted_is_named_and_left_alone() {
    together(vec![
        case("port", || {
            refused("port", "a port of Service a-storage (9005) does not lead to container port 9005")
        }),
        case("owner", || refused("owner", "Service a-storage (it has no controller)")),
        case("labels", || refused("labels", "lack the label strategy=green")),
        case("colors", || refused("colors", "both colors have Deployments")),
    ]);
}

async fn refused(fault: &'static str, message: &'static str) {
    let env = SUITE.idle_env(&format!("adopt-not-{fault}"), &[]).await;
    let mut env = env;
    let subject = env.subject("a");
    subject.create(&quick("1", "1")).await.unwrap();
    let earlier = Predecessor::of(&subject).await.unwrap();
    let image = |component: &str| format!("example.com/{component}:1");
    let mut objects = earlier.release("green", image);
    let mut services = earlier.fronts("green");
    match fault {
        "port" => services[0]["spec"]["ports"][0]["targetPort"] = json!(8080),
        "owner" => services[0]["metadata"]["ownerReferences"] = json!([]),
        "labels" => {
            let deployment = objects.iter_mut().find(|one| one["kind"] == "Deployment").unwrap();
            let selector = json!({"app": "a", "component": "storage"});
            deployment["spec"]["selector"]["matchLabels"] = selector.clone();
            deployment["spec"]["template"]["metadata"]["labels"] = selector;
        }
        _ => {
            objects.extend(earlier.release("blue", image));
            services.clear();
        }
    }
    for object in objects.iter().chain(&services) {
        earlier.create(object).await.unwrap();
    }
    env.linger(2).await;
    let before = [identities(&env, "blue").await, identities(&env, "green").await];
    let versions = || async {
        let history = env.history().await;
        let kinds = [Kind::Service, Kind::ConfigMap];
        let all = kinds
            .into_iter()
            .flat_map(|kind| history.all_live(kind).into_iter().cloned().collect::<Vec<_>>());
        all.map(|one| (one.name.clone(), one.resource_version)).collect::<Vec<_>>()
    };
    let unchanged = versions().await;
    env.start();
    let reported = |state: State<'_>| {
        state.condition("Stalled", "reason") == "CannotAdopt"
            && state.condition("Stalled", "message").contains(message)
    };
    env.until(&subject, "CannotAdopt", reported).await;
    env.event("a", "Warning", "CannotAdopt", message).await;
    env.linger(3).await;
    assert_eq!([identities(&env, "blue").await, identities(&env, "green").await], before);
    let history = env.history().await;
    for (name, version) in unchanged {
        let now =
            [Kind::Service, Kind::ConfigMap].into_iter().find_map(|kind| history.live(kind, &name)).unwrap();
        assert_eq!(now.resource_version, version, "{name} is not written");
    }
    assert!(history.all_live(Kind::ControllerRevision).is_empty());
    env.leave().await;
}

/// Both colors of an earlier operator are there: the one with traffic is adopted, the other is left alone and named, and a
/// release starts after a person has deleted it.
#[tokio::test]
async fn the_color_without_traffic_is_left_alone() {
    let spec = quick("1", "1");
    let (mut env, subject, earlier) = left_behind("both", &spec, "1", Value::Null).await;
    for object in earlier.release("blue", |component| format!("example.com/{component}:0")) {
        earlier.create(&object).await.unwrap();
    }
    env.linger(2).await;
    let blue = identities(&env, "blue").await;
    env.start();
    env.event("a", "Normal", "Adopted", "Left alone: the storage Deployment of blue").await;
    env.stable(&subject).await;
    subject.upgrade("2", "2").await.unwrap();
    let named = |state: State<'_>| {
        state.condition("Stalled", "reason") == "NameTaken"
            && state.condition("Stalled", "message").contains("an earlier operator made it")
    };
    env.until(&subject, "NameTaken", named).await;
    assert_eq!(identities(&env, "blue").await, blue);
    for component in ["storage", "schema"] {
        env.delete(Kind::Deployment, &format!("a-{component}-blue")).await;
        env.delete(Kind::Service, &format!("a-{component}-blue")).await;
        env.delete(Kind::ConfigMap, &format!("a-{component}-config-blue")).await;
    }
    env.serves(&subject, "2").await;
    env.finish().await;
}

/// A resource is older than a rule that its name breaks: its release is adopted, and the status says that it is invalid.
#[tokio::test]
async fn a_resource_that_breaks_a_newer_rule_is_adopted_and_named_as_invalid() {
    let cluster = SUITE.own("long-name", Options::default()).await;
    let crd = |path: &str| manifest::<Value>(path);
    install_crd(&cluster.client, &crd("crds/legacy/metadataservices.e6data.io.yaml"), TIME_LIMIT)
        .await
        .unwrap();
    let mut env = SUITE.env_on(&cluster.control_plane, "adopt-name", &[]).await;
    let subject = env.subject(&"a".repeat(45));
    // The API server uses the rules of the CRD before for a moment.
    let start = std::time::Instant::now();
    while subject.create(&quick("1", "1")).await.is_err() {
        assert!(pace::elapsed(start) < TIME_LIMIT, "an older CRD has no rule for names");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let earlier = Predecessor::of(&subject).await.unwrap();
    earlier.leave("green", |component| format!("example.com/{component}:1"), None).await.unwrap();
    install_crd(&cluster.client, &crd(CRD), TIME_LIMIT).await.unwrap();
    env.start();
    let told = |state: State<'_>| {
        state.condition("Stalled", "reason") == "Invalid"
            && state.condition("Stalled", "message").contains("at most 39 characters")
            && state.color() == "green"
    };
    env.until(&subject, "to be adopted and invalid", told).await;
    let refused = env.subject(&"b".repeat(45)).create(&quick("1", "1")).await.unwrap_err().to_string();
    assert!(refused.contains("at most 39 characters"), "{refused}");
    env.leave().await;
}
