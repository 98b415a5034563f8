//! The invariants of each decision (`docs/invariants.md`), as far as one decision and its input show them.
//!
//! The checks read intent, status and facts only. The simulator, which runs one history, and the model, which runs
//! all of them, therefore share them.

use super::plan_input::{
    PlanInput, front, fronts_differ, has_objects, has_owned_objects, in_step, is_full, latest_epoch, proved,
    route, routed, spec_is_readable, template_is_known,
};
use super::predecessor;
use super::public_status::{public_fields, release_history};
use api::names::{Color, Component};
use api::status::{MetadataServicesStatus, RecordStatus, ReleaseRecord, Rollout, Side, Step, Trigger};
use rollout::facts::{ObjectId, ObjectState, ReleaseRef, Route, Setting, Workload};
use rollout::{Action, Plan};

/// The message of a broken invariant. It begins with the numbers of the invariants.
pub type Violation = String;

/// Returns a violation if the condition is false.
#[macro_export]
macro_rules! require {
    ($holds:expr, $($words:tt)*) => {
        if !$holds {
            return Err(format!($($words)*));
        }
    };
}
pub use require;

// === A status write ===

pub fn status_update(input: &PlanInput, new: &MetadataServicesStatus) -> Result<(), Violation> {
    require!(input.status != Some(new), "I29: the status write changes nothing");
    require!(!input.intent.deleted, "I28: status write for a terminating resource");
    public_fields(input, new)?;
    release_history(input, new)?;
    let old = input.status.filter(|old| old.rollout.is_some() && !objects_contradict(input, old));
    match (&new.rollout, old) {
        (None, old) => require!(old.is_none(), "the status loses its rollout"),
        (Some(_), Some(_)) if input.status_edited => {}
        (Some(rollout), Some(old)) => transition(input, old, new, rollout)?,
        (Some(rollout), None) => recovered(input, rollout)?,
    }
    Ok(())
}

/// The status counts as lost if the objects contradict it (D6). Both front Services carry a later epoch, or the
/// release that receives traffic since the switch is marked Failed.
fn objects_contradict(input: &PlanInput, old: &MetadataServicesStatus) -> bool {
    let Some(rollout) = &old.rollout else { return false };
    let switched = matches!(rollout.step, Step::Switching | Step::Watching);
    let side = rollout.target.clone().or_else(|| old.active()).filter(|_| switched);
    Component::ALL.into_iter().all(|of| front(input, of).is_some_and(|front| front.epoch > rollout.epoch))
        || side.is_some_and(|side| input.facts.is_marked(&side.version))
}

fn recovered(input: &PlanInput, rollout: &Rollout) -> Result<(), Violation> {
    let legal = [Step::Stable, Step::Deploying, Step::Switching, Step::RollingBack, Step::Prune];
    require!(legal.contains(&rollout.step), "D6: recovery into step {:?}", rollout.step);
    require!(
        latest_epoch(input) < rollout.epoch,
        "D6: the recovered epoch is not above all epochs on front Services"
    );
    Ok(())
}

fn transition(
    input: &PlanInput,
    old: &MetadataServicesStatus,
    new: &MetadataServicesStatus,
    to: &Rollout,
) -> Result<(), Violation> {
    use Step::{Deploying, Prune, RollingBack, Stable, Switching, Watching};
    let from = old.rollout.as_ref().expect("an edge starts from a step");
    require!(to.epoch >= from.epoch, "I13: epoch {} after {}", to.epoch, from.epoch);
    if from.step == to.step {
        let later = latest_epoch(input);
        let raised_above = later > from.epoch && to.epoch == later + 1;
        require!(from.epoch == to.epoch || raised_above, "the epoch changes within a step");
        require!(from.since == to.since || from.since.0 > input.now, "the start of the step changes");
        return Ok(());
    }
    restart_remembered(input, old, new, from, to)?;
    let legal = match from.step {
        Stable => matches!(to.step, Deploying | Prune),
        Deploying => matches!(to.step, Switching | Prune),
        Switching => {
            matches!(to.step, Watching | RollingBack | Prune) || (to.step == Stable && old.active().is_none())
        }
        Watching => matches!(to.step, Prune | RollingBack),
        RollingBack => to.step == Prune,
        Prune => matches!(to.step, Stable | Deploying),
        Step::Unknown => false,
    };
    require!(legal, "I12: {:?} -> {:?}", from.step, to.step);
    if matches!(to.step, Deploying | Switching | RollingBack) {
        require!(to.epoch > from.epoch, "D15: the epoch stays on entry into {:?}", to.step);
    }
    match to.step {
        Deploying => release_started(old, new, to)?,
        Switching => switch_target(input, old, to)?,
        Watching => switch_finished(input, from, to)?,
        Prune if to.epoch == from.epoch => prune_entered(input, old, from)?,
        _ => {}
    }
    if from.step == Prune { prune_finished(input, old, new) } else { Ok(()) }
}

