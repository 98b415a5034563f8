//! The shell: watches, passes, writes (design D15, D18, D22).

mod backoff;
pub mod crd;
mod error;
mod events;
pub mod intent;
mod live;
mod parts;
mod pass;
mod tally;
mod watch;
mod write;

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::{FutureExt, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};

use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, reflector};
use kube::{Client, Resource, ResourceExt};
use tracing::{error, info, warn};

use crate::clock::ServerClock;
use crate::leader::Leadership;
use crate::metrics::{Metrics, ObjectRefKey, Outcome, QueueDepth};
use crate::observe::index::Key;
use api::MetadataServices;
use api::validate::Validator;
use rollout::{EventNote, EventReason};

pub use error::Error;
pub use events::Events;
pub use intent::Settings;

/// A resource that may not parse: then it is reported and the others go on.
pub type Guarded = DeserializeGuard<MetadataServices>;

/// What every scope shares.
#[derive(Clone)]
pub struct Shared {
    /// The client for everything but the lease.
    pub client: Client,
    /// The API server's time.
    pub clock: ServerClock,
    /// Counters.
    pub metrics: Metrics,
    /// Whether this instance may write.
    pub leadership: Leadership,
    /// Where Events go.
    pub events: Events,
    /// The installed CRD.
    pub installed: crd::Installed,
    /// The operator's own flags.
    pub settings: Settings,
    /// Passes at the same time.
    pub concurrency: u16,
    /// How often a settled resource is looked at again.
    pub resync: Duration,
    /// Raised when the process is to end.
    pub stopping: tokio::sync::watch::Receiver<bool>,
}

/// A controller for a namespace, or for the whole cluster.
struct Scope {
    client: Client,
    clock: ServerClock,
    metrics: Metrics,
    leadership: Leadership,
    events: Events,
    installed: crd::Installed,
    settings: Settings,
    resync: Duration,
    stopping: tokio::sync::watch::Receiver<bool>,
    validator: &'static Validator,
    /// What was found wrong with a resource's spec, by UID and generation.
    judged: Mutex<HashMap<Key, Judgement>>,
    caches: Arc<watch::Caches>,
    backoff: backoff::Backoff,
    queue: QueueDepth,
    /// Resources whose namespace is on its way out, by UID: they are left alone until they are gone too.
    leaving: Mutex<HashMap<Key, Option<String>>>,
    /// When a resource was last written here: until its cache has surely caught up, it is looked at again soon.
    written: Mutex<HashMap<Key, Instant>>,
    /// Resources that an older CRD keeps from being written, by UID: that is said once.
    cut: Mutex<HashMap<Key, Option<String>>>,
    /// Resources that were in the middle of something when they were last read live, and when that was.
    under_way: Mutex<HashMap<Key, Instant>>,
}

/// How often a cache that does not fill is spoken of.
const TELL_UNFILLED: Duration = Duration::from_secs(15);
/// How long a cache may lag behind an own write.
const CATCH_UP: Duration = Duration::from_secs(2);
/// How often a resource in the middle of something is read live although its cache shows nothing to do: a watch that
/// has fallen silent is found out by its client only after minutes.
const LIVE_LOOK: Duration = Duration::from_secs(20);

/// How a turn of the controller failed.
type Ended = controller::Error<Error, watcher::Error>;

struct Judgement {
    uid: String,
    generation: i64,
    violations: Vec<String>,
}

impl Scope {
    /// The resource as the core sees it; its spec is judged once for each generation.
    fn intent(&self, resource: &MetadataServices) -> rollout::Intent {
        let violations = self.violations(resource);
        intent::intent(resource, violations, self.installed.outdated(), &self.settings)
    }

