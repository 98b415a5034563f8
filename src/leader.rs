//! Leader election by a Lease.
//!
//! The protocol is client-go's: the record is written by PUT with its resourceVersion, so of several writers one
//! wins; a lease expires when *this* process has seen no change of it for its validity by its own monotonic clock,
//! so skewed clocks do no harm ([`protocol`]); the leader stops writing 10 s after its last successful renewal
//! began, at least 5 s before anybody else may take the lease ([`Leadership::may_write`]). On a stop the lease is
//! released and the successor acts at once.
//!
//! A lease alone is no fence: a write that was sent in time may arrive late. What protects the workloads is the
//! resourceVersion on every write; the lease keeps two operators from getting in each other's way.
//!
//! A standby polls every second instead of watching: the request is one small GET, there is no stream that can stall
//! unnoticed, an expiry must be judged on a live read anyway, and the Role needs no `watch` or `list`.

mod api;
mod leadership;
pub mod protocol;

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use kube::Client;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

pub use self::leadership::Leadership;
use self::{
    api::{Failure, LeaseApi, Stored},
    leadership::State,
    protocol::{Decision, Observation, Record, evaluate},
};
use crate::clock::ServerClock;

/// How often the same complaint is logged while it lasts.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// The times of the election. They are not flags: all replicas must agree on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// For how long a lease binds the others after its last change.
    pub lease_duration: Duration,
    /// For how long after the beginning of its last successful renewal the leader may write. The difference to
    /// `lease_duration` must exceed the deadline of a write.
    pub renew_deadline: Duration,
    /// How often the leader renews.
    pub renew_every: Duration,
    /// How often a standby looks, which is what a successor adds to a hand-over; jitter of up to a fifth is added.
    pub retry: Duration,
    /// The deadline of one request for the lease: short enough that one that hangs can be tried again within
    /// `renew_deadline`.
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

/// Which lease, and for whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// The name of this process in the Lease; must be its own alone.
    pub identity: String,
    /// The times.
    pub timings: Timings,
}

/// The lease was lost: the process must end, so that nothing it still had in hand is written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseLost {
    /// It could not be renewed in time.
    #[error(
        "lease {lease} could not be renewed within {} s; another replica takes over; last failure: {cause}",
        deadline.as_secs()
    )]
    NotRenewed {
        /// Namespace and name of the Lease.
        lease: String,
        /// The renew deadline.
        deadline: Duration,
        /// What went wrong last.
        cause: String,
    },
    /// Another holds it.
    #[error("lease {lease} was taken by {holder:?}, which leads now")]
    Taken {
        /// Namespace and name of the Lease.
        lease: String,
        /// Who holds it; empty if somebody released it.
        holder: String,
    },
}

/// One process's part in the election.
#[derive(Debug)]
pub struct LeaderElection {
    api: LeaseApi,
    settings: Settings,
    clock: ServerClock,
    state: watch::Sender<State>,
    observed: Option<Observation>,
    /// The record as this process last wrote it; `None` when a failed write left it unknown.
    held: Option<Stored>,
    /// Whether a write was ever sent, so that the lease may be ours.
    tried: bool,
    announced: Option<String>,
    complained: Option<(String, Instant)>,
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
            tried: false,
            announced: None,
            complained: None,
        }
    }

    /// A handle that tells where the election stands.
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
        if self.tried {
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

    /// Publishes that the lease was last renewed by a request that began at `began`.
    fn publish(&self, began: Instant) {
        self.state.send_replace(State::Leading { until: began + self.settings.timings.renew_deadline });
    }

    /// Tries until the lease is won; returns when the write that won it began.
    async fn campaign(&mut self) -> Instant {
        let retry = self.settings.timings.retry;
        loop {
            let pause = match self.stand().await {
                Ok(Stand::Won(began)) => return began,
                Ok(Stand::Behind(left)) => left.min(retry),
                Err(failure) => {
                    self.complain(&failure);
                    retry
                }
            };
            sleep(jittered(pause)).await;
        }
    }

    async fn stand(&mut self) -> Result<Stand, Failure> {
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
                self.announce(record.as_ref().map(Record::holder).unwrap_or_default());
                Ok(Stand::Behind(left))
            }
            Decision::Acquire | Decision::Renew => self.write_held(stored).await.map(Stand::Won),
        }
    }

    /// Renews until the lease is lost.
    async fn hold(&mut self, won: Instant) -> LeaseLost {
        let Timings { renew_deadline, renew_every, retry, .. } = self.settings.timings;
        let mut renewed = won;
        let mut next = won + renew_every;
        // What stands here if no request failed and yet the deadline passed.
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
                    self.complain(&failure);
                    cause = failure.to_string();
                    // Sooner than a standby: each failure eats into the deadline.
                    next = Instant::now() + jittered(retry / 2);
                }
                Err(_) => "no answer in time".clone_into(&mut cause),
            }
        }
    }

    /// Renews once; returns when the write that did it began. A conflict is looked into at once: it may be our
    /// own write whose answer got lost, or a label that somebody set.
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

    /// Writes the record that says we hold the lease over `stored` (`None`: creates it); returns when the request
    /// began.
    async fn write_held(&mut self, stored: Option<Stored>) -> Result<Instant, Failure> {
        let Settings { identity, timings, .. } = &self.settings;
        let record = stored.as_ref().map(Stored::record).unwrap_or_default();
        let next = record.held_by(identity, timings.lease_duration, self.clock.now());
        self.tried = true;
        let began = Instant::now();
        self.held = Some(self.api.write(stored, next).await?);
        Ok(began)
    }

    /// Lets go of the lease if it is ours. Reads it first: a request that was cut off by the stop may have
    /// changed it.
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

    /// Says once per holder that this process stands by.
    fn announce(&mut self, holder: &str) {
        if self.announced.as_deref() != Some(holder) {
            tracing::info!(lease = %self.api, holder, identity = self.settings.identity, "standing by, waiting for the lease");
            self.announced = Some(holder.to_owned());
        }
    }

    /// Logs a failure: at once when it is a new one, then once a minute while it lasts.
    fn complain(&mut self, failure: &Failure) {
        let reason = failure.to_string();
        if let Some((last, at)) = &self.complained
            && *last == reason
            && at.elapsed() < COMPLAINT_INTERVAL
        {
            return;
        }
        if failure.needs_hands() {
            tracing::error!(lease = %self.api, reason, "leader election cannot work");
        } else if matches!(failure, Failure::Conflict) {
            tracing::info!(lease = %self.api, "another replica wrote the lease first");
        } else {
            tracing::warn!(lease = %self.api, reason, "a request for the lease failed");
        }
        self.complained = Some((reason, Instant::now()));
    }
}

/// The result of one attempt to win the lease.
enum Stand {
    /// Won, by a write that began then.
    Won(Instant),
    /// Another holds it for at least this long.
    Behind(Duration),
}

/// `base` and up to a fifth more, so that replicas do not act in step.
fn jittered(base: Duration) -> Duration {
    let thousandths = u32::try_from(random_bits() % 200).unwrap_or_default();
    base + base * thousandths / 1_000
}

/// Bits that differ from call to call and from process to process: the standard library seeds its hashers from
/// the system's random source.
pub(crate) fn random_bits() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

#[cfg(test)]
mod tests;
