//! Judgments on one color: whether it is complete, failing, or healthier than the other (design D8, D9).

use crate::facts::{Cause, Deployment, Problem, Workload};
use api::names::{Component, PerComponent};

/// How well a color could serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// At least one component has no ready Pod.
    Down,
    /// Both components have a ready Pod, but not all Pods are ready.
    Impaired,
    /// All desired Pods are ready.
    Full,
}

/// Returns whether one component of a color is Full (design D8).
pub fn component_full(workload: &Workload, version: &str) -> bool {
    workload.deployment.state().is_some_and(|deployment| deployment.observed)
        && component_complete(workload, version)
}

/// Like [`component_full`], but ignores `observedGeneration`.
///
/// An annotation change also raises the generation, so a complete Deployment would look incomplete until its controller
/// observes it.
pub fn component_complete(workload: &Workload, version: &str) -> bool {
    workload.deployment.state().is_some_and(|deployment| {
        deployment.tag.version == version
            && deployment.desired >= 1
            && [deployment.updated, deployment.ready, deployment.available, deployment.replicas]
                .iter()
                .all(|count| *count == deployment.desired)
            && workload.pods.strays.is_empty()
    })
}

/// Returns whether a color is Full for a release (design D8): both components are complete and no foreign Pod matches.
pub fn full(color: &PerComponent<Workload>, version: &str) -> bool {
    color.all(|workload| component_full(workload, version))
}

/// The health of a color for a release.
pub fn health(color: &PerComponent<Workload>, version: &str) -> Health {
    if full(color, version) {
        Health::Full
    } else if color.all(|workload| {
        workload.pods.ready > 0
            && workload.deployment.state().is_some_and(|deployment| deployment.tag.version == version)
    }) {
        Health::Impaired
    } else {
        Health::Down
    }
}

/// Returns whether traffic may return from a bad color to the `old` one, which must be healthier and able to serve.
pub fn may_go_back(old: Health, bad: Health) -> bool {
    old == Health::Full || (old == Health::Impaired && bad == Health::Down)
}

/// Returns whether all desired Pods exist, the component's container runs in each of them, and none has ever restarted.
///
/// A cause that kept it from starting is over then. kubelet alternates the signals of a crash loop, so a container that has
/// restarted proves nothing.
pub fn has_started(workload: &Workload) -> bool {
    let (pods, desired) = (&workload.pods, workload.deployment.state().map(|state| state.desired));
    let all =
        desired.and_then(|desired| u32::try_from(desired).ok()).is_some_and(|desired| pods.alive >= desired);
    all && pods.alive > 0 && pods.running == pods.alive && pods.restarts.is_empty()
}

/// The hard failure of a component.
pub fn hard_problem(workload: &Workload) -> Option<&Problem> {
    worst(workload).filter(|problem| problem.cause.is_hard())
}

/// The most severe problem of a component. A Pod's problem wins over an equal one of its Deployment.
pub fn worst(workload: &Workload) -> Option<&Problem> {
    let of_deployment = workload.deployment.state().and_then(|deployment| deployment.problem.as_ref());
    match (&workload.pods.problem, of_deployment) {
        (Some(pod), Some(deployment)) => Some(if deployment.cause < pod.cause { deployment } else { pod }),
        (pod, deployment) => pod.as_ref().or(deployment),
    }
}

/// A reason and a message for conditions, Events and records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The reason, one word.
    pub reason: String,
    /// The message: component, Pod, problem and remedy.
    pub message: String,
}

impl Verdict {
    /// The verdict about the problem of a component.
    pub fn of(component: Component, problem: &Problem) -> Self {
        let pod = problem.pod.as_deref().map(|pod| format!("pod {pod}: ")).unwrap_or_default();
        let said = shorten(&problem.said);
        Self {
            reason: problem.cause.reason().to_owned(),
            message: format!("{component}: {pod}{said}. Remedy: {}", problem.cause.remedy()),
        }
    }

    /// A verdict with this reason and message.
    pub fn plain(reason: &str, message: String) -> Self {
        Self { reason: reason.to_owned(), message }
    }
}

/// Why the release that receives traffic is certainly bad (design D9). A Pod that is merely unready is a [`suspect`].
pub fn bad(color: &PerComponent<Workload>) -> Option<Verdict> {
    color.iter().find_map(|(component, workload)| component_bad(component, workload))
}

fn component_bad(component: Component, workload: &Workload) -> Option<Verdict> {
    let pods = &workload.pods;
    if !matches!(workload.deployment, Deployment::Present(_)) {
        return Some(Verdict::plain(
            "DeploymentLost",
            format!(
                "{component}: another client deleted its Deployment. Remedy: find that client in the audit log of the API server"
            ),
        ));
    }
    if let Some(problem) = &pods.restarted_since_switch {
        return Some(Verdict::of(component, problem));
    }
    let down = pods.ready == 0;
    if let (true, Some(pod)) = (down, pods.unready_since_switch.first()) {
        let said = worst(workload).map_or("lost readiness", |problem| problem.said.as_str());
        let problem = Problem {
            cause: Cause::NotReady,
            pod: Some(pod.clone()),
            said: format!("no Pod is ready any more: {said}"),
        };
        return Some(Verdict::of(component, &problem));
    }
    // The replacement of a drained or deleted Pod gets the time it needs, unless it cannot start at all.
    hard_problem(workload).filter(|_| down).map(|problem| Verdict::of(component, problem))
}

/// The Pods that existed at the switch and are unready now. Such a Pod is bad after a time limit (design D9).
pub fn suspects(color: &PerComponent<Workload>) -> impl Iterator<Item = &str> {
    color.iter().flat_map(|(_, workload)| &workload.pods.unready_since_switch).map(String::as_str)
}

/// The verdict about one of the [`suspects`].
pub fn suspect(color: &PerComponent<Workload>, pod: &str) -> Option<Verdict> {
    let has = |workload: &Workload| workload.pods.unready_since_switch.iter().any(|known| known == pod);
    let (component, workload) = color.iter().find(|(_, workload)| has(workload))?;
    let said = worst(workload).map_or("lost readiness", |problem| problem.said.as_str());
    let problem = Problem { cause: Cause::NotReady, pod: Some(pod.to_owned()), said: said.to_owned() };
    Some(Verdict::of(component, &problem))
}

/// The verdict about a component without a ready Pod, of any cause.
///
/// The replacement of a drained or deleted Pod has until the failure threshold to become ready.
pub fn empty(color: &PerComponent<Workload>) -> Option<Verdict> {
    let (component, workload) = color.iter().find(|(_, workload)| workload.pods.ready == 0)?;
    let text = || {
        let text = format!("{component}: no Pod is ready. Remedy: see the Events of its Pods and ReplicaSet");
        Verdict::plain("NoReadyPod", text)
    };
    Some(worst(workload).map_or_else(text, |problem| Verdict::of(component, problem)))
}

/// Shortens a text to 300 characters and drops a final period.
pub fn shorten(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}
