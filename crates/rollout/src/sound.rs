//! Whether a persisted status can be gone on from. It is input: people edit it, and backups bring an older one back.
//! One that contradicts itself, or the objects, counts as lost and is rebuilt (design D6): the objects are the truth.

use std::collections::HashSet;

use super::facts::{Facts, Route, is_epoch};
use super::{decision, rebuild};
use api::status::{MetadataServicesStatus, RecordStatus, Rollout, Side, Step};

/// Whether a status hangs together, and with what is there. One of a newer version is not judged.
pub(super) fn is_consistent(status: &MetadataServicesStatus, rollout: &Rollout, facts: &Facts) -> bool {
    rollout.step == Step::Unknown
        || (has_required_fields(status, rollout)
            && history_agrees(status, rollout)
            && objects_agree(status, rollout, facts))
}

/// What the step needs is there.
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

/// The history says the same as the step: what serves is Active, what is on its way Pending (or Active: a restart), and
/// nothing else is.
fn history_agrees(status: &MetadataServicesStatus, rollout: &Rollout) -> bool {
    let records = &status.release_history;
    let (mut versions, mut hashes) = (HashSet::new(), HashSet::new());
    let distinct = records.iter().all(|record| {
        let told = record.hash.is_empty() || hashes.insert(record.hash.as_str());
        !record.version.is_empty() && versions.insert(record.version.as_str()) && told
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
            // What is on its way is begun anew when the color was found dirty.
            RecordStatus::Pending => {
                !serves(&record.version)
                    && (rollout.step == Step::Prune || target == Some(record.version.as_str()))
            }
            RecordStatus::Superseded | RecordStatus::Failed => {
                !serves(&record.version) && target != Some(record.version.as_str())
            }
        })
}

/// The side that serves is not on the other color, and the front Services do not refute the status.
fn objects_agree(status: &MetadataServicesStatus, rollout: &Rollout, facts: &Facts) -> bool {
    let decision = decision(status, rollout);
    let elsewhere = decision.color.is_some_and(|color| {
        let on = |color| rebuild::holds(facts, color, &decision.version);
        !on(color) && on(color.other())
    });
    is_epoch(rollout.epoch)
        && !elsewhere
        && !objects_contradict(&decision, facts)
        && !is_marked(status, rollout, facts)
}

/// What traffic goes to, or has just gone to, is marked as failed: its record was good when the switch was decided, so the mark
/// is of a failure that this status does not know, since it was rebuilt before the mark landed.
fn is_marked(status: &MetadataServicesStatus, rollout: &Rollout, facts: &Facts) -> bool {
    let side = match rollout.step {
        Step::Switching => rollout.target.clone(),
        Step::Watching => status.active(),
        Step::Stable | Step::Deploying | Step::RollingBack | Step::Prune | Step::Unknown => None,
    };
    side.is_some_and(|side| facts.is_marked(&side.version))
}

/// Both front Services carry a later decision, or a release although none ever served. One alone may be another hand's
/// work, and is mended. Another release under the same number is no proof: after a loss the number of a decision that
/// nobody knows any more is given again, and a patch of the first may still land.
pub(super) fn objects_contradict(decision: &Route, facts: &Facts) -> bool {
    facts.front.all(|front| {
        front.state().is_some_and(|state| {
            state.epoch > decision.epoch || (decision.version.is_empty() && state.version.is_some())
        })
    })
}
