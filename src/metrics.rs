//! Metrics in Prometheus' text format.
//!
//! Names and labels follow the Go operators (`controller_runtime_*`, `workqueue_*`), since dashboards and the shipped
//! alerts use them; metrics of this operator alone start with `e6_operator_`. Every label value comes from an enum or
//! from the name of an existing object, so the number of series is bounded. Counters whose rate an alert reads exist
//! at 0 from the start.

mod process;
mod queue;
mod reference;

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::namespaced_name::NamespacedName;

pub use self::{
    queue::QueueDepth,
    reference::{DESCRIPTIONS, Description, MetricType, reference},
};

/// The value of the label `controller`, and of the label `name` of the work queue.
pub const CONTROLLER: &str = "metadataservices";
/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The bounds of the histogram of reconcile times, in seconds.
const RECONCILE_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// An enum whose variants are the values of one label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value of the label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// The outcome of a reconcile.
    Outcome {
        /// No work until the next event.
        Success = "success",
        /// A failure; a retry follows after a backoff.
        Error = "error",
        /// A retry at once, for example after a conflict.
        Requeue = "requeue",
        /// The next reconcile at a known time: a wait, which is not an error.
        RequeueAfter = "requeue_after",
    }
}

label! {
    /// The public deployment phase of a resource.
    Phase {
        /// A single color, with the active release.
        Stable = "Stable",
        /// The Pods of the pending release start.
        Deploying = "Deploying",
        /// The front Services switch.
        Switching = "Switching",
        /// The previous release keeps running after the switch, then it is deleted.
        Cleanup = "Cleanup",
    }
}

label! {
    /// The outcome of a rollout.
    Rollout {
        /// The new release passed its time under watch after the switch, or is the first active release.
        Succeeded = "succeeded",
        /// The new release failed.
        Failed = "failed",
        /// Canceled: the spec returned to the active release.
        Aborted = "aborted",
        /// Canceled for a newer release.
        Superseded = "superseded",
        /// Traffic was switched and returned to the previous release.
        RolledBack = "rolled_back",
    }
}

label! {
    /// The trigger of a rollback.
    RollbackTrigger {
        /// The annotation `e6data.io/rollback-to`.
        Manual = "manual",
        /// A failed release.
        Automatic = "automatic",
        /// The spec returned to the previous release, whose Pods still ran.
        Undo = "undo",
    }
}

/// All metrics of the process. Cheap to clone; the clones share their values.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    reconciles: IntCounterVec,
    reconcile_errors: IntCounterVec,
    reconcile_seconds: HistogramVec,
    active_workers: IntGaugeVec,
    max_workers: IntGaugeVec,
    retries: IntCounterVec,
    leader: IntGaugeVec,
    requests: IntCounterVec,
    phase: IntGaugeVec,
    transition: IntGaugeVec,
    rollouts: IntCounterVec,
    rollbacks: IntCounterVec,
    queue: QueueDepth,
    process: process::Process,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers every metric in a registry of its own. Metrics with a fixed set of labels start at 0.
    ///
    /// # Errors
    /// If two metrics have the same name, which would be a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        let register = Register(Registry::new());
        let depth = register.gauges("workqueue_depth")?.with_label_values(&[CONTROLLER]);
        let adds = register.counters("workqueue_adds_total")?.with_label_values(&[CONTROLLER]);
        register.gauges("e6_operator_build_info")?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let inner = Inner {
            reconciles: register.counters("controller_runtime_reconcile_total")?,
            reconcile_errors: register.counters("controller_runtime_reconcile_errors_total")?,
            reconcile_seconds: register.histograms("controller_runtime_reconcile_time_seconds")?,
            active_workers: register.gauges("controller_runtime_active_workers")?,
            max_workers: register.gauges("controller_runtime_max_concurrent_reconciles")?,
            retries: register.counters("workqueue_retries_total")?,
            leader: register.gauges("leader_election_master_status")?,
            requests: register.counters("rest_client_requests_total")?,
            phase: register.gauges("e6_operator_deployment_phase")?,
            transition: register.gauges("e6_operator_phase_transition_timestamp_seconds")?,
            rollouts: register.counters("e6_operator_rollouts_total")?,
            rollbacks: register.counters("e6_operator_rollbacks_total")?,
            queue: QueueDepth::new(depth, adds),
            process: process::Process::new(&register)?,
            registry: register.0,
        };
        inner.start_at_zero();
        Ok(Self(Arc::new(inner)))
    }

    /// Starts a reconcile: the worker counts as active until the timer is finished or dropped.
    pub fn start_reconcile(&self) -> ReconcileTimer {
        self.0.active_workers.with_label_values(&[CONTROLLER]).inc();
        ReconcileTimer { metrics: self.clone(), started: tokio::time::Instant::now() }
    }

    /// Publishes the most reconciles at the same time.
    pub fn set_max_concurrent(&self, workers: u16) {
        self.0.max_workers.with_label_values(&[CONTROLLER]).set(i64::from(workers));
    }

    /// Returns the queue behind `workqueue_depth`.
    pub fn queue(&self) -> &QueueDepth {
        &self.0.queue
    }

    /// Counts a resource that returns to the queue after a failed reconcile.
    pub fn retried(&self) {
        self.0.retries.with_label_values(&[CONTROLLER]).inc();
    }

    /// Publishes whether this process holds the Lease of the given name.
    pub fn set_leader(&self, lease: &str, leading: bool) {
        self.0.leader.with_label_values(&[lease]).set(i64::from(leading));
    }

    /// Counts a request to the API server; `None` means that it got no answer.
    pub fn requested(&self, method: &Method, status: Option<StatusCode>) {
        // Only methods that the client can send have a series, so that their number is bounded.
        let method = match method.as_str() {
            known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE") => known,
            _ => "other",
        };
        let code = status.as_ref().map_or("<error>", StatusCode::as_str);
        self.0.requests.with_label_values(&[code, method]).inc();
    }

    /// Publishes the phase of a resource and its start, in seconds since 1970.
    pub fn observe_phase(&self, key: &NamespacedName, phase: Phase, started_at: i64) {
        let NamespacedName { namespace, name } = key;
        for each in Phase::ALL {
            let gauge = self.0.phase.with_label_values(&[namespace, name, each.as_str()]);
            gauge.set(i64::from(*each == phase));
        }
        self.0.transition.with_label_values(&[namespace, name]).set(started_at);
    }

    /// Removes every series of a resource that is gone, and the resource from the queue.
    pub fn forget(&self, key: &NamespacedName) {
        let NamespacedName { namespace, name } = key;
        // A missing series is no error: the resource may vanish before its first reconcile.
        for phase in Phase::ALL {
            let _ = self.0.phase.remove_label_values(&[namespace, name, phase.as_str()]);
        }
        let _ = self.0.transition.remove_label_values(&[namespace, name]);
        self.0.queue.started(key);
    }

    /// Counts the outcome of a rollout.
    pub fn rollout(&self, ended: Rollout) {
        self.0.rollouts.with_label_values(&[ended.as_str()]).inc();
    }

    /// Counts a started rollback.
    pub fn rollback(&self, trigger: RollbackTrigger) {
        self.0.rollbacks.with_label_values(&[trigger.as_str()]).inc();
    }

    /// Renders every metric in Prometheus' text format ([`CONTENT_TYPE`]), with current values of the process.
    ///
    /// # Errors
    /// If a family cannot be encoded, which would be a bug.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        self.0.process.refresh();
        TextEncoder::new().encode_to_string(&self.0.registry.gather())
    }
}

