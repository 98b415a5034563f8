//! The table of all metrics, from which both the registry and the reference page are made.

use std::fmt::{self, Write as _};

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// One metric as exported and documented.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Its full name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says, with its unit.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Description {
    Description { name, kind, labels, help }
}

/// Every metric of the operator, in the order of the reference page.
pub const DESCRIPTIONS: &[Description] = &[
    metric(
        "controller_runtime_reconcile_total",
        Kind::Counter,
        &["controller", "result"],
        "Passes over a resource, by result: success, error, requeue (again at once), requeue_after (again at a known time)",
    ),
    metric(
        "controller_runtime_reconcile_errors_total",
        Kind::Counter,
        &["controller"],
        "Passes that failed; waiting and conflicts are not failures",
    ),
    metric(
        "controller_runtime_reconcile_time_seconds",
        Kind::Histogram,
        &["controller"],
        "How long a pass took, in seconds",
    ),
    metric("controller_runtime_active_workers", Kind::Gauge, &["controller"], "Passes under way"),
    metric(
        "controller_runtime_max_concurrent_reconciles",
        Kind::Gauge,
        &["controller"],
        "Passes that may be under way at once",
    ),
    metric("workqueue_depth", Kind::Gauge, &["name"], "Resources that wait for a pass"),
    metric("workqueue_adds_total", Kind::Counter, &["name"], "Resources put into the queue"),
    metric(
        "workqueue_retries_total",
        Kind::Counter,
        &["name"],
        "Resources put back into the queue because their pass failed",
    ),
    metric(
        "leader_election_master_status",
        Kind::Gauge,
        &["name"],
        "1 if this replica holds the Lease of that name, else 0",
    ),
    metric(
        "rest_client_requests_total",
        Kind::Counter,
        &["code", "method"],
        "Requests to the API server by HTTP status and method; code <error> means that no answer came",
    ),
    metric(
        "e6_operator_deployment_phase",
        Kind::Gauge,
        &["namespace", "name", "phase"],
        "1 for the phase that the resource is in, 0 for the others: Stable, Deploying, Switching, Cleanup",
    ),
    metric(
        "e6_operator_phase_transition_timestamp_seconds",
        Kind::Gauge,
        &["namespace", "name"],
        "When the resource entered its phase, in seconds since the epoch",
    ),
    metric(
        "e6_operator_rollouts_total",
        Kind::Counter,
        &["result"],
        "Rollouts that ended, by result: succeeded, failed, aborted, superseded, rolled_back",
    ),
    metric(
        "e6_operator_rollbacks_total",
        Kind::Counter,
        &["trigger"],
        "Rollbacks, by trigger: manual (annotation), automatic (bad release), undo (spec set back while the release before was warm)",
    ),
    metric(
        "e6_operator_build_info",
        Kind::Gauge,
        &["version"],
        "1, with the version of the operator as label",
    ),
    metric("process_resident_memory_bytes", Kind::Gauge, &[], "Resident memory of the operator, in bytes"),
    metric(
        "process_cpu_seconds_total",
        Kind::Counter,
        &[],
        "Processor time used by the operator, in seconds",
    ),
    metric(
        "process_start_time_seconds",
        Kind::Gauge,
        &[],
        "When the operator was started, in seconds since the epoch",
    ),
    metric("process_open_fds", Kind::Gauge, &[], "Open file descriptors of the operator"),
];

/// The reference of all metrics as a Markdown table.
pub fn reference() -> String {
    let mut page = String::from("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for Description { name, kind, labels, help } in DESCRIPTIONS {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {} |", help.replace('<', "&lt;"));
    }
    page
}
