//! Kubernetes Events. A task of its own sends them, so that a slow or rejected Event delays no reconcile.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use api::names::MANAGER;
use rollout::EventNote;

/// Capacity of the queue; further Events are dropped with a warning.
const QUEUE: usize = 256;
/// Longest note of an Event, in bytes. The API server accepts 1024.
const NOTE: usize = 1000;
/// Deadline of one Event.
const DEADLINE: Duration = Duration::from_secs(4);

/// The queue of Events.
#[derive(Clone, Debug)]
pub struct Events(mpsc::Sender<(ObjectReference, EventNote)>);

impl Events {
    /// Starts the sending task. `identity` names this replica in the Events.
    pub fn start(client: Client, identity: String) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(send(client, identity, receiver));
        Self(sender)
    }

    /// Queues an Event about a resource.
    pub fn publish(&self, about: ObjectReference, note: EventNote) {
        if self.0.try_send((about, note)).is_err() {
            warn!("dropped an Event: the queue of Events is full");
        }
    }
}

/// Cuts a note between characters to the length that the API server accepts.
fn brief(mut note: String) -> String {
    let ends = note.char_indices().map(|(at, character)| at + character.len_utf8());
    let end = ends.take_while(|end| *end <= NOTE).last().unwrap_or(0);
    note.truncate(end);
    note
}

async fn send(client: Client, identity: String, mut queue: mpsc::Receiver<(ObjectReference, EventNote)>) {
    let reporter = Reporter { controller: MANAGER.into(), instance: Some(identity) };
    while let Some((about, note)) = queue.recv().await {
        // A recorder merges Events of one reason into a series that keeps the first note. The operator's notes name
        // releases, so each Event gets a recorder of its own.
        let recorder = Recorder::new(client.clone(), reporter.clone());
        let event = Event {
            type_: if note.reason.is_warning() { EventType::Warning } else { EventType::Normal },
            reason: note.reason.as_str().into(),
            note: Some(brief(note.message)),
            action: "Reconcile".into(),
            secondary: None,
        };
        match tokio::time::timeout(DEADLINE, recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => warn!(error = %failure, reason = event.reason, "could not send an Event"),
            Err(_) => debug!(reason = event.reason, "sending an Event took too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(brief("short".into()), "short");
        let long = brief(format!("x{}", "ä".repeat(NOTE)));
        assert_eq!((long.len(), long.ends_with('ä')), (NOTE - 1, true));
    }
}
