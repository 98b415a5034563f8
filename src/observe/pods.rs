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
            add(&mut sum, pod, component, switched_at, baseline);
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

/// Returns the status of the component's own container. A webhook may add other containers, whose failures say nothing about
/// the release. The Pods of an adopted release may name their only container differently.
fn own(pod: &PodView, component: Component) -> Option<&ContainerView> {
    let all = &pod.status.container_statuses;
    let named = all.iter().find(|container| container.name == component.as_str());
    named.or(match all.as_slice() {
        [only] => Some(only),
        _ => None,
    })
}

fn add(
    sum: &mut Pods,
    pod: &PodView,
    component: Component,
    switched_at: Option<Timestamp>,
    baseline: &[PodRestarts],
) {
    let own = own(pod, component);
    let name = pod.object_name().to_owned();
    let ready = condition(pod, "Ready");
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    if is_ready {
        sum.ready += 1;
    }
    let changed = ready.and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0.as_second());
    sum.last_transition = sum.last_transition.max(changed);
    sum.running += u32::from(own.is_some_and(|container| container.state.running.is_some()));
    let restarts = own.map_or(0, |container| container.restart_count);
    if restarts > 0 {
        sum.restarts.push((name.clone(), restarts));
    }
    if !is_ready {
        let problem = problem(pod, own);
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
            let said = own.and_then(ended);
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
fn problem(pod: &PodView, own: Option<&ContainerView>) -> Problem {
    let others = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    let mut others = others.filter(|other| own.is_none_or(|own| other.name != own.name));
    let sidecar = |other: &ContainerView| Some((Cause::Sidecar, container_problem(other)?.1));
    let (cause, said) = own
        .and_then(container_problem)
        .or_else(|| others.find_map(sidecar))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns the summary of a storage Pod with these containers, 60 s after a switch.
    fn summary(ready: bool, containers: &Value, init: &Value) -> Pods {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-09-21T14:00:00Z"},
            "status": {"phase": "Running", "containerStatuses": containers, "initContainerStatuses": init,
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }));
        let mut sum = Pods::default();
        let switched = "2026-09-21T14:13:20Z".parse().ok();
        add(&mut sum, &pod.unwrap(), Component::Storage, switched, &[]);
        sum
    }

    fn container(name: &str, restarts: i32, state: &Value) -> Value {
        json!({"name": name, "restartCount": restarts, "state": state,
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}})
    }

    #[test]
    fn a_restart_of_another_container_is_no_restart_of_the_release() {
        let running = json!({"running": {"startedAt": "2026-09-21T14:14:00Z"}});
        let both = |own, other| {
            json!([container("istio-proxy", other, &running), container("storage", own, &running)])
        };
        let sum = summary(true, &both(0, 7), &json!([]));
        assert_eq!((sum.running, sum.restarts.len()), (1, 0));
        assert_eq!(sum.restarted_since_switch, None);
        let sum = summary(true, &both(1, 0), &json!([]));
        assert_eq!(sum.restarts, [("p".to_owned(), 1)]);
        let said = sum.restarted_since_switch.unwrap().said;
        assert_eq!(said, "restarted after the switch: OOMKilled, exit code 137");
        // An adopted release has a container of any name.
        let sum = summary(true, &json!([container("main", 1, &running)]), &json!([]));
        assert_eq!(sum.restarts, [("p".to_owned(), 1)]);
    }

    #[test]
    fn a_container_that_a_webhook_added_is_named_and_counts_at_the_timeout_only() {
        let (running, failing) = (json!({"running": {}}), json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        let waits = json!({"waiting": {"reason": "PodInitializing"}});
        let of_sidecar = json!([container("proxy", 9, &failing), container("storage", 0, &running)]);
        let of_init = json!([container("storage", 0, &waits)]);
        let init = json!([container("proxy", 9, &failing)]);
        for sum in [summary(false, &of_sidecar, &json!([])), summary(false, &of_init, &init)] {
            let problem = sum.problem.unwrap();
            assert_eq!((problem.cause, problem.cause.is_hard()), (Cause::Sidecar, false));
            assert!(problem.said.starts_with("container proxy does not stay up"), "{}", problem.said);
        }
        // The component's own failure is more precise.
        let both = json!([container("proxy", 9, &failing), container("storage", 4, &failing)]);
        let problem = summary(false, &both, &json!([])).problem.unwrap();
        assert_eq!(problem.cause, Cause::Crash);
        assert!(problem.said.starts_with("container storage"), "{}", problem.said);
    }
}
