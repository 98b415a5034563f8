//! Metrics in Prometheus' text format.
//!
//! Names and labels follow the Go operators' (`controller_runtime_*`, `workqueue_*`), because dashboards and the
//! shipped alerts are written for them; what only this operator knows is under `e6_operator_*`. Every label value
//! comes from an enum or from the name of an existing object, so the number of series is bounded. Counters whose
//! rate an alert reads exist at 0 from the start.

mod process;
mod queue;
mod reference;

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::{
    queue::{ObjectRefKey, QueueDepth},
    reference::{DESCRIPTIONS, Description, Kind, reference},
};

/// The value of the labels `controller` and `name` (of the work queue).
pub const CONTROLLER: &str = "metadataservices";
/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Bounds of the histogram of pass times, in seconds.
const PASS_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

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
    /// How a pass over one resource ended.
    Outcome {
        /// Nothing more to do until something changes.
        Success = "success",
        /// It failed; it is tried again after a back-off.
        Error = "error",
        /// Again at once, for example after a conflict.
        Requeue = "requeue",
        /// Again at a known time: a wait, which is not an error.
        RequeueAfter = "requeue_after",
    }
}

label! {
    /// The public deployment phase of a resource.
    Phase {
        /// One color serves.
        Stable = "Stable",
        /// The pending color comes up.
        Deploying = "Deploying",
        /// The front Services move.
        Switching = "Switching",
        /// The old color is kept warm, then removed.
        Cleanup = "Cleanup",
    }
}

label! {
    /// How a rollout ended.
    Rollout {
        /// The new release stood its grace, or is the first one that serves.
        Succeeded = "succeeded",
        /// The new release was bad.
        Failed = "failed",
        /// Given up for the release that was serving all along.
        Aborted = "aborted",
        /// Given up for a newer one.
        Superseded = "superseded",
        /// Traffic had moved and was moved back.
        RolledBack = "rolled_back",
    }
}

label! {
    /// What asked for a rollback.
    RollbackTrigger {
        /// The annotation `e6data.io/rollback-to`.
        Manual = "manual",
        /// A release that failed.
        Automatic = "automatic",
        /// The spec went back to the release that was still warm.
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
    /// Registers every metric in a registry of its own, those with a fixed set of labels at 0.
    ///
    /// # Errors
    /// Only if two metrics have the same name, which a test rules out.
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

    /// Begins a pass: the worker counts as active until the guard is finished or dropped.
    pub fn pass(&self) -> Pass {
        self.0.active_workers.with_label_values(&[CONTROLLER]).inc();
        Pass { metrics: self.clone(), started: tokio::time::Instant::now() }
    }

    /// Publishes how many passes may run at once.
    pub fn set_max_concurrent(&self, workers: u16) {
        self.0.max_workers.with_label_values(&[CONTROLLER]).set(i64::from(workers));
    }

    /// The tracker behind `workqueue_depth`.
    pub fn queue(&self) -> QueueDepth {
        self.0.queue.clone()
    }

    /// Counts a resource that is put back because its pass failed.
    pub fn retried(&self) {
        self.0.retries.with_label_values(&[CONTROLLER]).inc();
    }

    /// Publishes whether this process holds the Lease of the given name.
    pub fn set_leader(&self, lease: &str, leading: bool) {
        self.0.leader.with_label_values(&[lease]).set(i64::from(leading));
    }

    /// Counts a request to the API server; `None` stands for one that got no answer.
    pub fn requested(&self, method: &Method, status: Option<StatusCode>) {
        // Only methods the client can send, so that the number of series stays bounded.
        let method = match method.as_str() {
            known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE") => known,
            _ => "other",
        };
        let code = status.as_ref().map_or("<error>", StatusCode::as_str);
        self.0.requests.with_label_values(&[code, method]).inc();
    }

    /// Publishes the phase of a resource and since when (seconds since the epoch) it is in it.
    pub fn observe_phase(&self, namespace: &str, name: &str, phase: Phase, since_epoch_seconds: i64) {
        for each in Phase::ALL {
            let gauge = self.0.phase.with_label_values(&[namespace, name, each.as_str()]);
            gauge.set(i64::from(*each == phase));
        }
        self.0.transition.with_label_values(&[namespace, name]).set(since_epoch_seconds);
    }

    /// Removes every series of a resource that is gone, and its place in the queue.
    pub fn forget(&self, namespace: &str, name: &str) {
        // A series that was never there is no error: a resource may go before its first pass.
        for phase in Phase::ALL {
            let _ = self.0.phase.remove_label_values(&[namespace, name, phase.as_str()]);
        }
        let _ = self.0.transition.remove_label_values(&[namespace, name]);
        self.0.queue.started(&ObjectRefKey::new(namespace, name));
    }

    /// Counts a rollout that ended.
    pub fn rollout(&self, ended: Rollout) {
        self.0.rollouts.with_label_values(&[ended.as_str()]).inc();
    }

    /// Counts a rollback that began.
    pub fn rollback(&self, trigger: RollbackTrigger) {
        self.0.rollbacks.with_label_values(&[trigger.as_str()]).inc();
    }

    /// Every metric in Prometheus' text format ([`CONTENT_TYPE`]); reads the process's own figures first.
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

/// A pass under way; see [`Metrics::pass`]. Dropped without [`Pass::finish`] (a pass that was cancelled), it
/// leaves no outcome behind.
#[derive(Debug)]
#[must_use = "a pass counts as active for as long as this lives"]
pub struct Pass {
    metrics: Metrics,
    started: tokio::time::Instant,
}

impl Pass {
    /// Ends the pass and counts its outcome and duration.
    pub fn finish(self, outcome: Outcome) {
        let inner = &self.metrics.0;
        inner.reconciles.with_label_values(&[CONTROLLER, outcome.as_str()]).inc();
        if outcome == Outcome::Error {
            inner.reconcile_errors.with_label_values(&[CONTROLLER]).inc();
        }
        inner.reconcile_seconds.with_label_values(&[CONTROLLER]).observe(seconds(self.started.elapsed()));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.metrics.0.active_workers.with_label_values(&[CONTROLLER]).dec();
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Builds metrics from their [`Description`], so that the reference cannot differ from what is exported.
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
        let metric = HistogramVec::new(HistogramOpts::from(opts).buckets(PASS_SECONDS.to_vec()), labels)?;
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

/// The options and labels of a described metric; an undescribed one is refused.
fn options(name: &str) -> Result<(Opts, &'static [&'static str]), prometheus::Error> {
    let description = DESCRIPTIONS
        .iter()
        .find(|description| description.name == name)
        .ok_or_else(|| prometheus::Error::Msg(format!("metric {name} has no entry in DESCRIPTIONS")))?;
    Ok((Opts::new(description.name, description.help), description.labels))
}

#[cfg(test)]
mod tests;
