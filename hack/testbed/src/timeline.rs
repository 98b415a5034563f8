//! A timeline: watches that record every version of every object, independently of the operator.
//!
//! A list gives the first versions, and a watch continues from its resourceVersion. A broken watch continues at the
//! same place, so no event is lost. If the API server no longer knows that place, as after a restart, the timeline
//! compares a new list with the known objects. [`Timeline::gaps`] counts these cases.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, pin_mut};
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::history::{Entry, History, Kind, Verb};
use crate::pace;

/// How long to wait before a request is repeated that failed.
const RETRY: Duration = Duration::from_millis(50);

/// How often a wait compares the time that has passed with its limit.
const LOOK: Duration = Duration::from_millis(250);

/// A recorder of all objects of the kinds in [`Kind::ALL`]. It ends when dropped.
#[derive(Debug)]
pub struct Timeline {
    shared: Arc<Shared>,
    apis: Vec<(Kind, Api<DynamicObject>)>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<usize>,
    start: Instant,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    gaps: usize,
}

impl Timeline {
    /// Starts to record one namespace, or all. The present objects are recorded before it returns, so the timeline
    /// shows everything from then on. A kind without a CRD is recorded once the CRD exists; changes in its first
    /// tenth of a second may be missing.
    ///
    /// # Errors
    /// When the API server cannot be listed within 30 seconds of the cluster's time.
    pub async fn start(client: Client, namespace: Option<&str>) -> Result<Self> {
        let (changed, _) = watch::channel(0);
        let shared = Arc::new(Shared { state: Mutex::default(), changed, start: Instant::now() });
        let (listed, mut lists) = mpsc::channel(Kind::ALL.len());
        let mut timeline = Self { shared: Arc::clone(&shared), apis: Vec::new(), tasks: Vec::new() };
        for kind in Kind::ALL {
            let resource = kind.resource();
            let api = match namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            timeline.apis.push((kind, api.clone()));
            let recorder = Recorder { kind, api, shared: Arc::clone(&shared), known: BTreeMap::new() };
            timeline.tasks.push(tokio::spawn(recorder.run(listed.clone())));
        }
        let all = async {
            for _ in Kind::ALL {
                lists.recv().await;
            }
        };
        let patience = Duration::from_secs(30);
        let (start, mut all) = (Instant::now(), std::pin::pin!(all));
        while tokio::time::timeout(LOOK, &mut all).await.is_err() {
            if pace::elapsed(start) > patience {
                let what = "the first lists of the timeline".to_owned();
                return Err(Error::Timeout { what, seconds: start.elapsed().as_secs_f64() });
            }
        }
        Ok(timeline)
    }

    /// Returns everything that happened until now.
    pub fn history(&self) -> History {
        self.shared.state().history.clone()
    }

    /// The last event of an object, its deletion included.
    pub fn latest(&self, kind: Kind, name: &str) -> Option<Arc<Entry>> {
        self.shared.state().history.latest(kind, name).cloned()
    }

    /// How often a watch could not be continued where it was, so that events between may be missing.
    ///
    /// A restart of the API server makes one per kind, unless it runs with `--watch-cache=false`.
    pub fn gaps(&self) -> usize {
        self.shared.state().gaps
    }

