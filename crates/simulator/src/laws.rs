//! The laws that every decision obeys: `invariants.md`, as far as one decision and what it was taken on can tell.
//!
//! They look at intent, status and facts, so the simulator (which plays one history) and the model (which plays all)
//! hold the core to the same laws.

use super::scene::{
    Scene, front, fronts_differ, has_objects, in_step, is_full, is_judged, latest_stamp, owns, proved, route,
    stamped, template_is_known,
};
use api::names::{Color, Component};
use api::status::{MetadataServicesStatus, RecordStatus, ReleaseRecord, Rollout, Side, Step, Trigger};
use rollout::facts::{ObjectId, ObjectState, Route, Setting, Workload};
use rollout::{Action, Plan};

/// `Err` says which law is broken, and how.
pub type Judgement = Result<(), String>;

/// Ends with what is wrong.
#[macro_export]
macro_rules! law {
    ($holds:expr, $($words:tt)*) => {
        if !$holds {
            return Err(format!($($words)*));
        }
    };
}
pub use law;

// === A status that is to be persisted ===

pub fn commit(scene: &Scene, new: &MetadataServicesStatus) -> Judgement {
    law!(scene.status != Some(new), "I29: a status write that changes nothing");
    law!(!scene.intent.deleted, "I28: a status is written for a resource that is being deleted");
    readable(scene, new)?;
    history(scene, new)?;
    let old = scene.status.filter(|old| old.rollout.is_some() && !is_refuted(scene, old));
    match (&new.rollout, old) {
        (None, old) => law!(old.is_none(), "the machine's memory is dropped"),
        (Some(_), Some(_)) if scene.edited => {}
        (Some(rollout), Some(old)) => edge(scene, old, new, rollout)?,
        (Some(rollout), None) => rebuilt(scene, rollout)?,
    }
    Ok(())
}

/// The objects say otherwise, so it counts as lost (D6): both front Services carry a later decision, or the release that
/// traffic goes to since the switch is marked as failed.
fn is_refuted(scene: &Scene, old: &MetadataServicesStatus) -> bool {
    let Some(rollout) = &old.rollout else { return false };
    let switched = matches!(rollout.step, Step::Switching | Step::Watching);
    let side = rollout.target.clone().or_else(|| old.active()).filter(|_| switched);
    Component::ALL.into_iter().all(|of| front(scene, of).is_some_and(|front| front.epoch > rollout.epoch))
        || side.is_some_and(|side| scene.facts.is_marked(&side.version))
}

fn rebuilt(scene: &Scene, rollout: &Rollout) -> Judgement {
    let legal = [Step::Stable, Step::Deploying, Step::Switching, Step::RollingBack, Step::Prune];
    law!(legal.contains(&rollout.step), "D6: rebuilt as {:?}", rollout.step);
    law!(latest_stamp(scene) < rollout.epoch, "D6: a rebuilt epoch is above all that was seen");
    Ok(())
}

fn edge(
    scene: &Scene,
    old: &MetadataServicesStatus,
    new: &MetadataServicesStatus,
    to: &Rollout,
) -> Judgement {
    use Step::{Deploying, Prune, RollingBack, Stable, Switching, Watching};
    let from = old.rollout.as_ref().expect("an edge starts from a step");
    law!(to.epoch >= from.epoch, "I13: epoch {} after {}", to.epoch, from.epoch);
    if from.step == to.step {
        let later = latest_stamp(scene);
        let outnumbered = later > from.epoch && to.epoch == later + 1;
        law!(from.epoch == to.epoch || outnumbered, "a step begins anew without an edge");
        law!(from.since == to.since || from.since.0 > scene.now, "a step's start moves");
        return Ok(());
    }
    restart_kept(scene, old, new, from, to)?;
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
    law!(legal, "I12: {:?} -> {:?}", from.step, to.step);
    if matches!(to.step, Deploying | Switching | RollingBack) {
        law!(to.epoch > from.epoch, "D15: {:?} raises the epoch", to.step);
    }
    match to.step {
        Deploying => started(old, new, to)?,
        Switching => good_enough(scene, old, to)?,
        Watching => served(scene, from, to)?,
        Prune if to.epoch == from.epoch => committed_to_prune(scene, old, from)?,
        _ => {}
    }
    if from.step == Prune { pruned(scene, old, new) } else { Ok(()) }
}

