//! One pass over one resource: look, decide, do one thing, look again (design D14, D15).
//!
//! The first look is at the cache and only asks whether there is anything to do: a resource at rest costs no request.
//! Everything that is done is decided on live reads.

use std::time::Duration;

use kube::runtime::controller::Action as Requeue;
use kube::{Resource, ResourceExt};
use tracing::{debug, info, warn};

use super::backoff::{CONFLICT, jitter};
use super::crd::REMEDY;
use super::error::Error;
use super::write::{Writer, Written};
use super::{CATCH_UP, Scope, live, tally};
use crate::metrics::Phase;
use crate::observe::derive::{World, facts};
use crate::observe::index::Key;
use crate::observe::settings;
use api::MetadataServices;
use api::names::{Component, Owner, ROLLBACK_TO};
use api::status::Step;
use rollout::facts::Deferred;
use rollout::{self, Effect, EventNote, Facts, Intent, Plan, WriteClass};

/// Moves in a pass before other resources get their turn.
const ROUNDS: usize = 12;

/// Runs a pass; answers when to look again.
pub async fn run(scope: &Scope, seen: &MetadataServices) -> Result<Requeue, Error> {
    let key: Key = (seen.namespace().unwrap_or_default(), seen.name_any());
    show(scope, &key, seen);
    scope.forget_cut(&key);
    if scope.is_leaving(&key, seen) {
        return Ok(Requeue::await_change());
    }
    // First of all: a cache in which there is nothing to do is no success, and does not end what was asked for.
    if let Some(left) = scope.backoff.held(&key) {
        return Ok(Requeue::requeue(left));
    }
    let (_, cached) = decide(scope, seen, &scope.caches.world(&key), &Obstacles::default())?;
    if cached.effect == Effect::Wait && !scope.is_look_due(&key) {
        return Ok(requeue(scope, &key, &cached));
    }
    let mut obstacles = Obstacles::default();
    let mut done: Option<Effect> = None;
    let mut known = None;
    let mut put_off = None;
    for _ in 0..ROUNDS {
        if *scope.stopping.borrow() {
            // Between two moves, so that a successor need not wait for the rest of the pass.
            return Ok(Requeue::await_change());
        }
        let Some(resource) = read(scope, &key, known.take()).await? else {
            return Ok(Requeue::await_change());
        };
        if let Some(command) = scope.installed.outdated().filter(|_| is_cut_by_the_crd(&resource)) {
            scope.tell_cut(&key, &resource, &command);
            return Ok(Requeue::await_change());
        }
        let also =
            live::Also { sets: is_pruning(&resource), extras: may_have_extras(scope, &key, &resource) };
        let world = Box::pin(live::world(&scope.client, &key, also)).await?;
        let (intent, plan) = decide(scope, &resource, &world, &obstacles)?;
        if plan.effect == Effect::Wait {
            let Some(end) = put_off else { return Ok(requeue(scope, &key, &plan)) };
            return until(end, due(scope, &key, &plan));
        }
        if done.as_ref() == Some(&plan.effect) {
            return Ok(Requeue::requeue(in_vain(scope, &key, &plan.effect)));
        }
        let next = plan.effect.clone();
        match carry_out(scope, &key, &resource, &world, &intent, plan, &mut obstacles).await? {
            Next::Pause(again) => return Ok(again),
            Next::Round => done = None,
            Next::Around(end) => put_off = Some(end),
            Next::Done(resource) => {
                known = resource.map(|resource| *resource);
                done = Some(next);
            }
        }
    }
    put_off.map_or_else(|| Ok(Requeue::requeue(CONFLICT)), |end| until(end, Duration::MAX))
}

/// Ends a pass in which something was put off, no later than when the rest is due.
fn until(end: Result<Duration, Error>, due: Duration) -> Result<Requeue, Error> {
    match end {
        Ok(wait) => Ok(Requeue::requeue(wait.min(due))),
        Err(error) => Err(Error::PutOff { error: Box::new(error), due }),
    }
}

