//! Leader election by a Lease.
//!
//! The protocol is client-go's: the record is written by PUT with its resourceVersion, so of several writers one
//! wins; a lease expires when *this* process has seen no change of it for its validity by its own monotonic clock,
//! so skewed clocks do no harm ([`protocol`]); the leader stops writing 10 s after the start of its last successful
//! renewal, at least 5 s before another replica may take the lease ([`Leadership::may_write`]). On a stop the leader
//! releases the lease and its successor acts at once.
//!
//! A lease alone is no fence: a write that was sent in time may arrive late. The resourceVersion on every write protects
//! the workloads; the lease prevents two operators from interfering with each other.
//!
//! A standby polls every second instead of watching: the request is one small GET, no stream can stall unnoticed, an
//! expiry needs a live read anyway, and the Role needs no `watch` or `list`.

mod leadership;
mod lease_api;
pub mod protocol;

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use kube::Client;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

pub use self::leadership::Leadership;
use self::{
    leadership::State,
    lease_api::{Failure, LeaseApi, Stored},
    protocol::{Decision, Observation, Record, evaluate},
};
use crate::clock::ServerClock;

/// How often the log repeats the same failure while it lasts.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The times of the election. They are not flags: all replicas must agree on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How long a lease binds other replicas after its last change.
    pub lease_duration: Duration,
    /// How long the leader may write after the start of its last successful renewal. The difference to
    /// `lease_duration` must exceed the deadline of a write.
    pub renew_deadline: Duration,
    /// How often the leader renews.
    pub renew_every: Duration,
    /// How often a standby reads the lease; jitter of up to a fifth is added. A hand-over takes this long at most.
    pub retry: Duration,
    /// The deadline of one request for the lease: short enough for a retry within `renew_deadline`.
    pub request: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            renew_every: Duration::from_secs(5),
            retry: Duration::from_secs(1),
            request: Duration::from_secs(3),
        }
    }
}

/// The lease and the replica that stands for election.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// The unique name of this process in the Lease.
    pub identity: String,
    /// The times.
    pub timings: Timings,
}

/// The lease was lost: the process must end, so that it sends no outstanding write.
#[derive(Debug, thiserror::Error)]
pub enum LeaseLost {
    /// The lease could not be renewed in time.
    #[error(
        "lease {lease} could not be renewed within {} s; another replica takes over; last failure: {cause}",
        deadline.as_secs()
    )]
    NotRenewed {
        /// Namespace and name of the Lease.
        lease: String,
        /// The renew deadline.
        deadline: Duration,
        /// The last failure.
        cause: String,
    },
    /// Another replica holds the lease.
    #[error("lease {lease} was taken by {holder:?}, which leads now")]
    Taken {
        /// Namespace and name of the Lease.
        lease: String,
        /// The holder; empty if another client released the lease.
        holder: String,
    },
}

/// The part of a process in the election.
#[derive(Debug)]
pub struct LeaderElection {
    api: LeaseApi,
    settings: Settings,
    clock: ServerClock,
    state: watch::Sender<State>,
    observed: Option<Observation>,
    /// The record as this process last wrote it; `None` when a failed write left it unknown.
    held: Option<Stored>,
    /// True if a write was ever sent, so that this process may hold the lease.
    has_written: bool,
    /// The holder that the log names as leader.
    logged_holder: Option<String>,
    /// The failure that was logged last, and when.
    logged_failure: Option<(String, Instant)>,
}

impl LeaderElection {
    /// Prepares the election; nothing is sent before [`LeaderElection::run`]. `client` must not retry by itself
    /// (see [`crate::client::lease_client`]); `clock` only dates the record for people to read.
    pub fn new(client: Client, settings: Settings, clock: ServerClock) -> Self {
        Self {
            api: LeaseApi::new(client, &settings),
            settings,
            clock,
            state: watch::Sender::new(State::Standby),
            observed: None,
            held: None,
            has_written: false,
            logged_holder: None,
            logged_failure: None,
        }
    }