/// I18, I21: what failed is tried again only when asked for, a pending color starts clean, and what is begun anew is what
/// it was.
fn started(old: &MetadataServicesStatus, new: &MetadataServicesStatus, to: &Rollout) -> Judgement {
    let target = to.target.as_ref().expect("Deploying has a target");
    let failed = old.record(&target.version).is_some_and(|record| record.status == RecordStatus::Failed);
    let trigger = new.record(&target.version).map(|record| record.trigger);
    let asked = matches!(trigger, Some(Trigger::Retry | Trigger::Rollback | Trigger::Restart));
    let first = old.active_strategy.is_none();
    law!(!failed || asked || first, "I18: {} failed and is tried again unasked", target.version);
    law!(old.active_strategy != Some(target.strategy), "the pending color is the serving one");
    let pending = old.record(&target.version).filter(|record| record.status == RecordStatus::Pending);
    let was = pending.map(|record| record.trigger);
    let kept = was.is_none() || was == trigger || trigger == Some(Trigger::Rollback);
    law!(kept, "D10: {} was begun by {was:?}, and is begun anew by {trigger:?}", target.version);
    Ok(())
}

/// A restart stands in no spec: before it serves it is forgotten only if it failed, if another release is to come, or if
/// nothing says any more what it was to deploy.
fn restart_kept(
    scene: &Scene,
    old: &MetadataServicesStatus,
    new: &MetadataServicesStatus,
    from: &Rollout,
    to: &Rollout,
) -> Judgement {
    let Some(restart) = &from.target else { return Ok(()) };
    let Some(record) = old.record(&restart.version) else { return Ok(()) };
    let begun = old.active_release_version.as_ref() == Some(&restart.version)
        && matches!(from.step, Step::Deploying | Step::Prune);
    let failed = new.last_rollback != old.last_rollback;
    let wanted = &scene.intent.wanted.hash;
    let blocked = |record: &ReleaseRecord| record.status == RecordStatus::Failed;
    let superseded =
        is_judged(scene) && record.hash != *wanted && !new.record_of_hash(wanted).is_some_and(blocked);
    let excused = failed || superseded || !template_is_known(scene, &record.hash);
    let kept = to.target.as_ref() == Some(restart);
    law!(!begun || kept || excused, "D10: the restart of {} is forgotten", restart.version);
    Ok(())
}

/// I2, I21, I23: the switch is decided on a complete release that is recorded as good and still wanted.
fn good_enough(scene: &Scene, old: &MetadataServicesStatus, to: &Rollout) -> Judgement {
    let target = to.target.as_ref().expect("Switching has a target");
    law!(is_full(scene, target), "I2: switching to {target:?}, which is not Full");
    let since = old.rollout.as_ref().and_then(|from| from.timers.ready_since.as_ref());
    let since = since.map_or(i64::MAX, |since| since.0.as_second());
    let fresh = |at: i64| at > since && at <= scene.now.as_second();
    let pods = scene.facts.colors.get(target.strategy);
    let flapped = pods.any(|workload| workload.pods.last_transition.is_some_and(fresh));
    law!(!flapped, "I2: switching to {target:?}, which was not ready without a break");
    let good =
        scene.facts.revisions.iter().any(|known| known.version == target.version && known.failed.is_none());
    law!(good, "D6: switching to {target:?} without a revision that says it is good");
    let hash = old.record(&target.version).map(|record| record.hash.as_str());
    let restart = old.active_release_version.as_ref() == Some(&target.version);
    let wanted = hash == Some(&scene.intent.wanted.hash) || restart || !is_judged(scene);
    law!(wanted, "I21, I23: switching to {target:?}, which is not wanted any more");
    Ok(())
}

fn served(scene: &Scene, from: &Rollout, to: &Rollout) -> Judgement {
    let target = from.target.as_ref().expect("Switching has a target");
    let decision = route(Some(target), from.epoch);
    law!(stamped(scene, &decision), "D2: served before both fronts carry {decision:?}");
    law!(proved(scene, target.strategy), "I9: served unproved");
    let dwell = in_step(scene, from);
    law!(dwell >= scene.intent.policy.dwell, "I9: the dwell time was {dwell}");
    law!(to.previous.is_some(), "Watching without a warm side");
    Ok(())
}

/// I3, I9: the way to Prune from a step in which both colors live.
fn committed_to_prune(scene: &Scene, old: &MetadataServicesStatus, from: &Rollout) -> Judgement {
    let Some(active) = old.active().filter(|_| matches!(from.step, Step::Watching | Step::RollingBack))
    else {
        return Ok(());
    };
    let kept = in_step(scene, from);
    let decision = route(Some(&active), from.epoch);
    law!(stamped(scene, &decision), "I9: Prune before both fronts carry the decision");
    law!(kept >= scene.intent.policy.cleanup_delay, "I9: the warm side was kept for {kept} s only");
    let waived = from.step == Step::RollingBack && kept >= scene.intent.policy.deploy_timeout;
    law!(waived || proved(scene, active.strategy), "I9: Prune unproved");
    Ok(())
}

