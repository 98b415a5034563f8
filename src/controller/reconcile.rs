//! The reconcile of a resource: read, decide, carry out one effect, read again (design D14, D15).
//!
//! The first decision uses the cache and only asks whether there is work, so that a resource without work costs no request.
//! Every write is decided on live reads.

use std::time::{Duration, Instant};

use kube::runtime::controller::Action as Requeue;
use kube::{Resource, ResourceExt};
use tracing::{debug, info, warn};

use super::backoff::{CONFLICT, jitter};
use super::crd::REMEDY;
use super::error::Error;
use super::state::{CACHE_LAG, ResourceState};
use super::write::{WriteOutcome, Writer};
use super::{Controller, rollout_metrics, snapshot};
use crate::metrics::Phase;
use crate::namespaced_name::NamespacedName;
use crate::observe::{ObservedResource, observe, predecessor};
use api::names::{Component, ROLLBACK_TO};
use api::status::Step;
use api::{MetadataServices, MetadataServicesStatus};
use rollout::facts::Deferred;
use rollout::{self, Effect, EventNote, EventReason, Facts, Intent, Plan, WriteClass};

/// The most rounds of one reconcile, so that other resources get their turn.
const MAX_ROUNDS: usize = 12;

/// Runs one reconcile and returns when the next one is due. `cached` is the resource as the watch last showed it.
pub async fn run(controller: &Controller, cached: &MetadataServices) -> Result<Requeue, Error> {
    let key = NamespacedName::of(cached);
    controller.states.enter(&key, cached.uid());
    publish_phase(controller, &key, cached);
    let mut reconcile = Reconcile { controller, key, rejections: Rejections::default(), deferred: None };
    let is_crd_outdated = controller.shared.installed.outdated().is_some();
    let (is_terminating, throttled_for) = reconcile.state(|state| {
        state.crd_hidden_reported &= is_crd_outdated;
        (state.namespace_terminating, state.failures.throttled_for())
    });
    if is_terminating {
        return Ok(Requeue::await_change());
    }
    // `Retry-After` is checked first: a cache that shows no work must not reset the backoff.
    if let Some(left) = throttled_for {
        return Ok(Requeue::requeue(left));
    }
    let snapshot = controller.caches.snapshot(&reconcile.key);
    let (_, plan) = reconcile.decide(&ObservedResource::new(cached, &snapshot))?;
    if plan.effect == Effect::Wait && !reconcile.state(|state| state.next_live_read()).is_zero() {
        return Ok(reconcile.succeed(&plan));
    }
    Box::pin(reconcile.work()).await
}

/// The continuation of a reconcile after one effect.
enum Next {
    /// Stop with this result.
    Stop(Requeue),
    /// Read everything again: nothing was written.
    Reread,
    /// Continue with the remaining work, then end the reconcile with this result.
    ContinueDeferred(Result<Duration, Error>),
    /// Continue. The resource is the newest one that the API server has sent, if it is known: the answer to the status
    /// update, or the read before the writes to objects.
    Continue(Option<Box<MetadataServices>>),
}

/// A reconcile in progress.
struct Reconcile<'a> {
    controller: &'a Controller,
    key: NamespacedName,
    rejections: Rejections,
    /// The result of the reconcile once the remaining work is done; `None` if no write was deferred.
    deferred: Option<Result<Duration, Error>>,
}

