//! The message of condition `Progressing`: the event that the rollout waits for, and the time limit.

use api::names::{self, Color, Component, RETRY};
use api::status::Step;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::assessment::unready_time_began;
use crate::context::Context;
use crate::facts::{Cause, Deployment, Workload};
use crate::health::{self, Verdict};

/// Seconds after which the message names an object that should have been garbage-collected.
const LINGER_SECONDS: i64 = 60;

/// A note on the requests that wait until the resource is no longer paused; empty if there are none.
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

/// The reason and message of a rollout in progress.
pub(super) fn message(ctx: &Context, step: Step) -> (String, String) {
    let policy = ctx.policy();
    let since = &ctx.rollout.since;
    let plain = |message: String| (step.as_str().to_owned(), message);
    let target = ctx.rollout.target.as_ref().map(|side| format!("{} on {}", side.version, side.strategy));
    let target = target.unwrap_or_default();
    match step {
        Step::Deploying => deploying_message(ctx, &target),
        Step::Switching => plain(format!(
            "traffic switches to {target}; waiting for the EndpointSlices of both Services, and at least until {}",
            due(since, policy.dwell)
        )),
        Step::Watching => plain(format!(
            "the previous release keeps running until {}, and until the EndpointSlices of both Services list only the new one",
            due(since, policy.cleanup_delay)
        )),
        Step::RollingBack => plain(format!(
            "traffic returns to the previous release; both keep running until {}, and until the EndpointSlices of both Services list only that one",
            due(since, policy.dwell + policy.cleanup_delay)
        )),
        Step::Prune => plain(pruning(ctx)),
        Step::Stable | Step::Unknown => plain(String::new()),
    }
}

/// The inactive components whose Deployment is gone.
fn undeployed<'a>(ctx: &'a Context) -> impl Iterator<Item = (Color, Component, &'a Workload)> {
    let inactive = Color::ALL.into_iter().filter(|color| Some(*color) != ctx.status.active_strategy);
    let of = |color| ctx.facts.colors.get(color).iter().map(move |(component, it)| (color, component, it));
    inactive.flat_map(of).filter(|(.., workload)| workload.deployment == Deployment::Absent)
}

/// Prune ends when the inactive color has no Pods. Foreign Pods that match its selector keep Prune from ending.
fn pruning(ctx: &Context) -> String {
    let strays: Vec<&str> = undeployed(ctx)
        .filter(|(.., workload)| !workload.replica_sets)
        .flat_map(|(.., workload)| &workload.pods.foreign)
        .map(String::as_str)
        .collect();
    if strays.is_empty() {
        return format!("deleting the objects of the inactive color{}", lingering(ctx));
    }
    let pods = strays.join(", ");
    format!(
        "waiting for Pods that carry the labels of a color but belong to no release: {pods}. Remedy: delete them"
    )
}

/// A note on ReplicaSets that outlive their Deployment: the garbage collector does not run, or a finalizer holds them.
fn lingering(ctx: &Context) -> String {
    let left: Vec<String> = undeployed(ctx)
        .filter(|(.., workload)| workload.replica_sets)
        .map(|(color, component, _)| names::workload(&ctx.intent.name, component, color))
        .collect();
    if left.is_empty() || ctx.in_step() < LINGER_SECONDS {
        return String::new();
    }
    format!("; a ReplicaSet of {} outlives its Deployment. Remedy: delete it", left.join(" and "))
}

fn deploying_message(ctx: &Context, target: &str) -> (String, String) {
    let policy = ctx.policy();
    if let Some(since) = &ctx.rollout.timers.ready_since {
        let text = format!("{target} is ready; traffic switches at {}", due(since, policy.grace));
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
    let deadline = due(unready_time_began(ctx.rollout), policy.deploy_timeout);
    match waits {
        Some(why) => (why.reason, format!("{}; waiting until {deadline}", why.message)),
        None => (
            Step::Deploying.as_str().to_owned(),
            format!("waiting until all Pods of {target} are ready, at most until {deadline}"),
        ),
    }
}

fn due(since: &Time, seconds: i64) -> Timestamp {
    Timestamp::from_second(since.0.as_second().saturating_add(seconds)).unwrap_or(since.0)
}
