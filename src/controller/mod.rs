//! The controller: watches, reconciles, writes (design D15, D18, D22).

mod actions;
mod adopt;
mod backoff;
pub mod crd;
mod error;
mod events;
mod reconcile;
mod rollout_metrics;
mod snapshot;
mod state;
mod watches;
mod write;

use std::any::Any;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::{FutureExt, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, reflector};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::ServerClock;
use crate::leader::Leadership;
use crate::metrics::{Metrics, Outcome};
use crate::namespaced_name::NamespacedName;
use crate::observe::Settings;
use api::MetadataServices;
use api::validate::Validator;

pub use error::Error;
pub use events::Events;

/// A resource, or the reason why its content cannot be parsed. The others are reconciled all the same.
pub type Parsed = DeserializeGuard<MetadataServices>;

/// How often the log repeats that a cache is not filled.
const UNFILLED_INTERVAL: Duration = Duration::from_secs(15);

/// The parts that the controllers of all scopes share.
#[derive(Clone)]
pub struct Shared {
    /// The client for everything but the Lease.
    pub client: Client,
    /// The API server's time.
    pub clock: ServerClock,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// The right of this replica to write.
    pub leadership: Leadership,
    /// The queue of Events.
    pub events: Events,
    /// The state of the installed CRD.
    pub installed: crd::Installed,
    /// The operator's own configuration of releases.
    pub settings: Settings,
    /// The most reconciles at the same time.
    pub concurrency: u16,
    /// How often a resource without a rollout in progress is reconciled.
    pub resync: Duration,
    /// Canceled when the process has to end.
    pub stopping: CancellationToken,
}

/// The controller of one scope: a namespace or the whole cluster.
struct Controller {
    shared: Shared,
    caches: Arc<watches::Caches>,
    validator: &'static Validator,
    states: state::States,
}

/// Runs the controller of one scope until `stop`, then completes the reconciles in progress. Calls `synced` when the caches
/// are filled.
pub async fn run(
    shared: Shared,
    namespace: Option<String>,
    synced: impl FnOnce() + Send + 'static,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let (triggers, triggered) = mpsc::unbounded();
    let caches = Arc::new(watches::Caches::default());
    let controller = Arc::new(Controller {
        shared: shared.clone(),
        caches: caches.clone(),
        validator: Validator::shared(),
        states: state::States::default(),
    });
    let watches = watches::run(shared.client.clone(), namespace.clone(), caches.clone(), triggers);
    let filled = wait_until_filled(&caches, synced);
    let api = watches::scoped::<Parsed>(&shared.client, namespace.as_deref());
    let (reader, writer) = reflector::store();
    let (observer, known) = (controller.clone(), reader.clone());
    let resources = watcher(api, watcher::Config::default())
        .modify(|object: &mut Parsed| object.managed_fields_mut().clear())
        .default_backoff()
        .reflect(writer)
        .inspect(move |event| observer.note(event, &known))
        .touched_objects()
        .predicate_filter(
            predicates::generation
                .combine(predicates::annotations)
                .combine(predicates::labels)
                .combine(rollout_position),
            PredicateConfig::default(),
        );
    let (queue, object_queue) = (shared.metrics.queue().clone(), shared.metrics.queue().clone());
    let resources = resources.inspect(move |object| {
        if let Ok(object) = object {
            queue.added(&NamespacedName::of(object));
        }
    });
    let reconciles = async {
        filled.await;
        caches.start_triggering();
        info!(namespace = namespace.as_deref().unwrap_or("*"), "caches are filled, reconciling");
        controller::Controller::for_stream(resources, reader)
            .with_config(Config::default().debounce(Duration::ZERO).concurrency(shared.concurrency))
            .reconcile_on(triggered.inspect(move |object| object_queue.added(&object.into())))
            .reconcile_all_on(shared.installed.changes())
            .graceful_shutdown_on(stop)
            .run(reconcile_resource, error_policy, controller.clone())
            .for_each(|end| {
                controller.note_end(end.err());
                std::future::ready(())
            })
            .await;
    };
    futures::pin_mut!(watches, reconciles);
    futures::future::select(watches, reconciles).await;
}

