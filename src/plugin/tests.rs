use clap::CommandFactory;
use serde_json::{Value, json};

use super::follow::{Progress, progress};
use super::requests::{pause, reject_second, restart, retry, rollback};
use super::*;

fn record(version: &str, status: &str, served: bool) -> Value {
    let mut record = json!({"version": version, "hash": version, "strategy": "blue", "storageTag": "1", "schemaTag": "2",
        "timestamp": "2026-01-02T03:04:05Z", "status": status});
    if served {
        record["activatedAt"] = json!("2026-01-02T03:05:00Z");
    }
    record
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-02T03:04:05Z"})
}

fn resource(status: Value) -> MetadataServices {
    let mut object = json!({"apiVersion": "e6data.io/v1alpha1", "kind": "MetadataServices",
        "metadata": {"name": "sample1", "namespace": "ns", "generation": 3, "resourceVersion": "7"},
        "spec": {"storage": {"imageTag": "1"}, "schema": {"imageTag": "2"}}});
    if !status.is_null() {
        object["status"] = status;
    }
    serde_json::from_value(object).unwrap()
}

fn settled() -> Value {
    json!({"observedGeneration": 3, "phase": "Stable", "deploymentPhase": "Stable", "activeStrategy": "green",
        "activeReleaseVersion": "b", "storage": {"replicas": 2, "readyReplicas": 2, "image": "", "service": ""},
        "releaseHistory": [record("x", "Failed", false), record("a", "Superseded", true), record("b", "Active", true)],
        "conditions": [condition("SpecApplied", "True", "Applied", "it serves"), condition("Stalled", "False", "None", "")],
        "endpoints": {"storage": "sample1-storage.ns.svc:9005", "schema": "sample1-schema.ns.svc:9006"}})
}

fn blocked() -> Value {
    let mut status = settled();
    status["phase"] = json!("Degraded");
    status["releaseHistory"] =
        json!([record("a", "Superseded", true), record("b", "Active", true), record("c", "Failed", false)]);
    status["conditions"] = json!([
        condition("SpecApplied", "False", "RolledBack", "c failed"),
        condition("Stalled", "True", "RolledBack", "c failed: storage: no")
    ]);
    status
}

fn meaning(change: Result<super::requests::Change, Error>) -> String {
    change.map_or_else(|error| error.to_string(), |change| change.meaning)
}

#[test]
fn the_command_line_is_consistent_and_known_by_its_name() {
    Cli::command().debug_assert();
    assert!(is_called(Some(Path::new("/usr/bin/kubectl-mds"))));
    assert!(!is_called(Some(Path::new("/usr/bin/e6-operator"))) && !is_called(None));
}

#[test]
fn a_rollback_goes_to_the_previous_release_or_keeps_the_active_one() {
    let change = rollback(&resource(settled()), None).unwrap();
    assert_eq!(
        change.patch,
        json!({"metadata": {"resourceVersion": "7", "annotations": {"e6data.io/rollback-to": "a"}}})
    );
    assert_eq!(change.meaning, "rolling back to a (storage 1, schema 2)");
    assert!(meaning(rollback(&resource(blocked()), None)).starts_with("keeping b"));
    assert!(meaning(rollback(&resource(blocked()), Some("a"))).starts_with("rolling back to a"));
}

#[test]
fn an_impossible_rollback_is_refused_with_the_possible_versions() {
    assert_eq!(
        meaning(rollback(&resource(settled()), Some("x"))),
        "x was never the active release; possible versions: a, b"
    );
    assert_eq!(
        meaning(rollback(&resource(settled()), Some("?"))),
        "? was never the active release; possible versions: a, b"
    );
    let mut first = settled();
    first["releaseHistory"] = json!([record("b", "Active", true)]);
    assert_eq!(
        meaning(rollback(&resource(first), None)),
        "there is no release to roll back to; possible versions: b"
    );
    assert!(meaning(rollback(&resource(Value::Null), None)).contains("is it running?"));
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    assert!(retry(&resource(blocked())).is_ok());
    assert!(meaning(retry(&resource(settled()))).contains("nothing to retry"));
    assert!(restart(&resource(settled())).is_ok());
    assert!(meaning(restart(&resource(json!({})))).contains("nothing to restart"));
    assert!(meaning(pause(&resource(settled()), false)).contains("not paused"));
    assert_eq!(pause(&resource(settled()), true).unwrap().patch["spec"]["rollout"]["paused"], true);
    let mut twice = resource(settled());
    assert!(reject_second(&twice).is_ok());
    twice.metadata.annotations = Some([("e6data.io/retry".to_owned(), "now".to_owned())].into());
    assert!(reject_second(&twice).unwrap_err().to_string().contains("e6data.io/retry"));
}

#[test]
fn a_wait_ends_with_success_or_failure_of_the_release() {
    let with = |mut status: Value, key: &str, value: Value| {
        status[key] = value;
        progress(&resource(status))
    };
    assert_eq!(progress(&resource(settled())), Progress::Done);
    assert_eq!(progress(&resource(blocked())), Progress::Stuck("c failed".into()));
    assert_eq!(progress(&resource(Value::Null)), Progress::Incomplete);
    assert_eq!(with(settled(), "observedGeneration", json!(2)), Progress::Incomplete);
    assert_eq!(with(settled(), "deploymentPhase", json!("Cleanup")), Progress::Incomplete);
    let mut asked = resource(settled());
    asked.metadata.annotations = Some([("e6data.io/restart".to_owned(), "now".to_owned())].into());
    assert_eq!(progress(&asked), Progress::Incomplete);
    let mut first = blocked();
    first["phase"] = json!("Failed");
    first["deploymentPhase"] = json!("Deploying");
    assert_eq!(progress(&resource(first)), Progress::Stuck("c failed: storage: no".into()));
    let refused = json!([
        condition("SpecApplied", "True", "Applied", ""),
        condition("Progressing", "False", "RequestRefused", "no such")
    ]);
    assert_eq!(with(settled(), "conditions", refused), Progress::Stuck("no such".into()));
}

#[test]
fn the_status_names_the_active_release_and_the_needed_action() {
    let text = view::status(&resource(blocked()));
    assert_eq!(
        text,
        "sample1 in ns: Degraded
  active        b on green (storage 1, schema 2); storage 2/2 ready, schema ? ready
  action needed RolledBack: c failed: storage: no
  addresses     sample1-storage.ns.svc:9005 and sample1-schema.ns.svc:9006

VERSION  STATUS      COLOR  STORAGE  SCHEMA  TRIGGER  ACTIVE SINCE          NOTE
a        Superseded  blue   1        2       Spec     2026-01-02T03:05:00Z
b        Active      blue   1        2       Spec     2026-01-02T03:05:00Z
c        Failed      blue   1        2       Spec     never
"
    );
    assert_eq!(
        view::status(&resource(Value::Null)),
        "sample1 in ns: the operator has not reconciled it yet\n"
    );
    assert_eq!(view::history(&resource(json!({}))), "No release yet.\n");
}

#[test]
fn a_line_of_a_wait_names_both_releases() {
    let mut status = settled();
    status["deploymentPhase"] = json!("Deploying");
    status["pendingStrategy"] = json!("blue");
    status["pendingReleaseVersion"] = json!("c");
    status["conditions"] = json!([condition("Progressing", "True", "Deploying", "waiting for pods")]);
    assert_eq!(
        view::line(&resource(status)),
        "Deploying b on green (storage 1, schema 2) -> c on blue: waiting for pods\n"
    );
}
