//! What an earlier operator left, and whether it can be adopted (design D27).

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::ownership::{Ownership, describe_foreign, ownership};
use super::resource::{ObservedResource, PredecessorObjects};
use super::views::Meta;
use crate::resources::selector;
use api::names::{self, Color, Component, PerColor, PerComponent};
use rollout::facts::{Image, ObjectId, Predecessor, UnstampedDeployment};

/// Returns whether the objects of a resource include some that an earlier operator made.
pub fn exists(observed: &ObservedResource<'_>) -> bool {
    let name = &observed.owner.name;
    Component::ALL.into_iter().any(|component| {
        let front = names::front(name, component);
        let workload = |color| names::workload(name, component, color);
        observed.services.unstamped(&front).is_some()
            || Color::ALL.into_iter().any(|color| observed.deployments.unstamped(&workload(color)).is_some())
    })
}

/// Derives what an earlier operator left; `None` if there is nothing, or if the objects were not read whole.
pub(super) fn predecessor(observed: &ObservedResource<'_>) -> Option<Predecessor> {
    let objects = observed.snapshot.predecessor.as_ref()?;
    let is_managed = observed.status().is_some_and(|status| status.rollout.is_some());
    if is_managed || !exists(observed) {
        return None;
    }
    let name = &observed.owner.name;
    let mut found = Predecessor {
        fronts: PerComponent::from_fn(|component| {
            observed.services.unstamped(&names::front(name, component)).is_some()
        }),
        ..Predecessor::default()
    };
    for component in Component::ALL {
        let id = ObjectId::Front(component);
        found.obstacles.extend(front_obstacle(observed, objects, component).map(|why| (id, why)));
        for color in Color::ALL {
            let workload = names::workload(name, component, color);
            if observed.services.unstamped(&workload).is_some() {
                found.others.push(ObjectId::Service(component, color));
            }
            if observed.config_maps.unstamped(&names::config(name, component, color)).is_some() {
                found.others.push(ObjectId::ConfigMap(component, color));
            }
            let id = ObjectId::Deployment(component, color);
            match deployment(observed, objects, component, color) {
                Ok(one) => *found.deployments.get_mut(color).get_mut(component) = one,
                Err(why) => {
                    // It still counts for the color that receives traffic.
                    let held = observed.deployments.unstamped(&workload).is_some();
                    let one = held.then(UnstampedDeployment::default);
                    *found.deployments.get_mut(color).get_mut(component) = one;
                    found.obstacles.push((id, why));
                }
            }
        }
    }
    Some(found)
}

/// Describes an object of another owner, or one that is being deleted.
fn obstacle<T: Meta>(observed: &ObservedResource<'_>, kind: &str, object: &T) -> Option<String> {
    let namespace = &observed.owner.namespace;
    if ownership(object, &observed.owner) == Ownership::Foreign {
        let described = describe_foreign(kind, object, &observed.owner);
        return Some(format!(
            "{described}. Remedy: give this resource another name, or delete the object when nothing uses it"
        ));
    }
    object.is_terminating().then(|| {
        let name = object.object_name();
        format!(
            "{kind} {name} is being deleted. Remedy: wait, and see its finalizers with kubectl get {} {name} -n \
             {namespace} -o yaml",
            kind.to_lowercase()
        )
    })
}

/// Reads a Deployment of an earlier operator. The error is the reason why it cannot be adopted.
fn deployment(
    observed: &ObservedResource<'_>,
    objects: &PredecessorObjects,
    component: Component,
    color: Color,
) -> Result<Option<UnstampedDeployment>, String> {
    let name = names::workload(&observed.owner.name, component, color);
    let Some(found) = objects.deployments.iter().find(|found| found.object_name() == name) else {
        return Ok(None);
    };
    if let Some(why) = obstacle(observed, "Deployment", found) {
        return Err(why);
    }
    // The view judges the stamp, since it also knows the one on the Pods.
    if observed.deployments.unstamped(&name).is_none() {
        return Ok(None);
    }
    let spec = found.spec.as_ref();
    let labels = spec.and_then(|spec| spec.template.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let wanted = selector(&observed.owner.name, component, color);
    if let Some((key, value)) = wanted.iter().find(|(key, value)| labels.get(*key) != Some(*value)) {
        return Err(format!(
            "the Pods of Deployment {name} lack the label {key}={value}, which the Services select. Remedy: add it to \
             spec.template.metadata.labels, or delete the Deployment when nothing uses it"
        ));
    }
    let image = container(found, component).and_then(|container| container.image.as_deref());
    let desired = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let status = found.status.clone().unwrap_or_default();
    let counts = [status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas];
    let is_observed = status.observed_generation >= found.metadata.generation;
    Ok(Some(UnstampedDeployment {
        uid: found.metadata.uid.clone().unwrap_or_default(),
        image: Image::parse(image.unwrap_or_default()),
        is_complete: is_observed && desired > 0 && counts.iter().all(|count| *count == Some(desired)),
    }))
}

/// Returns the container of a component: the one of its name, else the first.
pub fn container(deployment: &Deployment, component: Component) -> Option<&Container> {
    let containers = &deployment.spec.as_ref()?.template.spec.as_ref()?.containers;
    let named = containers.iter().find(|container| container.name == component.as_str());
    named.or_else(|| containers.first())
}

/// Returns why a front Service cannot be adopted.
fn front_obstacle(
    observed: &ObservedResource<'_>,
    objects: &PredecessorObjects,
    component: Component,
) -> Option<String> {
    let owner = &observed.owner;
    let name = names::front(&owner.name, component);
    let found: &Service = objects.services.iter().find(|found| found.object_name() == name)?;
    if let why @ Some(_) = obstacle(observed, "Service", found) {
        return why;
    }
    if ownership(found, owner) != Ownership::Unstamped {
        return None;
    }
    let ports = found.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let reaches = |port: &ServicePort| {
        target_port(port, &objects.deployments, &owner.name, component) == Some(component.port())
    };
    // The endpoints of a switch prove that Pods are ready, not that they listen on a further port.
    let astray = ports.iter().find(|port| !reaches(port)).map(|port| port.port.to_string());
    let astray = astray.or_else(|| ports.is_empty().then(|| "none".to_owned()));
    astray.map(|port| {
        let number = component.port();
        format!(
            "a port of Service {name} ({port}) does not lead to container port {number}, on which the Pods of a release \
             listen. Remedy: set its targetPort to {number} once the workload listens there, or remove the port"
        )
    })
}

/// Returns the number of the container port that a port of a front Service leads to. A name is looked up in the Deployments
/// of the component; `None` if they disagree or do not have it.
pub fn target_port(
    port: &ServicePort,
    deployments: &[Deployment],
    name: &str,
    component: Component,
) -> Option<i32> {
    let target = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(target)) => target,
    };
    let workloads = PerColor::from_fn(|color| names::workload(name, component, color));
    let is_of =
        |found: &&Deployment| Color::ALL.into_iter().any(|color| workloads.get(color) == found.object_name());
    let numbers = deployments.iter().filter(is_of).filter_map(|found| {
        let containers = &found.spec.as_ref()?.template.spec.as_ref()?.containers;
        let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
        ports.find(|port| port.name.as_ref() == Some(target)).map(|port| port.container_port)
    });
    let mut numbers: Vec<i32> = numbers.collect();
    numbers.dedup();
    match numbers.as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}