/// I18, I21: a failed release starts only on request, the pending color is not the active one, and an attempt that
/// starts again keeps its trigger.
fn release_started(
    old: &MetadataServicesStatus,
    new: &MetadataServicesStatus,
    to: &Rollout,
) -> Result<(), Violation> {
    let target = to.target.as_ref().expect("Deploying has a target");
    let failed = old.record(&target.version).is_some_and(|record| record.status == RecordStatus::Failed);
    let trigger = new.record(&target.version).map(|record| record.trigger);
    let asked = matches!(trigger, Some(Trigger::Retry | Trigger::Rollback | Trigger::Restart));
    let first = old.active_strategy.is_none();
    require!(!failed || asked || first, "I18: {} failed and starts again without a request", target.version);
    require!(old.active_strategy != Some(target.strategy), "the pending color is the active color");
    let pending = old.record(&target.version).filter(|record| record.status == RecordStatus::Pending);
    let was = pending.map(|record| record.trigger);
    let kept = was.is_none() || was == trigger || trigger == Some(Trigger::Rollback);
    require!(kept, "D10: the trigger of {} was {was:?} and is now {trigger:?}", target.version);
    Ok(())
}

/// The spec does not show a restart. Before the switch, the operator may drop a restart only if it failed, if the
/// spec asks for another release, or if its template is unknown.
fn restart_remembered(
    input: &PlanInput,
    old: &MetadataServicesStatus,
    new: &MetadataServicesStatus,
    from: &Rollout,
    to: &Rollout,
) -> Result<(), Violation> {
    let Some(restart) = &from.target else { return Ok(()) };
    let Some(record) = old.record(&restart.version) else { return Ok(()) };
    let begun = old.active_release_version.as_ref() == Some(&restart.version)
        && matches!(from.step, Step::Deploying | Step::Prune);
    let failed = new.last_rollback != old.last_rollback;
    let wanted = &input.intent.wanted.hash;
    let blocked = |record: &ReleaseRecord| record.status == RecordStatus::Failed;
    let superseded =
        spec_is_readable(input) && record.hash != *wanted && !new.record_of_hash(wanted).is_some_and(blocked);
    let excused = failed || superseded || !template_is_known(input, &record.hash);
    let kept = to.target.as_ref() == Some(restart);
    require!(!begun || kept || excused, "D10: the restart of {} is dropped", restart.version);
    Ok(())
}

/// I2, I21, I23: the operator switches only to a complete release that is recorded as good and still wanted.
fn switch_target(input: &PlanInput, old: &MetadataServicesStatus, to: &Rollout) -> Result<(), Violation> {
    let target = to.target.as_ref().expect("Switching has a target");
    require!(is_full(input, target), "I2: switch to {target:?}, which is not Full");
    let since = old.rollout.as_ref().and_then(|from| from.timers.ready_since.as_ref());
    let since = since.map_or(i64::MAX, |since| since.0.as_second());
    let fresh = |at: i64| at > since && at <= input.now.as_second();
    let pods = input.facts.colors.get(target.strategy);
    let flapped = pods.any(|workload| workload.pods.last_transition.is_some_and(fresh));
    require!(!flapped, "I2: switch to {target:?}, which was not ready all the time");
    let good =
        input.facts.revisions.iter().any(|known| known.version == target.version && known.failed.is_none());
    require!(good, "D6: switch to {target:?} without a good revision");
    let hash = old.record(&target.version).map(|record| record.hash.as_str());
    let restart = old.active_release_version.as_ref() == Some(&target.version);
    let wanted = hash == Some(&input.intent.wanted.hash) || restart || !spec_is_readable(input);
    require!(wanted, "I21, I23: switch to {target:?}, which is no longer wanted");
    Ok(())
}

