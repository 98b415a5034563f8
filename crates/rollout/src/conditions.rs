//! The readable part of the status: phase, conditions, counts, addresses (design D6, D26).
//!
//! It is a function of the persisted state machine and the facts, so it can be computed again at any time. Messages
//! contain no counters and no ages: a settled resource would be written at every reconcile.

mod progress;
mod unstarted;

use api::names::{self, Component, RETRY};
use api::status::{ComponentStatus, Endpoints, MetadataServicesStatus, Side, Step};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::assessment::{failure, is_bad};
use crate::context::{Context, Desired};
use crate::health::{self, Health, Verdict, health};
use crate::history;
use crate::intent::Intent;
use crate::plan::{Effect, EventNote, EventReason, Plan};

pub(crate) use unstarted::{not_adopted, pending};

/// A condition before it is compared with the persisted one.
struct DesiredCondition {
    kind: &'static str,
    status: bool,
    reason: String,
    message: String,
}

impl DesiredCondition {
    fn new(kind: &'static str, status: bool, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, status, reason: reason.into(), message: message.into() }
    }
}

/// Fills in the readable part of a status whose state machine is decided. `ctx` is the input of that decision.
pub(crate) fn status(ctx: &Context, mut status: MetadataServicesStatus) -> MetadataServicesStatus {
    let machine = status.clone();
    let Some(rollout) = machine.rollout.as_ref() else { return status };
    let ctx = Context { status: &machine, rollout, ..*ctx };
    status.observed_generation = Some(ctx.intent.generation);
    fill_machine(&ctx, &mut status);
    fill_serving(&ctx, &mut status);
    // The spec's release is active and unblocked: the history gets its settled order (design D12).
    if ctx.rollout.step == Step::Stable && ctx.desired() == Desired::Active && !ctx.blocked() {
        history::sort_settled(&mut status.release_history);
    }
    history::trim(&mut status.release_history, ctx.policy().history_limit);
    let problem = problem(&ctx);
    status.phase = Some(phase(&ctx, problem.as_ref()).to_owned());
    let said = conditions(&ctx, problem.as_ref());
    status.conditions = merge(&ctx, &machine.conditions, said);
    status
}

/// Turns a wait into a status update if the readable part of the status is out of date.
pub(crate) fn refresh(ctx: &Context, plan: Plan) -> Plan {
    let mut draft = ctx.status.clone();
    if let Some(rollout) = draft.rollout.as_mut().filter(|_| ctx.request_is_done()) {
        rollout.request = None;
    }
    report(ctx.status, status(ctx, draft), plan)
}

/// The update that stores a status and announces its changed conditions; `plan` if it is stored already.
pub(crate) fn report(before: &MetadataServicesStatus, status: MetadataServicesStatus, plan: Plan) -> Plan {
    if status == *before {
        return plan;
    }
    let notes = condition_events(&before.conditions, &status.conditions);
    Plan { notes, ..Plan::of(Effect::UpdateStatus(Box::new(status))) }
}

/// The Events that announce a changed condition.
pub(crate) fn condition_events(before: &[Condition], after: &[Condition]) -> Vec<EventNote> {
    let find =
        |list: &[Condition], kind: &str| list.iter().find(|condition| condition.type_ == kind).cloned();
    let announced = [
        ("SpecApplied", "Invalid", EventReason::SpecInvalid),
        ("Stalled", "CannotAdopt", EventReason::CannotAdopt),
        ("Stalled", "NameTaken", EventReason::NameTaken),
        ("Stalled", "WriteRefused", EventReason::WriteRefused),
        ("Drifted", "TemplateChanged", EventReason::Drifted),
        ("ImageCompatible", "BelowMinimum", EventReason::ImageBelowMinimum),
    ];
    let changed = |(kind, reason, what): (&str, &str, EventReason)| {
        let now = find(after, kind).filter(|condition| condition.reason == reason)?;
        let was = find(before, kind).filter(|condition| condition.reason == reason);
        was.is_none_or(|was| was.message != now.message).then(|| EventNote::new(what, now.message))
    };
    announced.into_iter().filter_map(changed).collect()
}

