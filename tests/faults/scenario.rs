//! The scenarios: the state before, the actions of users, and the events during the rollout.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};
use testbed::harness::NAME;
use testbed::resource::merge;
use testbed::{History, Kind, State, UserAction};

const FIRST: &str = "1.0.1";
const SECOND: &str = "1.0.2";
/// The storage Pods of this tag become ready after five seconds.
const SLOW: &str = "1.0.2-slow";
const THIRD: &str = "1.0.3";
const BROKEN: &str = "1.0.4-crash";

/// A sequence of actions on one resource.
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
    /// A requested rollback to the previous release while its Pods still run.
    WarmRollback,
    /// A requested rollback to the previous release after its Pods were deleted.
    Rollback,
    /// A requested rollback to the active release, which clears the failure of another release.
    Clear,
    /// The spec returns to the active release before the switch.
    Abort,
    /// A third release replaces the pending release before the switch.
    Supersede,
    /// The resource is deleted while the Pods of both colors run.
    Delete,
    /// A failed release is retried and succeeds.
    Retry,
    /// A release with changes of all settings that apply in place: sizes, Services, `ServiceAccount`, budgets.
    Settings,
    /// The adoption of what an earlier operator left. The images are those of the spec.
    Adopt,
}

/// The time of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cue {
    /// Before the operator starts.
    Start,
    /// When both Deployments of the pending release exist.
    Pending,
    /// When traffic goes to the new release and the Pods of the previous release still run.
    Switched,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Create,
        Self::Upgrade,
        Self::AutoRollback,
        Self::LateRollback,
        Self::WarmRollback,
        Self::Rollback,
        Self::Clear,
        Self::Abort,
        Self::Supersede,
        Self::Delete,
        Self::Retry,
        Self::Settings,
        Self::Adopt,
    ];

    /// Returns the actions that come before the scenario. Each completes before the next one.
    pub fn preparation(self) -> Vec<UserAction> {
        let apply = |tag: &str| UserAction::Apply(self.spec(tag));
        match self {
            Self::Create | Self::Adopt => vec![],
            Self::Rollback => vec![apply(FIRST), apply(SECOND)],
            Self::Clear => vec![apply(FIRST), apply(BROKEN)],
            Self::Retry => vec![apply(FIRST), UserAction::LimitPods(2), apply(SECOND)],
            Self::Upgrade
            | Self::AutoRollback
            | Self::LateRollback
            | Self::WarmRollback
            | Self::Abort
            | Self::Supersede
            | Self::Delete
            | Self::Settings => vec![apply(FIRST)],
        }
    }

    /// Returns the actions under faults, with the time of each.
    pub fn actions(self) -> Vec<(Cue, UserAction)> {
        let apply = |cue, tag: &str| (cue, UserAction::Apply(self.spec(tag)));
        let back = || UserAction::RollBackToTag(FIRST.to_owned());
        match self {
            Self::Create => vec![apply(Cue::Start, FIRST)],
            Self::Adopt => {
                vec![(Cue::Start, UserAction::LeavePredecessor(self.spec(FIRST), FIRST.to_owned()))]
            }
            Self::Upgrade => vec![apply(Cue::Start, SLOW)],
            Self::AutoRollback => vec![apply(Cue::Start, BROKEN)],
            Self::LateRollback => {
                vec![apply(Cue::Start, SECOND), (Cue::Switched, UserAction::MakePodUnready("green"))]
            }
            Self::WarmRollback => vec![apply(Cue::Start, SECOND), (Cue::Switched, back())],
            Self::Rollback | Self::Clear => vec![(Cue::Start, back())],
            Self::Abort => vec![apply(Cue::Start, SECOND), apply(Cue::Pending, FIRST)],
            Self::Supersede => vec![apply(Cue::Start, SECOND), apply(Cue::Pending, THIRD)],
            Self::Delete => {
                vec![apply(Cue::Start, SECOND), (Cue::Switched, UserAction::DeleteInForeground)]
            }
            Self::Retry => {
                vec![(Cue::Start, UserAction::RemovePodLimit), (Cue::Start, UserAction::Retry)]
            }
            Self::Settings => {
                vec![apply(Cue::Start, SECOND), (Cue::Switched, UserAction::Edit(changed_settings()))]
            }
        }
    }

    /// Returns `gracePeriodSeconds` and `cleanupDelaySeconds`, long enough for the actions in between.
    const fn waits(self) -> (i32, i32) {
        match self {
            Self::Abort | Self::Supersede => (5, 2),
            Self::LateRollback => (1, 8),
            Self::WarmRollback | Self::Delete | Self::Settings => (1, 6),
            Self::Create
            | Self::Upgrade
            | Self::AutoRollback
            | Self::Rollback
            | Self::Clear
            | Self::Retry
            | Self::Adopt => (1, 2),
        }
    }

    /// Returns the number of last writes that a run may not have. Two status writes may become one, and several changed
    /// settings of an object may become one write.
    pub const fn optional_writes(self) -> usize {
        match self {
            Self::Settings => 6,
            _ => 2,
        }
    }

    /// Returns the spec with a release.
    pub fn spec(self, tag: &str) -> Value {
        // The broken release breaks one component only: traffic of the other must not switch alone.
        let schema = tag.split('-').next().unwrap_or(tag);
        let (grace, cleanup) = self.waits();
        let mut spec = json!({
            "storage": {"imageTag": tag, "config": {"RELEASE": tag, "PASSWORD": SECRET}},
            "schema": {"imageTag": schema},
            "rollout": {
                "gracePeriodSeconds": grace,
                "deployTimeoutSeconds": 300,
                "switchDwellSeconds": 1,
                "cleanupDelaySeconds": cleanup,
                "autoRollback": {"failureThresholdSeconds": 1},
            },
        });
        if self == Self::Settings {
            merge(&mut spec, &settings(tag));
        }
        spec
    }
}

