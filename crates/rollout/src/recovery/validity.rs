//! Checks whether the persisted status is consistent.
//!
//! The status is input: users edit it, and a restored backup contains an older status. A status that contradicts itself or
//! the objects counts as lost. The operator rebuilds it from the objects (design D6, ADR 12).

use std::collections::HashSet;

use api::status::{MetadataServicesStatus, RecordStatus, Rollout, Side, Step};

use crate::context::decision;
use crate::facts::{Facts, Route, is_epoch};

/// Returns whether the persisted status is consistent with itself and with the observed objects.
///
/// The caller has returned before if a newer operator wrote an unknown step.
pub(crate) fn is_consistent(status: &MetadataServicesStatus, rollout: &Rollout, facts: &Facts) -> bool {
    has_required_fields(status, rollout)
        && history_agrees(status, rollout)
        && objects_agree(status, rollout, facts)
}

/// Returns whether the fields that the step needs are set.
fn has_required_fields(status: &MetadataServicesStatus, rollout: &Rollout) -> bool {
    let known = |side: &Side| status.record(&side.version).is_some();
    let active = status.active();
    let apart = |side: &Side| active.as_ref().is_none_or(|active| active.strategy != side.strategy);
    active.as_ref().is_none_or(known)
        && match rollout.step {
            Step::Deploying => rollout.target.as_ref().is_some_and(|target| known(target) && apart(target)),
            Step::Switching => {
                rollout.switched_at.is_some()
                    && rollout.target.as_ref().is_some_and(|target| known(target) && apart(target))
            }
            Step::Watching => {
                let previous = rollout.previous.as_ref();
                rollout.switched_at.is_some()
                    && active.is_some()
                    && previous.is_some_and(|previous| known(previous) && apart(previous))
            }
            Step::Stable | Step::RollingBack => active.is_some(),
            Step::Prune | Step::Unknown => true,
        }
}

/// Returns whether the history agrees with the step: the active release is Active, the pending one Pending (or Active,
/// if it is a restart), and no other record is either. Versions and hashes are unique.
fn history_agrees(status: &MetadataServicesStatus, rollout: &Rollout) -> bool {
    let records = &status.release_history;
    let (mut versions, mut hashes) = (HashSet::new(), HashSet::new());
    let distinct = records.iter().all(|record| {
        let unique = record.hash.is_empty() || hashes.insert(record.hash.as_str());
        !record.version.is_empty() && versions.insert(record.version.as_str()) && unique
    });
    let active = status.active().map(|side| side.version);
    let serves = |version: &str| active.as_deref() == Some(version);
    let target = match rollout.step {
        Step::Deploying | Step::Switching => rollout.target.as_ref().map(|side| side.version.as_str()),
        Step::Stable | Step::Watching | Step::RollingBack | Step::Prune | Step::Unknown => None,
    };
    distinct
        && records.iter().all(|record| match record.status {
            RecordStatus::Active => serves(&record.version),
            // In Prune, a pending release waits until its color is clean.
            RecordStatus::Pending => {
                !serves(&record.version)
                    && (rollout.step == Step::Prune || target == Some(record.version.as_str()))
            }
            RecordStatus::Superseded | RecordStatus::Failed => {
                !serves(&record.version) && target != Some(record.version.as_str())
            }
        })
}

/// Returns whether the objects agree: the routed release is not on the other color only, and neither the front Services
/// nor the ControllerRevisions contradict the status.
fn objects_agree(status: &MetadataServicesStatus, rollout: &Rollout, facts: &Facts) -> bool {
    let decision = decision(status, rollout);
    let elsewhere = decision.color.is_some_and(|color| {
        let on = |color| facts.holds(color, &decision.version);
        !on(color) && on(color.other())
    });
    is_epoch(rollout.epoch)
        && !elsewhere
        && !objects_contradict(&decision, facts)
        && !is_marked(status, rollout, facts)
}

/// Returns whether the release that receives traffic is marked Failed on its ControllerRevision.
///
/// It was not at the switch. So another operator marked it, and this status was rebuilt before that write landed.
fn is_marked(status: &MetadataServicesStatus, rollout: &Rollout, facts: &Facts) -> bool {
    let side = match rollout.step {
        Step::Switching => rollout.target.clone(),
        Step::Watching => status.active(),
        Step::Stable | Step::Deploying | Step::RollingBack | Step::Prune | Step::Unknown => None,
    };
    side.is_some_and(|side| facts.is_marked(&side.version))
}

/// Returns whether both front Services carry a later decision, or a release although none was ever active.
///
/// A single Service may have been changed by another client, and is repaired. Another release under the same epoch
/// proves nothing: after a status loss that epoch may be used again, and a patch of the first decision may still land.
fn objects_contradict(decision: &Route, facts: &Facts) -> bool {
    facts.front.all(|front| {
        front.state().is_some_and(|state| {
            state.epoch > decision.epoch || (decision.version.is_empty() && state.version.is_some())
        })
    })
}
