//! Objects to facts. Pure: the same objects, cached or read live, give the same facts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pods;
use super::views::{
    ConfigMapView, DeploymentView, DisruptionBudgetView, EndpointSliceView, Meta, PodView, ReplicaSetView,
    RevisionView, ServiceAccountView, ServiceView,
};
use crate::resources::{Defaults, pod};
use api::names::{
    self, APPLIED_SETTINGS, Color, Component, EPOCH, LABEL_APP, LABEL_COMPONENT, LABEL_STRATEGY, Owner,
    PerColor, PerComponent, RELEASE_HASH, RELEASE_VERSION, SWITCHED_AT,
};
use api::status::{MetadataServicesStatus, PodRestarts};
use api::template::ReleaseTemplate;
use rollout::facts::{
    Cause, Deployment, DeploymentState, Facts, Front, FrontState, Image, ObjectId, ObjectState, Problem,
    ReleaseRef, Revision, Workload, is_epoch,
};

/// The objects that carry a resource's labels, as seen at one time.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Deployments.
    pub deployments: Vec<Arc<DeploymentView>>,
    /// Services, front and color.
    pub services: Vec<Arc<ServiceView>>,
    /// ConfigMaps.
    pub config_maps: Vec<Arc<ConfigMapView>>,
    /// ReplicaSets; only read live.
    pub replica_sets: Vec<Arc<ReplicaSetView>>,
    /// Pods.
    pub pods: Vec<Arc<PodView>>,
    /// EndpointSlices.
    pub slices: Vec<Arc<EndpointSliceView>>,
    /// ControllerRevisions.
    pub revisions: Vec<Arc<RevisionView>>,
    /// ServiceAccounts.
    pub accounts: Vec<Arc<ServiceAccountView>>,
    /// PodDisruptionBudgets.
    pub budgets: Vec<Arc<DisruptionBudgetView>>,
}

/// Whose an object is (design D5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Its controller is this resource.
    Ours,
    /// It has our labels and an annotation of ours, and no controller.
    Adoptable,
    /// Somebody else's.
    Foreign,
}

/// Decides whose an object is.
pub fn ownership<T: Meta>(object: &T, owner: &Owner) -> Ownership {
    match object.controller() {
        Some(reference) if reference.uid == owner.uid => Ownership::Ours,
        Some(_) => Ownership::Foreign,
        None => {
            let labelled = object.label(names::LABEL_MANAGED_BY) == Some(names::MANAGER)
                && object.label(LABEL_APP) == Some(owner.name.as_str());
            // Every object that the operator makes carries one of these.
            let marks = [RELEASE_VERSION, EPOCH, APPLIED_SETTINGS];
            let marked = marks.iter().any(|mark| object.annotation(mark).is_some());
            if labelled && marked { Ownership::Adoptable } else { Ownership::Foreign }
        }
    }
}

/// What a foreign object under a name that is needed looks like to a person.
pub fn describe_foreign<T: Meta>(kind: &str, object: &T) -> String {
    let holder = object.controller().map_or_else(
        || "it has no controller".to_owned(),
        |reference| format!("controlled by {} {} (uid {})", reference.kind, reference.name, reference.uid),
    );
    format!("{kind} {} ({holder})", object.object_name())
}

/// Makes facts of objects. `status` tells which pods were there at the switch, and how often they had restarted.
pub fn facts(
    world: &World,
    owner: &Owner,
    status: Option<&MetadataServicesStatus>,
    defaults: &Defaults,
) -> Facts {
    let mut adoptable = vec![];
    let rollout = status.and_then(|status| status.rollout.as_ref());
    let switched_at = rollout.and_then(|rollout| rollout.switched_at.as_ref()).map(|time| time.0);
    let baseline: &[PodRestarts] = rollout.map_or(&[], |rollout| rollout.restarted_before.as_slice());
    let pods = pods::Sorted::new(&world.pods, owner);
    let mut facts = Facts {
        front: PerComponent::from_fn(|component| front(world, owner, &pods, component, &mut adoptable)),
        colors: PerColor::from_fn(|color| {
            PerComponent::from_fn(|component| {
                let mut workload = workload(world, owner, component, color, &mut adoptable);
                workload.pods = pods.summarize(component, color, &workload.deployment, switched_at, baseline);
                workload
            })
        }),
        revisions: revisions(world, owner, status, defaults, &mut adoptable),
        ..Facts::default()
    };
    adoptable.sort();
    facts.adoptable = adoptable;
    facts
}

