//! A write that waits for whoever plays: to kill the client, to delete what it works for, to stop another operator.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::fault::Fault;

/// How long a write waits for what is to be done before it. A lease that runs out is much of it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Something has to be done before a write goes on; [`Halt::done`] says that it is.
#[derive(Debug)]
pub struct Halt {
    /// Why: the client is to be killed, what it works for deleted, or whatever the test wants.
    pub fault: Fault,
    done: oneshot::Sender<bool>,
}

impl Halt {
    /// Asks whoever plays, and waits until it is done; whether the write is to go on.
    pub(super) async fn ask(players: &mpsc::Sender<Self>, fault: Fault) -> bool {
        let (done, heard) = oneshot::channel();
        if players.send(Self { fault, done }).await.is_err() {
            return false;
        }
        matches!(tokio::time::timeout(PATIENCE, heard).await, Ok(Ok(true)))
    }

    /// It is done. After a kill what the client had sent is dropped, and a new client may connect.
    pub fn done(self) {
        let _ = self.done.send(true);
    }

    /// It is done, and a held write goes no further: it is not sent, or its answer is lost.
    pub fn cut(self) {
        let _ = self.done.send(false);
    }
}