    fn violations(&self, resource: &MetadataServices) -> Vec<String> {
        let key = (resource.namespace().unwrap_or_default(), resource.name_any());
        let uid = resource.uid().unwrap_or_default();
        let generation = resource.metadata.generation.unwrap_or(0);
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) =
            judged.get(&key).filter(|known| known.uid == uid && known.generation == generation)
        {
            return known.violations.clone();
        }
        let found = self.validator.validate(resource).err().unwrap_or_default();
        let violations: Vec<String> = found.iter().map(ToString::to_string).collect();
        judged.insert(key, Judgement { uid, generation, violations: violations.clone() });
        violations
    }

    fn wrote(&self, key: &Key) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), Instant::now());
    }

    /// Whether the cache may not show this resource's own last write yet.
    fn may_lag(&self, key: &Key) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(key).is_some_and(|at| at.elapsed() < CATCH_UP)
    }

    /// Notes a live read.
    fn looked(&self, key: &Key, under_way: bool) {
        let mut looks = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way {
            looks.insert(key.clone(), Instant::now());
        } else {
            looks.remove(key);
        }
    }

    /// Until when the cache may be believed; long for a resource at rest.
    fn next_look(&self, key: &Key) -> Duration {
        let looks = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        looks.get(key).map_or(Duration::MAX, |at| LIVE_LOOK.saturating_sub(at.elapsed()))
    }

    fn is_look_due(&self, key: &Key) -> bool {
        self.next_look(key).is_zero()
    }

    /// Notes that the namespace of a resource is on its way out, which is never undone.
    fn leaves(&self, key: &Key, resource: &MetadataServices) {
        info!(namespace = key.0, name = key.1, "the namespace is being deleted, nothing more is done in it");
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), resource.uid());
    }

    /// Whether the namespace of a resource is known to be on its way out.
    fn is_leaving(&self, key: &Key, resource: &MetadataServices) -> bool {
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.get(key).is_some_and(|uid| *uid == resource.uid())
    }

    /// Forgets what was said by `tell_cut`, when the CRD is whole.
    fn forget_cut(&self, key: &Key) {
        if self.installed.outdated().is_none() {
            self.cut.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }

    /// Says once, until the CRD is whole, that a resource is left alone because of it: an Event, for a condition would be
    /// a write.
    fn tell_cut(&self, key: &Key, resource: &MetadataServices, command: &str) {
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        if cut.insert(key.clone(), resource.uid()) == Some(resource.uid()) {
            return;
        }
        let message = format!(
            "the installed CRD hides the state of this resource, which is left as it is until the CRD is updated; run: {command}"
        );
        warn!(namespace = key.0, name = key.1, "{message}");
        self.events.tell(resource.object_ref(&()), EventNote { what: EventReason::CrdOutdated, message });
    }

    /// Drops what is kept of a resource that is gone.
    fn forget(&self, key: &Key) {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.looked(key, false);
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.backoff.succeeded(key);
        self.metrics.forget(&key.0, &key.1);
    }
}

/// Runs the controller of one scope until `stop`, then finishes the passes under way. `synced` is called when its
/// caches are filled.
pub async fn run(
    shared: Shared,
    namespace: Option<String>,
    synced: impl FnOnce() + Send + 'static,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let (triggers, touched) = mpsc::unbounded();
    let caches = Arc::new(watch::Caches::default());
    let scope = Arc::new(scope(&shared, caches.clone()));
    let watches = watch::run(shared.client.clone(), namespace.clone(), caches.clone(), triggers);
    let filled = wait_until_filled(&caches, synced);
    let main = watch::scoped::<Guarded>(&shared.client, namespace.as_deref());
    let (reader, writer) = reflector::store();
    let (observed, known) = (scope.clone(), reader.clone());
    let resources = watcher(main, watcher::Config::default())
        .modify(|object: &mut Guarded| object.managed_fields_mut().clear())
        .default_backoff()
        .reflect(writer)
        .inspect(move |event| observed.note(event, &known))
        .touched_objects()
        .predicate_filter(
            predicates::generation
                .combine(predicates::annotations)
                .combine(predicates::labels)
                .combine(machine),
            PredicateConfig::default(),
        );
    let (queued, waiting) = (scope.clone(), scope.clone());
    let controller = async {
        filled.await;
        caches.announce();
        info!(namespace = namespace.as_deref().unwrap_or("*"), "caches are filled, reconciling");
        Controller::for_stream(resources.inspect(move |object| queued.queued(object.as_ref().ok())), reader)
            .with_config(Config::default().debounce(Duration::ZERO).concurrency(shared.concurrency))
            .reconcile_on(touched.inspect(move |object| waiting.queued_ref(object)))
            .reconcile_all_on(scope.installed.changes())
            .graceful_shutdown_on(stop)
            .run(reconcile, error_policy, scope.clone())
            .for_each(|end| {
                scope.ended(end.err());
                std::future::ready(())
            })
            .await;
    };
    futures::pin_mut!(watches, controller);
    futures::future::select(watches, controller).await;
}

/// What the status says of where the machine is. It triggers when that changes: a status that is lost, edited, or replaced
/// by an older one is rebuilt at once, not at the next resync.
fn machine(object: &Guarded) -> Option<u64> {
    let status = object.0.as_ref().ok().and_then(|resource| resource.status.as_ref());
    let rollout = status.and_then(|status| status.rollout.as_ref());
    let place = rollout.map(|rollout| (rollout.step, rollout.epoch));
    let serves = status.map(|status| (status.active_strategy, &status.active_release_version));
    let mut hasher = DefaultHasher::new();
    (place, serves).hash(&mut hasher);
    Some(hasher.finish())
}