/// Returns a hash of the rollout's position in the status. A change of it triggers a reconcile, so that a lost, edited or
/// restored status is rebuilt at once and not at the next resync.
fn rollout_position(object: &Parsed) -> Option<u64> {
    let status = object.0.as_ref().ok().and_then(|resource| resource.status.as_ref());
    let rollout = status.and_then(|status| status.rollout.as_ref());
    let position = rollout.map(|rollout| (rollout.step, rollout.epoch));
    let active = status.map(|status| (status.active_strategy, &status.active_release_version));
    let mut hasher = DefaultHasher::new();
    (position, active).hash(&mut hasher);
    Some(hasher.finish())
}

/// Waits for the first lists. A reconcile on a partial cache would take unseen objects for absent ones.
async fn wait_until_filled(caches: &watches::Caches, synced: impl FnOnce()) {
    let mut logged = Instant::now();
    loop {
        let missing = caches.incomplete();
        if missing.is_empty() {
            return synced();
        }
        if logged.elapsed() > UNFILLED_INTERVAL {
            warn!(missing = missing.join(", "), "still waiting for the first list of these kinds");
            logged = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Controller {
    /// Handles an event of the watch on resources; `known` are the resources after the event.
    fn note(&self, event: &Result<Event<Parsed>, watcher::Error>, known: &reflector::Store<Parsed>) {
        match event {
            // A relist has no event for a resource that was deleted while the watch was broken.
            Ok(Event::InitDone) => {
                let keys = self.states.keys();
                let gone = keys.iter().filter(|key| known.get(&key.object_ref()).is_none());
                gone.for_each(|key| self.forget(key));
            }
            Ok(Event::Delete(object)) => self.forget(&NamespacedName::of(object)),
            Ok(_) => {}
            Err(failure) if watches::status_code(failure) == Some(404) => {
                error!("MetadataServices are unknown to the API server; install the CRD: {}", crd::REMEDY);
            }
            Err(failure) => watches::report("metadataservices", failure),
        }
    }

    /// Handles the end of a queued reconcile. For a resource that is gone, no reconcile starts.
    fn note_end(&self, failure: Option<controller::Error<Error, watcher::Error>>) {
        if let Some(controller::Error::ObjectNotFound(object)) = failure {
            let key = NamespacedName::new(object.namespace.unwrap_or_default(), object.name);
            self.shared.metrics.queue().started(&key);
        }
    }

    /// Drops state and metrics of a resource that is gone.
    fn forget(&self, key: &NamespacedName) {
        self.states.remove(key);
        self.shared.metrics.forget(key);
    }
}

async fn reconcile_resource(object: Arc<Parsed>, controller: Arc<Controller>) -> Result<Action, Error> {
    let key = NamespacedName::of(object.as_ref());
    let metrics = &controller.shared.metrics;
    metrics.queue().started(&key);
    let resource = match &object.0 {
        Ok(resource) => resource,
        Err(invalid) => {
            error!(
                namespace = key.namespace,
                name = key.name,
                error = %invalid,
                "this MetadataServices cannot be parsed and is skipped; correct it"
            );
            return Ok(Action::await_change());
        }
    };
    let timer = metrics.start_reconcile();
    let result = AssertUnwindSafe(Box::pin(reconcile::run(&controller, resource))).catch_unwind().await;
    let result = result.unwrap_or_else(|panic| Err(Error::Panic(panic_message(panic.as_ref()))));
    timer.finish(match &result {
        Ok(next) if *next == Action::await_change() => Outcome::Success,
        Ok(_) => Outcome::RequeueAfter,
        Err(failure) if failure.is_conflict() => Outcome::Requeue,
        Err(_) => Outcome::Error,
    });
    result
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
}

#[allow(clippy::needless_pass_by_value)] // kube's signature
fn error_policy(object: Arc<Parsed>, failure: &Error, controller: Arc<Controller>) -> Action {
    let key = NamespacedName::of(object.as_ref());
    let (failure, due) = failure.split_deadline();
    if failure.is_conflict() {
        info!(namespace = key.namespace, name = key.name, reason = %failure, "conflict, reconciling again");
        return Action::requeue(controller.states.with(&key, |state| state.failures.conflicted(&key)));
    }
    let wait = controller.states.with(&key, |state| match failure.retry_after() {
        Some(asked) => state.failures.throttled(&key, asked),
        None => state.failures.failed(&key),
    });
    let wait = wait.min(due);
    controller.shared.metrics.retried();
    if failure.is_transient() {
        warn!(namespace = key.namespace, name = key.name, error = %failure, retry_in = ?wait, "reconcile failed");
    } else {
        error!(namespace = key.namespace, name = key.name, error = %failure, retry_in = ?wait, "reconcile failed");
    }
    Action::requeue(wait)
}