impl Reconcile<'_> {
    fn state<T>(&self, change: impl FnOnce(&mut ResourceState) -> T) -> T {
        self.controller.states.with(&self.key, change)
    }

    /// Reads, decides and writes until there is no more work.
    async fn work(&mut self) -> Result<Requeue, Error> {
        let shared = &self.controller.shared;
        let mut done: Option<Effect> = None;
        let mut known = None;
        for _ in 0..MAX_ROUNDS {
            // A process that ends hands over between two writes, so that its successor does not wait.
            if shared.stopping.is_cancelled() {
                return Ok(Requeue::await_change());
            }
            let Some(resource) = self.read(known.take()).await? else {
                return Ok(Requeue::await_change());
            };
            if let Some(command) = shared.installed.outdated().filter(|_| is_hidden_by_crd(&resource)) {
                self.report_hidden(&resource, &command);
                return Ok(Requeue::await_change());
            }
            let optional = self.optional(&resource);
            let mut snapshot = Box::pin(snapshot::snapshot(&shared.client, &self.key, optional)).await?;
            if optional.unstamped && predecessor::exists(&ObservedResource::new(&resource, &snapshot)) {
                Box::pin(snapshot::read_predecessor(&shared.client, &self.key, &mut snapshot)).await?;
            }
            let observed = ObservedResource::new(&resource, &snapshot);
            let (intent, plan) = self.decide(&observed)?;
            if plan.effect == Effect::Wait {
                let Some(end) = self.deferred.take() else { return Ok(self.succeed(&plan)) };
                return end_deferred(end, self.due(&plan));
            }
            if done.as_ref() == Some(&plan.effect) {
                return Ok(Requeue::requeue(self.reverted(&plan.effect)));
            }
            let next = plan.effect.clone();
            match self.carry_out(&observed, &intent, plan).await? {
                Next::Stop(requeue) => return Ok(requeue),
                Next::Reread => done = None,
                Next::ContinueDeferred(end) => self.deferred = Some(end),
                Next::Continue(resource) => {
                    known = resource.map(|resource| *resource);
                    done = Some(next);
                }
            }
        }
        match self.deferred.take() {
            Some(end) => end_deferred(end, Duration::MAX),
            None => Ok(Requeue::requeue(CONFLICT)),
        }
    }

    /// Reads the resource; `known` is the newest one that the API server has sent in this reconcile.
    async fn read(&self, known: Option<MetadataServices>) -> Result<Option<MetadataServices>, Error> {
        let resource = match known {
            Some(known) => Some(known),
            None => snapshot::resource(&self.controller.shared.client, &self.key).await?,
        };
        if let Some(resource) = &resource {
            self.controller.states.enter(&self.key, resource.uid());
        }
        self.state(|state| state.read_live(resource.as_ref().is_some_and(is_in_progress)));
        Ok(resource)
    }

    /// Returns the kinds to read besides the usual ones. ServiceAccounts and budgets are read if the spec asks for them or
    /// the cache has them. An object that the cache does not show yet triggers a later reconcile.
    fn optional(&self, resource: &MetadataServices) -> snapshot::Optional {
        let wants_budget =
            |component| resource.spec.component(component).pod_disruption_budget.enabled == Some(true);
        snapshot::Optional {
            replica_sets: is_pruning(resource),
            unstamped: resource.status.as_ref().is_none_or(|status| status.rollout.is_none()),
            extras: Component::ALL.into_iter().any(wants_budget)
                || resource.spec.service_account.create == Some(true)
                || self.controller.caches.has_extras(&self.key),
        }
    }

    fn observe(&self, observed: &ObservedResource<'_>) -> (Intent, Facts) {
        let Controller { shared, states, validator, .. } = self.controller;
        let generation = observed.resource.metadata.generation.unwrap_or(0);
        let violations = states.violations(&self.key, generation, || {
            let found = validator.validate(observed.resource).err().unwrap_or_default();
            found.iter().map(ToString::to_string).collect()
        });
        let (intent, mut facts) =
            observe(observed, violations, shared.installed.outdated(), &shared.settings);
        self.rejections.add_to(&mut facts);
        facts.restore_refused = facts.restore_refused.or_else(|| self.restore_objection(observed));
        (intent, facts)
    }

    fn decide(&self, observed: &ObservedResource<'_>) -> Result<(Intent, Plan), Error> {
        let now = self.controller.shared.clock.now().ok_or(Error::NoClock)?;
        let (intent, facts) = self.observe(observed);
        let plan = rollout::plan(&intent, observed.status(), &facts, now);
        Ok((intent, plan))
    }

    /// Returns the violations of the template that a rollback or `revertSpec` would write into the spec.
    fn restore_objection(&self, observed: &ObservedResource<'_>) -> Option<String> {
        let resource = observed.resource;
        let reverts = resource.spec.rollout.auto_rollback.revert_spec == Some(true);
        let active = || observed.status()?.active_release_version.as_ref().filter(|_| reverts);
        let version = resource.annotations().get(ROLLBACK_TO).or_else(active)?;
        let restored = observed.template_of_version(version)?.restore_into(&resource.spec);
        let validated = self.controller.validator.validate_spec(&observed.owner.name, &restored);
        let texts: Vec<String> = validated.err()?.iter().map(ToString::to_string).collect();
        Some(texts.join("; "))
    }

    /// Carries out the effect of a plan.
    async fn carry_out(
        &mut self,
        observed: &ObservedResource<'_>,
        intent: &Intent,
        plan: Plan,
    ) -> Result<Next, Error> {
        let shared = &self.controller.shared;
        let writer = Writer { shared, observed };
        self.state(|state| state.last_write = Some(Instant::now()));
        let outcome = match &plan.effect {
            Effect::Wait => return Ok(Next::Reread),
            Effect::UpdateStatus(status) => {
                let stored = writer.update_status(status).await?;
                self.status_stored(observed, status, plan.notes);
                return Ok(Next::Continue(Some(Box::new(stored))));
            }
            Effect::Write(groups) => {
                if !snapshot::is_unchanged(&shared.client, &self.key, observed.resource).await? {
                    debug!(
                        namespace = self.key.namespace,
                        name = self.key.name,
                        "the resource changed while its objects were read"
                    );
                    return Ok(Next::Reread);
                }
                writer.write_objects(groups).await
            }
            Effect::PatchResource(amend) => writer.patch_resource(amend).await,
        };
        match outcome {
            Ok(WriteOutcome::Done) => {
                self.publish(observed.resource, plan.notes);
                // A patch of the resource changes it, so it has to be read again.
                let unchanged =
                    matches!(plan.effect, Effect::Write(_)).then(|| Box::new(observed.resource.clone()));
                Ok(Next::Continue(unchanged))
            }
            Ok(WriteOutcome::NamesTaken(names)) => {
                self.rejections.names_taken = names;
                let later = self.state_failed();
                if self.rejections.defer(&plan) {
                    return Ok(Next::ContinueDeferred(Ok(later)));
                }
                self.explain(observed, intent).await?;
                Ok(Next::Stop(Requeue::requeue(later)))
            }
            Ok(WriteOutcome::TemplateRejected(message)) => {
                self.rejections.restore_refused = Some(message);
                Ok(Next::Reread)
            }
            Err(error) => self.rejected(observed, intent, &plan, error).await,
        }
    }

    /// Decides how to continue after a failed write.
    async fn rejected(
        &mut self,
        observed: &ObservedResource<'_>,
        intent: &Intent,
        plan: &Plan,
        error: Error,
    ) -> Result<Next, Error> {
        if error.is_namespace_terminating() {
            info!(namespace = self.key.namespace, name = self.key.name, "namespace is terminating, skipping");
            self.state(|state| state.namespace_terminating = true);
            return Ok(Next::Stop(Requeue::await_change()));
        }
        let is_overdue = || self.is_overdue(observed, intent);
        if error.is_permanent() || (error.is_server_error() && is_overdue()) {
            self.rejections.refused = Some(error.brief());
        }
        // An unreachable webhook gives a 500. The ServiceAccount is retried then: Pods created without it would fail.
        let is_deferrable = error.is_permanent()
            || (error.is_server_error() && plan.write_class() != WriteClass::ServiceAccount);
        if is_deferrable && self.rejections.defer(plan) {
            return Ok(Next::ContinueDeferred(Err(error)));
        }
        // A rejected status update cannot report its own rejection.
        if self.rejections.refused.is_some() && !matches!(plan.effect, Effect::UpdateStatus(_)) {
            self.explain(observed, intent).await?;
        }
        Err(error)
    }

    /// Returns whether the pending release has exceeded the deploy timeout.
    fn is_overdue(&self, observed: &ObservedResource<'_>, intent: &Intent) -> bool {
        let status = observed.status().zip(self.controller.shared.clock.now());
        status.is_some_and(|(status, now)| rollout::is_overdue(intent, status, now))
    }

    /// Writes the rejections into the conditions, unless they are already there.
    async fn explain(&self, observed: &ObservedResource<'_>, intent: &Intent) -> Result<(), Error> {
        let shared = &self.controller.shared;
        let now = shared.clock.now().ok_or(Error::NoClock)?;
        let (_, facts) = self.observe(observed);
        let Some(plan) = rollout::explain(intent, observed.status(), &facts, now) else { return Ok(()) };
        if let Effect::UpdateStatus(status) = &plan.effect {
            Writer { shared, observed }.update_status(status).await?;
            self.status_stored(observed, status, plan.notes);
        }
        Ok(())
    }

    /// Logs, counts and publishes the transition that a stored status contains.
    fn status_stored(
        &self,
        observed: &ObservedResource<'_>,
        status: &MetadataServicesStatus,
        notes: Vec<EventNote>,
    ) {
        let step = status.rollout.as_ref().map(|rollout| rollout.step);
        let before = observed.status().and_then(|status| status.rollout.as_ref());
        if step != before.map(|rollout| rollout.step) {
            info!(
                namespace = self.key.namespace,
                name = self.key.name,
                step = step.map_or("none", Step::as_str),
                active = status.active_release_version.as_deref().unwrap_or("none"),
                pending = status.pending_release_version.as_deref().unwrap_or("none"),
                "step"
            );
        }
        rollout_metrics::count_status(&self.controller.shared.metrics, observed.status(), status);
        self.publish(observed.resource, notes);
    }

    /// Sends Events and counts them.
    fn publish(&self, resource: &MetadataServices, notes: Vec<EventNote>) {
        let shared = &self.controller.shared;
        for note in notes {
            rollout_metrics::count_event(&shared.metrics, note.reason);
            shared.events.publish(resource.object_ref(&()), note);
        }
    }

    /// Reports once that an outdated CRD hides the state of a resource. It is an Event, since a condition would be a write.
    fn report_hidden(&self, resource: &MetadataServices, command: &str) {
        if self.state(|state| std::mem::replace(&mut state.crd_hidden_reported, true)) {
            return;
        }
        let message = format!(
            "the installed CRD hides the state of this resource; the operator does not change the resource until the CRD is \
             updated; run: {command}"
        );
        warn!(namespace = self.key.namespace, name = self.key.name, "{message}");
        let note = EventNote { reason: EventReason::CrdOutdated, message };
        self.controller.shared.events.publish(resource.object_ref(&()), note);
    }

    /// Returns when to retry a write that succeeded and changed nothing. A retry at once would loop.
    fn reverted(&self, next: &Effect) -> Duration {
        let (namespace, name) = (&self.key.namespace, &self.key.name);
        if !matches!(next, Effect::UpdateStatus(_)) {
            warn!(
                namespace,
                name, "write was reverted by a webhook or another controller, retrying with backoff"
            );
            debug!(namespace, name, write = ?next, "the reverted write");
            return self.state_failed();
        }
        warn!(namespace, name, "the API server dropped fields of the status; update the CRD: {REMEDY}");
        // A CRD that was just updated may not be in effect yet, and no event announces that it is.
        let shared = &self.controller.shared;
        if shared.installed.outdated().is_some() { shared.resync } else { self.state_failed() }
    }

    fn state_failed(&self) -> Duration {
        self.state(|state| state.failures.failed(&self.key))
    }

    /// Ends a reconcile that found no more work.
    fn succeed(&self, plan: &Plan) -> Requeue {
        self.state(|state| state.failures = super::backoff::Failures::default());
        Requeue::requeue(self.due(plan))
    }

    /// Returns the time until the next reconcile of a plan that waits.
    fn due(&self, plan: &Plan) -> Duration {
        let resync = self.controller.shared.resync;
        let wait = match plan.requeue_after {
            Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(1)).min(resync),
            None => resync + jitter(&self.key, resync / 10),
        };
        let (next_live_read, cache_may_lag) =
            self.state(|state| (state.next_live_read(), state.cache_may_lag()));
        let wait = wait.min(next_live_read);
        if cache_may_lag { wait.min(CACHE_LAG) } else { wait }
    }
}

