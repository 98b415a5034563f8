//! The scenarios: what is there before, what a user does, and what happens on the way.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};
use testbed::resource::merge;
use testbed::{History, Kind, State};

use crate::deed::Deed;

/// The name of the resource in every namespace.
pub const NAME: &str = "mds";

const FIRST: &str = "1.0.1";
const SECOND: &str = "1.0.2";
/// Its storage pods take five seconds to be ready.
const SLOW: &str = "1.0.2-slow";
const THIRD: &str = "1.0.3";
const BROKEN: &str = "1.0.4-crash";

/// A story that a resource lives through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// A new resource.
    Create,
    /// A release on top of another.
    Upgrade,
    /// A release that crashes before the switch.
    AutoRollback,
    /// A release that loses its pods' readiness after the switch.
    LateRollback,
    /// Back to the release before, which is still warm, by annotation.
    Warm,
    /// Back to the release before, which is gone, by annotation.
    Rollback,
    /// The block of a failed release is cleared by going back to the serving one, by annotation.
    Clear,
    /// A release is given up before the switch: the spec goes back to what serves.
    Abort,
    /// A release is overtaken before the switch by a third one.
    Supersede,
    /// The resource is deleted while both colors live.
    Delete,
    /// A failed release is tried again, and is good now.
    Retry,
    /// A release together with all that follows the spec in place: sizes, Services, `ServiceAccount`, budgets.
    Settings,
}

/// When a deed of a story is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cue {
    /// Before the operator starts.
    Start,
    /// When both Deployments of the release on its way are there.
    Pending,
    /// When traffic is on the new release and the old one is warm.
    Watching,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Create,
        Self::Upgrade,
        Self::AutoRollback,
        Self::LateRollback,
        Self::Warm,
        Self::Rollback,
        Self::Clear,
        Self::Abort,
        Self::Supersede,
        Self::Delete,
        Self::Retry,
        Self::Settings,
    ];

    /// What was done before, each to its end.
    pub const fn before(self) -> &'static [Deed] {
        match self {
            Self::Create => &[],
            Self::Rollback => &[Deed::Apply(FIRST), Deed::Apply(SECOND)],
            Self::Clear => &[Deed::Apply(FIRST), Deed::Apply(BROKEN)],
            Self::Retry => &[Deed::Apply(FIRST), Deed::Limit, Deed::Apply(SECOND)],
            Self::Upgrade
            | Self::AutoRollback
            | Self::LateRollback
            | Self::Warm
            | Self::Abort
            | Self::Supersede
            | Self::Delete
            | Self::Settings => &[Deed::Apply(FIRST)],
        }
    }

    /// What is done under faults, and when.
    pub const fn story(self) -> &'static [(Cue, Deed)] {
        match self {
            Self::Create => &[(Cue::Start, Deed::Apply(FIRST))],
            Self::Upgrade => &[(Cue::Start, Deed::Apply(SLOW))],
            Self::AutoRollback => &[(Cue::Start, Deed::Apply(BROKEN))],
            Self::LateRollback => &[(Cue::Start, Deed::Apply(SECOND)), (Cue::Watching, Deed::Sicken)],
            Self::Warm => &[(Cue::Start, Deed::Apply(SECOND)), (Cue::Watching, Deed::GoBack(FIRST))],
            Self::Rollback | Self::Clear => &[(Cue::Start, Deed::GoBack(FIRST))],
            Self::Abort => &[(Cue::Start, Deed::Apply(SECOND)), (Cue::Pending, Deed::Apply(FIRST))],
            Self::Supersede => &[(Cue::Start, Deed::Apply(SECOND)), (Cue::Pending, Deed::Apply(THIRD))],
            Self::Delete => &[(Cue::Start, Deed::Apply(SECOND)), (Cue::Watching, Deed::Delete)],
            Self::Retry => &[(Cue::Start, Deed::Unlimit), (Cue::Start, Deed::Retry)],
            Self::Settings => &[(Cue::Start, Deed::Apply(SECOND)), (Cue::Watching, Deed::Adjust)],
        }
    }

    /// Seconds that a release is ready before the switch, that the old one stays warm after it: with time for what
    /// happens meanwhile.
    const fn waits(self) -> (i32, i32) {
        match self {
            Self::Abort | Self::Supersede => (5, 2),
            Self::LateRollback => (1, 8),
            Self::Warm | Self::Delete | Self::Settings => (1, 6),
            Self::Create
            | Self::Upgrade
            | Self::AutoRollback
            | Self::Rollback
            | Self::Clear
            | Self::Retry => (1, 2),
        }
    }

    /// How many writes at the end a fault may come too late for: a run has one less where two views of a status fall into
    /// one, and a few where several settings of an object are changed at once.
    pub const fn late(self) -> usize {
        match self {
            Self::Settings => 6,
            _ => 2,
        }
    }

    /// The resource with a release.
    pub fn resource(self, tag: &str) -> Value {
        // The broken release breaks one component only: the other must not go ahead alone.
        let schema = tag.split('-').next().unwrap_or(tag);
        let (grace, cleanup) = self.waits();
        let mut resource = json!({
            "apiVersion": "e6data.io/v1alpha1",
            "kind": "MetadataServices",
            "metadata": {"name": NAME},
            "spec": {
                "storage": {"imageTag": tag, "config": {"RELEASE": tag, "PASSWORD": SECRET}},
                "schema": {"imageTag": schema},
                "rollout": {
                    "gracePeriodSeconds": grace,
                    "deployTimeoutSeconds": 60,
                    "switchDwellSeconds": 1,
                    "cleanupDelaySeconds": cleanup,
                    "autoRollback": {"failureThresholdSeconds": 1},
                },
            },
        });
        if self == Self::Settings {
            merge(&mut resource["spec"], &settings(tag));
        }
        resource
    }
}