fn switch_finished(input: &PlanInput, from: &Rollout, to: &Rollout) -> Result<(), Violation> {
    let target = from.target.as_ref().expect("Switching has a target");
    let decision = route(Some(target), from.epoch);
    require!(routed(input, &decision), "D2: Watching before both front Services carry {decision:?}");
    require!(proved(input, target.strategy), "I9: Watching without proof by EndpointSlices");
    let dwell = in_step(input, from);
    require!(dwell >= input.intent.policy.dwell, "I9: the dwell time was only {dwell} s");
    require!(to.previous.is_some(), "Watching without a previous release");
    Ok(())
}

/// I3, I9: entry into Prune from a step in which both colors have objects.
fn prune_entered(input: &PlanInput, old: &MetadataServicesStatus, from: &Rollout) -> Result<(), Violation> {
    let Some(active) = old.active().filter(|_| matches!(from.step, Step::Watching | Step::RollingBack))
    else {
        return Ok(());
    };
    let kept = in_step(input, from);
    let decision = route(Some(&active), from.epoch);
    require!(routed(input, &decision), "I9: Prune before both front Services carry the decision");
    require!(kept >= input.intent.policy.cleanup_delay, "I9: the previous color was kept for only {kept} s");
    let waived = from.step == Step::RollingBack && kept >= input.intent.policy.deploy_timeout;
    require!(waived || proved(input, active.strategy), "I9: Prune without proof by EndpointSlices");
    Ok(())
}

/// D7 *gone*, and I18: the Failed mark is written before the rollback ends.
fn prune_finished(
    input: &PlanInput,
    old: &MetadataServicesStatus,
    new: &MetadataServicesStatus,
) -> Result<(), Violation> {
    for color in Color::ALL.into_iter().filter(|color| Some(*color) != old.active_strategy) {
        require!(!has_objects(input, color), "D7: Prune ends while {color} still has objects");
    }
    failures_marked(input, new)
}

/// The operator writes the Failed mark before it routes or deletes anything for the failed release.
fn failures_marked(input: &PlanInput, status: &MetadataServicesStatus) -> Result<(), Violation> {
    for record in status.release_history.iter().filter(|record| record.status == RecordStatus::Failed) {
        let marked = input.facts.is_marked(&record.version);
        require!(
            marked || !template_is_known(input, &record.hash),
            "I18: the revision of {} has no Failed mark",
            record.version
        );
    }
    Ok(())
}

// === A write to an object ===

pub fn action(input: &PlanInput, action: &Action) -> Result<(), Violation> {
    require!(!input.intent.deleted, "I28: {action:?} for a terminating resource");
    match action {
        Action::Adopt(_) => return Ok(()),
        Action::RaiseEpoch(id, epoch) => return epoch_raised(input, id, *epoch),
        Action::AdoptFront(..) | Action::AdoptUnstamped(..) => return predecessor::adopted(input, action),
        // A front Service that an earlier operator lacked.
        Action::CreateFront(_) if input.facts.predecessor.is_some() => return Ok(()),
        _ => {}
    }
    let (status, rollout) = persisted(input)?;
    let split = fronts_differ(input);
    if matches!(action, Action::Route(..) | Action::Delete(_)) && rollout.step != Step::Stable {
        failures_marked(input, status)?;
    }
    match action {
        Action::Create(id, tagged) => {
            require!(
                !split || input.externally_changed,
                "I4: {id:?} is created while the front Services differ"
            );
            require!(tagged.epoch == rollout.epoch, "D15: the object is created with epoch {}", tagged.epoch);
            object_created(input, status, rollout, id, &tagged.version)
        }
        Action::Delete(id) => {
            require!(!split, "I4: {id:?} is deleted while the front Services differ");
            require!(rollout.step == Step::Prune, "D15: {id:?} is deleted in {:?}", rollout.step);
            if let Some(active) = status.active() {
                let decision = route(Some(&active), rollout.epoch);
                require!(
                    routed(input, &decision),
                    "I9: deleted before both front Services carry the decision"
                );
            }
            object_deleted(input, status, id)
        }
        Action::Route(component, route) => front_routed(input, status, rollout, *component, route),
        Action::RecordRevision { tagged, failed } => revision_recorded(input, tagged, failed.as_deref()),
        Action::ApplySetting(setting) => {
            require!(input.facts.stale.contains(setting), "I29: {setting:?} is applied without a change");
            Ok(())
        }
        Action::ApplyServiceAccount => {
            require!(
                input.facts.stale.contains(&Setting::ACCOUNT),
                "I29: the ServiceAccount is applied without a change"
            );
            Ok(())
        }
        Action::CreateFront(_)
        | Action::Adopt(_)
        | Action::AdoptFront(..)
        | Action::AdoptUnstamped(..)
        | Action::RaiseEpoch(..) => Ok(()),
    }
}