/// D7 *gone*, and I18: the mark is durable before the rollback ends.
fn pruned(scene: &Scene, old: &MetadataServicesStatus, new: &MetadataServicesStatus) -> Judgement {
    for color in Color::ALL.into_iter().filter(|color| Some(*color) != old.active_strategy) {
        law!(!has_objects(scene, color), "D7: Prune is left, but {color} is not gone");
    }
    marked(scene, new)
}

/// The mark of a failed release is durable before anything is patched or deleted for it.
fn marked(scene: &Scene, status: &MetadataServicesStatus) -> Judgement {
    for record in status.release_history.iter().filter(|record| record.status == RecordStatus::Failed) {
        let marked = scene.facts.is_marked(&record.version);
        law!(marked || !template_is_known(scene, &record.hash), "I18: {} is not marked", record.version);
    }
    Ok(())
}

fn history(scene: &Scene, new: &MetadataServicesStatus) -> Judgement {
    let records = &new.release_history;
    let limit = scene.intent.policy.history_limit;
    law!(records.len() <= limit, "I14: {} records, limit {limit}", records.len());
    for (at, record) in records.iter().enumerate() {
        let twin =
            records[..at].iter().any(|other| other.version == record.version || other.hash == record.hash);
        law!(!twin, "I14: {} is recorded twice", record.version);
    }
    let active: Vec<_> = records.iter().filter(|record| record.status == RecordStatus::Active).collect();
    law!(active.len() <= 1, "I15: two Active");
    let version = active.first().map(|record| record.version.as_str());
    law!(version == new.active_release_version.as_deref(), "I15: Active is {version:?}");
    let old = scene.status.iter().filter(|_| !scene.edited).flat_map(|old| &old.release_history);
    for record in old.filter(|old| matches!(old.status, RecordStatus::Active | RecordStatus::Pending)) {
        law!(new.record(&record.version).is_some(), "I17: {} was dropped", record.version);
    }
    if let Some(active) = version {
        let place = records.iter().rev().position(|record| record.version == active).unwrap_or_default();
        law!(place <= 1, "D12: Active is at [-{}]", place + 1);
    }
    let pending = records.iter().filter(|record| record.status == RecordStatus::Pending).count();
    law!(pending <= 1, "D12: {pending} attempts at once");
    let last = records.last().is_some_and(|record| record.status == RecordStatus::Pending);
    law!(pending == 0 || last, "D12: Pending is not last");
    Ok(())
}

/// The part that people read.
fn readable(scene: &Scene, new: &MetadataServicesStatus) -> Judgement {
    let size = serde_json::to_string(new).map_err(|error| error.to_string())?.len();
    law!(size <= 16 * 1024, "I20: {size} bytes");
    let public = ["Stable", "Deploying", "Switching", "Cleanup"];
    let phase = new.deployment_phase.as_deref().unwrap_or_default();
    law!(public.contains(&phase), "deploymentPhase {phase:?}");
    let summary = [&public[..], &["Pending", "Degraded", "Failed"]].concat();
    law!(summary.contains(&new.phase.as_deref().unwrap_or("")), "A1: phase {:?}", new.phase);
    law!(new.observed_generation == Some(scene.intent.generation), "I19: {:?}", new.observed_generation);
    let is = |kind: &str| new.conditions.iter().any(|found| found.type_ == kind && found.status == "True");
    for kind in ["Ready", "SpecApplied", "Progressing", "Reconciling", "Stalled"] {
        let count = new.conditions.iter().filter(|found| found.type_ == kind).count();
        law!(count == 1, "D26: {count} conditions {kind}");
    }
    law!(!(is("Reconciling") && is("Stalled")), "kstatus: both Reconciling and Stalled");
    law!(new.conditions.iter().all(|found| !found.reason.is_empty()), "a condition without a reason");
    let full = new.active().is_some_and(|active| is_full(scene, &active));
    law!(is("Ready") == full, "I16, I19: Ready={} while Full={full}", is("Ready"));
    if let Some(rollout) = &new.rollout {
        law!(new.deployment_phase.as_deref() == rollout.step.phase(), "deploymentPhase is not the step's");
        let pending = rollout.target.as_ref().map(|side| side.strategy);
        law!(new.pending_strategy == pending, "pendingStrategy {:?}", new.pending_strategy);
    }
    Ok(())
}