/// When to try again what was done, with success, and changed nothing: doing it at once again would never end.
fn in_vain(scope: &Scope, key: &Key, next: &Effect) -> Duration {
    let (namespace, name) = (&key.0, &key.1);
    if !matches!(next, Effect::UpdateStatus(_)) {
        warn!(namespace, name, move = ?next, "what was written is not there; a webhook or another controller undoes it");
        return scope.backoff.failed(key);
    }
    // The server dropped a field of the status: its CRD is older.
    warn!(namespace, name, "the status was not stored as written; update the CRD: {REMEDY}");
    // One that was just updated may not be in force yet, and nothing announces when it is.
    if scope.installed.outdated().is_some() { scope.resync } else { scope.backoff.failed(key) }
}

/// How a pass goes on after a move.
enum Next {
    /// It ends here.
    Pause(Requeue),
    /// With a round that reads everything: nothing was done.
    Round,
    /// With a round for the rest; when nothing is left of that, the pass ends so.
    Around(Result<Duration, Error>),
    /// It was done. The next round begins with the resource as the API server has just shown it, if it has: by the answer
    /// to the status that was written, or by the read that went before the writes to objects.
    Done(Option<Box<MetadataServices>>),
}

/// The resource as it is; `known` is what the API server showed last in this pass.
async fn read(
    scope: &Scope,
    key: &Key,
    known: Option<MetadataServices>,
) -> Result<Option<MetadataServices>, Error> {
    let resource = match known {
        Some(known) => Some(known),
        None => live::resource(&scope.client, key).await?,
    };
    scope.looked(key, resource.as_ref().is_some_and(is_under_way));
    Ok(resource)
}

fn is_under_way(resource: &MetadataServices) -> bool {
    let rollout = resource.status.as_ref().and_then(|status| status.rollout.as_ref());
    rollout.is_some_and(|rollout| rollout.step != Step::Stable)
}

/// Whether there are, or have to be, ServiceAccounts or budgets. One that the cache does not show yet announces itself
/// to a later pass, and until then nothing is done about it.
fn may_have_extras(scope: &Scope, key: &Key, resource: &MetadataServices) -> bool {
    let asks = Component::ALL
        .into_iter()
        .any(|component| resource.spec.component(component).pod_disruption_budget.enabled == Some(true));
    let cached = scope.caches.world(key);
    asks || settings::wants_account(&owner(resource), &resource.spec)
        || !cached.accounts.is_empty()
        || !cached.budgets.is_empty()
}

/// What the API server objected to in this pass.
#[derive(Clone, Debug, Default)]
struct Obstacles {
    taken: Vec<String>,
    refused: Option<String>,
    restore_refused: Option<String>,
    deferred: Deferred,
}

impl Obstacles {
    /// Notes that a move was not taken that what is under way need not wait for; false if it has to.
    fn hold(&mut self, plan: &Plan) -> bool {
        match plan.write_class() {
            WriteClass::Request => self.deferred.requests = true,
            WriteClass::Settings | WriteClass::ServiceAccount => self.deferred.settings = true,
            WriteClass::Rollout => return false,
        }
        true
    }
}

/// Whether an older CRD hides the machine of a resource that has one. The API server drops what the CRD does not know from
/// what is written, of the spec as well, and for good: so nothing is written until the CRD is back, which wakes all.
fn is_cut_by_the_crd(resource: &MetadataServices) -> bool {
    resource.status.as_ref().is_some_and(|status| status.rollout.is_none() && status.phase.is_some())
}

fn is_pruning(resource: &MetadataServices) -> bool {
    let rollout = resource.status.as_ref().and_then(|status| status.rollout.as_ref());
    rollout.is_none_or(|rollout| rollout.step == Step::Prune)
}

