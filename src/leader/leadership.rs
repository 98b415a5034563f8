//! The view of the election that the rest of the process has.

use std::future::pending;

use tokio::{sync::watch, time::Instant};

/// The state of the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not the leader, and never the leader before.
    Standby,
    /// The leader; may write until that time unless the lease is renewed.
    Leading { until: Instant },
    /// The election has ended.
    Over,
}

/// The right of this process to write. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Always,
    Elected(watch::Receiver<State>),
}

impl Leadership {
    /// Returns the leadership of a process that runs without election.
    pub fn always() -> Self {
        Self(Inner::Always)
    }

    pub(super) fn elected(state: watch::Receiver<State>) -> Self {
        Self(Inner::Elected(state))
    }

    /// Returns whether a write may be sent now: this process holds the lease, and its last successful renewal *began*
    /// less than the renew deadline ago. Each call reads the monotonic clock. So the answer is `false` at once in a
    /// process that wakes from a long pause, before its election loop has run.
    pub fn may_write(&self) -> bool {
        match &self.0 {
            Inner::Always => true,
            Inner::Elected(state) => {
                running(state)
                    && matches!(*state.borrow(), State::Leading { until } if Instant::now() < until)
            }
        }
    }

    /// Resolves once this process is the leader.
    pub async fn acquired(&self) {
        if let Inner::Elected(state) = &self.0
            && state.clone().wait_for(|state| matches!(state, State::Leading { .. })).await.is_err()
        {
            // The election ended without a win, so this process never leads.
            pending::<()>().await;
        }
    }

    /// Resolves once the election is over: the lease was lost or released, or the election was stopped.
    pub async fn lost(&self) {
        match &self.0 {
            Inner::Always => pending().await,
            // An error means that the election was dropped, which ends it too.
            Inner::Elected(state) => drop(state.clone().wait_for(|state| *state == State::Over).await),
        }
    }
}

/// Returns whether the election still renews the lease.
fn running(state: &watch::Receiver<State>) -> bool {
    state.has_changed().is_ok()
}
