//! The Events about the demo's resource, told as they come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use super::console::Console;
use super::view::{NAME, NAMESPACE};

/// What was told so far: type and reason.
#[derive(Debug, Default)]
pub struct Events(Mutex<Vec<(String, String)>>);

impl Events {
    /// True when an Event of this type and reason came after the first `from`.
    pub fn has(&self, from: usize, kind: &str, reason: &str) -> bool {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().skip(from).any(|(a, b)| a == kind && b == reason)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn add(&self, kind: &str, reason: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.push((kind.to_owned(), reason.to_owned()));
    }
}

/// Watches Events until the task is aborted; `zero` is the beginning of time for what is printed.
pub async fn tell(console: Arc<Console>, client: Client, zero: Instant, events: Arc<Events>) {
    let api: Api<Event> = Api::namespaced(client, NAMESPACE);
    let only = format!("involvedObject.kind=MetadataServices,involvedObject.name={NAME}");
    let stream = watcher(api, watcher::Config::default().fields(&only)).default_backoff().applied_objects();
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        let Ok(event) = event else { continue };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (kind, reason) = (text(&event.type_), text(&event.reason));
        events.add(&kind, &reason);
        let note = text(&event.message);
        console.change(zero.elapsed(), "event", &format!("{kind} {reason}: {note}"));
    }
}

/// Waits until an Event of this type and reason came after the first `from`.
pub async fn wait(events: &Events, from: usize, kind: &str, reason: &str) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if events.has(from, kind, reason) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}
