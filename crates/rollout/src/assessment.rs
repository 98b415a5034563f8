//! Why and when a release fails: before the switch ([`failure`]) and after it ([`is_bad`]) (design D9).

use api::names::Component;
use api::status::{Rollout, Side, Step, elapsed};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::context::Context;
use crate::health::{self, Verdict};
use crate::intent::Policy;

/// Seconds that one Pod may be unready after the switch before the release counts as bad (design D9).
pub(crate) const UNREADY_LIMIT: i64 = 5;

/// The start of the time that the pending release has to become ready.
///
/// It starts with the step, or once more when the release first loses its readiness. It starts no third time, so a
/// release whose readiness comes and goes cannot take forever.
pub(crate) fn unready_time_began(rollout: &Rollout) -> &Time {
    rollout.timers.unready_since.as_ref().unwrap_or(&rollout.since)
}

/// Returns whether the pending release should have become ready by now.
pub(crate) fn is_overdue(policy: &Policy, rollout: &Rollout, now: Timestamp) -> bool {
    rollout.step == Step::Deploying && elapsed(unready_time_began(rollout), now) >= policy.deploy_timeout
}

/// Why the pending release has failed, and the seconds until it fails if nothing changes.
pub(crate) fn failure(ctx: &Context, target: &Side) -> (Option<Verdict>, i64) {
    let noted = ctx.status.record(&target.version);
    let noted =
        noted.and_then(|record| Some(Verdict::plain(record.reason.as_ref()?, record.message.clone()?)));
    let hard = Component::ALL
        .into_iter()
        .filter_map(|component| ctx.failing_since(component))
        .map(|since| ctx.policy().failure_threshold - elapsed(since, ctx.now))
        .min();
    let timeout = ctx.policy().deploy_timeout - elapsed(unready_time_began(ctx.rollout), ctx.now);
    if hard.is_some_and(|left| left <= 0) {
        let text = "a component keeps failing. Remedy: see the Events of its Pods with kubectl describe pod";
        let unknown = || Verdict::plain("Failing", text.into());
        return (Some(noted.unwrap_or_else(unknown)), 0);
    }
    if timeout <= 0 {
        return (Some(noted.unwrap_or_else(|| timeout_verdict(ctx, target))), 0);
    }
    (None, hard.map_or(timeout, |left| left.min(timeout)))
}

/// The verdict of a deploy timeout: the problem of the first component that is not ready.
fn timeout_verdict(ctx: &Context, target: &Side) -> Verdict {
    let seconds = ctx.policy().deploy_timeout;
    let color = ctx.facts.colors.get(target.strategy);
    let slow = color.iter().find(|(_, workload)| !health::component_full(workload, &target.version));
    let worst = slow.and_then(|(component, workload)| Some(Verdict::of(component, health::worst(workload)?)));
    match (worst, slow) {
        (Some(worst), _) => {
            Verdict { message: format!("not ready within {seconds} s: {}", worst.message), ..worst }
        }
        (None, slow) => {
            let which = slow.map_or("a component", |(component, _)| component.as_str());
            let text = format!(
                "{which}: not ready within {seconds} s. Remedy: see the Events of its Deployment and Pods, or raise \
                 rollout.deployTimeoutSeconds"
            );
            Verdict::plain("DeployTimeout", text)
        }
    }
}

/// Why the release that receives traffic since the switch is bad now (design D9).
///
/// A Pod that is merely unready, a component without a ready Pod and missing EndpointSlices each count only after
/// their time limit.
pub(crate) fn is_bad(ctx: &Context, new: &Side) -> Option<Verdict> {
    let color = ctx.facts.colors.get(new.strategy);
    if let bad @ Some(_) = health::bad(color) {
        return bad;
    }
    let timers = &ctx.rollout.timers;
    let lasts =
        |since: &Option<Time>, limit| since.as_ref().is_some_and(|since| elapsed(since, ctx.now) >= limit);
    let unready = timers.unready_pod.as_ref().filter(|_| lasts(&timers.unready_since, UNREADY_LIMIT));
    let empty = lasts(&timers.empty_since, ctx.policy().failure_threshold.max(UNREADY_LIMIT));
    unready
        .and_then(|pod| health::suspect(color, pod))
        .or_else(|| health::empty(color).filter(|_| empty))
        .or_else(|| switch_unproved(ctx, new))
}

/// The verdict if the EndpointSlices do not follow the switch within the deploy timeout.
fn switch_unproved(ctx: &Context, new: &Side) -> Option<Verdict> {
    // Another client may have moved traffic during the dwell time: the limit counts from the last move, or from the
    // decision if the Services do not carry it.
    let moved = if ctx.stamped() { ctx.last_switch() } else { ctx.rollout.since.0.as_second() };
    let late = ctx.rollout.step == Step::Switching
        && ctx.now.as_second() - moved >= ctx.policy().deploy_timeout.max(ctx.policy().dwell)
        && !ctx.proved(new.strategy);
    late.then(|| {
        let text = "the EndpointSlices of the front Services did not follow within the deploy timeout. Remedy: check \
                    that kube-controller-manager runs, and which Pods kubectl get endpointslices lists";
        Verdict::plain("SwitchUnproved", text.into())
    })
}

/// Returns whether the release that receives traffic is bad or under suspicion, and not Full again.
pub(crate) fn in_doubt(ctx: &Context, new: &Side) -> bool {
    let timers = &ctx.rollout.timers;
    let doubt = is_bad(ctx, new).is_some() || timers.unready_since.is_some() || timers.empty_since.is_some();
    doubt && !health::full(ctx.facts.colors.get(new.strategy), &new.version)
}