fn revision_recorded(input: &PlanInput, tagged: &ReleaseRef, failed: Option<&str>) -> Result<(), Violation> {
    let revisions = &input.facts.revisions;
    let newest = |number: i64| revisions.iter().all(|other| other.number <= number);
    let known = revisions.iter().any(|known| {
        known.version == tagged.version && known.failed.as_deref() == failed && newest(known.number)
    });
    require!(!known, "I29: the revision of {} is written without a change", tagged.version);
    require!(template_is_known(input, &tagged.hash), "no template for {tagged:?}");
    Ok(())
}

/// D6: without a status, the operator raises the epochs of a color that an earlier delete may still hit. It does so
/// before it returns traffic to that color.
fn epoch_raised(input: &PlanInput, id: &ObjectId, epoch: i64) -> Result<(), Violation> {
    let of = |component: &Component, color: &Color| input.facts.colors.get(*color).get(*component);
    let tag = match id {
        ObjectId::Deployment(component, color) => {
            of(component, color).deployment.state().map(|state| &state.tag)
        }
        ObjectId::Service(component, color) => of(component, color).service.tag(),
        ObjectId::ConfigMap(component, color) => of(component, color).config_map.tag(),
        _ => return Err(format!("{id:?} has no epoch that can be raised")),
    };
    let stands =
        input.status.is_some_and(|status| status.rollout.is_some() && !objects_contradict(input, status));
    require!(!stands || input.status_edited, "D6: the epoch of {id:?} is raised while the status is valid");
    require!(latest_epoch(input) < epoch, "I13: {id:?} gets epoch {epoch}, a front Service has a later one");
    require!(
        tag.is_some_and(|tag| tag.epoch < epoch),
        "I29: the epoch of {id:?} is written without a change"
    );
    Ok(())
}

fn persisted<'a>(input: &PlanInput<'a>) -> Result<(&'a MetadataServicesStatus, &'a Rollout), Violation> {
    let status = input.status.ok_or("an object is written without a status")?;
    let rollout = status.rollout.as_ref().ok_or("an object is written without a persisted decision")?;
    Ok((status, rollout))
}

fn object_created(
    input: &PlanInput,
    status: &MetadataServicesStatus,
    rollout: &Rollout,
    id: &ObjectId,
    version: &str,
) -> Result<(), Violation> {
    let (ObjectId::Deployment(component, color)
    | ObjectId::Service(component, color)
    | ObjectId::ConfigMap(component, color)) = id
    else {
        return Err(format!("{id:?} is no object that Create makes"));
    };
    let side = Side { strategy: *color, version: version.to_owned() };
    let is_active = status.active().as_ref() == Some(&side);
    let is_pending = rollout.target.as_ref() == Some(&side);
    require!(is_active || is_pending, "{id:?} is created for {version}, which is neither pending nor active");
    let steps = [Step::Stable, Step::Deploying, Step::Switching, Step::Watching];
    let restored = is_active && matches!(rollout.step, Step::RollingBack | Step::Prune);
    require!(steps.contains(&rollout.step) || restored, "{id:?} is created in {:?}", rollout.step);
    let pods = input.facts.colors.get(*color).get(*component).pods.alive;
    let among_foreign_pods =
        matches!(id, ObjectId::Deployment(..)) && is_pending && rollout.step == Step::Deploying && pods > 0;
    require!(!among_foreign_pods, "D8: a Deployment is created among foreign Pods");
    Ok(())
}