/// The resource as the owner of its objects.
pub fn owner(resource: &MetadataServices) -> Owner {
    Owner {
        name: resource.name_any(),
        namespace: resource.namespace().unwrap_or_default(),
        uid: resource.uid().unwrap_or_default(),
    }
}

fn observe(
    scope: &Scope,
    resource: &MetadataServices,
    world: &World,
    obstacles: &Obstacles,
) -> (Intent, Facts) {
    let owner = owner(resource);
    let intent = scope.intent(resource);
    let mut facts = facts(world, &owner, resource.status.as_ref(), &scope.settings.defaults);
    let active = resource.status.as_ref().and_then(|status| status.active_strategy);
    settings::compare(world, &owner, &resource.spec, active, &mut facts);
    facts.taken.clone_from(&obstacles.taken);
    facts.refused.clone_from(&obstacles.refused);
    facts.deferred = obstacles.deferred;
    facts.restore_refused =
        obstacles.restore_refused.clone().or_else(|| restore_objection(scope, resource, world));
    (intent, facts)
}

fn decide(
    scope: &Scope,
    resource: &MetadataServices,
    world: &World,
    obstacles: &Obstacles,
) -> Result<(Intent, Plan), Error> {
    let now = scope.clock.now().ok_or(Error::NoClock)?;
    let (intent, facts) = observe(scope, resource, world, obstacles);
    let plan = rollout::plan(&intent, resource.status.as_ref(), &facts, now);
    Ok((intent, plan))
}

/// What today's rules say about the recorded template that a rollback would restore, or `revertSpec`.
fn restore_objection(scope: &Scope, resource: &MetadataServices, world: &World) -> Option<String> {
    let reverts = resource.spec.rollout.auto_rollback.revert_spec == Some(true);
    let active = || resource.status.as_ref()?.active_release_version.as_ref().filter(|_| reverts);
    let version = resource.annotations().get(ROLLBACK_TO).or_else(active)?;
    let template = super::write::template_of(resource, world, version)?;
    let restored = template.restore_into(&resource.spec);
    let violations = scope.validator.validate_spec(&resource.name_any(), &restored).err()?;
    let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
    Some(texts.join("; "))
}

/// Does the one thing that was decided.
async fn carry_out(
    scope: &Scope,
    key: &Key,
    resource: &MetadataServices,
    world: &World,
    intent: &Intent,
    plan: Plan,
    obstacles: &mut Obstacles,
) -> Result<Next, Error> {
    let writer = Writer { scope, resource, world, owner: owner(resource) };
    scope.wrote(key);
    let outcome = match &plan.effect {
        Effect::Wait => return Ok(Next::Round),
        Effect::UpdateStatus(status) => {
            let stored = writer.status(status).await?;
            committed(scope, key, resource, status);
            tell(scope, resource, plan.notes);
            return Ok(Next::Done(Some(Box::new(stored))));
        }
        Effect::Write(groups) => {
            if !live::unchanged(&scope.client, key, resource).await? {
                debug!(namespace = key.0, name = key.1, "the resource changed while it was looked at");
                return Ok(Next::Round);
            }
            writer.act(groups).await
        }
        Effect::PatchResource(amend) => writer.amend(amend).await,
    };
    match outcome {
        Ok(Written::Done) => {
            tell(scope, resource, plan.notes);
            // An amended resource is another one now.
            Ok(Next::Done(matches!(plan.effect, Effect::Write(_)).then(|| Box::new(resource.clone()))))
        }
        Ok(Written::Taken(names)) => {
            obstacles.taken = names;
            let later = scope.backoff.failed(key);
            if obstacles.hold(&plan) {
                return Ok(Next::Around(Ok(later)));
            }
            explain(scope, key, resource, world, intent, obstacles).await?;
            Ok(Next::Pause(Requeue::requeue(later)))
        }
        Ok(Written::Unrestorable(objection)) => {
            obstacles.restore_refused = Some(objection);
            Ok(Next::Round)
        }
        Err(error) if error.is_namespace_leaving() => {
            scope.leaves(key, resource);
            Ok(Next::Pause(Requeue::await_change()))
        }
        Err(error) => {
            if error.is_lasting() || (error.is_ill() && is_overdue(scope, resource, intent)) {
                obstacles.refused = Some(error.brief());
            }
            // A webhook that cannot be asked answers 500. Pods to come are not made without their account for that.
            let holds =
                error.is_lasting() || (error.is_ill() && plan.write_class() != WriteClass::ServiceAccount);
            if holds && obstacles.hold(&plan) {
                return Ok(Next::Around(Err(error)));
            }
            // A status that is refused cannot say so.
            if obstacles.refused.is_some() && !matches!(plan.effect, Effect::UpdateStatus(_)) {
                explain(scope, key, resource, world, intent, obstacles).await?;
            }
            Err(error)
        }
    }
}

