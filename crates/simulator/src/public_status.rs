//! The invariants of the part of the status that users read.

use super::invariants::{Violation, require};
use super::plan_input::{PlanInput, is_full};
use api::status::{MetadataServicesStatus, RecordStatus, ReleaseRecord};

/// The order and content of the release history.
pub fn release_history(input: &PlanInput, new: &MetadataServicesStatus) -> Result<(), Violation> {
    let records = &new.release_history;
    let limit = input.intent.policy.history_limit;
    require!(records.len() <= limit, "I14: {} records, limit {limit}", records.len());
    for (at, record) in records.iter().enumerate() {
        // A release with an unknown template has no hash.
        let equal = |other: &ReleaseRecord| !other.hash.is_empty() && other.hash == record.hash;
        let twin = records[..at].iter().any(|other| other.version == record.version || equal(other));
        require!(!twin, "I14: {} has two records", record.version);
    }
    let active: Vec<_> = records.iter().filter(|record| record.status == RecordStatus::Active).collect();
    require!(active.len() <= 1, "I15: two Active records");
    let version = active.first().map(|record| record.version.as_str());
    require!(version == new.active_release_version.as_deref(), "I15: the Active record is {version:?}");
    let old = input.status.iter().filter(|_| !input.status_edited).flat_map(|old| &old.release_history);
    for record in old.filter(|old| matches!(old.status, RecordStatus::Active | RecordStatus::Pending)) {
        require!(new.record(&record.version).is_some(), "I17: the record of {} is dropped", record.version);
    }
    if let Some(active) = version {
        let place = records.iter().rev().position(|record| record.version == active).unwrap_or_default();
        require!(place <= 1, "D12: the Active record is at [-{}]", place + 1);
    }
    let pending = records.iter().filter(|record| record.status == RecordStatus::Pending).count();
    require!(pending <= 1, "D12: {pending} Pending records");
    let last = records.last().is_some_and(|record| record.status == RecordStatus::Pending);
    require!(pending == 0 || last, "D12: the Pending record is not the last");
    Ok(())
}

/// The fields that users read.
pub fn public_fields(input: &PlanInput, new: &MetadataServicesStatus) -> Result<(), Violation> {
    let size = serde_json::to_string(new).map_err(|error| error.to_string())?.len();
    require!(size <= 16 * 1024, "I20: the status has {size} bytes");
    let public = ["Stable", "Deploying", "Switching", "Cleanup"];
    let phase = new.deployment_phase.as_deref().unwrap_or_default();
    require!(public.contains(&phase), "deploymentPhase is {phase:?}");
    let summary = [&public[..], &["Pending", "Degraded", "Failed"]].concat();
    require!(summary.contains(&new.phase.as_deref().unwrap_or("")), "A1: phase is {:?}", new.phase);
    require!(
        new.observed_generation == Some(input.intent.generation),
        "I19: observedGeneration is {:?}",
        new.observed_generation
    );
    let is = |kind: &str| new.conditions.iter().any(|found| found.type_ == kind && found.status == "True");
    for kind in ["Ready", "SpecApplied", "Progressing", "Reconciling", "Stalled"] {
        let count = new.conditions.iter().filter(|found| found.type_ == kind).count();
        require!(count == 1, "D26: {count} conditions {kind}");
    }
    require!(!(is("Reconciling") && is("Stalled")), "kstatus: both Reconciling and Stalled");
    require!(new.conditions.iter().all(|found| !found.reason.is_empty()), "a condition has no reason");
    let full = new.active().is_some_and(|active| is_full(input, &active));
    require!(is("Ready") == full, "I16, I19: Ready={} while Full={full}", is("Ready"));
    if let Some(rollout) = &new.rollout {
        require!(
            new.deployment_phase.as_deref() == rollout.step.phase(),
            "deploymentPhase does not match the step"
        );
        let pending = rollout.target.as_ref().map(|side| side.strategy);
        require!(new.pending_strategy == pending, "pendingStrategy is {:?}", new.pending_strategy);
    }
    Ok(())
}
