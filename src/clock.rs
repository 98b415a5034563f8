//! The API server's time.
//!
//! Waits of the state machine (grace, dwell, cleanup, failure threshold) are persisted as times and may be
//! finished by another replica on another node. So they run on one clock that all replicas share: the API
//! server's, read from the `Date` header of its answers and carried on by a monotonic clock in between. A node
//! whose own clock is wrong, or is set while the operator runs, changes nothing.
//!
//! A `Date` has a resolution of one second and arrives with a delay, so the time is never known exactly. It is
//! kept as an interval that is sure to contain it, and each use takes the end that is safe for it:
//! [`ServerClock::now`] never says too early that time has passed, [`ServerClock::now_for_record`] never dates a
//! start before the real one. A wait measured between the two can last a little longer than asked (about two seconds in
//! the worst case, usually well under one), but never shorter.
//!
//! Control planes with several API servers must keep them in step (certificates and leases need that too): a
//! skew between two of them shows here as a clock that jumps.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response, header::DATE};
use jiff::Timestamp;
use tower::{Layer, Service};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// How far two clocks may run apart, in parts per million. Linux slews a clock by at most 500; both ends may.
const DRIFT_PPM: i128 = 1_000;

/// What a sample did to an [`OffsetInterval`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    /// It agrees with what was known; the interval is the intersection.
    Agreed,
    /// It contradicts what was known: the server's clock was set. The interval starts anew from it.
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
    /// The interval that one answer proves: sent and received at the given monotonic times, dated `date` (whole
    /// seconds) by the server at a moment in between.
    pub fn from_sample(sent: Duration, received: Duration, date: Timestamp) -> Self {
        let second = i128::from(date.as_second()) * NANOS_PER_SECOND;
        Self {
            lower: second - nanos(received),
            upper: second + NANOS_PER_SECOND - nanos(sent.min(received)),
            sampled_at: received,
        }
    }

    /// Takes another answer into account: narrows the interval, or starts anew if the two cannot both be true.
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

    /// The earliest server time that is possible at monotonic time `at`; `None` outside the range of a timestamp.
    pub fn earliest(&self, at: Duration) -> Option<Timestamp> {
        Timestamp::from_nanosecond(self.widened(at).lower + nanos(at)).ok()
    }

    /// The latest server time that is possible at monotonic time `at`; `None` outside the range of a timestamp.
    pub fn latest(&self, at: Duration) -> Option<Timestamp> {
        Timestamp::from_nanosecond(self.widened(at).upper + nanos(at)).ok()
    }

    /// The interval as it must be believed at `at`: wider by what the clocks may have drifted since the last
    /// sample. Without this a long silence would end in a lower end that is too high.
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
    /// A clock that knows nothing yet and runs on the process's monotonic clock.
    pub fn new() -> Self {
        let origin = tokio::time::Instant::now();
        Self::with_monotonic(Arc::new(move || origin.elapsed()))
    }

    /// A clock that runs on the given monotonic source.
    pub fn with_monotonic(monotonic: Monotonic) -> Self {
        Self { monotonic, offset: Arc::new(Mutex::new(None)) }
    }

    /// Whether an answer of the API server has been seen, so that the time is known.
    pub fn known(&self) -> bool {
        self.interval().is_some()
    }

    /// The server's time *at the earliest*: use it to decide whether a wait is over, since it never says so too
    /// early. `None` until an answer of the server has been seen.
    ///
    /// It may go back by a little (a new sample) or a lot (the server's clock was set): treat a start that lies
    /// ahead of it as "just begun".
    pub fn now(&self) -> Option<Timestamp> {
        self.interval()?.earliest((self.monotonic)())
    }

    /// The server's time *at the latest*, rounded up to whole seconds: use it to persist the start of a wait,
    /// since it is never before the real start. `None` until an answer of the server has been seen.
    pub fn now_for_record(&self) -> Option<Timestamp> {
        let latest = self.interval()?.latest((self.monotonic)())?.as_nanosecond();
        let seconds = -(-latest).div_euclid(NANOS_PER_SECOND);
        Timestamp::from_nanosecond(seconds * NANOS_PER_SECOND).ok()
    }

    /// The monotonic time now: pass it to [`ServerClock::observe`] as the time a request was sent.
    pub fn monotonic(&self) -> Duration {
        (self.monotonic)()
    }

    /// Takes the `Date` of an answer that has just arrived to a request sent at monotonic time `sent`. An answer
    /// without a well-formed `Date` is ignored.
    pub fn observe(&self, sent: Duration, headers: &HeaderMap) {
        let received = (self.monotonic)();
        let Some(date) = headers.get(DATE).and_then(|value| parse_date(value.as_bytes())) else { return };
        let mut offset = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        match offset.as_mut().map(|known| known.sample(sent, received, date)) {
            None => *offset = Some(OffsetInterval::from_sample(sent, received, date)),
            Some(Sampled::Agreed) => {}
            Some(Sampled::Jumped) => {
                // Debug only: API servers that disagree with each other would say this on every request.
                tracing::debug!(%date, "the API server's clock jumped; taking its new time");
            }
        }
    }

    fn interval(&self) -> Option<OffsetInterval> {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// A layer that feeds `clock`.
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