/// Whether a release should have become ready by now.
fn is_overdue(scope: &Scope, resource: &MetadataServices, intent: &Intent) -> bool {
    let status = resource.status.as_ref().zip(scope.clock.now());
    status.is_some_and(|(status, now)| rollout::is_overdue(intent, status, now))
}

/// Puts an obstacle into the conditions, if it is not there yet.
async fn explain(
    scope: &Scope,
    key: &Key,
    resource: &MetadataServices,
    world: &World,
    intent: &Intent,
    obstacles: &Obstacles,
) -> Result<(), Error> {
    let now = scope.clock.now().ok_or(Error::NoClock)?;
    let (_, facts) = observe(scope, resource, world, obstacles);
    let Some(plan) = rollout::explain(intent, resource.status.as_ref(), &facts, now) else { return Ok(()) };
    if let Effect::UpdateStatus(status) = &plan.effect {
        let writer = Writer { scope, resource, world, owner: owner(resource) };
        writer.status(status).await?;
        committed(scope, key, resource, status);
        tell(scope, resource, plan.notes);
    }
    Ok(())
}

fn committed(scope: &Scope, key: &Key, resource: &MetadataServices, status: &api::MetadataServicesStatus) {
    let before = resource.status.as_ref();
    let step = status.rollout.as_ref().map(|rollout| rollout.step);
    let was = before.and_then(|status| status.rollout.as_ref()).map(|rollout| rollout.step);
    if step != was {
        info!(
            namespace = key.0,
            name = key.1,
            step = ?step,
            active = status.active_release_version.as_deref().unwrap_or("none"),
            pending = status.pending_release_version.as_deref().unwrap_or("none"),
            "step"
        );
    }
    tally::stored(&scope.metrics, before, status);
}

fn tell(scope: &Scope, resource: &MetadataServices, notes: Vec<EventNote>) {
    for note in notes {
        tally::told(&scope.metrics, note.what);
        scope.events.tell(resource.object_ref(&()), note);
    }
}

/// Shows the phase as metrics.
fn show(scope: &Scope, key: &Key, resource: &MetadataServices) {
    let Some(status) = &resource.status else { return };
    let since = status.phase_started_at.as_ref().map_or(0, |time| time.0.as_second());
    if let Some(phase) = status
        .deployment_phase
        .as_deref()
        .and_then(|text| Phase::ALL.iter().copied().find(|phase| phase.as_str() == text))
    {
        scope.metrics.observe_phase(&key.0, &key.1, phase, since);
    }
}

fn requeue(scope: &Scope, key: &Key, plan: &Plan) -> Requeue {
    scope.backoff.succeeded(key);
    Requeue::requeue(due(scope, key, plan))
}

/// When a plan that waits wants to be looked at again, at the latest.
fn due(scope: &Scope, key: &Key, plan: &Plan) -> Duration {
    let wait = match plan.requeue_after {
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(1)).min(scope.resync),
        None => scope.resync + jitter(key, scope.resync / 10),
    };
    let wait = wait.min(scope.next_look(key));
    if scope.may_lag(key) { wait.min(CATCH_UP) } else { wait }
}