// === A write to an object ===

pub fn action(scene: &Scene, action: &Action) -> Judgement {
    law!(!scene.intent.deleted, "I28: {action:?} for a resource that is being deleted");
    match action {
        Action::Adopt(_) => return Ok(()),
        Action::RaiseEpoch(id, epoch) => return restamped(scene, id, *epoch),
        _ => {}
    }
    let (status, rollout) = machine(scene)?;
    let torn = fronts_differ(scene);
    if matches!(action, Action::Route(..) | Action::Delete(_)) && rollout.step != Step::Stable {
        marked(scene, status)?;
    }
    match action {
        Action::Create(id, tagged) => {
            law!(!torn || scene.tampered, "I4: {id:?} is created while the fronts differ");
            law!(tagged.epoch == rollout.epoch, "D15: created under epoch {}", tagged.epoch);
            created(scene, status, rollout, id, &tagged.version)
        }
        Action::Delete(id) => {
            law!(!torn, "I4: {id:?} is deleted while the fronts differ");
            law!(rollout.step == Step::Prune, "D15: {id:?} is deleted in {:?}", rollout.step);
            if let Some(active) = status.active() {
                let decision = route(Some(&active), rollout.epoch);
                law!(stamped(scene, &decision), "I9: deleted before the stamps");
            }
            deleted(scene, status, id)
        }
        Action::Route(component, route) => pointed(scene, status, rollout, *component, route),
        Action::RecordRevision { tagged, failed } => {
            let revisions = &scene.facts.revisions;
            let newest = |number: i64| revisions.iter().all(|other| other.number <= number);
            let known = revisions.iter().any(|known| {
                known.version == tagged.version && known.failed == *failed && newest(known.number)
            });
            law!(!known, "I29: {} is recorded for nothing", tagged.version);
            law!(template_is_known(scene, &tagged.hash), "no template for {tagged:?}");
            Ok(())
        }
        Action::ApplySetting(setting) => {
            law!(scene.facts.stale.contains(setting), "I29: {setting:?} is settled for nothing");
            Ok(())
        }
        Action::ApplyServiceAccount => {
            law!(scene.facts.stale.contains(&Setting::ACCOUNT), "I29: the account is settled for nothing");
            Ok(())
        }
        Action::CreateFront(_) | Action::Adopt(_) | Action::RaiseEpoch(..) => Ok(()),
    }
}

/// D6: without a status, what may have been on its way out gets a number above all that was seen before it is gone back to.
fn restamped(scene: &Scene, id: &ObjectId, epoch: i64) -> Judgement {
    let of = |component: &Component, color: &Color| scene.facts.colors.get(*color).get(*component);
    let tag = match id {
        ObjectId::Deployment(component, color) => {
            of(component, color).deployment.state().map(|state| &state.tag)
        }
        ObjectId::Service(component, color) => of(component, color).service.tag(),
        ObjectId::ConfigMap(component, color) => of(component, color).config_map.tag(),
        _ => return Err(format!("not stamped so: {id:?}")),
    };
    let stands = scene.status.is_some_and(|status| status.rollout.is_some() && !is_refuted(scene, status));
    law!(!stands || scene.edited, "D6: {id:?} is stamped while the status stands");
    law!(latest_stamp(scene) < epoch, "I13: {id:?} is stamped {epoch}, a front is later");
    law!(tag.is_some_and(|tag| tag.epoch < epoch), "I29: {id:?} is stamped for nothing");
    Ok(())
}

fn machine<'a>(scene: &Scene<'a>) -> Result<(&'a MetadataServicesStatus, &'a Rollout), String> {
    let status = scene.status.ok_or("objects are written without a status")?;
    let rollout = status.rollout.as_ref().ok_or("objects are written without a persisted decision")?;
    Ok((status, rollout))
}

fn created(
    scene: &Scene,
    status: &MetadataServicesStatus,
    rollout: &Rollout,
    id: &ObjectId,
    version: &str,
) -> Judgement {
    let (ObjectId::Deployment(component, color)
    | ObjectId::Service(component, color)
    | ObjectId::ConfigMap(component, color)) = id
    else {
        return Err(format!("not created so: {id:?}"));
    };
    let side = Side { strategy: *color, version: version.to_owned() };
    let serves = status.active().as_ref() == Some(&side);
    let comes = rollout.target.as_ref() == Some(&side);
    law!(serves || comes, "{id:?} is created for {version}, which is not on its way and does not serve");
    let steps = [Step::Stable, Step::Deploying, Step::Switching, Step::Watching];
    let mended = serves && matches!(rollout.step, Step::RollingBack | Step::Prune);
    law!(steps.contains(&rollout.step) || mended, "{id:?} is created in {:?}", rollout.step);
    let pods = scene.facts.colors.get(*color).get(*component).pods.alive;
    let strays =
        matches!(id, ObjectId::Deployment(..)) && comes && rollout.step == Step::Deploying && pods > 0;
    law!(!strays, "D8: a Deployment is created among pods of something else");
    Ok(())
}

