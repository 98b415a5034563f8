#![expect(clippy::float_cmp, reason = "counts are small integers, exact in f64")]

use std::collections::BTreeMap;

use super::*;

/// Series and values of a text rendering.
fn series(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.render().unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn touched() -> Metrics {
    let metrics = Metrics::new().unwrap();
    metrics.set_leader("e6-operator.e6data.io", false);
    metrics.requested(&Method::GET, Some(StatusCode::OK));
    metrics.observe_phase(&NamespacedName::new("team", "sample1"), Phase::Deploying, 1_700_000_000);
    metrics
}

#[test]
fn counters_of_alerts_start_at_zero() {
    let all = series(&Metrics::new().unwrap());
    for name in [
        r#"controller_runtime_reconcile_errors_total{controller="metadataservices"}"#,
        r#"controller_runtime_reconcile_total{controller="metadataservices",result="success"}"#,
        r#"controller_runtime_reconcile_total{controller="metadataservices",result="error"}"#,
        r#"controller_runtime_reconcile_total{controller="metadataservices",result="requeue"}"#,
        r#"controller_runtime_reconcile_total{controller="metadataservices",result="requeue_after"}"#,
        r#"controller_runtime_active_workers{controller="metadataservices"}"#,
        r#"controller_runtime_max_concurrent_reconciles{controller="metadataservices"}"#,
        r#"workqueue_depth{name="metadataservices"}"#,
        r#"workqueue_adds_total{name="metadataservices"}"#,
        r#"workqueue_retries_total{name="metadataservices"}"#,
        r#"e6_operator_rollouts_total{result="succeeded"}"#,
        r#"e6_operator_rollouts_total{result="failed"}"#,
        r#"e6_operator_rollouts_total{result="aborted"}"#,
        r#"e6_operator_rollouts_total{result="superseded"}"#,
        r#"e6_operator_rollouts_total{result="rolled_back"}"#,
        r#"e6_operator_rollbacks_total{trigger="manual"}"#,
        r#"e6_operator_rollbacks_total{trigger="automatic"}"#,
        r#"e6_operator_rollbacks_total{trigger="undo"}"#,
    ] {
        assert_eq!(all.get(name), Some(&0.0), "{name}");
    }
    let info = concat!("e6_operator_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    assert_eq!(all.get(info), Some(&1.0));
}

#[test]
fn reconciles_are_counted_by_outcome() {
    let metrics = Metrics::new().unwrap();
    metrics.set_max_concurrent(8);
    let active = r#"controller_runtime_active_workers{controller="metadataservices"}"#;
    let timer = metrics.start_reconcile();
    assert_eq!(series(&metrics)[active], 1.0);
    drop(timer);
    for outcome in Outcome::ALL {
        metrics.start_reconcile().finish(*outcome);
    }
    let all = series(&metrics);
    assert_eq!(all[active], 0.0);
    assert_eq!(all[r#"controller_runtime_reconcile_errors_total{controller="metadataservices"}"#], 1.0);
    assert_eq!(all[r#"controller_runtime_reconcile_time_seconds_count{controller="metadataservices"}"#], 4.0);
    assert_eq!(all[r#"controller_runtime_max_concurrent_reconciles{controller="metadataservices"}"#], 8.0);
    for outcome in Outcome::ALL {
        let name = format!(
            r#"controller_runtime_reconcile_total{{controller="metadataservices",result="{}"}}"#,
            outcome.as_str()
        );
        assert_eq!(all[&name], 1.0, "{name}");
    }
}

#[test]
fn the_queue_counts_each_waiting_resource_once() {
    let metrics = Metrics::new().unwrap();
    let queue = metrics.queue();
    let (one, two) = (NamespacedName::new("a", "x"), NamespacedName::new("b", "x"));
    for key in [&one, &one, &two] {
        queue.added(key);
    }
    let all = series(&metrics);
    assert_eq!(all[r#"workqueue_depth{name="metadataservices"}"#], 2.0);
    assert_eq!(all[r#"workqueue_adds_total{name="metadataservices"}"#], 2.0);
    queue.started(&one);
    queue.started(&one);
    metrics.forget(&two);
    assert!(queue.is_empty());
    assert_eq!(series(&metrics)[r#"workqueue_depth{name="metadataservices"}"#], 0.0);
}

#[test]
fn a_resource_is_in_one_phase_and_leaves_nothing_behind() {
    let metrics = Metrics::new().unwrap();
    metrics.observe_phase(&NamespacedName::new("team", "sample1"), Phase::Deploying, 1_700_000_000);
    metrics.observe_phase(&NamespacedName::new("team", "sample1"), Phase::Switching, 1_700_000_130);
    metrics.observe_phase(&NamespacedName::new("team", "other"), Phase::Stable, 1);
    let all = series(&metrics);
    for phase in Phase::ALL {
        let name = format!(
            r#"e6_operator_deployment_phase{{name="sample1",namespace="team",phase="{}"}}"#,
            phase.as_str()
        );
        assert_eq!(all[&name], f64::from(u8::from(*phase == Phase::Switching)), "{name}");
    }
    let since = r#"e6_operator_phase_transition_timestamp_seconds{name="sample1",namespace="team"}"#;
    assert_eq!(all[since], 1_700_000_130.0);

    metrics.forget(&NamespacedName::new("team", "sample1"));
    metrics.forget(&NamespacedName::new("team", "never-seen"));
    let text = metrics.render().unwrap();
    assert!(!text.contains("sample1") && text.contains("other"), "{text}");
}

#[test]
fn requests_have_bounded_labels() {
    let metrics = Metrics::new().unwrap();
    metrics.requested(&Method::PATCH, Some(StatusCode::CONFLICT));
    metrics.requested(&Method::GET, None);
    metrics.requested(&Method::from_bytes(b"BREW").unwrap(), Some(StatusCode::IM_A_TEAPOT));
    let all = series(&metrics);
    assert_eq!(all[r#"rest_client_requests_total{code="409",method="PATCH"}"#], 1.0);
    assert_eq!(all[r#"rest_client_requests_total{code="<error>",method="GET"}"#], 1.0);
    assert_eq!(all[r#"rest_client_requests_total{code="418",method="other"}"#], 1.0);
}

#[test]
fn counters_of_rollouts_and_rollbacks_move() {
    let metrics = Metrics::new().unwrap();
    metrics.rollout(Rollout::RolledBack);
    metrics.rollback(RollbackTrigger::Undo);
    metrics.retried();
    let all = series(&metrics);
    assert_eq!(all[r#"e6_operator_rollouts_total{result="rolled_back"}"#], 1.0);
    assert_eq!(all[r#"e6_operator_rollbacks_total{trigger="undo"}"#], 1.0);
    assert_eq!(all[r#"workqueue_retries_total{name="metadataservices"}"#], 1.0);
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_exports_memory_time_and_files() {
    let all = series(&Metrics::new().unwrap());
    assert!(all["process_resident_memory_bytes"] > 1_000_000.0);
    assert!(all["process_open_fds"] >= 3.0);
    assert!(all["process_start_time_seconds"] > 1_500_000_000.0);
    assert!(all["process_cpu_seconds_total"] >= 0.0);
}

#[test]
fn exported_and_described_are_the_same() {
    let metrics = touched();
    let text = metrics.render().unwrap();
    let exported: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let described: BTreeMap<&str, String> =
        DESCRIPTIONS.iter().map(|each| (each.name, each.kind.to_string())).collect();
    assert_eq!(exported.len(), described.len());
    for (name, kind) in described {
        assert_eq!(exported.get(name), Some(&kind.as_str()), "{name}");
    }
}

#[test]
fn the_reference_has_a_row_for_each_metric() {
    let page = reference();
    assert_eq!(page.lines().count(), DESCRIPTIONS.len() + 2);
    assert!(
        page.contains("| `workqueue_depth` | gauge | `name` | Resources that wait for a reconcile |"),
        "{page}"
    );
    assert!(page.lines().all(|line| line.split(" | ").count() == 4 || line.starts_with("|---")), "{page}");
}