/// The writes that the API server rejected in this reconcile.
#[derive(Clone, Debug, Default)]
struct Rejections {
    /// Foreign objects whose names the resource needs.
    names_taken: Vec<String>,
    /// The message of a rejection that lasts until a user acts.
    refused: Option<String>,
    /// The message of the rejection of a restored template.
    restore_refused: Option<String>,
    /// The kinds of work that wait for a later reconcile.
    deferred: Deferred,
}

impl Rejections {
    /// Defers a rejected plan if the rollout does not depend on it. Returns false if it does.
    fn defer(&mut self, plan: &Plan) -> bool {
        match plan.write_class() {
            WriteClass::Request => self.deferred.requests = true,
            WriteClass::Settings | WriteClass::ServiceAccount => self.deferred.settings = true,
            WriteClass::Rollout => return false,
        }
        true
    }

    fn add_to(&self, facts: &mut Facts) {
        facts.taken.clone_from(&self.names_taken);
        facts.refused.clone_from(&self.refused);
        facts.restore_refused.clone_from(&self.restore_refused);
        facts.deferred = self.deferred;
    }
}

/// Ends a reconcile with a deferred write, no later than `due`, when the rest of the resource needs the next reconcile.
fn end_deferred(end: Result<Duration, Error>, due: Duration) -> Result<Requeue, Error> {
    match end {
        Ok(wait) => Ok(Requeue::requeue(wait.min(due))),
        Err(error) => Err(Error::Deferred { error: Box::new(error), due }),
    }
}

