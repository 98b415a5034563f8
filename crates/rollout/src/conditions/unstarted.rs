//! The readable status of a resource without a state machine: no release has started, or none can be adopted.

use api::status::MetadataServicesStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{PAUSED, endpoints};
use crate::facts::Facts;
use crate::intent::Intent;

/// The type, status, reason and message of a condition.
type Said<'a> = (&'a str, &'a str, &'a str, &'a str);

/// The status of a resource that has no release and cannot start one yet.
pub(crate) fn pending(
    intent: &Intent,
    facts: &Facts,
    before: &MetadataServicesStatus,
    now: Timestamp,
) -> MetadataServicesStatus {
    let (reason, message) = if !intent.violations.is_empty() {
        ("Invalid", format!("the spec is not valid: {}", intent.violations.join("; ")))
    } else if let Some(command) = &intent.crd_outdated {
        ("CRDOutdated", format!("the installed CRD lacks fields that this operator needs; run: {command}"))
    } else if intent.policy.paused {
        ("Paused", PAUSED.to_owned())
    } else {
        (
            "Pending",
            format!("no release is deployed yet ({} names are held by other owners)", facts.taken.len()),
        )
    };
    let mut status = MetadataServicesStatus {
        observed_generation: Some(intent.generation),
        phase: Some("Pending".into()),
        deployment_phase: Some("Deploying".into()),
        endpoints: Some(endpoints(intent)),
        ..before.clone()
    };
    if before.deployment_phase.as_deref() != Some("Deploying") {
        status.phase_started_at = Some(Time(now));
    }
    let stalled = if reason == "Paused" { "False" } else { "True" };
    status.conditions = conditions(
        intent,
        before,
        now,
        &[
            ("Ready", "False", "NoRelease", "no release is active yet"),
            ("SpecApplied", "False", reason, &message),
            ("Progressing", "False", reason, &message),
            ("Reconciling", "False", "Settled", "no rollout is in progress"),
            ("Stalled", stalled, reason, &message),
        ],
    );
    status
}

/// The status of a resource whose objects an earlier operator made and this one leaves alone. The rest of the earlier
/// operator's status stays.
pub(crate) fn not_adopted(
    intent: &Intent,
    before: &MetadataServicesStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> MetadataServicesStatus {
    let mut status = MetadataServicesStatus {
        observed_generation: Some(intent.generation),
        phase: Some("Degraded".into()),
        deployment_phase: before.deployment_phase.clone().or(Some("Deploying".into())),
        endpoints: Some(endpoints(intent)),
        ..before.clone()
    };
    let ready = "the operator does not manage the objects of an earlier operator yet";
    status.conditions = conditions(
        intent,
        before,
        now,
        &[
            ("Ready", "Unknown", reason, ready),
            ("SpecApplied", "False", reason, message),
            ("Progressing", "False", reason, message),
            ("Reconciling", "False", "Settled", "no rollout is in progress"),
            ("Stalled", "True", reason, message),
        ],
    );
    status
}

/// Fills in generation and time. A condition whose status did not change keeps its time.
fn conditions(
    intent: &Intent,
    before: &MetadataServicesStatus,
    now: Timestamp,
    said: &[Said<'_>],
) -> Vec<Condition> {
    let condition = |(kind, status, reason, message): &Said<'_>| {
        let same = before.conditions.iter().find(|old| old.type_ == *kind && old.status == *status);
        Condition {
            type_: (*kind).into(),
            status: (*status).into(),
            reason: (*reason).into(),
            message: (*message).into(),
            last_transition_time: same.map_or(Time(now), |old| old.last_transition_time.clone()),
            observed_generation: Some(intent.generation),
        }
    };
    said.iter().map(condition).collect()
}