fn deleted(scene: &Scene, status: &MetadataServicesStatus, id: &ObjectId) -> Judgement {
    match id {
        ObjectId::Deployment(_, color) | ObjectId::Service(_, color) | ObjectId::ConfigMap(_, color) => {
            law!(status.active_strategy != Some(*color), "{id:?} serves and is deleted");
            let selected = Component::ALL.into_iter().filter_map(|of| front(scene, of)?.selects);
            law!(selected.into_iter().all(|of| of != *color), "I3: {id:?} is selected and deleted");
        }
        ObjectId::Revision(version) => {
            law!(status.record(version).is_none(), "{version} is in the history, its revision is deleted");
        }
        ObjectId::Extra(extra) => {
            law!(scene.facts.surplus.contains(extra), "{extra:?} is wanted and deleted");
        }
        ObjectId::Front(_) => return Err("a front Service is deleted".into()),
    }
    Ok(())
}

fn pointed(
    scene: &Scene,
    status: &MetadataServicesStatus,
    rollout: &Rollout,
    component: Component,
    to: &Route,
) -> Judgement {
    law!(to.epoch == rollout.epoch, "D2: pointed with epoch {}, decided {}", to.epoch, rollout.epoch);
    let side = if rollout.step == Step::Switching { rollout.target.clone() } else { status.active() };
    law!(*to == route(side.as_ref(), rollout.epoch), "D2: pointed to {to:?}, decided {side:?}");
    let front = front(scene, component).ok_or("404: no front to point")?;
    law!(!front.carries(to), "I29: {component} is pointed for nothing");
    law!(front.epoch <= to.epoch, "I13: the stamp goes from {} to {}", front.epoch, to.epoch);
    let Some(side) = side else {
        law!(status.active_strategy.is_none(), "I7: pointed to nothing");
        return Ok(());
    };
    let failed = status.record(&side.version).is_some_and(|record| record.status == RecordStatus::Failed);
    // Out of a dead end (design D7) the side is kept that can serve, whatever was held against it.
    let moves = front.selects != to.color && rollout.step != Step::Prune;
    let marked = moves && scene.facts.is_marked(&side.version);
    law!(!failed && !marked, "I3: pointed to {}, which is Failed", side.version);
    if front.selects != to.color && !scene.tampered {
        for (of, workload) in scene.facts.colors.get(side.strategy).iter() {
            let right = workload.deployment.state().is_some_and(|found| found.tag.version == side.version);
            law!(right, "I1, I10: pointed to {side:?}, {of} is not there");
        }
    }
    Ok(())
}

// === Nothing is to be done ===

/// `barred`: a name that is needed is held by others.
pub fn rest(scene: &Scene, made: &Plan, barred: bool) -> Judgement {
    law!(made.requeue_after.is_none_or(|seconds| seconds >= 1), "a wait of {:?}", made.requeue_after);
    let Some((status, rollout)) = machine(scene).ok().filter(|_| !scene.intent.deleted) else {
        return Ok(());
    };
    if rollout.step != Step::Stable {
        return Ok(());
    }
    let active = status.active().ok_or("nothing serves in Stable")?;
    let decision = route(Some(&active), rollout.epoch);
    law!(stamped(scene, &decision), "I16: the fronts do not carry the decision");
    law!(!owns(scene, active.strategy.other()), "I33: both colors have objects");
    let mut revisions = scene.facts.revisions.iter();
    let forgotten = revisions.find(|known| status.record(&known.version).is_none());
    law!(forgotten.is_none(), "I33: {forgotten:?} is left over");
    law!(made.requeue_after.is_none(), "I30: a settled resource wants to be looked at again");
    let present = |piece: &ObjectState| matches!(piece, ObjectState::Present(_));
    let whole = scene.facts.colors.get(active.strategy).all(|workload: &Workload| {
        workload.deployment.state().is_some() && present(&workload.config_map) && present(&workload.service)
    });
    let known = status.record(&active.version).is_some_and(|record| template_is_known(scene, &record.hash));
    law!(whole || !known || barred, "I33: the serving color is not whole");
    Ok(())
}
