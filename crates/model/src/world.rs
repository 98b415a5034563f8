//! The laws that hold of the world itself, whoever looks (`invariants.md`): of a write as it lands, and of every state.
//! What a decision owes to what it was taken on is judged in `tables`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::search::Search;
use super::state::{DEPLOYMENT, Life, Record, State, World, name, number};
use super::tables::Deed;
use super::times::{NOW, waits};
use api::names::Color;
use api::status::{MetadataServicesStatus, RecordStatus, Rollout, Step, Trigger};
use simulator::laws::{Judgement, law};

fn rollout(search: &Search, status: u32) -> Option<&Rollout> {
    search.tables.status(status)?.rollout.as_ref()
}

/// A write to an object, just before it takes effect.
pub fn landed(search: &Search, state: &State, actor: usize, deed: Deed) -> Judgement {
    let world = &state.world;
    let bereft = state.actors[actor].bereft;
    law!(
        !bereft || !is_of_the_resource(world, deed),
        "I28: {deed:?} for a resource that is gone, on an object of its successor"
    );
    match deed {
        Deed::Point { door, selects, release, epoch } => {
            let front = &world.doors[door];
            if !front.there {
                return Ok(());
            }
            law!(
                front.epoch <= epoch,
                "I13: the stamp of a front Service goes from {} to {epoch}",
                front.epoch
            );
            if let Some(color) = selects.filter(|_| !state.ghost.tampered && !front.orphan) {
                law!(
                    deployed(world, color) == [Some(release); 2],
                    "I1, I10: a front Service is pointed to {} on {color}, which is not there",
                    name(release)
                );
            }
            Ok(())
        }
        Deed::DeletePart { color, component, part } => deleted(state, color, component, part),
        Deed::Create { color, component, part, .. } => {
            let there = world.cells[color][component].parts[usize::from(part)].release != 0;
            let differ = fronts_differ(world) && !state.ghost.tampered;
            // What is made for a resource that is gone is the garbage collector's, and beside what its successor has.
            law!(there || !differ || bereft, "I4: {deed:?} while the front Services differ");
            Ok(())
        }
        Deed::ResourcePatch { restore, .. } => {
            law!(restore == 0 || search.served(world, restore), "I24: {} never served", name(restore));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether a patch or a delete meets an object that is no left-over of a resource that is gone.
fn is_of_the_resource(world: &World, deed: Deed) -> bool {
    match deed {
        Deed::Point { door, .. } => world.doors[door].there && !world.doors[door].orphan,
        Deed::Record { release, create: false, .. } => is_kept(world.records[usize::from(release) - 1]),
        Deed::DeletePart { color, component, part } | Deed::Stamp { color, component, part, .. } => {
            let object = world.cells[color][component].parts[usize::from(part)];
            object.release != 0 && !object.orphan
        }
        Deed::DeleteRecord(at) => is_kept(world.records[at]),
        // A status and a spec are the resource's own; what a create meets stays as it is.
        Deed::Commit(_)
        | Deed::ResourcePatch { .. }
        | Deed::CreateDoor(_)
        | Deed::Create { .. }
        | Deed::Record { create: true, .. } => false,
    }
}

const fn is_kept(record: Record) -> bool {
    record.number != 0 && !record.orphan
}

fn deployed(world: &World, color: Color) -> [Option<u8>; 2] {
    world.cells[super::state::at(color)].map(|cell| cell.deployed())
}

fn deleted(state: &State, color: usize, component: usize, part: u8) -> Judgement {
    let world = &state.world;
    let object = world.cells[color][component].parts[usize::from(part)];
    if object.release == 0 || object.orphan || state.ghost.tampered {
        return Ok(());
    }
    let color = Color::ALL[color];
    let what = ["Deployment", "ConfigMap", "Service"][usize::from(part)];
    let fronts = world.doors;
    law!(
        fronts.iter().all(|front| front.selects != Some(color)),
        "I3, I9: a {what} on {color} is deleted, which a front Service selects"
    );
    law!(!fronts_differ(world), "I4: a {what} is deleted while the front Services differ");
    let proved = fronts.iter().all(|front| front.listed != Some(color));
    law!(
        proved || state.ghost.waived || part != DEPLOYMENT,
        "I9: a {what} on {color} is deleted while EndpointSlices list its pods"
    );
    Ok(())
}

fn fronts_differ(world: &World) -> bool {
    let [storage, schema] = &world.doors;
    let both = storage.there && schema.there && !storage.orphan && !schema.orphan;
    both && (storage.selects, storage.release) != (schema.selects, schema.release)
}

/// A status, just before it is persisted; keeps what later laws need.
pub fn committed(search: &Search, state: &mut State, status: u32) -> Judgement {
    let new = search.tables.status(status).ok_or("a status that is none")?;
    let (Some(to), from) = (&new.rollout, rollout(search, state.world.status)) else { return Ok(()) };
    let epoch = u8::try_from(to.epoch).map_err(|error| error.to_string())?;
    law!(epoch >= state.ghost.epoch, "I13: epoch {epoch} is persisted after {}", state.ghost.epoch);
    state.ghost.epoch = epoch;
    let enters = from.is_none_or(|from| from.step != to.step);
    match (to.step, from) {
        (Step::Deploying, _) if enters => {
            tried_unasked(state, new, to, from.is_none())?;
            state.ghost.moves = [0; 2];
            (state.ghost.lost, state.ghost.unmarked) = (false, false);
            state.ghost.waived &= is_listed_late(&state.world);
        }
        (Step::Stable, _) if enters => {
            if state.ghost.lost {
                // Where the rollout began that ends here is not known.
                state.ghost.moves = [0; 2];
            }
            (state.ghost.lost, state.ghost.unmarked) = (false, false);
            state.ghost.waived &= is_listed_late(&state.world);
        }
        (Step::Prune, Some(from)) if enters => state.ghost.waived |= is_waived(from, to),
        _ => {}
    }
    Ok(())
}

/// What EndpointSlices list then are pods that went without proof, not those that come.
fn is_listed_late(world: &World) -> bool {
    world.doors.iter().any(|door| door.listed != door.selects)
}

/// Design D7: proof is waived when a way back stayed unproved, or neither side was healthy, for the deploy timeout.
fn is_waived(from: &Rollout, to: &Rollout) -> bool {
    let lasted = |since: &Time| NOW - since.0.as_second() >= waits().deploy_timeout;
    if from.step == Step::RollingBack {
        return to.epoch == from.epoch && lasted(&from.since);
    }
    to.epoch > from.epoch && from.timers.both_down_since.as_ref().is_some_and(lasted)
}

/// I18: what is durably marked as failed is tried again only when somebody asks; or once, when the status was lost around
/// the mark.
fn tried_unasked(state: &State, new: &MetadataServicesStatus, to: &Rollout, rebuilt: bool) -> Judgement {
    let Some(target) = &to.target else { return Ok(()) };
    let at = usize::from(number(&target.version));
    let marked = at > 0 && state.world.records[at - 1].failed && !state.world.records[at - 1].orphan;
    let trigger = new.record(&target.version).map(|record| record.trigger);
    let asked = matches!(trigger, Some(Trigger::Retry | Trigger::Rollback | Trigger::Restart));
    let first = new.active_strategy.is_none();
    law!(
        !marked || asked || (first && !rebuilt) || state.ghost.unmarked,
        "I18: {} is marked as failed and tried unasked",
        target.version
    );
    Ok(())
}

/// What holds in every state.
pub fn check(search: &Search, state: &State) -> Judgement {
    let world = &state.world;
    if world.resource.life == Life::Gone || state.ghost.tampered {
        return Ok(());
    }
    for front in world.doors.iter().filter(|front| front.there && !front.orphan) {
        if let Some(color) = front.selects {
            law!(
                deployed(world, color) == [Some(front.release); 2],
                "I1: a front Service selects {} on {color}, which is not there",
                name(front.release)
            );
        }
    }
    let step = search.tables.step(world);
    if fronts_differ(world) && !state.ghost.lost {
        let moving = matches!(step, Some(Step::Switching | Step::RollingBack | Step::Prune));
        law!(moving, "I4: the front Services differ in {step:?}");
    }
    law!(
        state.ghost.lost || state.ghost.moves.iter().all(|moves| *moves <= 2),
        "I5: a selector moved {:?} times in one rollout",
        state.ghost.moves
    );
    Ok(())
}

/// What holds of a resource that has come to rest in Stable, besides what `laws::rest` says.
pub fn rested(search: &Search, world: &World) -> Judgement {
    let status = search.tables.status(world.status).ok_or("rest without a status")?;
    let active = status.active().ok_or("rest in Stable without a release that serves")?;
    let marks: Vec<_> =
        status.release_history.iter().filter(|record| record.status == RecordStatus::Active).collect();
    law!(marks.len() == 1, "I15: {} Active in Stable", marks.len());
    let release = number(&active.version);
    for front in &world.doors {
        let serves = front.selects == Some(active.strategy) && front.release == release;
        law!(serves, "I16: a front Service does not select what is Active");
    }
    for (at, record) in
        world.records.iter().enumerate().filter(|(_, record)| record.number != 0 && !record.orphan)
    {
        let version = name(u8::try_from(at).unwrap() + 1);
        let known = status.record(version);
        law!(known.is_some(), "I33: the revision of {version} is left over");
        let failed = known.is_some_and(|record| record.status == RecordStatus::Failed);
        law!(!failed || record.failed, "I18: {version} failed and is not marked at rest");
    }
    Ok(())
}
