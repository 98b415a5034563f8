//! Evaluates the CEL rules in this process: accepted values, refused values, and the field of each error.
//!
//! The scenarios test that a real API server compiles the rules and gives the same results.

// A test fails by unwrapping or indexing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{collections::BTreeSet, time::Instant};

use api::{
    MetadataServicesSpec,
    crd::{crd, schema_of},
    validate::{Validator, Violation},
};
use serde_json::{Value, json};

fn full_spec() -> Value {
    serde_json::from_str(include_str!("data/full-spec.json")).unwrap()
}

fn minimal_spec() -> Value {
    json!({"storage": {"imageTag": "1"}, "schema": {"imageTag": "1"}})
}

fn judge(name: &str, spec: &Value) -> Vec<Violation> {
    Validator::shared().validate_spec_value(name, spec).err().unwrap_or_default()
}

/// Returns the spec with a value set. Missing parents are created.
fn with(mut spec: Value, path: &str, value: Value) -> Value {
    let mut node = &mut spec;
    for key in path.split('.') {
        node = &mut node[key];
    }
    *node = value;
    spec
}

/// Calls `f` on every node of a schema.
fn visit(node: &Value, f: &mut impl FnMut(&Value)) {
    f(node);
    for child in
        node.get("properties").and_then(Value::as_object).into_iter().flat_map(|parts| parts.values())
    {
        visit(child, f);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = node.get(key) {
            visit(child, f);
        }
    }
}

#[test]
fn the_full_spec_is_valid_and_every_rule_can_be_evaluated_here() {
    assert_eq!(judge("sample1", &full_spec()), []);
    let object = json!({"metadata": {"name": "sample1"}, "spec": full_spec()});
    let findings = Validator::shared().rules(&object);
    assert_eq!(findings.unevaluated, Vec::<String>::new());
}

const RANGES: [(&str, i64, i64); 13] = [
    ("rollout.gracePeriodSeconds", 0, 3600),
    ("rollout.deployTimeoutSeconds", 5, 7200),
    ("rollout.switchDwellSeconds", 0, 600),
    ("rollout.cleanupDelaySeconds", 0, 3600),
    ("rollout.autoRollback.failureThresholdSeconds", 0, 3600),
    ("rollout.historyLimit", 2, 10),
    ("storage.replicas", 1, 1000),
    ("storage.terminationGracePeriodSeconds", 0, 3600),
    ("schema.progressDeadlineSeconds", 60, 86_400),
    ("schema.service.port", 1, 65_535),
    ("storage.preStopSleepSeconds", 0, 600),
    ("storage.minReadySeconds", 0, 3600),
    ("schema.minReadySeconds", 0, 3600),
];

#[test]
fn ranges_are_enforced_at_both_bounds() {
    // High limits for the fields that must also be below another field.
    let part =
        json!({"imageTag": "1", "terminationGracePeriodSeconds": 3600, "progressDeadlineSeconds": 86_400});
    let roomy = json!({"storage": part, "schema": part, "rollout": {"deployTimeoutSeconds": 7200}});
    for (path, low, high) in RANGES {
        for (value, legal) in [(low - 1, false), (low, true), (high, true), (high + 1, false)] {
            let found = judge("a", &with(roomy.clone(), path, json!(value)));
            assert_eq!(found.is_empty(), legal, "{path} = {value}: {found:?}");
            if !legal {
                let field = path.rsplit('.').next().unwrap();
                assert!(found[0].field.ends_with(path), "{found:?}");
                assert!(found[0].message.starts_with(&format!("{field} must be between {low} and {high}: ")));
            }
        }
    }
}

#[test]
fn names_are_bounded() {
    for name in ["a", "sample1", "a-b", &"x".repeat(39)] {
        assert_eq!(judge(name, &minimal_spec()), [], "{name}");
    }
    for name in ["", "1a", "A", "a-", "a.b", &"x".repeat(40)] {
        assert_eq!(judge(name, &minimal_spec()).len(), 1, "{name}");
    }
}

