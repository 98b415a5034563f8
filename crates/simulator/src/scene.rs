//! What a decision was taken on, and the words in which the laws speak of it.

use jiff::Timestamp;

use api::names::{Color, Component};
use api::status::{MetadataServicesStatus, Rollout, Side};
use rollout::facts::{Deployment, Facts, Front, FrontState, ObjectState, Route, Workload};
use rollout::intent::Intent;

/// What a decision was taken on.
pub struct Scene<'a> {
    pub intent: &'a Intent,
    pub status: Option<&'a MetadataServicesStatus>,
    pub facts: &'a Facts,
    pub now: Timestamp,
    /// Whether another hand has been at the objects: some laws hold only when it has been mended.
    pub tampered: bool,
    /// Whether another hand has been at the status: then a step need not follow from it.
    pub edited: bool,
}

/// A front Service, if it is there.
pub fn front<'a>(scene: &Scene<'a>, component: Component) -> Option<&'a FrontState> {
    scene.facts.front.get(component).state()
}

/// The highest number on a front Service; 0 if there is none.
pub fn latest_stamp(scene: &Scene) -> i64 {
    let stamps = Component::ALL.into_iter().filter_map(|of| Some(front(scene, of)?.epoch));
    stamps.max().unwrap_or(0)
}

/// The decision for a side.
pub fn route(side: Option<&Side>, epoch: i64) -> Route {
    let version = side.map(|side| side.version.clone()).unwrap_or_default();
    Route { color: side.map(|side| side.strategy), version, epoch }
}

/// Whether both front Services carry a decision.
pub fn stamped(scene: &Scene, to: &Route) -> bool {
    scene.facts.front.all(|front| front.state().is_some_and(|front| front.carries(to)))
}

/// Whether `EndpointSlices` list ready pods of a color, and none of the other.
pub fn proved(scene: &Scene, color: Color) -> bool {
    scene.facts.front.all(|front| {
        front
            .state()
            .is_some_and(|front| *front.ready.get(color) > 0 && *front.listed.get(color.other()) == 0)
    })
}

/// Whether the front Services lead to different releases.
pub fn fronts_differ(scene: &Scene) -> bool {
    match (&scene.facts.front.storage, &scene.facts.front.schema) {
        (Front::Present(storage), Front::Present(schema)) => {
            storage.selects != schema.selects || storage.version != schema.version
        }
        _ => false,
    }
}

/// Whether the resource has objects on a color. Pods alone may be another hand's.
pub fn owns(scene: &Scene, color: Color) -> bool {
    scene.facts.colors.get(color).any(|workload| {
        workload.deployment != Deployment::Absent
            || workload.service != ObjectState::Absent
            || workload.config_map != ObjectState::Absent
    })
}

/// Whether anything is left on a color, pods too.
pub fn has_objects(scene: &Scene, color: Color) -> bool {
    let pods = |workload: &Workload| workload.replica_sets || workload.pods.alive > 0;
    owns(scene, color) || scene.facts.colors.get(color).any(pods)
}

/// Whether the spec or a record says what this hash stands for.
pub fn template_is_known(scene: &Scene, hash: &str) -> bool {
    scene.intent.wanted.hash == hash || scene.facts.revisions.iter().any(|known| known.hash == hash)
}

/// Whether the spec says what is wanted: it breaks no rule, and no older CRD hides any of it.
pub fn is_judged(scene: &Scene) -> bool {
    scene.intent.violations.is_empty() && scene.intent.crd_outdated.is_none()
}

/// Full(c, r) of design D8.
pub fn is_full(scene: &Scene, side: &Side) -> bool {
    scene.facts.colors.get(side.strategy).all(|workload| {
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

/// Seconds since the step began; less than none if that is still to come.
pub fn in_step(scene: &Scene, rollout: &Rollout) -> i64 {
    scene.now.as_second() - rollout.since.0.as_second()
}
