//! The input of a decision, and the terms of the invariants.

use jiff::Timestamp;

use api::names::{Color, Component};
use api::status::{MetadataServicesStatus, Rollout, Side};
use rollout::facts::{Deployment, Facts, Front, FrontState, ObjectState, Route, Workload};
use rollout::intent::Intent;

/// The input of a decision, and its external changes.
pub struct PlanInput<'a> {
    pub intent: &'a Intent,
    pub status: Option<&'a MetadataServicesStatus>,
    pub facts: &'a Facts,
    pub now: Timestamp,
    /// True if another client changed objects. Some invariants hold only after the operator repaired the change.
    pub externally_changed: bool,
    /// True if another client wrote the status. The next step then need not follow from the last one.
    pub status_edited: bool,
}

/// Returns a front Service, if it exists.
pub fn front<'a>(input: &PlanInput<'a>, component: Component) -> Option<&'a FrontState> {
    input.facts.front.get(component).state()
}

/// Returns the highest epoch on a front Service; 0 without one.
pub fn latest_epoch(input: &PlanInput) -> i64 {
    let stamps = Component::ALL.into_iter().filter_map(|of| Some(front(input, of)?.epoch));
    stamps.max().unwrap_or(0)
}

/// Returns the route of the front Services to a side.
pub fn route(side: Option<&Side>, epoch: i64) -> Route {
    let version = side.map(|side| side.version.clone()).unwrap_or_default();
    Route { color: side.map(|side| side.strategy), version, epoch }
}

/// Returns whether both front Services carry a route.
pub fn routed(input: &PlanInput, to: &Route) -> bool {
    input.facts.front.all(|front| front.state().is_some_and(|front| front.carries(to)))
}

/// Returns whether `EndpointSlices` list ready Pods of a color and none of the other color.
pub fn proved(input: &PlanInput, color: Color) -> bool {
    input.facts.front.all(|front| {
        front
            .state()
            .is_some_and(|front| *front.ready.get(color) > 0 && *front.listed.get(color.other()) == 0)
    })
}

/// Returns whether the front Services select different releases.
pub fn fronts_differ(input: &PlanInput) -> bool {
    match (&input.facts.front.storage, &input.facts.front.schema) {
        (Front::Present(storage), Front::Present(schema)) => {
            storage.selects != schema.selects || storage.version != schema.version
        }
        _ => false,
    }
}

/// Returns whether the resource has objects on a color. Pods do not count, because they may be foreign.
pub fn has_owned_objects(input: &PlanInput, color: Color) -> bool {
    input.facts.colors.get(color).any(|workload| {
        workload.deployment != Deployment::Absent
            || workload.service != ObjectState::Absent
            || workload.config_map != ObjectState::Absent
    })
}

/// Returns whether any object or Pod is left on a color.
pub fn has_objects(input: &PlanInput, color: Color) -> bool {
    let pods = |workload: &Workload| workload.replica_sets || workload.pods.alive > 0;
    has_owned_objects(input, color) || input.facts.colors.get(color).any(pods)
}

/// Returns whether the spec or a ControllerRevision has the template of a hash.
pub fn template_is_known(input: &PlanInput, hash: &str) -> bool {
    input.intent.wanted.hash == hash || input.facts.revisions.iter().any(|known| known.hash == hash)
}

/// Returns whether the operator can read the wanted template: the spec is valid and the CRD is current.
pub fn spec_is_readable(input: &PlanInput) -> bool {
    input.intent.violations.is_empty() && input.intent.crd_outdated.is_none()
}

/// Returns Full(c, r) of design D8.
pub fn is_full(input: &PlanInput, side: &Side) -> bool {
    input.facts.colors.get(side.strategy).all(|workload| {
        let Deployment::Present(found) = &workload.deployment else { return false };
        let wanted = found.desired;
        let counts = (found.updated, found.ready, found.available, found.replicas);
        found.tag.version == side.version
            && found.observed
            && wanted >= 1
            && counts == (wanted, wanted, wanted, wanted)
            && workload.pods.strays.is_empty()
    })
}

/// Returns the seconds since the step began; negative if it begins in the future.
pub fn in_step(input: &PlanInput, rollout: &Rollout) -> i64 {
    input.now.as_second() - rollout.since.0.as_second()
}