/// Looks an object up by name; what is not ours is as good as absent here and is met again when its name is needed.
fn find<'a, T: Meta>(
    objects: &'a [Arc<T>],
    name: &str,
    owner: &Owner,
    id: ObjectId,
    adoptable: &mut Vec<ObjectId>,
) -> Option<&'a T> {
    let object = objects.iter().find(|object| object.object_name() == name)?;
    match ownership(object.as_ref(), owner) {
        Ownership::Ours => Some(object),
        Ownership::Adoptable => {
            adoptable.push(id);
            Some(object)
        }
        Ownership::Foreign => None,
    }
}

fn tag<T: Meta>(object: &T) -> ReleaseRef {
    ReleaseRef {
        version: object.annotation(RELEASE_VERSION).unwrap_or_default().to_owned(),
        hash: object.annotation(RELEASE_HASH).unwrap_or_default().to_owned(),
        epoch: epoch(object),
    }
}

/// The number of the decision that an object carries. One that was never given is another hand's, and as good as none.
fn epoch<T: Meta>(object: &T) -> i64 {
    let number = object.annotation(EPOCH).and_then(|text| text.parse().ok());
    number.filter(|number| is_epoch(*number)).unwrap_or(0)
}

fn piece<T: Meta>(object: Option<&T>) -> ObjectState {
    match object {
        None => ObjectState::Absent,
        Some(object) if object.is_terminating() => ObjectState::Terminating,
        Some(object) => ObjectState::Present(tag(object)),
    }
}

