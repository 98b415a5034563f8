//! From objects to the [`Facts`] of the core. Pure: equal objects, cached or read live, give equal facts.

use std::collections::BTreeMap;

use super::ownership::Owned;
use super::pods::PodsBySelector;
use super::predecessor;
use super::resource::ObservedResource;
use super::settings;
use super::views::{DeploymentView, Meta, ServiceView};
use crate::resources::{Defaults, pod};
use api::names::{
    self, ADOPTED, Color, Component, EPOCH, LABEL_APP, LABEL_COMPONENT, LABEL_STRATEGY, PerColor,
    PerComponent, RELEASE_HASH, RELEASE_VERSION, SWITCHED_AT,
};
use api::status::PodRestarts;
use api::template::ReleaseTemplate;
use rollout::facts::{
    Cause, Deployment, DeploymentState, Facts, Front, FrontState, Image, ObjectId, ObjectState, Pods,
    Problem, ReleaseRef, Revision, Workload, is_epoch,
};

/// Derives the facts of a resource. The status contains the time of the switch and the restart counts before it.
pub fn facts(observed: &ObservedResource<'_>, defaults: &Defaults) -> Facts {
    let mut adoptable = vec![];
    let rollout = observed.status().and_then(|status| status.rollout.as_ref());
    let switched_at = rollout.and_then(|rollout| rollout.switched_at.as_ref()).map(|time| time.0);
    let baseline: &[PodRestarts] = rollout.map_or(&[], |rollout| rollout.restarted_before.as_slice());
    let pods = PodsBySelector::new(&observed.snapshot.pods, &observed.owner);
    let mut facts = Facts {
        front: PerComponent::from_fn(|component| front(observed, &pods, component, &mut adoptable)),
        colors: PerColor::from_fn(|color| {
            PerComponent::from_fn(|component| {
                let mut workload = workload(observed, component, color, &mut adoptable);
                workload.pods = pods.summarize(component, color, &workload.deployment, switched_at, baseline);
                workload
            })
        }),
        revisions: revisions(observed, defaults, &mut adoptable),
        predecessor: predecessor::predecessor(observed),
        adoptable,
        ..Facts::default()
    };
    settings::compare(observed, &mut facts);
    facts.adoptable.sort();
    facts
}

/// Finds an object by name and notes whether it has to be adopted.
fn find<'a, T: Meta>(
    objects: &Owned<'a, T>,
    name: &str,
    id: ObjectId,
    adoptable: &mut Vec<ObjectId>,
) -> Option<&'a T> {
    let found = objects.find(name)?;
    if found.is_adoptable {
        adoptable.push(id);
    }
    Some(found.object)
}

fn tag<T: Meta>(object: &T) -> ReleaseRef {
    ReleaseRef {
        version: object.annotation(RELEASE_VERSION).unwrap_or_default().to_owned(),
        hash: object.annotation(RELEASE_HASH).unwrap_or_default().to_owned(),
        epoch: epoch(object),
    }
}

/// Returns the epoch on an object. A number that the operator never writes counts as 0, the absent epoch.
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
    observed: &ObservedResource<'_>,
    pods: &PodsBySelector<'_>,
    component: Component,
    adoptable: &mut Vec<ObjectId>,
) -> Front {
    let owner = &observed.owner;
    let name = names::front(&owner.name, component);
    let found = find(&observed.services, &name, ObjectId::Front(component), adoptable);
    // A front Service is never deleted, and the next route restores a stamp that another client removed.
    let Some(service) = found.or_else(|| observed.services.unstamped(&name)) else {
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
    count_endpoints(observed, pods, &name, component, &mut state);
    Front::Present(state)
}

/// Returns when traffic last moved, in seconds since 1970, rounded up: when the operator sent the patch, or when the API
/// server stored it if that was later. A patch can take seconds to arrive, and a wait must not end before it arrives.
fn switched_at(service: &ServiceView) -> Option<i64> {
    let stamp = service.annotation(SWITCHED_AT)?.parse::<jiff::Timestamp>().ok()?.as_second();
    let changed = service.changed.as_ref().map(|time| time.0.as_second().saturating_add(1));
    Some(changed.map_or(stamp, |changed| changed.max(stamp)))
}

/// Counts the endpoints in all EndpointSlices of a Service. A dual-stack Pod counts once per address family.
fn count_endpoints(
    observed: &ObservedResource<'_>,
    pods: &PodsBySelector<'_>,
    service: &str,
    component: Component,
    state: &mut FrontState,
) {
    let slices = observed.snapshot.slices.iter();
    let slices = slices.filter(|slice| slice.label("kubernetes.io/service-name") == Some(service));
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
    observed: &ObservedResource<'_>,
    component: Component,
    color: Color,
    adoptable: &mut Vec<ObjectId>,
) -> Workload {
    let name = names::workload(&observed.owner.name, component, color);
    let config = names::config(&observed.owner.name, component, color);
    let id = ObjectId::Deployment(component, color);
    let deployment = find(&observed.deployments, &name, id, adoptable);
    let id = ObjectId::Service(component, color);
    let service = find(&observed.services, &name, id, adoptable);
    let id = ObjectId::ConfigMap(component, color);
    let config_map = find(&observed.config_maps, &config, id, adoptable);
    let replica_sets = observed.snapshot.replica_sets.iter().any(|set| {
        set.label(LABEL_COMPONENT) == Some(component.as_str())
            && set.label(LABEL_STRATEGY) == Some(color.as_str())
    });
    Workload {
        deployment: deployment.map_or(Deployment::Absent, deployment_facts),
        config_map: piece(config_map),
        service: piece(service),
        replica_sets,
        pods: Pods::default(),
    }
}

fn deployment_facts(view: &DeploymentView) -> Deployment {
    if view.is_terminating() {
        return Deployment::Terminating;
    }
    let adopted = view.annotation(ADOPTED);
    Deployment::Present(DeploymentState {
        tag: tag(view),
        observed: view.status.observed_generation >= view.metadata.generation.unwrap_or(0),
        desired: view.replicas,
        updated: view.status.updated_replicas,
        ready: view.status.ready_replicas,
        available: view.status.available_replicas,
        replicas: view.status.replicas,
        adopted: adopted.map(str::to_owned),
        // Another operator made the template of an adopted Deployment.
        drifted_by: if adopted.is_some() { vec![] } else { view.template_managers.clone() },
        problem: deployment_problem(view),
    })
}

fn deployment_problem(view: &DeploymentView) -> Option<Problem> {
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

/// Removes the name of the refused Pod, which changes with every attempt, so that the condition stays the same.
fn stable_quota(said: &str) -> String {
    match said.split_once(" is forbidden: ") {
        Some((_, rest)) => format!("pods are forbidden: {rest}"),
        None => said.to_owned(),
    }
}

/// Lists the ControllerRevisions. A terminating revision that a finalizer keeps counts while the history names its release:
/// the operator can still write the outcome on it.
fn revisions(
    observed: &ObservedResource<'_>,
    defaults: &Defaults,
    adoptable: &mut Vec<ObjectId>,
) -> Vec<Revision> {
    let is_known = |version: &str| observed.status().is_some_and(|status| status.record(version).is_some());
    let mut revisions: Vec<_> = observed
        .revisions
        .iter()
        .filter_map(|found| {
            let view = found.object;
            let version = view.version.clone()?;
            if view.is_terminating() && !is_known(&version) {
                return None;
            }
            if found.is_adoptable {
                adoptable.push(ObjectId::Revision(version.clone()));
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

/// Returns the images of a release.
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
