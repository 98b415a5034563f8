//! The invariants of writes and states (`docs/invariants.md`), independent of the operator. `interner` checks
//! decisions against their input.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ages::{NOW, model_policy};
use super::interner::Write;
use super::search::Search;
use super::state::{ApiState, DEPLOYMENT, Lifecycle, Revision, State, name, number};
use api::names::Color;
use api::status::{MetadataServicesStatus, RecordStatus, Rollout, Step, Trigger};
use simulator::invariants::{Violation, require};

fn rollout(search: &Search, status: u32) -> Option<&Rollout> {
    search.interner.status(status)?.rollout.as_ref()
}

/// Checks a write to an object just before it takes effect.
pub fn write_invariants(
    search: &Search,
    state: &State,
    operator: usize,
    write: Write,
) -> Result<(), Violation> {
    let server = &state.server;
    let orphaned = state.operators[operator].orphaned;
    require!(
        !orphaned || !is_of_the_resource(server, write),
        "I28: {write:?} for a deleted resource, on an object of its successor"
    );
    match write {
        Write::Route { front, selects, release, epoch } => {
            let front = &server.fronts[front];
            if !front.there {
                return Ok(());
            }
            require!(
                front.epoch <= epoch,
                "I13: the epoch of a front Service falls from {} to {epoch}",
                front.epoch
            );
            if let Some(color) = selects.filter(|_| !state.history.externally_changed && !front.orphan) {
                require!(
                    deployed(server, color) == [Some(release); 2],
                    "I1, I10: a front Service is routed to {} on {color}, which is missing",
                    name(release)
                );
            }
            Ok(())
        }
        Write::DeleteObject { color, component, kind } => deleted(state, color, component, kind),
        Write::CreateObject { color, component, kind, .. } => {
            let there = server.cells[color][component].objects[usize::from(kind)].release != 0;
            let differ = fronts_differ(server) && !state.history.externally_changed;
            // The garbage collector deletes the objects that an operator creates for a deleted resource.
            require!(there || !differ || orphaned, "I4: {write:?} while the front Services differ");
            Ok(())
        }
        Write::PatchResource { restore, .. } => {
            require!(restore == 0 || search.served(server, restore), "I24: {} never served", name(restore));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Returns whether a patch or a delete hits an object of the current resource, not of a deleted one.
fn is_of_the_resource(server: &ApiState, write: Write) -> bool {
    match write {
        Write::Route { front, .. } => server.fronts[front].there && !server.fronts[front].orphan,
        Write::RecordRevision { release, create: false, .. } => {
            is_kept(server.revisions[usize::from(release) - 1])
        }
        Write::DeleteObject { color, component, kind } | Write::RaiseEpoch { color, component, kind, .. } => {
            let object = server.cells[color][component].objects[usize::from(kind)];
            object.release != 0 && !object.orphan
        }
        Write::DeleteRevision(at) => is_kept(server.revisions[at]),
        // Status and spec belong to the resource itself. A create changes no existing object.
        Write::UpdateStatus(_)
        | Write::PatchResource { .. }
        | Write::CreateFront(_)
        | Write::CreateObject { .. }
        | Write::RecordRevision { create: true, .. } => false,
    }
}

const fn is_kept(record: Revision) -> bool {
    record.number != 0 && !record.orphan
}

fn deployed(server: &ApiState, color: Color) -> [Option<u8>; 2] {
    server.cells[super::state::at(color)].map(|cell| cell.deployed())
}

fn deleted(state: &State, color: usize, component: usize, kind: u8) -> Result<(), Violation> {
    let server = &state.server;
    let object = server.cells[color][component].objects[usize::from(kind)];
    if object.release == 0 || object.orphan || state.history.externally_changed {
        return Ok(());
    }
    let color = Color::ALL[color];
    let what = ["Deployment", "ConfigMap", "Service"][usize::from(kind)];
    let fronts = server.fronts;
    require!(
        fronts.iter().all(|front| front.selects != Some(color)),
        "I3, I9: a {what} on {color} is deleted, which a front Service selects"
    );
    require!(!fronts_differ(server), "I4: a {what} is deleted while the front Services differ");
    let proved = fronts.iter().all(|front| front.listed != Some(color));
    require!(
        proved || state.history.proof_waived || kind != DEPLOYMENT,
        "I9: a {what} on {color} is deleted while EndpointSlices list its pods"
    );
    Ok(())
}

fn fronts_differ(server: &ApiState) -> bool {
    let [storage, schema] = &server.fronts;
    let both = storage.there && schema.there && !storage.orphan && !schema.orphan;
    both && (storage.selects, storage.release) != (schema.selects, schema.release)
}

/// Checks a status write just before it takes effect, and updates the history.
pub fn status_invariants(search: &Search, state: &mut State, status: u32) -> Result<(), Violation> {
    let new = search.interner.status(status).ok_or("the status to write does not exist")?;
    let (Some(to), from) = (&new.rollout, rollout(search, state.server.status)) else { return Ok(()) };
    let epoch = u8::try_from(to.epoch).map_err(|error| error.to_string())?;
    require!(epoch >= state.history.epoch, "I13: epoch {epoch} is persisted after {}", state.history.epoch);
    state.history.epoch = epoch;
    let enters = from.is_none_or(|from| from.step != to.step);
    match (to.step, from) {
        (Step::Deploying, _) if enters => {
            started_without_request(state, new, to, from.is_none())?;
            state.history.selector_changes = [0; 2];
            (state.history.status_lost, state.history.mark_may_be_late) = (false, false);
            state.history.proof_waived &= is_listed_late(&state.server);
        }
        (Step::Stable, _) if enters => {
            if state.history.status_lost {
                // The start of the rollout that ends here is unknown.
                state.history.selector_changes = [0; 2];
            }
            (state.history.status_lost, state.history.mark_may_be_late) = (false, false);
            state.history.proof_waived &= is_listed_late(&state.server);
        }
        (Step::Prune, Some(from)) if enters => state.history.proof_waived |= is_waived(from, to),
        _ => {}
    }
    Ok(())
}

/// Returns whether EndpointSlices pods_linger behind the selectors. They then list Pods that were pruned without proof.
fn is_listed_late(server: &ApiState) -> bool {
    server.fronts.iter().any(|front| front.listed != front.selects)
}

/// Returns whether the proof is waived (D7): a rollback without proof, or two unhealthy colors, lasted for the deploy
/// timeout.
fn is_waived(from: &Rollout, to: &Rollout) -> bool {
    let lasted = |since: &Time| NOW - since.0.as_second() >= model_policy().deploy_timeout;
    if from.step == Step::RollingBack {
        return to.epoch == from.epoch && lasted(&from.since);
    }
    to.epoch > from.epoch && from.timers.both_down_since.as_ref().is_some_and(lasted)
}

/// I18: a release with a Failed mark starts only on request; or once, if the status was lost around the mark.
fn started_without_request(
    state: &State,
    new: &MetadataServicesStatus,
    to: &Rollout,
    rebuilt: bool,
) -> Result<(), Violation> {
    let Some(target) = &to.target else { return Ok(()) };
    let at = usize::from(number(&target.version));
    let marked = at > 0 && state.server.revisions[at - 1].failed && !state.server.revisions[at - 1].orphan;
    let trigger = new.record(&target.version).map(|record| record.trigger);
    let asked = matches!(trigger, Some(Trigger::Retry | Trigger::Rollback | Trigger::Restart));
    let first = new.active_strategy.is_none();
    require!(
        !marked || asked || (first && !rebuilt) || state.history.mark_may_be_late,
        "I18: {} is marked Failed and starts without a request",
        target.version
    );
    Ok(())
}

/// Checks the invariants of every state.
pub fn check_state(search: &Search, state: &State) -> Result<(), Violation> {
    let server = &state.server;
    if server.resource.lifecycle == Lifecycle::Absent || state.history.externally_changed {
        return Ok(());
    }
    for front in server.fronts.iter().filter(|front| front.there && !front.orphan) {
        if let Some(color) = front.selects {
            require!(
                deployed(server, color) == [Some(front.release); 2],
                "I1: a front Service selects {} on {color}, which is missing",
                name(front.release)
            );
        }
    }
    let step = search.interner.step(server);
    if fronts_differ(server) && !state.history.status_lost {
        let moving = matches!(step, Some(Step::Switching | Step::RollingBack | Step::Prune));
        require!(moving, "I4: the front Services differ in {step:?}");
    }
    require!(
        state.history.status_lost || state.history.selector_changes.iter().all(|moves| *moves <= 2),
        "I5: the selectors changed {:?} times in one rollout",
        state.history.selector_changes
    );
    Ok(())
}

/// Checks a resource at rest in Stable, in addition to `invariants::at_rest`.
pub fn rest_invariants(search: &Search, server: &ApiState) -> Result<(), Violation> {
    let status = search.interner.status(server.status).ok_or("rest without a status")?;
    let active = status.active().ok_or("rest in Stable without an active release")?;
    let marks: Vec<_> =
        status.release_history.iter().filter(|record| record.status == RecordStatus::Active).collect();
    require!(marks.len() == 1, "I15: {} Active records in Stable", marks.len());
    let release = number(&active.version);
    for front in &server.fronts {
        let selected = front.selects == Some(active.strategy) && front.release == release;
        require!(selected, "I16: a front Service does not select the active release");
    }
    for (at, record) in
        server.revisions.iter().enumerate().filter(|(_, record)| record.number != 0 && !record.orphan)
    {
        let version = name(u8::try_from(at).unwrap() + 1);
        let known = status.record(version);
        require!(known.is_some(), "I33: the revision of {version} has no record");
        let failed = known.is_some_and(|record| record.status == RecordStatus::Failed);
        require!(!failed || record.failed, "I18: {version} failed and has no Failed mark at rest");
    }
    Ok(())
}
