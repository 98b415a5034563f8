//! The pace of the cluster: its lateness, a clock that slows down with it, and places for cases that run side by side.
//!
//! A test judges the operator, not the machine. So a limit counts the time of this clock ([`elapsed`]), a tolerance grows
//! with the lateness ([`lateness`]), and cases that run side by side take a [`Place`].
//!
//! Every cluster of this process has a [`Pulse`]: a ReplicationController without pods is changed about once a second, and
//! the time until its controller has observed the change is measured. That takes a write, a watch event, a write by
//! kube-controller-manager and reads: the same work as each step of a rollout. A thread notes the time that passed, divided
//! by the factor by which the slowest pulse is slower than [`USUAL`]. It also notices when the system wakes it too late.

mod places;
mod pulse;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

pub use self::places::{Place, Places};
pub(crate) use self::pulse::Pulse;

/// A pulse that takes longer than this slows the clock. On two idle cores it takes a tenth of it.
const USUAL: Duration = Duration::from_millis(300);

/// The clock never goes slower than by this factor, so that every limit ends.
const SLOWEST: f64 = 10.0;

/// How often the clock is advanced.
const TICK: Duration = Duration::from_millis(100);

static CLOCK: Mutex<Clock> = Mutex::new(Clock { ticks: Vec::new(), pulses: BTreeMap::new() });
static TICKING: Once = Once::new();

/// Returns how much time of the cluster has passed since an instant: never more than real time.
pub fn elapsed(since: Instant) -> Duration {
    between(since, Instant::now())
}

/// Returns how much time of the cluster passed between two instants.
pub fn between(from: Instant, to: Instant) -> Duration {
    clock().between(from, to)
}

/// Returns by how much the cluster was late at most since an instant; zero if it answered as quickly as usual.
pub fn lateness(since: Instant) -> Duration {
    let clock = clock();
    let ticks = clock.ticks.iter().rev().take_while(|tick| tick.at + TICK >= since);
    ticks.map(|tick| tick.late).chain([clock.late()]).max().unwrap_or_default()
}

/// Waits until so much time of the cluster has passed: at least so much real time.
pub async fn sleep(time: Duration) {
    let start = Instant::now();
    while let Some(rest) = time.checked_sub(elapsed(start)).filter(|rest| !rest.is_zero()) {
        tokio::time::sleep(rest).await;
    }
}

/// Returns a line for the output of a test: the time since an instant, and how late the cluster was.
pub fn report(since: Instant) -> String {
    format!(
        "{:.0} s, {:.0} s by the cluster's clock, late by {:.1} s at most",
        since.elapsed().as_secs_f64(),
        elapsed(since).as_secs_f64(),
        lateness(since).as_secs_f64()
    )
}

/// Returns by how much the cluster is late now.
pub fn late_now() -> Duration {
    clock().late()
}

/// The readings of the clock and the pulses.
#[derive(Debug)]
struct Clock {
    /// Readings of the clock, oldest first.
    ticks: Vec<Tick>,
    /// The pulses by their numbers.
    pulses: BTreeMap<usize, Beat>,
}

/// A reading of the clock.
#[derive(Debug, Clone, Copy)]
struct Tick {
    at: Instant,
    /// The time that the clock showed.
    shows: Duration,
    /// By how much the cluster was late.
    late: Duration,
}

/// The state of a pulse.
#[derive(Debug, Clone, Copy, Default)]
struct Beat {
    /// How long the last change took to be observed.
    took: Duration,
    /// When the change was made that is not observed yet.
    since: Option<Instant>,
}

impl Clock {
    /// Returns by how much the slowest pulse is late.
    fn late(&self) -> Duration {
        let took = |beat: &Beat| beat.since.map_or(beat.took, |since| beat.took.max(since.elapsed()));
        self.pulses.values().map(took).max().unwrap_or_default().saturating_sub(USUAL)
    }

    /// Advances the clock to an instant.
    fn tick(&mut self, at: Instant) {
        let Some(last) = self.ticks.last().copied() else {
            self.ticks.push(Tick { at, shows: Duration::ZERO, late: Duration::ZERO });
            return;
        };
        let passed = at.saturating_duration_since(last.at);
        // A thread that wakes too late stands for all others that do.
        let late = self.late().max(passed.saturating_sub(2 * TICK));
        let slower = slower(late);
        self.ticks.push(Tick { at, shows: last.shows + passed.div_f64(slower), late });
    }