fn scope(shared: &Shared, caches: Arc<watch::Caches>) -> Scope {
    Scope {
        client: shared.client.clone(),
        clock: shared.clock.clone(),
        metrics: shared.metrics.clone(),
        leadership: shared.leadership.clone(),
        events: shared.events.clone(),
        installed: shared.installed.clone(),
        settings: shared.settings.clone(),
        resync: shared.resync,
        stopping: shared.stopping.clone(),
        validator: Validator::shared(),
        judged: Mutex::default(),
        caches,
        backoff: backoff::Backoff::default(),
        queue: shared.metrics.queue(),
        leaving: Mutex::default(),
        cut: Mutex::default(),
        written: Mutex::default(),
        under_way: Mutex::default(),
    }
}

/// Reconciling on half a cache would read "not there" where "not seen yet" is true.
async fn wait_until_filled(caches: &watch::Caches, synced: impl FnOnce()) {
    let mut told = Instant::now();
    loop {
        let missing = caches.incomplete();
        if missing.is_empty() {
            return synced();
        }
        if told.elapsed() > TELL_UNFILLED {
            warn!(missing = missing.join(", "), "still waiting for the first list of these kinds");
            told = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Scope {
    /// Notes what the watch says; `known` is what it has shown up to then, this included.
    fn note(&self, event: &Result<Event<Guarded>, watcher::Error>, known: &reflector::Store<Guarded>) {
        match event {
            // What went while the watch was broken is just not in the list.
            Ok(Event::InitDone) => {
                let judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
                let keys: Vec<Key> = judged.keys().cloned().collect();
                drop(judged);
                let gone = |key: &&Key| known.get(&ObjectRef::new(&key.1).within(&key.0)).is_none();
                keys.iter().filter(gone).for_each(|key| self.forget(key));
            }
            Ok(Event::Delete(object)) => {
                self.forget(&(object.namespace().unwrap_or_default(), object.name_any()));
            }
            Ok(_) => {}
            Err(failure) if watch::status_code(failure) == Some(404) => {
                error!("MetadataServices are unknown to the API server; install the CRD: {}", crd::REMEDY);
            }
            Err(failure) => watch::report("metadataservices", failure),
        }
    }

    fn queued(&self, object: Option<&Guarded>) {
        if let Some(object) = object {
            let key = ObjectRefKey::new(object.namespace().unwrap_or_default(), object.name_any());
            self.queue.added(&key);
        }
    }

    /// Notes the end of a turn: of a resource that is gone there was no pass.
    fn ended(&self, failure: Option<Ended>) {
        if let Some(controller::Error::ObjectNotFound(object)) = failure {
            let namespace = object.namespace.clone().unwrap_or_default();
            self.queue.started(&ObjectRefKey::new(namespace, object.name.clone()));
        }
    }

    fn queued_ref(&self, object: &ObjectRef<Guarded>) {
        self.queue
            .added(&ObjectRefKey::new(object.namespace.clone().unwrap_or_default(), object.name.clone()));
    }
}

async fn reconcile(object: Arc<Guarded>, scope: Arc<Scope>) -> Result<Action, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    scope.queue.started(&ObjectRefKey::new(namespace.clone(), name.clone()));
    let resource = match &object.0 {
        Ok(resource) => resource,
        Err(invalid) => {
            error!(namespace, name, error = %invalid, "this MetadataServices cannot be read and is left alone; correct it");
            return Ok(Action::await_change());
        }
    };
    let timer = scope.metrics.pass();
    let answer = AssertUnwindSafe(Box::pin(pass::run(&scope, resource))).catch_unwind().await;
    let answer = answer.unwrap_or_else(|panic| Err(Error::Panic(words(panic.as_ref()))));
    timer.finish(match &answer {
        Ok(next) if *next == Action::await_change() => Outcome::Success,
        Ok(_) => Outcome::RequeueAfter,
        Err(failure) if failure.is_conflict() => Outcome::Requeue,
        Err(_) => Outcome::Error,
    });
    answer
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
}

#[allow(clippy::needless_pass_by_value)] // kube's signature
fn error_policy(object: Arc<Guarded>, failure: &Error, scope: Arc<Scope>) -> Action {
    let key = (object.namespace().unwrap_or_default(), object.name_any());
    let (failure, due) = failure.and_due();
    if failure.is_conflict() {
        info!(namespace = key.0, name = key.1, reason = %failure, "looking again");
        return Action::requeue(scope.backoff.conflicted(&key));
    }
    let wait = match failure.retry_after() {
        Some(asked) => scope.backoff.refused(&key, asked),
        None => scope.backoff.failed(&key),
    };
    let wait = wait.min(due);
    scope.metrics.retried();
    if failure.is_transient() {
        warn!(namespace = key.0, name = key.1, error = %failure, again_in = ?wait, "pass failed");
    } else {
        error!(namespace = key.0, name = key.1, error = %failure, again_in = ?wait, "pass failed");
    }
    Action::requeue(wait)
}
