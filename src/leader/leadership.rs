//! What the rest of the process sees of the election.

use std::future::pending;

use tokio::{sync::watch, time::Instant};

/// Where the election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not the leader, and never was.
    Standby,
    /// The leader; may write until that moment unless the lease is renewed.
    Leading { until: Instant },
    /// Was the leader, or has given up on becoming it.
    Over,
}

/// Whether this process is the leader. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Always,
    Elected(watch::Receiver<State>),
}

impl Leadership {
    /// The leadership of a process that runs without election.
    pub fn always() -> Self {
        Self(Inner::Always)
    }

    pub(super) fn elected(state: watch::Receiver<State>) -> Self {
        Self(Inner::Elected(state))
    }

    /// Whether this process holds the lease, as far as it knows; for display. To decide about a write ask
    /// [`Leadership::may_write`].
    pub fn is_leader(&self) -> bool {
        match &self.0 {
            Inner::Always => true,
            Inner::Elected(state) => running(state) && matches!(*state.borrow(), State::Leading { .. }),
        }
    }

    /// Whether a write may be sent now: the lease is held, and its last successful renewal *began* less than the
    /// renew deadline ago. Judged anew at each call by the monotonic clock, so it is `false` at once in a process
    /// that wakes from a long pause, before its election loop has run.
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
            // The election ended without a win: there is nothing to wait for.
            pending::<()>().await;
        }
    }

    /// Resolves once the election is over: the lease was lost or released, or the election was stopped.
    pub async fn lost(&self) {
        match &self.0 {
            Inner::Always => pending().await,
            // An error means that the election is gone, which is the same.
            Inner::Elected(state) => drop(state.clone().wait_for(|state| *state == State::Over).await),
        }
    }
}

/// Whether somebody still renews the lease.
fn running(state: &watch::Receiver<State>) -> bool {
    state.has_changed().is_ok()
}