#[test]
fn legal_values_pass() {
    let legal = [
        ("storage.imageTag", json!("_")),
        ("storage.imageTag", json!("a".repeat(128))),
        ("imageRepository", json!("registry.example.com:5000")),
        ("imageRepository", json!("111122223333.dkr.ecr.us-east-1.amazonaws.com/team/e6_data")),
        ("storage.imageRepository", json!("localhost:5000/storage")),
        ("storage.imageRepository", json!("library/e6__data")),
        ("workspace", json!("a".repeat(63))),
        ("storageBackend", json!("wasbs://c@account.blob.core.windows.net/x")),
        ("storage.podDisruptionBudget.minAvailable", json!("100%")),
        ("storage.podDisruptionBudget.maxUnavailable", json!(0)),
        ("storage.resources.requests", json!({"cpu": 1})),
        ("storage.preStopSleepSeconds", json!(29)),
        ("storage.terminationGracePeriodSeconds", json!(0)),
        ("storage.podLabels", json!({"azure.workload.identity/use": "true", "x": ""})),
        ("rollout", json!({"switchDwellSeconds": 0, "cleanupDelaySeconds": 3})),
        ("rollout", json!({"switchDwellSeconds": 3, "cleanupDelaySeconds": 0})),
        // Only the API server checks the enumeration, so the operator can read a value of a newer version.
        ("cloud", json!("OCI")),
    ];
    for (path, value) in legal {
        assert_eq!(judge("a", &with(minimal_spec(), path, value.clone())), [], "{path} = {value}");
    }
}

/// Path of the field to set, its value, and the field of the expected error.
type Case = (&'static str, Value, &'static str);

fn illegal() -> Vec<Case> {
    [illegal_common(), illegal_of_a_component(), illegal_metadata()].concat()
}

fn illegal_common() -> Vec<Case> {
    vec![
        ("imageRepository", json!("registry.example.com/e6data/"), "imageRepository"),
        ("imageRepository", json!("registry.example.com/e6data:1"), "imageRepository"),
        ("workspace", json!(""), "workspace"),
        ("workspace", json!("a".repeat(64)), "workspace"),
        ("tenant", json!(""), "tenant"),
        ("releaseVersion", json!(""), "releaseVersion"),
        ("releaseVersion", json!("v1 "), "releaseVersion"),
        ("storageBackend", json!("bucket"), "storageBackend"),
        ("s3Endpoint", json!("minio:9000"), "s3Endpoint"),
        ("nodeSelector", json!({"a b": "c"}), "nodeSelector"),
        ("nodeSelector", json!({"a": "b c"}), "nodeSelector"),
        ("priorityClassName", json!("A"), "priorityClassName"),
        ("karpenterNodePool", json!("a b"), "karpenterNodePool"),
        ("serviceAccount", json!({"create": true, "name": "default"}), "serviceAccount"),
        ("affinity", json!({"nodeAfinity": {}}), "affinity"),
        ("serviceAccount.annotations", json!({"a b": "c"}), "serviceAccount.annotations"),
        ("serviceAccount.annotations", json!({"e6data.io/a": "c"}), "serviceAccount.annotations"),
        ("serviceAccount.name", json!("A"), "serviceAccount.name"),
        ("rollout", json!({"switchDwellSeconds": 2, "cleanupDelaySeconds": 0}), "rollout"),
        ("rollout.deployTimeoutSeconds", json!("600"), ""),
    ]
}

fn illegal_of_a_component() -> Vec<Case> {
    let mount = json!([{"name": "ca", "mountPath": "/ca"}]);
    vec![
        ("storage.imageTag", json!(""), "storage.imageTag"),
        ("storage.imageTag", json!("repo/image:tag"), "storage.imageTag"),
        ("storage.imageTag", json!("a".repeat(129)), "storage.imageTag"),
        ("storage.imageDigest", json!("sha256:abc"), "storage.imageDigest"),
        ("storage.imageRepository", json!("repo/image:tag"), "storage.imageRepository"),
        ("storage.imageRepository", json!("repo/image@sha256:0"), "storage.imageRepository"),
        ("storage.config", json!({"a b": "c"}), "storage.config"),
        ("storage.config", json!({"": "c"}), "storage.config"),
        ("storage.env", json!([{"name": ""}]), "storage.env"),
        ("storage.extraVolumes", json!([{"name": "e6data-config"}]), "storage.extraVolumes"),
        ("storage.extraVolumes", json!([{"name": "a", "configmap": {}}]), "storage.extraVolumes[0]"),
        ("storage.extraVolumeMounts", mount, "storage"),
        (
            "storage.extraVolumeMounts",
            json!([{"name": "a", "mountPath": "/etc/e6data"}]),
            "storage.extraVolumeMounts",
        ),
        ("storage.preStopSleepSeconds", json!(30), "storage"),
        ("storage.minReadySeconds", json!(600), "storage"),
    ]
}