impl Inner {
    fn start_at_zero(&self) {
        for outcome in Outcome::ALL {
            self.reconciles.with_label_values(&[CONTROLLER, outcome.as_str()]);
        }
        self.reconcile_errors.with_label_values(&[CONTROLLER]);
        self.reconcile_seconds.with_label_values(&[CONTROLLER]);
        self.active_workers.with_label_values(&[CONTROLLER]);
        self.max_workers.with_label_values(&[CONTROLLER]);
        self.retries.with_label_values(&[CONTROLLER]);
        for ended in Rollout::ALL {
            self.rollouts.with_label_values(&[ended.as_str()]);
        }
        for trigger in RollbackTrigger::ALL {
            self.rollbacks.with_label_values(&[trigger.as_str()]);
        }
    }
}

/// A reconcile in progress; see [`Metrics::start_reconcile`]. A cancelled reconcile drops it without
/// [`ReconcileTimer::finish`] and counts no outcome.
#[derive(Debug)]
#[must_use = "a reconcile counts as active while its timer exists"]
pub struct ReconcileTimer {
    metrics: Metrics,
    started: tokio::time::Instant,
}

impl ReconcileTimer {
    /// Counts the outcome and the duration of the reconcile.
    pub fn finish(self, outcome: Outcome) {
        let inner = &self.metrics.0;
        inner.reconciles.with_label_values(&[CONTROLLER, outcome.as_str()]).inc();
        if outcome == Outcome::Error {
            inner.reconcile_errors.with_label_values(&[CONTROLLER]).inc();
        }
        inner.reconcile_seconds.with_label_values(&[CONTROLLER]).observe(seconds(self.started.elapsed()));
    }
}

impl Drop for ReconcileTimer {
    fn drop(&mut self) {
        self.metrics.0.active_workers.with_label_values(&[CONTROLLER]).dec();
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Builds metrics from their [`Description`], so that the reference page and the exported metrics agree.
struct Register(Registry);

impl Register {
    fn counters(&self, name: &str) -> Result<IntCounterVec, prometheus::Error> {
        let (opts, labels) = options(name)?;
        let metric = IntCounterVec::new(opts, labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauges(&self, name: &str) -> Result<IntGaugeVec, prometheus::Error> {
        let (opts, labels) = options(name)?;
        let metric = IntGaugeVec::new(opts, labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histograms(&self, name: &str) -> Result<HistogramVec, prometheus::Error> {
        let (opts, labels) = options(name)?;
        let metric =
            HistogramVec::new(HistogramOpts::from(opts).buckets(RECONCILE_SECONDS.to_vec()), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str) -> Result<Gauge, prometheus::Error> {
        let metric = Gauge::with_opts(options(name)?.0)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str) -> Result<prometheus::Counter, prometheus::Error> {
        let metric = prometheus::Counter::with_opts(options(name)?.0)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

/// Returns the options and labels of a metric. A metric without description is an error.
fn options(name: &str) -> Result<(Opts, &'static [&'static str]), prometheus::Error> {
    let description = DESCRIPTIONS
        .iter()
        .find(|description| description.name == name)
        .ok_or_else(|| prometheus::Error::Msg(format!("metric {name} has no entry in DESCRIPTIONS")))?;
    Ok((Opts::new(description.name, description.help), description.labels))
}

#[cfg(test)]
mod tests;
