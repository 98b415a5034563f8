//! What is waited for, in words: the message of `Progressing`.
//!
//! No counters and no ages, or a resource that waits would be written again and again.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Cause, Deployment, Workload};
use super::health::{self, Verdict};
use super::{Context, deploying};
use api::names::{self, Color, Component, RETRY};
use api::status::Step;

/// Seconds after which what ought to have gone by itself is named.
const LINGER_SECONDS: i64 = 60;

/// Requests that wait for the end of a pause.
pub(super) fn deferred_requests(ctx: &Context) -> String {
    let requests = &ctx.intent.requests;
    let held =
        [(RETRY, requests.retry.is_some() && ctx.blocked()), (names::RESTART, requests.restart.is_some())];
    let held: Vec<&str> = held.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).collect();
    if held.is_empty() || !ctx.policy().paused {
        return String::new();
    }
    format!("; {} waits until spec.rollout.paused is false", held.join(" and "))
}

/// What is waited for, and when the wait ends.
pub(super) fn progress(ctx: &Context, step: Step) -> (String, String) {
    let policy = ctx.policy();
    let since = &ctx.rollout.since;
    let plain = |message: String| (step.as_str().to_owned(), message);
    let target = ctx.rollout.target.as_ref().map(|side| format!("{} on {}", side.version, side.strategy));
    let target = target.unwrap_or_default();
    match step {
        Step::Deploying => deploying_message(ctx, &target),
        Step::Switching => plain(format!(
            "traffic goes to {target}; waiting for EndpointSlices of both Services and until {}",
            due(since, policy.dwell)
        )),
        Step::Watching => plain(format!(
            "the old release is kept warm until {}, and until EndpointSlices of both Services show only the new one",
            due(since, policy.cleanup_delay)
        )),
        Step::RollingBack => plain(format!(
            "traffic goes back; both releases are kept until {}, and until EndpointSlices of both Services show it",
            due(since, policy.dwell + policy.cleanup_delay)
        )),
        Step::Prune => plain(pruning(ctx)),
        Step::Stable | Step::Unknown => plain(String::new()),
    }
}

/// What is left on the colors that do not serve when a Deployment has gone.
fn undeployed<'a>(ctx: &'a Context) -> impl Iterator<Item = (Color, Component, &'a Workload)> {
    let to_delete = Color::ALL.into_iter().filter(|color| Some(*color) != ctx.status.active_strategy);
    let of = |color| ctx.facts.colors.get(color).iter().map(move |(component, it)| (color, component, it));
    to_delete.flat_map(of).filter(|(.., workload)| workload.deployment == Deployment::Absent)
}

/// Prune ends when nothing is left; pods of somebody else behind a selector of ours would keep it from ending.
fn pruning(ctx: &Context) -> String {
    let strays: Vec<&str> = undeployed(ctx)
        .filter(|(.., workload)| !workload.replica_sets)
        .flat_map(|(.., workload)| &workload.pods.foreign)
        .map(String::as_str)
        .collect();
    if strays.is_empty() {
        return format!("deleting what does not serve{}", lingering(ctx));
    }
    let pods = strays.join(", ");
    format!(
        "waiting for pods that carry the labels of a color but belong to no release of it: {pods}; delete them"
    )
}

/// What is still there a good while after its Deployment went: nobody deletes it, or somebody holds it.
fn lingering(ctx: &Context) -> String {
    let left: Vec<String> = undeployed(ctx)
        .filter(|(.., workload)| workload.replica_sets)
        .map(|(color, component, _)| names::workload(&ctx.intent.name, component, color))
        .collect();
    if left.is_empty() || ctx.in_step() < LINGER_SECONDS {
        return String::new();
    }
    format!("; a ReplicaSet of {} has lost its Deployment and does not go: delete it", left.join(" and "))
}

fn deploying_message(ctx: &Context, target: &str) -> (String, String) {
    let policy = ctx.policy();
    if let Some(since) = &ctx.rollout.timers.ready_since {
        let text = format!("{target} is ready; traffic is switched at {}", due(since, policy.grace));
        return ("GracePeriod".into(), text);
    }
    let record = ctx.rollout.target.as_ref().and_then(|side| ctx.status.record(&side.version));
    if let Some((reason, message)) =
        record.and_then(|record| record.reason.clone().zip(record.message.clone()))
    {
        return (reason, message);
    }
    let color = ctx.rollout.target.as_ref().map(|side| ctx.facts.colors.get(side.strategy));
    let waits = color.and_then(|color| {
        color.iter().find_map(|(component, workload)| {
            health::worst(workload)
                .filter(|problem| problem.cause == Cause::Unschedulable)
                .map(|problem| Verdict::of(component, problem))
        })
    });
    let deadline = due(deploying::unready_time_began(ctx.rollout), policy.deploy_timeout);
    match waits {
        Some(why) => (why.reason, format!("{}; waiting until {deadline}", why.message)),
        None => (
            "Deploying".into(),
            format!("waiting until all pods of {target} are ready, at most until {deadline}"),
        ),
    }
}

fn due(since: &Time, seconds: i64) -> Timestamp {
    Timestamp::from_second(since.0.as_second().saturating_add(seconds)).unwrap_or(since.0)
}