fn illegal_metadata() -> Vec<Case> {
    vec![
        ("storage.podLabels", json!({"app": "x"}), "storage.podLabels"),
        ("storage.podLabels", json!({"component": "x"}), "storage.podLabels"),
        ("storage.podLabels", json!({"strategy": "x"}), "storage.podLabels"),
        ("storage.podLabels", json!({"e6data.io/x": "x"}), "storage.podLabels"),
        ("storage.podLabels", json!({"app.kubernetes.io/name": "x"}), "storage.podLabels"),
        ("storage.podAnnotations", json!({"e6data.io/epoch": "x"}), "storage.podAnnotations"),
        ("schema.service.labels", json!({"app": "x"}), "schema.service.labels"),
        ("storage.podAnnotations", json!({"a b": "c"}), "storage.podAnnotations"),
        ("storage.podLabels", json!({"a b": "c"}), "storage.podLabels"),
        ("storage.podLabels", json!({"a": "b c"}), "storage.podLabels"),
        ("storage.service.annotations", json!({"a b": "c"}), "storage.service.annotations"),
        ("storage.service.annotations", json!({"e6data.io/a": "c"}), "storage.service.annotations"),
        ("storage.service.labels", json!({"a b": "c"}), "storage.service.labels"),
        ("storage.service.labels", json!({"a": "b c"}), "storage.service.labels"),
        (
            "storage.podDisruptionBudget.minAvailable",
            json!("101%"),
            "storage.podDisruptionBudget.minAvailable",
        ),
        (
            "storage.podDisruptionBudget.maxUnavailable",
            json!(-1),
            "storage.podDisruptionBudget.maxUnavailable",
        ),
        (
            "schema.podDisruptionBudget",
            json!({"minAvailable": 1, "maxUnavailable": 1}),
            "schema.podDisruptionBudget",
        ),
    ]
}

#[test]
fn illegal_values_are_refused_at_their_field() {
    for (path, value, field) in illegal() {
        let found = judge("a", &with(minimal_spec(), path, value.clone()));
        let field = if field.is_empty() { "spec".to_owned() } else { format!("spec.{field}") };
        assert!(found.iter().any(|violation| violation.field == field), "{path} = {value}: {found:?}");
    }
}

#[test]
fn every_rule_is_broken_by_some_case() {
    let mut broken = BTreeSet::new();
    let mut break_with = |name: &str, spec: &Value| {
        broken.extend(judge(name, spec).into_iter().map(|violation| violation.message));
    };
    break_with("", &minimal_spec());
    for (path, value, _) in illegal() {
        break_with("a", &with(minimal_spec(), path, value));
    }
    for (path, low, _) in RANGES {
        break_with("a", &with(minimal_spec(), path, json!(low - 1)));
    }
    let mut silent = BTreeSet::new();
    visit(&schema_of(&crd()).unwrap(), &mut |node| {
        for rule in node.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default().to_owned();
            if !broken.contains(&message) {
                silent.insert(message);
            }
        }
    });
    assert!(silent.is_empty(), "no case breaks these rules: {silent:#?}");
}

#[test]
fn a_verdict_is_cheap_enough_for_every_spec_change() {
    let spec: MetadataServicesSpec = serde_json::from_value(full_spec()).unwrap();
    let compiling = Instant::now();
    let validator = Validator::shared();
    let compiling = compiling.elapsed();
    // The fastest of ten evaluations, because other work on the machine slows some of them.
    let judge_once = || {
        let start = Instant::now();
        assert_eq!(validator.validate_spec("sample1", &spec), Ok(()));
        start.elapsed()
    };
    let judging = (0..10).map(|_| judge_once()).min().unwrap();
    println!("compiling the rules: {compiling:?}, one verdict: {judging:?}");
    assert!(judging.as_millis() < 250, "one verdict takes {judging:?}");
}
