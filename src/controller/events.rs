//! Kubernetes Events, sent off the path of decisions: a slow or refused Event delays and fails nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use api::names::MANAGER;
use rollout::EventNote;

/// Events that may wait to be sent; more are dropped with a warning.
const QUEUE: usize = 256;
/// Longest note of an Event, in bytes; the API server takes 1024.
const NOTE: usize = 1000;
/// How long sending one may take.
const DEADLINE: Duration = Duration::from_secs(4);

/// Hands Events to the task that sends them.
#[derive(Clone, Debug)]
pub struct Events(mpsc::Sender<(ObjectReference, EventNote)>);

impl Events {
    /// Starts the sending task. `identity` names this instance.
    pub fn start(client: Client, identity: String) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(send(client, identity, receiver));
        Self(sender)
    }

    /// Queues an Event about a resource.
    pub fn tell(&self, about: ObjectReference, note: EventNote) {
        if self.0.try_send((about, note)).is_err() {
            warn!("too many Events are waiting, one is dropped");
        }
    }
}

/// What the API server takes of a note.
fn brief(mut note: String) -> String {
    let ends = note.char_indices().map(|(at, character)| at + character.len_utf8());
    let end = ends.take_while(|end| *end <= NOTE).last().unwrap_or(0);
    note.truncate(end);
    note
}

async fn send(client: Client, identity: String, mut queue: mpsc::Receiver<(ObjectReference, EventNote)>) {
    let reporter = Reporter { controller: MANAGER.into(), instance: Some(identity) };
    while let Some((about, note)) = queue.recv().await {
        // A recorder folds Events of one reason into a series that keeps the first one's words; ours name releases,
        // and come once for each thing that happened.
        let recorder = Recorder::new(client.clone(), reporter.clone());
        let event = Event {
            type_: if note.what.is_warning() { EventType::Warning } else { EventType::Normal },
            reason: note.what.reason().into(),
            note: Some(brief(note.message)),
            action: "Reconcile".into(),
            secondary: None,
        };
        match tokio::time::timeout(DEADLINE, recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => warn!(error = %failure, reason = event.reason, "Event not sent"),
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