/// Returns the settings of the second release: budgets, a `ServiceAccount`, annotations of a Service.
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

/// Returns other values for these settings. The operator applies all of them in place during the rollout.
fn changed_settings() -> Value {
    json!({
        "serviceAccount": {"annotations": {"role": "other"}},
        "storage": {"service": {"annotations": {"tag": "other"}}, "podDisruptionBudget": {"enabled": false}},
        "schema": {"replicas": 2, "podDisruptionBudget": {"minAvailable": 1}},
    })
}

/// A value of a ConfigMap that must appear nowhere else (I45).
pub const SECRET: &str = "nobody-shall-log-this";

impl Cue {
    /// Returns whether the time has come.
    pub fn is_given(self, history: &History) -> bool {
        let Some(owner) = history.live(Kind::MetadataServices, NAME) else { return false };
        let there =
            |component: &str| history.live(Kind::Deployment, &format!("{NAME}-{component}-green")).is_some();
        match self {
            Self::Start => true,
            Self::Pending => there("storage") && there("schema"),
            Self::Switched => State(owner).step() == "Watching",
        }
    }
}

/// Returns whether an action is complete, by the present state of the resource.
pub fn is_complete(action: &UserAction, resource: &Value) -> bool {
    match action {
        UserAction::Apply(spec) => {
            resource["spec"]["storage"]["imageTag"] == spec["storage"]["imageTag"] && at_rest(resource)
        }
        _ => at_rest(resource),
    }
}

/// Returns whether a resource is Stable, and the operator has observed its spec and answered all requests.
pub fn at_rest(resource: &Value) -> bool {
    let number = |pointer: &str| resource.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let annotations = resource.pointer("/metadata/annotations").and_then(Value::as_object);
    let requests = ["e6data.io/rollback-to", "e6data.io/retry"];
    resource.pointer("/status/rollout/step").is_some_and(|step| step == "Stable")
        && number("/status/observedGeneration") == number("/metadata/generation")
        && annotations.is_none_or(|all| requests.iter().all(|key| !all.contains_key(*key)))
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Upgrade => "upgrade",
            Self::AutoRollback => "autorollback",
            Self::LateRollback => "laterollback",
            Self::WarmRollback => "warm",
            Self::Rollback => "rollback",
            Self::Clear => "clear",
            Self::Abort => "abort",
            Self::Supersede => "supersede",
            Self::Delete => "delete",
            Self::Retry => "retry",
            Self::Settings => "settings",
            Self::Adopt => "adopt",
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
