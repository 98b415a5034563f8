//! The output of the core: one effect, the Events to publish with it, and the time of the next reconcile.

use api::names::Component;
use api::status::MetadataServicesStatus;

use crate::facts::{ObjectId, ReleaseRef, Route, Setting};

/// A decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The one effect to carry out now.
    pub effect: Effect,
    /// The Events to publish after the effect succeeded.
    pub notes: Vec<EventNote>,
    /// Seconds until the next reconcile if no watch event comes first; `None` for the usual resync.
    pub requeue_after: Option<i64>,
}

/// A change of one kind (design D14).
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// No change.
    Wait,
    /// Persist this status by compare-and-swap on the resource.
    UpdateStatus(Box<MetadataServicesStatus>),
    /// Write objects: one group after the other, the actions of a group concurrently.
    Write(Vec<Vec<Action>>),
    /// Patch the spec and annotations of the resource itself.
    PatchResource(ResourcePatch),
}

/// How a rejected plan affects the rest of the reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteClass {
    /// A patch of the resource itself: a request, or the restored spec. A rejection is deferred.
    Request,
    /// Settings that follow the spec in place, and nothing else. A rejection is deferred.
    Settings,
    /// The ServiceAccount that the next Pods use. A permanent rejection (4xx) does not block the rollout. A transient
    /// error does, because Pods created without the account would fail.
    ServiceAccount,
    /// Anything else. The next step depends on it.
    Rollout,
}

/// A write to an object of the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create a front Service that selects nothing yet.
    CreateFront(Component),
    /// Set the selector of a front Service to a color, with the decision as annotations.
    Route(Component, Route),
    /// Create an object of a color for a release.
    Create(ObjectId, ReleaseRef),
    /// Adopt a front Service of an earlier operator: its selector, annotations and labels, with the ports it has.
    AdoptFront(Component, Route),
    /// Adopt another object of an earlier operator as an object of this release, by labels and annotations.
    AdoptUnstamped(ObjectId, ReleaseRef),
    /// Write our owner reference on an object that has none.
    Adopt(ObjectId),
    /// Raise the epoch annotation of an object, so that requests decided on its earlier resourceVersion fail.
    RaiseEpoch(ObjectId, i64),
    /// Record a release in its ControllerRevision.
    RecordRevision {
        /// The release.
        tagged: ReleaseRef,
        /// Why the release failed and is blocked; `None` if it is good.
        failed: Option<String>,
    },
    /// Delete an object, by UID and resourceVersion.
    Delete(ObjectId),
    /// Apply a setting that follows the spec in place.
    ApplySetting(Setting),
    /// Apply the ServiceAccount of the spec, before Pods use it.
    ApplyServiceAccount,
}

/// A patch of the resource's own spec and annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePatch {
    /// The version whose recorded template replaces the template fields of the spec; `None` leaves the spec alone.
    pub restore: Option<String>,
    /// The annotations to remove.
    pub remove: Vec<&'static str>,
}

/// An Event to publish and to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    /// The reason.
    pub reason: EventReason,
    /// The message for people.
    pub message: String,
}

/// Reasons of Events, as listed in docs/interface.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventReason {
    /// A release was started.
    ReleaseStarted,
    /// All Pods of the pending release are ready.
    ReleaseReady,
    /// A switch of traffic to another color was decided.
    TrafficSwitched,
    /// The objects of the inactive color are deleted.
    CleanupDone,
    /// A release failed.
    RolloutFailed,
    /// The operator returned to the previous release by itself.
    RolledBack,
    /// A pending release was canceled because the spec returned to the active release.
    Aborted,
    /// A pending release was canceled for a newer one.
    Superseded,
    /// A release was left after the switch because the spec returned to the previous release.
    Undone,
    /// A request was accepted.
    RequestAccepted,
    /// A request was refused.
    RequestRefused,
    /// The spec is not valid.
    SpecInvalid,
    /// An image is older than the minimum that this operator supports.
    ImageBelowMinimum,
    /// `spec.releaseVersion` was ignored.
    ReleaseVersionIgnored,
    /// Another client changed the pod template of a release.
    Drifted,
    /// An object of another owner holds a name that the resource needs.
    NameTaken,
    /// The API server rejects a write.
    WriteRefused,
    /// The installed CRD hides the state of a rollout.
    CrdOutdated,
    /// The status was rebuilt from the objects.
    StatusRebuilt,
    /// The objects of an earlier operator were adopted.
    Adopted,
    /// The objects of an earlier operator cannot be adopted.
    CannotAdopt,
}

impl EventReason {
    /// The reason as Kubernetes shows it.
    pub const fn as_str(self) -> &'static str {
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
            Self::Adopted => "Adopted",
            Self::CannotAdopt => "CannotAdopt",
        }
    }

    /// Returns whether the Event is of type Warning.
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
                | Self::CannotAdopt
        )
    }
}

impl EventNote {
    /// An Event with this reason and message.
    pub(crate) fn new(reason: EventReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Plan {
    /// No effect, and no time to wake up at.
    pub(crate) const fn idle() -> Self {
        Self::of(Effect::Wait)
    }

    /// An effect without Events.
    pub(crate) const fn of(effect: Effect) -> Self {
        Self { effect, notes: vec![], requeue_after: None }
    }

    /// Waits for this many seconds, at least one.
    pub(crate) fn wait(seconds: i64) -> Self {
        Self { requeue_after: Some(seconds.max(1)), ..Self::idle() }
    }

    /// Waits for a change that no watch announces.
    pub(crate) fn poll() -> Self {
        Self::wait(2)
    }

    /// Writes these groups without the empty ones; `None` if nothing is left.
    pub(crate) fn write(groups: Vec<Vec<Action>>) -> Option<Self> {
        let groups: Vec<_> = groups.into_iter().filter(|group| !group.is_empty()).collect();
        (!groups.is_empty()).then_some(Self::of(Effect::Write(groups)))
    }

    /// Returns how a rejection of this plan affects the rest of the reconcile.
    pub fn write_class(&self) -> WriteClass {
        let is_setting = |action: &Action| matches!(action, Action::ApplySetting(_));
        let is_account = |action: &Action| *action == Action::ApplyServiceAccount;
        match &self.effect {
            Effect::PatchResource(_) => WriteClass::Request,
            Effect::Write(groups) if groups.iter().flatten().all(is_setting) => WriteClass::Settings,
            Effect::Write(groups) if groups.iter().flatten().all(is_account) => WriteClass::ServiceAccount,
            Effect::Wait | Effect::UpdateStatus(_) | Effect::Write(_) => WriteClass::Rollout,
        }
    }
}