fn fill_machine(ctx: &Context, status: &mut MetadataServicesStatus) {
    let phase = ctx.rollout.step.phase().map(str::to_owned);
    if status.deployment_phase != phase {
        status.deployment_phase = phase;
        status.phase_started_at = Some(Time(ctx.now_for_record));
    }
    let target = ctx.rollout.target.clone();
    status.pending_strategy = target.as_ref().map(|side| side.strategy);
    status.pending_release_version = target.map(|side| side.version);
}

fn fill_serving(ctx: &Context, status: &mut MetadataServicesStatus) {
    let of = |component: Component| {
        let active = ctx.active()?;
        let deployment = ctx.facts.colors.get(active.strategy).get(component).deployment.state();
        let record = ctx.status.record(&active.version)?;
        Some(ComponentStatus {
            replicas: deployment.map_or(0, |deployment| deployment.desired),
            ready_replicas: deployment.map_or(0, |deployment| deployment.ready),
            image: match component {
                Component::Storage => record.storage_image.clone(),
                Component::Schema => record.schema_image.clone(),
            },
            service: names::workload(&ctx.intent.name, component, active.strategy),
        })
    };
    status.storage = of(Component::Storage);
    status.schema = of(Component::Schema);
    status.endpoints = Some(endpoints(ctx.intent));
}

/// The addresses at which clients reach the services.
fn endpoints(intent: &Intent) -> Endpoints {
    let address = |component: Component| {
        let port = intent.ports.get(component);
        format!("{}.{}.svc:{port}", names::front(&intent.name, component), intent.namespace)
    };
    Endpoints { storage: address(Component::Storage), schema: address(Component::Schema) }
}

/// The problem that keeps the resource from its desired state and does not end by itself.
pub(crate) fn problem(ctx: &Context) -> Option<Verdict> {
    if !ctx.intent.violations.is_empty() {
        return Some(Verdict::plain(
            "Invalid",
            format!("the spec is not valid: {}", ctx.intent.violations.join("; ")),
        ));
    }
    if let Some(command) = &ctx.intent.crd_outdated {
        let text = format!("the installed CRD lacks fields that this operator needs; run: {command}");
        return Some(Verdict::plain("CRDOutdated", text));
    }
    if !ctx.facts.taken.is_empty() {
        let text = name_taken(&ctx.facts.taken);
        return Some(Verdict::plain("NameTaken", text));
    }
    if let Some(refused) = &ctx.facts.refused {
        return Some(Verdict::plain("WriteRefused", format!("the API server rejects a write: {refused}")));
    }
    match (&ctx.rollout.step, &ctx.rollout.target, ctx.active()) {
        // In the grace period all Pods are ready, so nothing is overdue.
        (Step::Deploying, Some(target), _) if ctx.rollout.timers.ready_since.is_none() => {
            failure(ctx, target).0
        }
        (Step::Deploying, ..) => None,
        (Step::Switching, Some(target), Some(_)) => is_bad(ctx, target),
        (Step::Watching, _, Some(active)) => is_bad(ctx, &active),
        _ if ctx.blocked() => Some(blocked(ctx)),
        _ => None,
    }
}

/// The message about names that objects of other owners hold.
pub(crate) fn name_taken(taken: &[String]) -> String {
    format!(
        "objects of other owners hold names that this resource needs: {}. Remedy: if clients or Pods use an object, keep \
         it and give this resource another name; otherwise delete it",
        taken.join(", ")
    )
}

fn blocked(ctx: &Context) -> Verdict {
    let record = ctx.status.record_of_hash(&ctx.intent.wanted.hash);
    let version = record.map(|record| record.version.clone()).unwrap_or_default();
    let why = record.and_then(|record| record.message.clone()).unwrap_or_default();
    let (name, namespace) = (&ctx.intent.name, &ctx.intent.namespace);
    let command = format!("kubectl annotate metadataservices {name} -n {namespace} {RETRY}=now");
    let text = format!("{version} failed and was rolled back: {why}. To try it again, run: {command}");
    Verdict::plain("RolledBack", text)
}

