//! Summaries of the Pods of each component and color.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::views::{ConditionView, ContainerView, Meta, PodView};
use api::names::{
    self, Color, Component, LABEL_APP, LABEL_COMPONENT, LABEL_STRATEGY, Owner, RELEASE_VERSION,
};
use api::status::{PodRestarts, restarted_before};
use rollout::facts::{Cause, Deployment, Pods, Problem};

/// Number of restarts from which a container counts as crashing, even while it runs (design D9).
const MANY_RESTARTS: i32 = 3;

/// The Pods of a resource, by the selector that matches them.
pub struct PodsBySelector<'a> {
    places: HashMap<&'a str, (Component, Color)>,
    pods: Vec<(Component, Color, &'a PodView)>,
    owner: &'a Owner,
}

impl<'a> PodsBySelector<'a> {
    /// Groups Pods by their labels and leaves out Pods that no selector of the resource matches.
    pub fn new(pods: &'a [Arc<PodView>], owner: &'a Owner) -> Self {
        let mut sorted: Vec<_> = pods
            .iter()
            .filter(|pod| pod.label(LABEL_APP) == Some(owner.name.as_str()))
            .filter_map(|pod| {
                let component = Component::parse(pod.label(LABEL_COMPONENT)?)?;
                let color = Color::parse(pod.label(LABEL_STRATEGY)?)?;
                Some((component, color, pod.as_ref()))
            })
            .collect();
        sorted.sort_by_key(|(_, _, pod)| pod.object_name());
        let places = sorted.iter().map(|(component, color, pod)| (pod.object_name(), (*component, *color)));
        Self { places: places.collect(), pods: sorted, owner }
    }

    /// Returns the color of a Pod of this component.
    pub fn color_of(&self, pod: &str, component: Component) -> Option<Color> {
        self.places.get(pod).filter(|place| place.0 == component).map(|place| place.1)
    }

    /// Summarizes the Pods of one selector.
    pub fn summarize(
        &self,
        component: Component,
        color: Color,
        deployment: &Deployment,
        switched_at: Option<Timestamp>,
        baseline: &[PodRestarts],
    ) -> Pods {
        let mut sum = Pods::default();
        let release = deployment.state().map(|deployment| deployment.tag.version.as_str());
        // The Pods of an earlier operator carry no release.
        let is_adopted = deployment.state().is_some_and(|deployment| deployment.adopted.is_some());
        let prefix = format!("{}-", names::workload(&self.owner.name, component, color));
        let matching = self.pods.iter().filter(|(of, on, _)| *of == component && *on == color);
        for pod in matching.map(|(_, _, pod)| *pod).filter(|pod| is_alive(pod)) {
            sum.alive += 1;
            let ours = is_ours(pod, &prefix);
            if !ours {
                sum.foreign.push(pod.object_name().to_owned());
            }
            let of_release = match pod.annotation(RELEASE_VERSION) {
                None => is_adopted,
                version => version == release,
            };
            if !(ours && release.is_some() && of_release) {
                sum.strays.push(pod.object_name().to_owned());
            }
            add(&mut sum, pod, switched_at, baseline);
        }
        sum
    }
}

/// Returns whether a Pod can still run: it is neither terminating nor finished.
fn is_alive(pod: &PodView) -> bool {
    !pod.is_terminating() && !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed")
}

fn is_ours(pod: &PodView, prefix: &str) -> bool {
    pod.controller()
        .is_some_and(|reference| reference.kind == "ReplicaSet" && reference.name.starts_with(prefix))
}