fn step(resource: &MetadataServices) -> Option<Step> {
    resource.status.as_ref()?.rollout.as_ref().map(|rollout| rollout.step)
}

fn is_in_progress(resource: &MetadataServices) -> bool {
    step(resource).is_some_and(|step| step != Step::Stable)
}

fn is_pruning(resource: &MetadataServices) -> bool {
    step(resource).is_none_or(|step| step == Step::Prune)
}

/// Returns whether an outdated CRD hides the rollout of a resource that has one. The API server drops unknown fields from
/// every write, also from the spec. So the operator writes nothing until the CRD is updated, which triggers all resources.
fn is_hidden_by_crd(resource: &MetadataServices) -> bool {
    resource.status.as_ref().is_some_and(|status| status.rollout.is_none() && status.phase.is_some())
}

/// Publishes the phase as a metric.
fn publish_phase(controller: &Controller, key: &NamespacedName, resource: &MetadataServices) {
    let Some(status) = &resource.status else { return };
    let since = status.phase_started_at.as_ref().map_or(0, |time| time.0.as_second());
    if let Some(phase) = status
        .deployment_phase
        .as_deref()
        .and_then(|text| Phase::ALL.iter().copied().find(|phase| phase.as_str() == text))
    {
        controller.shared.metrics.observe_phase(key, phase, since);
    }
}
