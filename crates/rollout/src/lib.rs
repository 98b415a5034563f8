//! The core: what to do next with one resource (design D3-D14, D19).
//!
//! [`plan`] is a pure function. It knows no client, no clock and no Kubernetes object: the shell observes
//! (`crate::observe` turns objects into [`Facts`]), calls `plan`, carries out its [`Effect`], and asks again. A move either
//! persists a decision (one status write) or makes the cluster match the persisted one, never both (design D14), so
//! that a crash between any two writes leaves a state from which the next pass goes on.

mod acts;
mod deploying;
pub mod facts;
pub mod health;
pub mod history;
pub mod intent;
mod machine;
mod project;
mod rebuild;
mod request;
mod shift;
mod sound;
mod switched;
mod waits;

use jiff::Timestamp;

pub use facts::{Facts, ReleaseRef};
pub use intent::Intent;

use api::names::{Color, Component};
use api::status::{MetadataServicesStatus, Rollout, Side, Step, elapsed};
use facts::{ObjectId, Route, Setting};
use intent::Policy;

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The one thing to do now.
    pub effect: Effect,
    /// What to tell people once it is done.
    pub notes: Vec<EventNote>,
    /// Seconds until the resource must be looked at again even if nothing happens; `None`: the usual resync.
    pub requeue_after: Option<i64>,
}

/// One kind of thing at a time (design D14).
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Nothing to do now.
    Wait,
    /// Persist this status, by compare-and-swap on the resource.
    UpdateStatus(Box<MetadataServicesStatus>),
    /// Make the cluster match: group after group, the actions of a group side by side.
    Write(Vec<Vec<Action>>),
    /// Change the resource itself.
    PatchResource(ResourcePatch),
}

/// What depends on a plan: if the API server does not take it, the rest need not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteClass {
    /// A change of the resource itself: a request, or the spec that is put back.
    Request,
    /// Settings that follow the spec in place, and nothing else.
    Settings,
    /// The ServiceAccount of pods to come: a refusal is none of theirs, but what passes by itself is waited for.
    ServiceAccount,
    /// Anything else: the next step rests on it.
    Rollout,
}

/// One write to an object of the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create a front Service that selects nothing yet.
    CreateFront(Component),
    /// Point a front Service at a side and stamp the decision on it.
    Route(Component, Route),
    /// Create an object of a color for a release.
    Create(ObjectId, ReleaseRef),
    /// Write our owner reference on an object that has none.
    Adopt(ObjectId),
    /// Write the number of a decision on an object of a color: what was decided on the object before is refused.
    RaiseEpoch(ObjectId, i64),
    /// Record a release in its ControllerRevision: `failed` says why it is blocked, `None` that it is good.
    RecordRevision {
        /// The release.
        tagged: ReleaseRef,
        /// Why it failed.
        failed: Option<String>,
    },
    /// Delete an object, by UID and resourceVersion.
    Delete(ObjectId),
    /// Apply settings that follow the spec in place.
    ApplySetting(Setting),
    /// Apply what the spec asks of the ServiceAccount, before pods need it.
    ApplyServiceAccount,
}

/// A change of the resource's own spec and annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePatch {
    /// The release whose recorded template is written back into the spec.
    pub restore: Option<String>,
    /// The annotations to remove.
    pub remove: Vec<&'static str>,
}

/// Something to tell people: an Event, and a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    /// What happened.
    pub what: EventReason,
    /// For people.
    pub message: String,
}

