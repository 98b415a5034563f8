//! What is rolled out while operators fight or the control plane fails, and where it must end.

use std::fmt;
use std::str::FromStr;

use testbed::State;
use testbed::resource::quick;

use crate::bench::Stage;

/// A story that a resource lives through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Story {
    /// A release on top of another.
    Upgrade,
    /// A release that crashes before the switch.
    AutoRollback,
    /// The release before, which is gone, is asked for by annotation.
    Rollback,
}

impl Story {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Upgrade, Self::AutoRollback, Self::Rollback];

    /// Brings a resource to where the story begins.
    pub async fn begin(self, stage: &Stage) {
        stage.deploy(&quick("1", "1")).await;
        if self == Self::Rollback {
            stage.subject.upgrade("2", "2").await.unwrap();
            stage.until("2 serves", |state| serves(state, "2")).await;
        }
    }

    /// Does what the user does.
    pub async fn act(self, stage: &Stage) {
        match self {
            Self::Upgrade => stage.subject.upgrade("2", "2").await.unwrap(),
            // One component only: the other must not go ahead alone.
            Self::AutoRollback => stage.subject.upgrade("2-crash", "2").await.unwrap(),
            Self::Rollback => {
                let history = stage.timeline.history();
                let first = stage.subject.state(&history).unwrap().version_of_tag("1");
                stage.subject.annotate("e6data.io/rollback-to", &first).await.unwrap();
            }
        }
    }

    /// Whether the resource rests where it should.
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

    /// The history that it must have in the end.
    pub const fn summary(self) -> [&'static str; 2] {
        match self {
            Self::Upgrade => ["1 Superseded", "2 Active"],
            Self::AutoRollback => ["1 Active", "2-crash Failed"],
            Self::Rollback => ["2 Superseded", "1 Active"],
        }
    }
}

/// Whether the release with this tag serves, and nothing else is asked for.
pub fn serves(state: State<'_>, tag: &str) -> bool {
    state.is_stable() && state.active() == state.version_of_tag(tag)
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upgrade => "upgrade",
            Self::AutoRollback => "autorollback",
            Self::Rollback => "rollback",
        })
    }
}

impl FromStr for Story {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|story| story.to_string() == text);
        found.ok_or_else(|| format!("no story {text}"))
    }
}