fn phase(ctx: &Context, problem: Option<&Verdict>) -> &'static str {
    let serving = ctx.active();
    match ctx.rollout.step {
        Step::Stable => {
            let full = serving.as_ref().is_some_and(|side| {
                health(ctx.facts.colors.get(side.strategy), &side.version) == Health::Full
            });
            let applied = ctx.active_hash() == Some(&ctx.intent.wanted.hash);
            if full && applied && problem.is_none() { "Stable" } else { "Degraded" }
        }
        step => match (problem, serving) {
            (Some(why), None)
                if matches!(
                    why.reason.as_str(),
                    "Invalid" | "CRDOutdated" | "NameTaken" | "WriteRefused"
                ) =>
            {
                "Pending"
            }
            (Some(_), None) => "Failed",
            (Some(_), Some(_)) => "Degraded",
            (None, _) => step.phase().unwrap_or("Degraded"),
        },
    }
}

fn conditions(ctx: &Context, problem: Option<&Verdict>) -> Vec<DesiredCondition> {
    let rolling = ctx.rollout.step != Step::Stable && !ctx.is_paused();
    let stalled = problem.map_or_else(
        || DesiredCondition::new("Stalled", false, "None", "no action is required"),
        |why| DesiredCondition::new("Stalled", true, why.reason.clone(), why.message.clone()),
    );
    let reconciling = rolling && problem.is_none();
    let step = ctx.rollout.step.as_str();
    vec![
        ready(ctx),
        spec_applied(ctx, problem),
        progressing(ctx, problem),
        DesiredCondition::new(
            "Reconciling",
            reconciling,
            if reconciling { step } else { "Settled" },
            if reconciling { "a rollout is in progress" } else { "no rollout is in progress" },
        ),
        stalled,
        drifted(ctx),
        image_compatible(ctx),
    ]
}

fn ready(ctx: &Context) -> DesiredCondition {
    let Some(active) = ctx.active() else {
        return DesiredCondition::new("Ready", false, "NoRelease", "no release is active yet");
    };
    let Side { strategy, version } = &active;
    let color = ctx.facts.colors.get(*strategy);
    match health(color, version) {
        Health::Full => {
            DesiredCondition::new("Ready", true, "Serving", format!("{version} is active on {strategy}"))
        }
        level => {
            let slow = color.iter().find(|(_, workload)| !health::component_full(workload, version));
            let why = slow.map_or_else(String::new, |(component, workload)| {
                health::worst(workload).map_or_else(
                    || format!("{component}: not all Pods are ready"),
                    |problem| Verdict::of(component, problem).message,
                )
            });
            let reason = if level == Health::Down { "NotServing" } else { "PartlyServing" };
            DesiredCondition::new("Ready", false, reason, format!("{version} on {strategy}: {why}"))
        }
    }
}

/// Returns whether traffic is moving from the active release to another one.
fn moves_away(ctx: &Context) -> bool {
    let target = ctx.rollout.target.as_ref().filter(|_| ctx.rollout.step == Step::Switching);
    target.is_some_and(|target| ctx.status.active_release_version.as_ref() != Some(&target.version))
}

const PAUSED: &str = "spec.rollout.paused is true: no new release starts until it is false";

fn spec_applied(ctx: &Context, problem: Option<&Verdict>) -> DesiredCondition {
    let said =
        |status, reason: &str, message: String| DesiredCondition::new("SpecApplied", status, reason, message);
    match (ctx.desired(), problem) {
        (Desired::Unknown, Some(why)) => said(false, &why.reason, why.message.clone()),
        (Desired::Active, _) if ctx.blocked() => {
            let why = blocked(ctx);
            said(false, &why.reason, why.message)
        }
        (Desired::Active, _) if ctx.rollout.step == Step::RollingBack => {
            said(false, "InProgress", "traffic returns to the release in the spec".into())
        }
        (Desired::Active, _) if moves_away(ctx) => said(
            false,
            "InProgress",
            "traffic returns to the release in the spec as soon as that release is healthy".into(),
        ),
        (Desired::Active, _) => said(true, "Applied", "the release in the spec is active".into()),
        (Desired::Spec, _) if ctx.is_paused() => said(false, "Paused", PAUSED.into()),
        (Desired::Spec | Desired::Unknown, _) => {
            said(false, "InProgress", "the release in the spec is not active yet".into())
        }
    }
}