fn add(sum: &mut Pods, pod: &PodView, switched_at: Option<Timestamp>, baseline: &[PodRestarts]) {
    let name = pod.object_name().to_owned();
    let ready = condition(pod, "Ready");
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    if is_ready {
        sum.ready += 1;
    }
    let changed = ready.and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0.as_second());
    sum.last_transition = sum.last_transition.max(changed);
    let counts = pod.status.container_statuses.iter().map(|container| container.restart_count);
    let restarts = counts.fold(0_i32, i32::saturating_add);
    if restarts > 0 {
        sum.restarts.push((name.clone(), restarts));
    }
    if !is_ready {
        let problem = problem(pod);
        if sum.problem.as_ref().is_none_or(|known| problem.cause < known.cause) {
            sum.problem = Some(problem);
        }
    }
    let was_there = switched_at.is_some_and(|at| pod.created().is_some_and(|created| created < at));
    let disrupted = condition(pod, "DisruptionTarget").is_some_and(|found| found.status == "True");
    if was_there && !disrupted {
        if !is_ready {
            sum.unready_since_switch.push(name.clone());
        }
        if restarts > restarted_before(baseline, &name) && sum.restarted_since_switch.is_none() {
            let said = pod.status.container_statuses.iter().find_map(ended);
            let said = said.unwrap_or_else(|| "a container ended".to_owned());
            sum.restarted_since_switch = Some(Problem {
                cause: Cause::Crash,
                pod: Some(name),
                said: format!("restarted after the switch: {said}"),
            });
        }
    }
}

fn condition<'a>(pod: &'a PodView, kind: &str) -> Option<&'a ConditionView> {
    pod.status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Returns the most severe problem of a Pod that is not ready.
fn problem(pod: &PodView) -> Problem {
    let containers = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    let (cause, said) = containers
        .filter_map(container_problem)
        .min_by_key(|(cause, _)| *cause)
        .or_else(|| unschedulable(pod))
        .unwrap_or_else(|| (Cause::NotReady, not_ready(pod)));
    Problem { cause, pod: Some(pod.object_name().to_owned()), said }
}

fn unschedulable(pod: &PodView) -> Option<(Cause, String)> {
    condition(pod, "PodScheduled")
        .filter(|found| found.status == "False" && found.reason.as_deref() == Some("Unschedulable"))
        .map(|found| (Cause::Unschedulable, found.message.clone().unwrap_or_default()))
}

fn not_ready(pod: &PodView) -> String {
    let message = condition(pod, "Ready").and_then(|found| found.message.clone());
    message.filter(|text| !text.is_empty()).unwrap_or_else(|| "not ready".to_owned())
}

fn container_problem(container: &ContainerView) -> Option<(Cause, String)> {
    let waiting = container.state.waiting.as_ref();
    let reason = waiting.and_then(|state| state.reason.as_deref()).unwrap_or_default();
    let said = waiting.and_then(|state| state.message.clone()).unwrap_or_default();
    let name = &container.name;
    let cause = match reason {
        "InvalidImageName" => Cause::InvalidImage,
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "RegistryUnavailable" => Cause::ImagePull,
        "CreateContainerConfigError" => Cause::ContainerConfig,
        "CreateContainerError" | "RunContainerError" => Cause::ContainerStart,
        "CrashLoopBackOff" => Cause::Crash,
        _ if container.restart_count >= MANY_RESTARTS => Cause::Crash,
        _ => return None,
    };
    let said = match cause {
        // The kubelet's message counts the seconds of its back-off; the exit of the container is the cause.
        Cause::Crash => {
            let ended = ended(container).unwrap_or_else(|| "exits".to_owned());
            format!("container {name} does not stay up: {ended}")
        }
        _ if said.is_empty() => format!("container {name}: {reason}"),
        _ => format!("container {name}: {said}"),
    };
    Some((cause, said))
}

/// Describes how a container last ended.
fn ended(container: &ContainerView) -> Option<String> {
    let last = container.state.terminated.as_ref().or(container.last_state.terminated.as_ref())?;
    let code = last.exit_code.map(|code| format!("exit code {code}"));
    let reason = last.reason.clone().filter(|reason| reason != "Error");
    let said: Vec<String> = [reason, code, last.message.clone()].into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join(", "))
}