    fn between(&self, from: Instant, to: Instant) -> Duration {
        self.reading(to).saturating_sub(self.reading(from))
    }

    /// Returns the time that the clock showed at an instant. Before the first reading it is as fast as real time.
    fn reading(&self, at: Instant) -> Duration {
        let (Some(first), Some(last)) = (self.ticks.first(), self.ticks.last()) else {
            // An offset that is the same for all instants.
            return at.saturating_duration_since(epoch());
        };
        let offset = first.at.saturating_duration_since(epoch());
        if at <= first.at {
            return at.saturating_duration_since(epoch());
        }
        if at >= last.at {
            return offset + last.shows + (at - last.at).div_f64(slower(self.late()));
        }
        let next = self.ticks.partition_point(|tick| tick.at < at);
        let (Some(before), Some(after)) = (self.ticks.get(next - 1), self.ticks.get(next)) else {
            return offset + last.shows;
        };
        let share = (at - before.at).as_secs_f64() / (after.at - before.at).as_secs_f64();
        offset + before.shows + after.shows.saturating_sub(before.shows).mul_f64(share)
    }
}

/// Returns how many times slower than usual a cluster with this lateness is: from 1 to 10.
pub fn slower(late: Duration) -> f64 {
    (1.0 + late.as_secs_f64() / USUAL.as_secs_f64()).min(SLOWEST)
}

/// An instant before all others that a test asks for.
fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *EPOCH.get_or_init(|| {
        let now = Instant::now();
        now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
    })
}

fn clock() -> MutexGuard<'static, Clock> {
    CLOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that advances the clock, once in a process.
fn start_ticking() {
    TICKING.call_once(|| {
        std::thread::spawn(|| {
            loop {
                clock().tick(Instant::now());
                std::thread::sleep(TICK);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn assert_close(is: Duration, should: Duration) {
        assert!(is.abs_diff(should) < Duration::from_millis(20), "{is:?} instead of {should:?}");
    }

    #[test]
    fn the_clock_slows_down_with_the_slowest_pulse() {
        let mut clock = Clock { ticks: vec![], pulses: BTreeMap::new() };
        let start = Instant::now();
        assert_close(clock.between(start, start + seconds(2)), seconds(2));
        let mut at = start;
        let mut run = |clock: &mut Clock, count: u64| {
            for _ in 0..count * 10 {
                clock.tick(at);
                at += TICK;
            }
            clock.tick(at);
        };
        clock.pulses.insert(1, Beat { took: USUAL, since: None });
        run(&mut clock, 5);
        assert_close(clock.between(start, start + seconds(5)), seconds(5));
        clock.pulses.insert(2, Beat { took: USUAL * 4, since: None });
        run(&mut clock, 8);
        let (from, to) = (start + seconds(5), start + seconds(13));
        assert_close(clock.between(from, to), seconds(2));
        assert_close(clock.between(from, start + seconds(9)), seconds(1));
        // Before the first reading it goes as fast as real time.
        let before = start.checked_sub(seconds(3)).unwrap_or(start);
        assert_close(clock.between(before, start), start - before);
    }

    #[test]
    fn every_limit_ends() {
        let mut clock = Clock { ticks: vec![], pulses: BTreeMap::new() };
        let start = Instant::now();
        clock.tick(start);
        clock.pulses.insert(1, Beat { took: seconds(600), since: None });
        clock.tick(start + TICK);
        assert_close(clock.between(start, start + TICK), TICK.div_f64(SLOWEST));
    }

    #[test]
    fn a_thread_that_wakes_late_slows_the_clock() {
        let mut clock = Clock { ticks: vec![], pulses: BTreeMap::new() };
        let start = Instant::now();
        clock.tick(start);
        clock.tick(start + seconds(5));
        assert!(clock.between(start, start + seconds(5)) < seconds(1));
        assert!(clock.ticks.last().is_some_and(|tick| tick.late > seconds(4)));
    }

    #[test]
    fn a_change_that_is_not_observed_counts_from_when_it_was_made() {
        let mut clock = Clock { ticks: vec![], pulses: BTreeMap::new() };
        assert_eq!(clock.late(), Duration::ZERO);
        let since = Instant::now().checked_sub(seconds(2));
        clock.pulses.insert(1, Beat { took: Duration::ZERO, since });
        assert!(since.is_none() || clock.late() >= seconds(1));
    }
}