    /// Returns a handle on the state of the election.
    pub fn leadership(&self) -> Leadership {
        Leadership::elected(self.state.subscribe())
    }

    /// Stands for election, then renews the lease until `stop` resolves, and releases it. Let `stop` resolve when
    /// the work is done: from then on [`Leadership::may_write`] is false and a successor may begin at once.
    ///
    /// # Errors
    /// [`LeaseLost`] if the lease was won and then lost: the process should exit with a failure.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), LeaseLost> {
        tokio::pin!(stop);
        let ended = tokio::select! {
            biased;
            () = &mut stop => None,
            lost = self.lead() => Some(lost),
        };
        self.state.send_replace(State::Over);
        if let Some(lost) = ended {
            return Err(lost);
        }
        if self.has_written {
            self.release().await;
        }
        Ok(())
    }

    async fn lead(&mut self) -> LeaseLost {
        let won = self.campaign().await;
        self.publish(won);
        tracing::info!(lease = %self.api, identity = self.settings.identity, "leading");
        self.hold(won).await
    }

    /// Publishes a renewal whose request began at `began`.
    fn publish(&self, began: Instant) {
        self.state.send_replace(State::Leading { until: began + self.settings.timings.renew_deadline });
    }

    /// Tries until the lease is won. Returns the start of the write that won it.
    async fn campaign(&mut self) -> Instant {
        let retry = self.settings.timings.retry;
        loop {
            let pause = match self.attempt().await {
                Ok(Attempt::Won(began)) => return began,
                Ok(Attempt::Held(left)) => left.min(retry),
                Err(failure) => {
                    self.log_failure(&failure);
                    retry
                }
            };
            sleep(jittered(pause)).await;
        }
    }

    async fn attempt(&mut self) -> Result<Attempt, Failure> {
        let stored = self.api.read().await?;
        let now = Instant::now();
        if let Some(stored) = &stored {
            let observed = self.observed.take();
            self.observed = Some(Observation::update(observed, &stored.record(), stored.version(), now));
        }
        let record = stored.as_ref().map(Stored::record);
        let Settings { identity, timings, .. } = &self.settings;
        match evaluate(record.as_ref(), self.observed.as_ref(), identity, timings.lease_duration, now) {
            Decision::Wait(left) => {
                self.log_standby(record.as_ref().map(Record::holder).unwrap_or_default());
                Ok(Attempt::Held(left))
            }
            Decision::Acquire | Decision::Renew => self.write_held(stored).await.map(Attempt::Won),
        }
    }

    /// Renews until the lease is lost.
    async fn hold(&mut self, won: Instant) -> LeaseLost {
        let Timings { renew_deadline, renew_every, retry, .. } = self.settings.timings;
        let mut renewed = won;
        let mut next = won + renew_every;
        // The cause if the deadline passed without a failed request.
        let paused = || "the process was paused".to_owned();
        let mut cause = paused();
        loop {
            let until = renewed + renew_deadline;
            sleep_until(next.min(until)).await;
            if Instant::now() >= until {
                return LeaseLost::NotRenewed {
                    lease: self.api.to_string(),
                    deadline: renew_deadline,
                    cause,
                };
            }
            match timeout_at(until, self.renew()).await {
                Ok(Ok(began)) => {
                    renewed = began;
                    next = began + renew_every;
                    cause = paused();
                    self.publish(began);
                }
                Ok(Err(Failure::Taken(holder))) => {
                    return LeaseLost::Taken { lease: self.api.to_string(), holder };
                }
                Ok(Err(failure)) => {
                    self.log_failure(&failure);
                    cause = failure.to_string();
                    // Sooner than a standby: each failure uses up part of the deadline.
                    next = Instant::now() + jittered(retry / 2);
                }
                Err(_) => "no answer in time".clone_into(&mut cause),
            }
        }
    }

    /// Renews once. Returns the start of the write. A conflict is retried at once: it can come from an own write whose
    /// answer was lost, or from a label that another client set.
    async fn renew(&mut self) -> Result<Instant, Failure> {
        let first = self.renew_once().await;
        if matches!(first, Err(Failure::Conflict)) { self.renew_once().await } else { first }
    }

    async fn renew_once(&mut self) -> Result<Instant, Failure> {
        let stored = match self.held.take() {
            Some(held) => Some(held),
            None => self.api.read().await?,
        };
        if let Some(record) = stored.as_ref().map(Stored::record)
            && record.holder() != self.settings.identity
        {
            return Err(Failure::Taken(record.holder().to_owned()));
        }
        self.write_held(stored).await
    }

    /// Replaces `stored` by a record with this process as holder (`None`: creates the lease). Returns the start of the
    /// request.
    async fn write_held(&mut self, stored: Option<Stored>) -> Result<Instant, Failure> {
        let Settings { identity, timings, .. } = &self.settings;
        let record = stored.as_ref().map(Stored::record).unwrap_or_default();
        let next = record.held_by(identity, timings.lease_duration, self.clock.now());
        self.has_written = true;
        let began = Instant::now();
        self.held = Some(self.api.write(stored, next).await?);
        Ok(began)
    }

    /// Releases the lease if this process holds it. Reads it first: a request that the stop interrupted may have changed
    /// it.
    async fn release(&self) {
        let attempt = async {
            for _ in 0..2 {
                let Some(stored) = self.api.read().await? else { return Ok(()) };
                let record = stored.record();
                if record.holder() != self.settings.identity {
                    return Ok(());
                }
                match self.api.write(Some(stored), record.released(self.clock.now())).await {
                    Err(Failure::Conflict) => {}
                    Ok(_) => {
                        tracing::info!(lease = %self.api, "released the lease");
                        return Ok(());
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Err(Failure::Conflict)
        };
        let result = timeout(self.settings.timings.request, attempt).await;
        if let Some(reason) =
            result.map_or(Some("no answer in time".to_owned()), |r| r.err().map(|f| f.to_string()))
        {
            tracing::warn!(lease = %self.api, reason, "could not release the lease; the next leader waits until it expires");
        }
    }

    /// Logs once per holder that this process stands by.
    fn log_standby(&mut self, holder: &str) {
        if self.logged_holder.as_deref() != Some(holder) {
            tracing::info!(lease = %self.api, holder, identity = self.settings.identity, "standing by, waiting for the lease");
            self.logged_holder = Some(holder.to_owned());
        }
    }

    /// Logs a failure: a new one at once, the same one once a minute.
    fn log_failure(&mut self, failure: &Failure) {
        let reason = failure.to_string();
        if let Some((last, at)) = &self.logged_failure
            && *last == reason
            && at.elapsed() < LOG_INTERVAL
        {
            return;
        }
        if failure.needs_user() {
            tracing::error!(lease = %self.api, reason, "leader election does not work until a user acts");
        } else if matches!(failure, Failure::Conflict) {
            tracing::info!(lease = %self.api, "another replica wrote the lease first");
        } else {
            tracing::warn!(lease = %self.api, reason, "a request for the lease failed");
        }
        self.logged_failure = Some((reason, Instant::now()));
    }
}

/// The result of one attempt to win the lease.
enum Attempt {
    /// The lease is won, by a write that began then.
    Won(Instant),
    /// Another replica holds the lease for at least this long.
    Held(Duration),
}

/// Returns bits that differ between calls and between processes. The standard library seeds its hashers from the system's
/// random source. The generators in the dependency graph use the time since boot, which two nodes can share.
pub(crate) fn random_bits() -> u64 {
    RandomState::new().hash_one(())
}

/// Returns `base` and up to a fifth more, so that replicas do not act at the same time.
fn jittered(base: Duration) -> Duration {
    let thousandths = u32::try_from(random_bits() % 200).unwrap_or_default();
    base + base * thousandths / 1_000
}

#[cfg(test)]
mod tests;