fn object_deleted(
    input: &PlanInput,
    status: &MetadataServicesStatus,
    id: &ObjectId,
) -> Result<(), Violation> {
    match id {
        ObjectId::Deployment(_, color) | ObjectId::Service(_, color) | ObjectId::ConfigMap(_, color) => {
            require!(status.active_strategy != Some(*color), "{id:?} of the active color is deleted");
            let selected = Component::ALL.into_iter().filter_map(|of| front(input, of)?.selects);
            require!(
                selected.into_iter().all(|of| of != *color),
                "I3: {id:?} of a selected color is deleted"
            );
        }
        ObjectId::Revision(version) => {
            require!(
                status.record(version).is_none(),
                "the revision of {version} is deleted, but its record remains"
            );
        }
        ObjectId::Extra(extra) => {
            require!(
                input.facts.surplus.contains(extra),
                "{extra:?} is deleted although the spec asks for it"
            );
        }
        ObjectId::Front(_) => return Err("a front Service is deleted".into()),
    }
    Ok(())
}

fn front_routed(
    input: &PlanInput,
    status: &MetadataServicesStatus,
    rollout: &Rollout,
    component: Component,
    to: &Route,
) -> Result<(), Violation> {
    require!(
        to.epoch == rollout.epoch,
        "D2: the route has epoch {}, the decision {}",
        to.epoch,
        rollout.epoch
    );
    let side = if rollout.step == Step::Switching { rollout.target.clone() } else { status.active() };
    require!(*to == route(side.as_ref(), rollout.epoch), "D2: the route is {to:?}, the decision {side:?}");
    let front = front(input, component).ok_or("404: no front Service")?;
    require!(!front.carries(to), "I29: the front Service of {component} is written without a change");
    require!(
        front.epoch <= to.epoch,
        "I13: the epoch of a front Service falls from {} to {}",
        front.epoch,
        to.epoch
    );
    let Some(side) = side else {
        require!(status.active_strategy.is_none(), "I7: the selector of a front Service is emptied");
        return Ok(());
    };
    let failed = status.record(&side.version).is_some_and(|record| record.status == RecordStatus::Failed);
    // To resolve a deadlock (D7), the operator keeps the color that can serve, even if its release is marked Failed.
    let moves = front.selects != to.color && rollout.step != Step::Prune;
    let marked = moves && input.facts.is_marked(&side.version);
    require!(!failed && !marked, "I3: the route leads to {}, which is Failed", side.version);
    if front.selects != to.color && !input.externally_changed {
        for (of, workload) in input.facts.colors.get(side.strategy).iter() {
            let right = workload.deployment.state().is_some_and(|found| found.tag.version == side.version);
            require!(right, "I1, I10: the route leads to {side:?}, {of} is missing");
        }
    }
    Ok(())
}

/// The plan is to wait. `name_taken` is true if a foreign object uses a needed name.
pub fn at_rest(input: &PlanInput, made: &Plan, name_taken: bool) -> Result<(), Violation> {
    require!(made.requeue_after.is_none_or(|seconds| seconds >= 1), "the wait is {:?} s", made.requeue_after);
    let Some((status, rollout)) = persisted(input).ok().filter(|_| !input.intent.deleted) else {
        return Ok(());
    };
    if rollout.step != Step::Stable {
        return Ok(());
    }
    let active = status.active().ok_or("no active release in Stable")?;
    let decision = route(Some(&active), rollout.epoch);
    require!(routed(input, &decision), "I16: the front Services do not carry the decision");
    require!(!has_owned_objects(input, active.strategy.other()), "I33: both colors have objects");
    let mut revisions = input.facts.revisions.iter();
    let forgotten = revisions.find(|known| status.record(&known.version).is_none());
    require!(forgotten.is_none(), "I33: revision without a record: {forgotten:?}");
    require!(made.requeue_after.is_none(), "I30: a resource at rest requeues");
    let present = |object: &ObjectState| matches!(object, ObjectState::Present(_));
    let whole = input.facts.colors.get(active.strategy).all(|workload: &Workload| {
        workload.deployment.state().is_some() && present(&workload.config_map) && present(&workload.service)
    });
    let known = status.record(&active.version).is_some_and(|record| template_is_known(input, &record.hash));
    require!(whole || !known || name_taken, "I33: the active color lacks an object");
    Ok(())
}
