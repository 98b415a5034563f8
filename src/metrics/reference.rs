//! The table of all metrics, the source of both the registry and the reference page.

use std::fmt::{self, Write as _};

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// A value that only increases.
    Counter,
    /// A value that increases and decreases.
    Gauge,
    /// Counts of observations by size.
    Histogram,
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// The description of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The full name.
    pub name: &'static str,
    /// The type.
    pub kind: MetricType,
    /// The names of the labels, in order.
    pub labels: &'static [&'static str],
    /// The meaning, with the unit.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    help: &'static str,
) -> Description {
    Description { name, kind, labels, help }
}

/// Every metric of the operator, in the order of the reference page.
pub const DESCRIPTIONS: &[Description] = &[
    metric(
        "controller_runtime_reconcile_total",
        MetricType::Counter,
        &["controller", "result"],
        "Reconciles, by result: success, error, requeue (retry at once), requeue_after (next one at a known time)",
    ),
    metric(
        "controller_runtime_reconcile_errors_total",
        MetricType::Counter,
        &["controller"],
        "Failed reconciles; waits and conflicts are not failures",
    ),
    metric(
        "controller_runtime_reconcile_time_seconds",
        MetricType::Histogram,
        &["controller"],
        "Duration of a reconcile, in seconds",
    ),
    metric("controller_runtime_active_workers", MetricType::Gauge, &["controller"], "Reconciles in progress"),
    metric(
        "controller_runtime_max_concurrent_reconciles",
        MetricType::Gauge,
        &["controller"],
        "The most reconciles at the same time (--concurrency)",
    ),
    metric("workqueue_depth", MetricType::Gauge, &["name"], "Resources that wait for a reconcile"),
    metric("workqueue_adds_total", MetricType::Counter, &["name"], "Resources added to the queue"),
    metric(
        "workqueue_retries_total",
        MetricType::Counter,
        &["name"],
        "Resources returned to the queue after a failed reconcile",
    ),
    metric(
        "leader_election_master_status",
        MetricType::Gauge,
        &["name"],
        "1 if this replica holds the Lease of that name, else 0",
    ),
    metric(
        "rest_client_requests_total",
        MetricType::Counter,
        &["code", "method"],
        "Requests to the API server, by HTTP status and method; the code <error> means that there was no answer",
    ),
    metric(
        "e6_operator_deployment_phase",
        MetricType::Gauge,
        &["namespace", "name", "phase"],
        "1 for the current phase of the resource, 0 for the others: Stable, Deploying, Switching, Cleanup",
    ),
    metric(
        "e6_operator_phase_transition_timestamp_seconds",
        MetricType::Gauge,
        &["namespace", "name"],
        "Start of the current phase of the resource, in seconds since 1970",
    ),
    metric(
        "e6_operator_rollouts_total",
        MetricType::Counter,
        &["result"],
        "Completed rollouts, by result: succeeded, failed, aborted, superseded, rolled_back",
    ),
    metric(
        "e6_operator_rollbacks_total",
        MetricType::Counter,
        &["trigger"],
        "Rollbacks, by trigger: manual (annotation), automatic (failed release), undo (the spec returned to the previous release while its Pods ran)",
    ),
    metric(
        "e6_operator_build_info",
        MetricType::Gauge,
        &["version"],
        "1; the label has the version of the operator",
    ),
    metric(
        "process_resident_memory_bytes",
        MetricType::Gauge,
        &[],
        "Resident memory of the operator, in bytes",
    ),
    metric(
        "process_cpu_seconds_total",
        MetricType::Counter,
        &[],
        "Processor time used by the operator, in seconds",
    ),
    metric(
        "process_start_time_seconds",
        MetricType::Gauge,
        &[],
        "Start of the operator, in seconds since 1970",
    ),
    metric("process_open_fds", MetricType::Gauge, &[], "Open file descriptors of the operator"),
];

/// Renders the reference of all metrics as a Markdown table.
pub fn reference() -> String {
    let mut page = String::from("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for Description { name, kind, labels, help } in DESCRIPTIONS {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {} |", help.replace('<', "&lt;"));
    }
    page
}