/// What comes with the second release: budgets, a `ServiceAccount`, another Service.
fn settings(tag: &str) -> Value {
    if tag == FIRST {
        return json!({});
    }
    json!({
        "serviceAccount": {"create": true, "annotations": {"role": tag}},
        "storage": {
            "service": {"annotations": {"tag": tag}},
            "podDisruptionBudget": {"enabled": true},
        },
        "schema": {"podDisruptionBudget": {"enabled": true}},
    })
}

/// What is changed of it in mid-rollout: all of it is applied in place.
pub fn adjusted() -> Value {
    json!({
        "serviceAccount": {"annotations": {"role": "other"}},
        "storage": {"service": {"annotations": {"tag": "other"}}, "podDisruptionBudget": {"enabled": false}},
        "schema": {"replicas": 2, "podDisruptionBudget": {"minAvailable": 1}},
    })
}

/// What is in a ConfigMap, and must be nowhere else (I45).
pub const SECRET: &str = "nobody-shall-log-this";

impl Cue {
    /// Whether it is time.
    pub fn is_given(self, history: &History) -> bool {
        let Some(owner) = history.live(Kind::MetadataServices, NAME) else { return false };
        let there =
            |component: &str| history.live(Kind::Deployment, &format!("{NAME}-{component}-green")).is_some();
        match self {
            Self::Start => true,
            Self::Pending => there("storage") && there("schema"),
            Self::Watching => State(owner).step() == "Watching",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Upgrade => "upgrade",
            Self::AutoRollback => "autorollback",
            Self::LateRollback => "laterollback",
            Self::Warm => "warm",
            Self::Rollback => "rollback",
            Self::Clear => "clear",
            Self::Abort => "abort",
            Self::Supersede => "supersede",
            Self::Delete => "delete",
            Self::Retry => "retry",
            Self::Settings => "settings",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scenario| scenario.to_string() == text);
        let names: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
        found.ok_or_else(|| format!("no scenario {text}; there are {}", names.join(", ")))
    }
}