/// Reasons of Events (contract 4d), and what metrics count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventReason {
    /// A release was started.
    ReleaseStarted,
    /// All its pods are ready.
    ReleaseReady,
    /// Traffic is decided to go to another side.
    TrafficSwitched,
    /// The color that does not serve is gone.
    CleanupDone,
    /// A release failed.
    RolloutFailed,
    /// Back on the release before, by itself.
    RolledBack,
    /// A release was given up because the spec went back to the serving one.
    Aborted,
    /// A release was given up for a newer one.
    Superseded,
    /// A switched release was left because the spec went back to the warm one.
    Undone,
    /// A request was accepted.
    RequestAccepted,
    /// A request was refused.
    RequestRefused,
    /// The spec is not valid.
    SpecInvalid,
    /// An image is older than this operator supports.
    ImageBelowMinimum,
    /// `spec.releaseVersion` was ignored.
    ReleaseVersionIgnored,
    /// Another hand changed what a release had fixed.
    Drifted,
    /// A name is held by an object of others.
    NameTaken,
    /// The API server refuses a write.
    WriteRefused,
    /// The installed CRD is too old for a resource to be written.
    CrdOutdated,
    /// The status was rebuilt from objects.
    StatusRebuilt,
}

impl EventReason {
    /// Reason of the Event.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReleaseStarted => "ReleaseStarted",
            Self::ReleaseReady => "ReleaseReady",
            Self::TrafficSwitched => "TrafficSwitched",
            Self::CleanupDone => "CleanupDone",
            Self::RolloutFailed => "RolloutFailed",
            Self::RolledBack => "RolledBack",
            Self::Aborted => "RolloutAborted",
            Self::Superseded => "RolloutSuperseded",
            Self::Undone => "RolloutUndone",
            Self::RequestAccepted => "RequestAccepted",
            Self::RequestRefused => "RequestRefused",
            Self::SpecInvalid => "SpecInvalid",
            Self::ImageBelowMinimum => "ImageBelowMinimum",
            Self::ReleaseVersionIgnored => "ReleaseVersionIgnored",
            Self::Drifted => "Drifted",
            Self::NameTaken => "NameTaken",
            Self::WriteRefused => "WriteRefused",
            Self::CrdOutdated => "CRDOutdated",
            Self::StatusRebuilt => "StatusRebuilt",
        }
    }

    /// Whether the Event is a Warning.
    pub const fn is_warning(self) -> bool {
        matches!(
            self,
            Self::RolloutFailed
                | Self::RolledBack
                | Self::RequestRefused
                | Self::SpecInvalid
                | Self::ImageBelowMinimum
                | Self::ReleaseVersionIgnored
                | Self::Drifted
                | Self::NameTaken
                | Self::WriteRefused
                | Self::CrdOutdated
        )
    }
}

impl EventNote {
    fn new(what: EventReason, message: impl Into<String>) -> Self {
        Self { what, message: message.into() }
    }
}

/// What is wanted, in the machine's terms (design D10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Desired {
    /// No opinion: the spec is invalid, or the CRD is too old to trust it.
    Unknown,
    /// The serving release, or the spec's release is blocked.
    Active,
    /// The spec's release, which does not serve.
    Spec,
}

/// All that a decision looks at.
struct Context<'a> {
    intent: &'a Intent,
    status: &'a MetadataServicesStatus,
    rollout: &'a Rollout,
    facts: &'a Facts,
    /// The time that waits are measured against: never later than it really is.
    now: Timestamp,
    /// The time that is persisted: whole seconds, rounded up, so that no wait that starts now ends early.
    now_for_record: Timestamp,
}