fn progressing(ctx: &Context, problem: Option<&Verdict>) -> DesiredCondition {
    let said =
        |status, reason: &str, message: String| DesiredCondition::new("Progressing", status, reason, message);
    let refused = ctx.rollout.request.as_ref().and_then(|request| request.refused.clone());
    match ctx.rollout.step {
        Step::Prune if ctx.is_paused() => said(false, "Paused", PAUSED.into()),
        Step::Stable => match refused {
            Some(message) => said(false, "RequestRefused", message),
            None => said(
                false,
                "Settled",
                format!("no rollout is in progress{}", progress::deferred_requests(ctx)),
            ),
        },
        step => match problem {
            Some(why) => said(false, &why.reason, why.message.clone()),
            None => progressing_rollout(ctx, step, refused),
        },
    }
}

fn progressing_rollout(ctx: &Context, step: Step, refused: Option<String>) -> DesiredCondition {
    let (reason, message) = progress::message(ctx, step);
    let message = refused.map_or(message.clone(), |refused| format!("{message}; {refused}"));
    DesiredCondition::new("Progressing", true, reason, message)
}

fn drifted(ctx: &Context) -> DesiredCondition {
    let drift = ctx.active().and_then(|active| {
        ctx.facts.colors.get(active.strategy).iter().find_map(|(component, workload)| {
            let managers = &workload.deployment.state()?.drifted_by;
            (!managers.is_empty()).then(|| {
                let name = names::workload(&ctx.intent.name, component, active.strategy);
                format!("the pod template of Deployment {name} was changed by {}. The next release replaces it, or the annotation {}=now", managers.join(", "), names::RESTART)
            })
        })
    });
    match drift {
        Some(message) => DesiredCondition::new("Drifted", true, "TemplateChanged", message),
        None => DesiredCondition::new(
            "Drifted",
            false,
            "AsReleased",
            "the pod templates match the active release",
        ),
    }
}

fn image_compatible(ctx: &Context) -> DesiredCondition {
    let old = &ctx.intent.old_images;
    if old.is_empty() {
        DesiredCondition::new(
            "ImageCompatible",
            true,
            "Compatible",
            "no image is older than its minimum version",
        )
    } else {
        let message =
            format!("{}. Such images may lack features that this operator relies on", old.join("; "));
        DesiredCondition::new("ImageCompatible", false, "BelowMinimum", message)
    }
}

/// The subject of a `Ready` message: the release, the color and the component.
fn about(message: &str) -> Vec<&str> {
    message.split(": ").take(2).collect()
}

/// Keeps the time of the last status change, and the message of a lasting problem, since kubelet alternates its texts.
fn merge(ctx: &Context, before: &[Condition], desired: Vec<DesiredCondition>) -> Vec<Condition> {
    desired
        .into_iter()
        .map(|said| {
            let status = if said.status { "True" } else { "False" };
            let old = before.iter().find(|old| old.type_ == said.kind);
            let same = old.filter(|old| old.status == status);
            let lasting = same.filter(|old| {
                old.reason == said.reason
                    && said.kind == "Ready"
                    && !said.status
                    && ctx.rollout.step == Step::Stable
                    && about(&old.message) == about(&said.message)
            });
            Condition {
                type_: said.kind.to_owned(),
                status: status.to_owned(),
                last_transition_time: same
                    .map_or(Time(ctx.now_for_record), |old| old.last_transition_time.clone()),
                message: lasting.map_or(said.message, |old| old.message.clone()),
                reason: said.reason,
                observed_generation: Some(ctx.intent.generation),
            }
        })
        .collect()
}
