//! The Events about the demo's resource, told as they come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use super::console::Console;
use super::view::{NAME, NAMESPACE};

/// Narrated changes come in parcels; an Event waits about as long, so that the order is that of time.
const TOGETHER: Duration = Duration::from_millis(90);

/// What was told so far: `Normal TrafficSwitched: switching traffic to ...`.
#[derive(Debug, Default)]
pub struct Events(Mutex<Vec<String>>);

impl Events {
    /// Waits for an Event of this type and reason after the first `from`; the last one of them, or nothing.
    pub async fn wait(&self, from: usize, kind_and_reason: &str) -> String {
        let start = Instant::now();
        let head = format!("{kind_and_reason}: ");
        while start.elapsed() < Duration::from_secs(5) {
            if let Some(event) = self.last(from, &head) {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        "no such Event".to_owned()
    }

    fn last(&self, from: usize, head: &str) -> Option<String> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().skip(from).rfind(|event| event.starts_with(head)).cloned()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn add(&self, event: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
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
        let said = format!("{} {}: {}", text(&event.type_), text(&event.reason), text(&event.message));
        let at = zero.elapsed();
        events.add(said.clone());
        tokio::time::sleep(TOGETHER).await;
        console.change(at, "event", &said);
    }
}