impl Context<'_> {
    fn policy(&self) -> &Policy {
        &self.intent.policy
    }

    fn active(&self) -> Option<Side> {
        self.status.active()
    }

    fn hash_of(&self, version: &str) -> Option<&str> {
        self.status.record(version).map(|record| record.hash.as_str())
    }

    fn active_hash(&self) -> Option<&str> {
        self.hash_of(self.status.active_release_version.as_deref()?)
    }

    /// Whether the spec's release failed and was not asked for again. The first release is never blocked.
    fn blocked(&self) -> bool {
        use api::status::RecordStatus;
        self.status.active_strategy.is_some()
            && self
                .status
                .record_of_hash(&self.intent.wanted.hash)
                .is_some_and(|record| record.status == RecordStatus::Failed)
    }

    fn desired(&self) -> Desired {
        if !self.intent.violations.is_empty() || self.intent.crd_outdated.is_some() {
            Desired::Unknown
        } else if self.active_hash() == Some(&self.intent.wanted.hash) || self.blocked() {
            Desired::Active
        } else {
            Desired::Spec
        }
    }

    /// Seconds in this step.
    fn in_step(&self) -> i64 {
        elapsed(&self.rollout.since, self.now)
    }

    /// The decision that both front Services must carry.
    fn decision(&self) -> Route {
        decision(self.status, self.rollout)
    }

    /// Whether both front Services carry the decision.
    fn stamped(&self) -> bool {
        let decision = self.decision();
        self.facts.front.all(|front| front.state().is_some_and(|state| state.carries(&decision)))
    }

    /// Whether EndpointSlices of both front Services show this color and nothing else.
    fn proved(&self, color: Color) -> bool {
        self.facts.front.all(|front| front.state().is_some_and(|state| state.proves(color)))
    }

    /// When traffic last moved, seconds since 1970: the later of both front Services' stamps.
    fn last_switch(&self) -> i64 {
        let stamps = [&self.facts.front.storage, &self.facts.front.schema];
        // A stamp from the future (another hand's) must not hold the rollout up for ever.
        let latest = stamps
            .iter()
            .filter_map(|front| front.state()?.switched_at)
            .filter(|at| *at <= self.latest_past())
            .max();
        latest.unwrap_or(0).max(self.rollout.since.0.as_second())
    }

    /// A time later than this lies in the future, however times are rounded: seconds since 1970.
    fn latest_past(&self) -> i64 {
        self.now.as_second().saturating_add(5)
    }

    /// Whether the template of a release can be had. A record whose template nobody knows has no hash.
    fn has_template(&self, hash: &str) -> bool {
        if hash.is_empty() {
            return false;
        }
        (self.intent.violations.is_empty() && self.intent.wanted.hash == hash)
            || self.facts.revisions.iter().any(|revision| revision.hash == hash)
    }
}

/// The decision that a status holds.
fn decision(status: &MetadataServicesStatus, rollout: &Rollout) -> Route {
    let side = match rollout.step {
        Step::Switching => rollout.target.clone(),
        Step::Stable | Step::Deploying | Step::Watching | Step::RollingBack | Step::Prune | Step::Unknown => {
            status.active()
        }
    };
    route(side, rollout.epoch)
}

fn route(side: Option<Side>, epoch: i64) -> Route {
    match side {
        Some(side) => Route { color: Some(side.strategy), version: side.version, epoch },
        None => Route { color: None, version: String::new(), epoch },
    }
}

/// An answer of a step: `None` means that it has nothing to do and nothing is due.

impl Plan {
    fn act(groups: Vec<Vec<Action>>) -> Option<Plan> {
        let groups: Vec<_> = groups.into_iter().filter(|group| !group.is_empty()).collect();
        (!groups.is_empty()).then_some(Self {
            effect: Effect::Write(groups),
            notes: vec![],
            requeue_after: None,
        })
    }

    /// What depends on it.
    pub fn write_class(&self) -> WriteClass {
        let is_setting = |action: &Action| matches!(action, Action::ApplySetting(_));
        match &self.effect {
            Effect::PatchResource(_) => WriteClass::Request,
            Effect::Write(groups) if groups.iter().flatten().all(is_setting) => WriteClass::Settings,
            Effect::Write(groups)
                if groups.iter().flatten().all(|action| *action == Action::ApplyServiceAccount) =>
            {
                WriteClass::ServiceAccount
            }
            Effect::Wait | Effect::UpdateStatus(_) | Effect::Write(_) => WriteClass::Rollout,
        }
    }

    fn wait(again: i64) -> Self {
        Self { effect: Effect::Wait, notes: vec![], requeue_after: Some(again.max(1)) }
    }
}

