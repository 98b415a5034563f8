//! A write that waits for the test: to kill the client, to delete the resource, to pause another operator.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::fault::Fault;

/// Time limit of the wait, for a machine of any speed.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// A write that waits for an action of the test, which [`Halt::done`] ends.
#[derive(Debug)]
pub struct Halt {
    /// The fault, which determines the action.
    pub fault: Fault,
    done: oneshot::Sender<bool>,
}

impl Halt {
    /// Passes the write to the test and waits. Returns whether the write continues.
    pub(super) async fn ask(players: &mpsc::Sender<Self>, fault: Fault) -> bool {
        let (done, heard) = oneshot::channel();
        if players.send(Self { fault, done }).await.is_err() {
            return false;
        }
        matches!(tokio::time::timeout(PATIENCE, heard).await, Ok(Ok(true)))
    }

    /// Continues the write. After a kill, the pending requests of the client are dropped and a new client may
    /// connect.
    pub fn done(self) {
        let _ = self.done.send(true);
    }

    /// Drops the write: it is not forwarded, or its answer is lost.
    pub fn cut(self) {
        let _ = self.done.send(false);
    }
}