fn front(
    world: &World,
    owner: &Owner,
    pods: &pods::Sorted,
    component: Component,
    adoptable: &mut Vec<ObjectId>,
) -> Front {
    let name = names::front(&owner.name, component);
    let Some(service) = find(&world.services, &name, owner, ObjectId::Front(component), adoptable) else {
        return Front::Absent;
    };
    if service.is_terminating() {
        return Front::Terminating;
    }
    let selects = service.spec.selector.get(LABEL_STRATEGY).and_then(|text| Color::parse(text));
    let strategy = selects.map_or("none", Color::as_str);
    let expected: BTreeMap<String, String> =
        [(LABEL_APP, owner.name.as_str()), (LABEL_COMPONENT, component.as_str()), (LABEL_STRATEGY, strategy)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
    let mut state = FrontState {
        selects,
        exact: service.spec.selector == expected,
        version: service.annotation(RELEASE_VERSION).map(str::to_owned),
        epoch: epoch(service),
        switched_at: switched_at(service),
        ready: PerColor::default(),
        listed: PerColor::default(),
        unknown: 0,
    };
    count_endpoints(world, pods, &name, component, &mut state);
    Front::Present(state)
}

/// When traffic was last moved, seconds since 1970, rounded up: by the stamp, which says when that was sent, or when it took
/// effect, if that was later. A patch may be under way for seconds, and a wait must not be over when it lands.
fn switched_at(service: &ServiceView) -> Option<i64> {
    let stamp = service.annotation(SWITCHED_AT)?.parse::<jiff::Timestamp>().ok()?.as_second();
    let changed = service.changed.as_ref().map(|time| time.0.as_second().saturating_add(1));
    Some(changed.map_or(stamp, |changed| changed.max(stamp)))
}

/// Counts the endpoints that all EndpointSlices of a Service list. A pod with two addresses counts once a family.
fn count_endpoints(
    world: &World,
    pods: &pods::Sorted,
    service: &str,
    component: Component,
    state: &mut FrontState,
) {
    let slices =
        world.slices.iter().filter(|slice| slice.label("kubernetes.io/service-name") == Some(service));
    for endpoint in slices.flat_map(|slice| &slice.endpoints) {
        let name = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
        match name.and_then(|name| pods.color_of(name, component)) {
            Some(color) => {
                *state.listed.get_mut(color) += 1;
                if endpoint.conditions.ready.unwrap_or(true) {
                    *state.ready.get_mut(color) += 1;
                }
            }
            None => state.unknown += 1,
        }
    }
}

fn workload(
    world: &World,
    owner: &Owner,
    component: Component,
    color: Color,
    adoptable: &mut Vec<ObjectId>,
) -> Workload {
    let name = names::workload(&owner.name, component, color);
    let config = names::config(&owner.name, component, color);
    let id = ObjectId::Deployment(component, color);
    let deployment = find(&world.deployments, &name, owner, id, adoptable);
    let id = ObjectId::Service(component, color);
    let service = find(&world.services, &name, owner, id, adoptable);
    let id = ObjectId::ConfigMap(component, color);
    let config_map = find(&world.config_maps, &config, owner, id, adoptable);
    let replica_sets = world.replica_sets.iter().any(|set| {
        set.label(LABEL_COMPONENT) == Some(component.as_str())
            && set.label(LABEL_STRATEGY) == Some(color.as_str())
    });
    Workload {
        deployment: deployment.map_or(Deployment::Absent, deployment_facts),
        config_map: piece(config_map),
        service: piece(service),
        replica_sets,
        pods: rollout::facts::Pods::default(),
    }
}

fn deployment_facts(view: &DeploymentView) -> Deployment {
    if view.is_terminating() {
        return Deployment::Terminating;
    }
    Deployment::Present(DeploymentState {
        tag: tag(view),
        observed: view.status.observed_generation >= view.metadata.generation.unwrap_or(0),
        desired: view.replicas,
        updated: view.status.updated_replicas,
        ready: view.status.ready_replicas,
        available: view.status.available_replicas,
        replicas: view.status.replicas,
        drifted_by: view.template_managers.clone(),
        problem: deployment_trouble(view),
    })
}

fn deployment_trouble(view: &DeploymentView) -> Option<Problem> {
    let condition = |kind: &str, status: &str| {
        view.status.conditions.iter().find(|found| found.type_ == kind && found.status == status)
    };
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    if let Some(failure) = condition("ReplicaFailure", "True") {
        let said = said(&failure.message);
        let cause = if said.contains("exceeded quota") { Cause::Quota } else { Cause::PodsRefused };
        return Some(Problem { cause, pod: None, said: stable_quota(&said) });
    }
    condition("Progressing", "False")
        .filter(|found| found.reason.as_deref() == Some("ProgressDeadlineExceeded"))
        .map(|found| Problem { cause: Cause::ProgressDeadline, pod: None, said: said(&found.message) })
}

/// The name of the pod that could not be created changes with every try; the rest is what matters.
fn stable_quota(said: &str) -> String {
    match said.split_once(" is forbidden: ") {
        Some((_, rest)) => format!("pods are forbidden: {rest}"),
        None => said.to_owned(),
    }
}

/// The records. One that is on its way out, and held by somebody, is there as long as the history has its release: what
/// there is to say of that can be written on it.
fn revisions(
    world: &World,
    owner: &Owner,
    status: Option<&MetadataServicesStatus>,
    defaults: &Defaults,
    adoptable: &mut Vec<ObjectId>,
) -> Vec<Revision> {
    let mut revisions: Vec<_> = world
        .revisions
        .iter()
        .filter_map(|view| {
            let version = view.version.clone()?;
            let known = || status.is_some_and(|status| status.record(&version).is_some());
            if view.is_terminating() && !known() {
                return None;
            }
            match ownership(view.as_ref(), owner) {
                Ownership::Ours => {}
                Ownership::Adoptable => adoptable.push(ObjectId::Revision(version.clone())),
                Ownership::Foreign => return None,
            }
            let added = view.defaults.as_deref().unwrap_or(defaults);
            let images = view.template.as_deref().map(|template| images(template, added));
            Some(Revision {
                version,
                hash: view.hash.clone(),
                flaw: view.flaw.clone(),
                number: view.number,
                failed: view.failed.clone(),
                images: images.unwrap_or_default(),
                created: view.created().map_or(0, jiff::Timestamp::as_second),
            })
        })
        .collect();
    revisions.sort_by(|a, b| (a.number, &a.version).cmp(&(b.number, &b.version)));
    revisions
}

/// The images of a release.
pub fn images(template: &ReleaseTemplate, defaults: &Defaults) -> PerComponent<Image> {
    PerComponent::from_fn(|component| Image {
        tag: template.component(component).image_tag.clone(),
        reference: pod::image(template, component, &defaults.image_repository),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_moved_when_the_patch_took_effect_not_when_it_was_sent() {
        let moved = |stamp: Option<&str>, changed: Option<&str>| {
            let front = serde_json::json!({"metadata": {
                "name": "a-storage",
                "annotations": {SWITCHED_AT: stamp},
                "managedFields": [{"manager": names::MANAGER, "time": changed}],
            }});
            let front = front.to_string().replace("null", "\"\"");
            switched_at(&serde_json::from_str(&front).unwrap())
        };
        let sent = moved(Some("2026-09-21T14:13:20Z"), None).unwrap();
        assert_eq!(moved(Some("2026-09-21T14:13:20Z"), Some("2026-09-21T14:13:19Z")), Some(sent));
        assert_eq!(moved(Some("2026-09-21T14:13:20Z"), Some("2026-09-21T14:13:24Z")), Some(sent + 5));
        assert_eq!(moved(None, Some("2026-09-21T14:13:24Z")), None, "never switched");
    }
}