/// Decides what to do next with a resource. `status` is as persisted; `None` or without `rollout` it was lost or
/// never written.
pub fn plan(intent: &Intent, status: Option<&MetadataServicesStatus>, facts: &Facts, now: Timestamp) -> Plan {
    if intent.deleted {
        return Plan { effect: Effect::Wait, notes: vec![], requeue_after: None };
    }
    if let Some(adoption) = adopt(facts) {
        return adoption;
    }
    let empty = MetadataServicesStatus::default();
    let status = status.unwrap_or(&empty);
    let now_for_record = round_up_to_second(now);
    let Some(rollout) =
        status.rollout.as_ref().filter(|rollout| sound::is_consistent(status, rollout, facts))
    else {
        return rebuild::plan(intent, status, facts, now_for_record);
    };
    let ctx = Context { intent, status, rollout, facts, now, now_for_record };
    if rollout.step == Step::Unknown {
        return Plan { effect: Effect::Wait, notes: vec![], requeue_after: None };
    }
    if let Some(redated) = reset_future_times(&ctx) {
        return redated;
    }
    let requests = if facts.deferred.requests { None } else { request::plan(&ctx) };
    let answer = requests.unwrap_or_else(|| {
        machine::step(&ctx).unwrap_or(Plan { effect: Effect::Wait, notes: vec![], requeue_after: None })
    });
    match answer.effect {
        Effect::Wait => project::refresh(&ctx, answer),
        Effect::UpdateStatus(_) | Effect::Write(_) | Effect::PatchResource(_) => answer,
    }
}

/// Times in the future were persisted when the API server's clock was ahead. What they began counts as begun now, or
/// it would last longer by as much as the clock was set back.
fn reset_future_times(ctx: &Context) -> Option<Plan> {
    if ctx.rollout.step == Step::Stable {
        return None;
    }
    let mut transition = shift::Transition::of(ctx);
    if transition.reset_future_times(ctx.latest_past()) { transition.commit() } else { None }
}

/// Whether a release is on its way that should have become ready by now.
pub fn is_overdue(intent: &Intent, status: &MetadataServicesStatus, now: Timestamp) -> bool {
    status.rollout.as_ref().is_some_and(|rollout| deploying::is_overdue(&intent.policy, rollout, now))
}

/// What to persist when an obstacle (see [`Facts::taken`], [`Facts::refused`]) keeps the plan from being carried out;
/// `None` if it is in the status already, or there is no status to put it in.
pub fn explain(
    intent: &Intent,
    status: Option<&MetadataServicesStatus>,
    facts: &Facts,
    now: Timestamp,
) -> Option<Plan> {
    let status = status?;
    let rollout = status.rollout.as_ref()?;
    let ctx = Context { intent, status, rollout, facts, now, now_for_record: round_up_to_second(now) };
    // An obstacle that outlasts the deploy timeout fails the release like any other cause.
    if deploying::is_overdue(ctx.policy(), rollout, now)
        && let Some(plan) = deploying::fail_for(&ctx, project::problem(&ctx))
    {
        return Some(plan);
    }
    let plan = project::refresh(&ctx, Plan { effect: Effect::Wait, notes: vec![], requeue_after: None });
    matches!(plan.effect, Effect::UpdateStatus(_)).then_some(plan)
}

/// Rounds up: Kubernetes' times have no fractions.
fn round_up_to_second(now: Timestamp) -> Timestamp {
    let second = now.as_second().saturating_add(i64::from(now.subsec_nanosecond() > 0));
    Timestamp::from_second(second).unwrap_or(now)
}

/// Objects of ours that nobody owns are taken back before anything else looks at them (design D5).
fn adopt(facts: &Facts) -> Option<Plan> {
    let group = facts.adoptable.iter().cloned().map(Action::Adopt).collect();
    Plan::act(vec![group])
}
