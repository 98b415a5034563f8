//! Judgements on a color: is it complete, is it failing, is it worse than the other (design D8, D9).

use super::facts::{Cause, Deployment, Problem, Workload};
use api::names::{Component, PerComponent};

/// How well a color could serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// At least one component has no ready pod.
    Down,
    /// Both have a ready pod, but not all that is wanted.
    Impaired,
    /// Everything that is wanted is ready.
    Full,
}

/// Full(c, r) of design D8, for one component.
pub fn component_full(workload: &Workload, version: &str) -> bool {
    workload.deployment.state().is_some_and(|deployment| deployment.observed)
        && component_complete(workload, version)
}

/// Full but for whether the counts are of the Deployment's last write. One that touches nothing but its annotations raises
/// its generation too, so that until it is observed a complete Deployment looks as if it were not.
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

/// Full(c, r) of design D8: both components complete, nothing else behind their selectors.
pub fn full(color: &PerComponent<Workload>, version: &str) -> bool {
    color.all(|workload| component_full(workload, version))
}

/// How well a color could serve this release now.
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

/// Whether traffic may go back from a bad color to the other (design D9: healthier, and able to serve).
pub fn may_go_back(old: Health, bad: Health) -> bool {
    old == Health::Full || (old == Health::Impaired && bad == Health::Down)
}

/// The hard failure of a component, if there is one: its pods speak before its Deployment does.
pub fn hard_problem(workload: &Workload) -> Option<&Problem> {
    worst(workload).filter(|problem| problem.cause.is_hard())
}

/// The worst problem of a component, hard or soft.
pub fn worst(workload: &Workload) -> Option<&Problem> {
    let of_deployment = workload.deployment.state().and_then(|deployment| deployment.problem.as_ref());
    match (&workload.pods.problem, of_deployment) {
        (Some(pod), Some(deployment)) => Some(if deployment.cause < pod.cause { deployment } else { pod }),
        (pod, deployment) => pod.as_ref().or(deployment),
    }
}

/// A problem, with the component that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One word.
    pub reason: String,
    /// For people: the component, the pod, what was said, and a remedy.
    pub message: String,
}

impl Verdict {
    /// Words a component's problem.
    pub fn of(component: Component, problem: &Problem) -> Self {
        let pod = problem.pod.as_deref().map(|pod| format!("pod {pod}: ")).unwrap_or_default();
        let said = shorten(&problem.said);
        Self {
            reason: problem.cause.reason().to_owned(),
            message: format!("{component}: {pod}{said}. Remedy: {}", problem.cause.remedy()),
        }
    }

    /// Words a problem that no pod reports.
    pub fn plain(reason: &str, message: String) -> Self {
        Self { reason: reason.to_owned(), message }
    }
}

/// Why a release that was switched to is bad now, beyond doubt (design D9). A pod that is merely unready is not
/// in here: see [`suspect`].
pub fn bad(color: &PerComponent<Workload>) -> Option<Verdict> {
    color.iter().find_map(|(component, workload)| component_bad(component, workload))
}

fn component_bad(component: Component, workload: &Workload) -> Option<Verdict> {
    let pods = &workload.pods;
    if !matches!(workload.deployment, Deployment::Present(_)) {
        return Some(Verdict::plain(
            "DeploymentLost",
            format!("{component}: its Deployment was deleted by another hand. Remedy: find out whose"),
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
            said: format!("no ready pod is left: {said}"),
        };
        return Some(Verdict::of(component, &problem));
    }
    // A drained or deleted pod's replacement gets the time it needs, unless it cannot start at all.
    hard_problem(workload).filter(|_| down).map(|problem| Verdict::of(component, problem))
}

/// The pods that were ready at the switch and are unready: one is bad once that lasts (design D9: 5 s).
pub fn suspects(color: &PerComponent<Workload>) -> impl Iterator<Item = &str> {
    color.iter().flat_map(|(_, workload)| &workload.pods.unready_since_switch).map(String::as_str)
}

/// Words what is wrong with one of [`suspects`].
pub fn suspect(color: &PerComponent<Workload>, pod: &str) -> Option<Verdict> {
    let has = |workload: &Workload| workload.pods.unready_since_switch.iter().any(|known| known == pod);
    let (component, workload) = color.iter().find(|(_, workload)| has(workload))?;
    let said = worst(workload).map_or("lost readiness", |problem| problem.said.as_str());
    let problem = Problem { cause: Cause::NotReady, pod: Some(pod.to_owned()), said: said.to_owned() };
    Some(Verdict::of(component, &problem))
}

/// A component without a ready pod, whatever the cause. The replacement of a drained or deleted pod is given time
/// (the failure threshold), but not for ever while the other side could serve.
pub fn empty(color: &PerComponent<Workload>) -> Option<Verdict> {
    let (component, workload) = color.iter().find(|(_, workload)| workload.pods.ready == 0)?;
    let text = || {
        let text = format!("{component}: no pod is ready. Remedy: see the Events of its pods and ReplicaSet");
        Verdict::plain("NoReadyPod", text)
    };
    Some(worst(workload).map_or_else(text, |problem| Verdict::of(component, problem)))
}

/// At most 300 characters: conditions and events are for reading.
pub fn shorten(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}
