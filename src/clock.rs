//! The API server's time.
//!
//! Waits of the rollout (grace, dwell, cleanup, failure threshold) are persisted as times, and another replica on
//! another node may complete them. So all replicas share one clock: the API server's, read from the `Date` header of
//! its answers and extrapolated by a monotonic clock in between. A node whose own clock is wrong, or is set while the
//! operator runs, changes nothing.
//!
//! A `Date` has a resolution of one second and arrives with a delay, so the time is never known exactly. The clock
//! keeps an interval that certainly contains it, and each use takes the end that is safe for it:
//! [`ServerClock::now`] never says too early that time has passed, [`ServerClock::now_for_record`] never dates a
//! start before the real one. A wait measured between the two can last a little longer than asked (about two seconds in
//! the worst case, usually well under one), but never shorter.
//!
//! Control planes with several API servers must keep their clocks synchronized (certificates and leases need that too):
//! a skew between two of them shows here as a clock that jumps.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response, header::DATE};
use jiff::Timestamp;
use parking_lot::Mutex;
use tower::{Layer, Service};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// The greatest drift between two clocks, in parts per million. Linux slews a clock by at most 500, on both sides.
const DRIFT_PPM: i128 = 1_000;

/// The effect of a sample on an [`OffsetInterval`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    /// The sample agrees with the interval, which is now the intersection of both.
    Agreed,
    /// The sample contradicts the interval: the server's clock was set. The sample replaces the interval.
    Jumped,
}

/// The interval that contains the difference *server time minus monotonic time*, in nanoseconds.
///
/// Pure: all times are passed in. Monotonic times are durations since an arbitrary, fixed origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetInterval {
    lower: i128,
    upper: i128,
    sampled_at: Duration,
}

impl OffsetInterval {
    /// Returns the interval that one answer proves: sent and received at the given monotonic times, dated `date` (whole
    /// seconds) by the server in between.
    pub fn from_sample(sent: Duration, received: Duration, date: Timestamp) -> Self {
        let second = i128::from(date.as_second()) * NANOS_PER_SECOND;
        Self {
            lower: second - nanos(received),
            upper: second + NANOS_PER_SECOND - nanos(sent.min(received)),
            sampled_at: received,
        }
    }

    /// Applies another answer: narrows the interval, or replaces it if both cannot be true.
    pub fn sample(&mut self, sent: Duration, received: Duration, date: Timestamp) -> Sampled {
        let new = Self::from_sample(sent, received, date);
        let known = self.widened(received);
        let lower = known.lower.max(new.lower);
        let upper = known.upper.min(new.upper);
        if lower > upper {
            *self = new;
            return Sampled::Jumped;
        }
        *self = Self { lower, upper, sampled_at: self.sampled_at.max(received) };
        Sampled::Agreed
    }

    /// Returns the earliest possible server time at monotonic time `at`; `None` outside the range of a timestamp.
    pub fn earliest(&self, at: Duration) -> Option<Timestamp> {
        Timestamp::from_nanosecond(self.widened(at).lower + nanos(at)).ok()
    }

    /// Returns the latest possible server time at monotonic time `at`; `None` outside the range of a timestamp.
    pub fn latest(&self, at: Duration) -> Option<Timestamp> {
        Timestamp::from_nanosecond(self.widened(at).upper + nanos(at)).ok()
    }

    /// Returns the interval at `at`, widened by the possible drift since the last sample. Without the drift, a long
    /// silence would give a lower end that is too high.
    fn widened(self, at: Duration) -> Self {
        let drift = nanos(at.saturating_sub(self.sampled_at)) * DRIFT_PPM / 1_000_000;
        Self { lower: self.lower - drift, upper: self.upper + drift, ..self }
    }
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

/// A source of monotonic time: the duration since a fixed origin. Injected by tests.
pub type Monotonic = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The API server's time, shared by everything in the process. Cheap to clone.
#[derive(Clone)]
pub struct ServerClock {
    monotonic: Monotonic,
    offset: Arc<Mutex<Option<OffsetInterval>>>,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for ServerClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerClock").field("offset", &self.interval()).finish_non_exhaustive()
    }
}

impl ServerClock {
    /// Returns a clock without samples that runs on the process's monotonic clock.
    pub fn new() -> Self {
        let origin = tokio::time::Instant::now();
        Self::with_monotonic(Arc::new(move || origin.elapsed()))
    }

    /// Returns a clock that runs on the given monotonic source.
    pub fn with_monotonic(monotonic: Monotonic) -> Self {
        Self { monotonic, offset: Arc::new(Mutex::new(None)) }
    }

    /// Returns the server's time *at the earliest*. Use it to decide whether a wait is over, since it never ends a wait too
    /// early. `None` before the first answer of the server.
    ///
    /// The time may go back by a little (a new sample) or by much (the server's clock was set): treat a start in the
    /// future as a start now.
    pub fn now(&self) -> Option<Timestamp> {
        self.interval()?.earliest((self.monotonic)())
    }

    /// Returns the server's time *at the latest*, rounded up to whole seconds. Use it to persist the start of a wait, since
    /// it is never before the real start. `None` before the first answer of the server.
    pub fn now_for_record(&self) -> Option<Timestamp> {
        let latest = self.interval()?.latest((self.monotonic)())?.as_nanosecond();
        let seconds = -(-latest).div_euclid(NANOS_PER_SECOND);
        Timestamp::from_nanosecond(seconds * NANOS_PER_SECOND).ok()
    }

    /// Returns the monotonic time now. Pass it to [`ServerClock::observe`] as the time at which a request was sent.
    pub fn monotonic(&self) -> Duration {
        (self.monotonic)()
    }

    /// Applies the `Date` of an answer that has just arrived, to a request sent at monotonic time `sent`. Ignores an answer
    /// without a well-formed `Date`.
    pub fn observe(&self, sent: Duration, headers: &HeaderMap) {
        let received = (self.monotonic)();
        let Some(date) = headers.get(DATE).and_then(|value| parse_date(value.as_bytes())) else { return };
        let mut offset = self.offset.lock();
        match offset.as_mut().map(|known| known.sample(sent, received, date)) {
            None => *offset = Some(OffsetInterval::from_sample(sent, received, date)),
            Some(Sampled::Agreed) => {}
            Some(Sampled::Jumped) => {
                // Debug only: two API servers with different clocks would log this on every request.
                tracing::debug!(%date, "the API server's clock jumped; taking its new time");
            }
        }
    }

    fn interval(&self) -> Option<OffsetInterval> {
        *self.offset.lock()
    }
}

/// Reads an HTTP date, for example `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse_date(value: &[u8]) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()
}

/// A tower layer that feeds a [`ServerClock`] from every answer; for `kube::client::ClientBuilder::with_layer`.
#[derive(Clone, Debug)]
pub struct ClockLayer {
    clock: ServerClock,
}

impl ClockLayer {
    /// Returns a layer that feeds `clock`.
    pub fn new(clock: ServerClock) -> Self {
        Self { clock }
    }
}

impl<S> Layer<S> for ClockLayer {
    type Service = ClockService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClockService { inner, clock: self.clock.clone() }
    }
}

/// The service of [`ClockLayer`].
#[derive(Clone, Debug)]
pub struct ClockService<S> {
    inner: S,
    clock: ServerClock,
}

impl<S, A, B> Service<Request<A>> for ClockService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let clock = self.clock.clone();
        let sent = clock.monotonic();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            clock.observe(sent, response.headers());
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests;