    /// Waits until `predicate` gives a value; it is asked now and after every event. `what` goes into the error.
    ///
    /// # Errors
    /// When it gave none within `timeout` of the cluster's time; the message ends with the last events.
    pub async fn wait_until<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut predicate: impl FnMut(&History) -> Option<T>,
    ) -> Result<T> {
        let mut changes = self.shared.changed.subscribe();
        let start = Instant::now();
        loop {
            changes.mark_unchanged();
            if let Some(value) = predicate(&self.shared.state().history) {
                return Ok(value);
            }
            if pace::elapsed(start) > timeout {
                let what = format!("{what}; last seen:{}", self.tail(12));
                return Err(Error::Timeout { what, seconds: start.elapsed().as_secs_f64() });
            }
            let _ = tokio::time::timeout(LOOK, changes.changed()).await;
        }
    }

    /// Waits until everything that the API server has now is recorded, so that the history up to now is whole.
    ///
    /// # Errors
    /// When the API server does not answer, or the watches do not catch up within `timeout`.
    pub async fn settle(&self, timeout: Duration) -> Result<()> {
        for (kind, api) in &self.apis {
            let list = match api.list(&ListParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                other => other?,
            };
            let at = version_of(list.metadata.resource_version.as_deref());
            let present: BTreeMap<_, _> =
                list.items.iter().map(|object| (key(object), version(object))).collect();
            let what = format!("the watch of {kind:?} to reach {at}");
            self.wait_until(&what, timeout, |history| {
                let recorded: BTreeMap<_, _> = history
                    .all_live(*kind)
                    .into_iter()
                    .map(|entry| ((entry.namespace.clone(), entry.name.clone()), entry.resource_version))
                    .collect();
                let newest = |key: &Key| history.of_kind(*kind).rfind(|entry| key_of(entry) == *key);
                let seen = present
                    .iter()
                    .all(|(key, wanted)| newest(key).is_some_and(|entry| entry.resource_version >= *wanted));
                let gone = recorded.iter().all(|(key, version)| present.contains_key(key) || *version > at);
                (seen && gone).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    fn tail(&self, count: usize) -> String {
        let state = self.shared.state();
        let entries = state.history.entries();
        let tail = entries.get(entries.len().saturating_sub(count)..).unwrap_or_default();
        let line = |entry: &Arc<Entry>| {
            let Entry { resource_version, kind, name, verb, at, .. } = &**entry;
            format!("\n  {:>8.3} s  {resource_version}  {kind:?} {name} {verb:?}", at.as_secs_f64())
        };
        tail.iter().map(line).collect()
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Namespace and name.
type Key = (String, String);

/// Lists and watches one kind for ever.
struct Recorder {
    kind: Kind,
    api: Api<DynamicObject>,
    shared: Arc<Shared>,
    known: BTreeMap<Key, DynamicObject>,
}

impl Recorder {
    async fn run(mut self, listed: mpsc::Sender<()>) {
        let mut first = Some(listed);
        let mut gap = false;
        loop {
            let at = match self.api.list(&ListParams::default()).await {
                Ok(list) => {
                    self.shared.state().gaps += usize::from(gap);
                    let at = list.metadata.resource_version.unwrap_or_default();
                    self.compare(list.items, version_of(Some(&at)));
                    Some(at)
                }
                // Its definition is not installed (yet).
                Err(kube::Error::Api(status)) if status.code == 404 => None,
                Err(_) => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            if let Some(listed) = first.take() {
                let _ = listed.send(()).await;
            }
            gap = at.is_some();
            match at {
                Some(at) => self.watch(at).await,
                None => tokio::time::sleep(2 * RETRY).await,
            }
        }
    }

    /// Watches from `at` until the API server no longer knows that place.
    async fn watch(&mut self, mut at: String) {
        loop {
            let params = WatchParams::default();
            match self.api.watch(&params, &at).await {
                Ok(events) => {
                    pin_mut!(events);
                    while let Some(event) = events.next().await {
                        match event {
                            Ok(WatchEvent::Error(status)) if status.code == 410 => return,
                            Ok(WatchEvent::Error(_)) | Err(_) => break,
                            Ok(event) => self.take(event, &mut at),
                        }
                    }
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 410) => return,
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn take(&mut self, event: WatchEvent<DynamicObject>, at: &mut String) {
        let (verb, object) = match event {
            WatchEvent::Added(object) => (Verb::Added, object),
            WatchEvent::Modified(object) => (Verb::Modified, object),
            WatchEvent::Deleted(object) => (Verb::Deleted, object),
            WatchEvent::Bookmark(bookmark) => {
                *at = bookmark.metadata.resource_version;
                return;
            }
            WatchEvent::Error(_) => return,
        };
        *at = object.resource_version().unwrap_or_default();
        let resource_version = version(&object);
        if verb == Verb::Deleted {
            self.known.remove(&key(&object));
        } else {
            self.known.insert(key(&object), object.clone());
        }
        self.record(verb, object, resource_version, false);
    }

    /// Records the changes in a list, and the deletions up to it.
    fn compare(&mut self, items: Vec<DynamicObject>, at: u64) {
        let before = std::mem::take(&mut self.known);
        for object in items {
            let resource_version = version(&object);
            let verb = match before.get(&key(&object)) {
                Some(earlier) if version(earlier) == resource_version => None,
                Some(_) => Some(Verb::Modified),
                None => Some(Verb::Added),
            };
            self.known.insert(key(&object), object.clone());
            if let Some(verb) = verb {
                self.record(verb, object, resource_version, true);
            }
        }
        for (key, object) in before {
            if !self.known.contains_key(&key) {
                self.record(Verb::Deleted, object, at, true);
            }
        }
    }

    fn record(&self, verb: Verb, mut object: DynamicObject, resource_version: u64, listed: bool) {
        object.managed_fields_mut().clear();
        let (namespace, name) = key(&object);
        let mut value = serde_json::to_value(&object).unwrap_or_default();
        let resource = self.kind.resource();
        if let Value::Object(fields) = &mut value {
            // Items of a list do not repeat them.
            fields.insert("apiVersion".to_owned(), json!(resource.api_version));
            fields.insert("kind".to_owned(), json!(resource.kind));
        }
        let at = self.shared.start.elapsed();
        let late = pace::late_now();
        let kind = self.kind;
        let entry = Entry { resource_version, kind, namespace, name, verb, object: value, at, late, listed };
        self.shared.state().history.insert(entry);
        self.shared.changed.send_modify(|count| *count += 1);
    }
}

fn key(object: &DynamicObject) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn key_of(entry: &Entry) -> Key {
    (entry.namespace.clone(), entry.name.clone())
}

fn version(object: &DynamicObject) -> u64 {
    version_of(object.metadata.resource_version.as_deref())
}

/// A resourceVersion as a number, which it is in every API server there is (and by contract since 1.35).
fn version_of(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
