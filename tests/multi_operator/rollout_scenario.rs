//! The rollouts that a second operator interrupts, and the state in which each must end.

use std::fmt;
use std::str::FromStr;

use testbed::harness::WatchedResource;
use testbed::resource::quick;
use testbed::{State, UserAction};

/// A rollout of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scenario {
    /// A release on top of another.
    Upgrade,
    /// A release that crashes before the switch.
    AutoRollback,
    /// A requested rollback to the previous release after its Pods were deleted.
    Rollback,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Upgrade, Self::AutoRollback, Self::Rollback];

    /// Brings a resource to the state before the rollout.
    pub async fn begin(self, resource: &WatchedResource) {
        resource.deploy(&quick("1", "1")).await;
        if self == Self::Rollback {
            resource.subject.upgrade("2", "2").await.unwrap();
            resource.until("2 serves", |state| serves(state, "2")).await;
        }
    }

    /// Starts the rollout.
    pub async fn act(self, resource: &WatchedResource) {
        let action = match self {
            Self::Upgrade => UserAction::SetImageTags("2".to_owned(), "2".to_owned()),
            // One component only: traffic of the other must not switch alone.
            Self::AutoRollback => UserAction::SetImageTags("2-crash".to_owned(), "2".to_owned()),
            Self::Rollback => UserAction::RollBackToTag("1".to_owned()),
        };
        action.perform(&resource.subject).await.unwrap();
    }

    /// Returns whether the rollout is complete.
    pub fn is_over(self, state: State<'_>) -> bool {
        match self {
            Self::Upgrade => serves(state, "2"),
            Self::AutoRollback => {
                state.is_settled()
                    && state.phase() == "Degraded"
                    && state.active() == state.version_of_tag("1")
            }
            Self::Rollback => serves(state, "1"),
        }
    }

    /// Returns the release history after the rollout.
    pub const fn summary(self) -> [&'static str; 2] {
        match self {
            Self::Upgrade => ["1 Superseded", "2 Active"],
            Self::AutoRollback => ["1 Active", "2-crash Failed"],
            Self::Rollback => ["2 Superseded", "1 Active"],
        }
    }
}

/// Returns whether the release with this tag is active and the resource is Stable.
pub fn serves(state: State<'_>, tag: &str) -> bool {
    state.is_stable() && state.active() == state.version_of_tag(tag)
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upgrade => "upgrade",
            Self::AutoRollback => "autorollback",
            Self::Rollback => "rollback",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scenario| scenario.to_string() == text);
        found.ok_or_else(|| format!("no scenario {text}"))
    }
}
