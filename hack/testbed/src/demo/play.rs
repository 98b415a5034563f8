//! What every scene needs: the shell, the eyes, the operator's process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use testbed::{Error, History, Kind, Result, Timeline};
use tokio::sync::watch;

use super::checks::Checks;
use super::console::Console;
use super::events::Events;
use super::operator::Process;
use super::shell::Shell;
use super::view::{self, NAME};

/// How long a change of state may take; more than the demo's deploy timeout.
const PATIENCE: Duration = Duration::from_secs(120);

/// The means of a scene.
pub struct Play<'a> {
    /// For the reader.
    pub console: Arc<Console>,
    /// What a user has.
    pub shell: Shell,
    /// Expected and seen.
    pub checks: Arc<Checks>,
    /// The watches.
    pub timeline: Arc<Timeline>,
    /// The Events.
    pub events: Arc<Events>,
    /// How many entries of the timeline were told.
    pub told: watch::Receiver<usize>,
    /// The operator.
    pub operator: &'a mut Process,
    /// The beginning of time.
    pub zero: Instant,
    /// KWOK plays the pods, so it is known what they do.
    pub played: bool,
}

impl Play<'_> {
    /// Everything that was seen, up to what the API server has now, all of it told.
    ///
    /// # Errors
    /// When the watches do not catch up.
    pub async fn settle(&mut self) -> Result<History> {
        self.timeline.settle(Duration::from_secs(10)).await?;
        let history = self.timeline.history();
        let count = history.entries().len();
        let told = self.told.wait_for(|told| *told >= count);
        let _ = tokio::time::timeout(Duration::from_secs(5), told).await;
        Ok(history)
    }

    /// Waits for a state; the message of the error says what is there instead.
    ///
    /// # Errors
    /// When it does not come in time, or the operator has ended.
    pub async fn wait<T>(&mut self, what: &str, mut find: impl FnMut(&History) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            let slice = Duration::from_secs(1);
            if let Ok(value) = self.timeline.wait_until(what, slice, &mut find).await {
                return Ok(value);
            }
            if self.operator.died() {
                let why = format!("the operator ended by itself; see {}", self.operator.log().display());
                return Err(Error::Unsupported(why));
            }
            if start.elapsed() > PATIENCE {
                let seen = view::say(&self.timeline.history());
                return Err(Error::Timeout {
                    what: format!("{what}\nseen: {seen}"),
                    seconds: start.elapsed().as_secs_f64(),
                });
            }
        }
    }

    /// Waits until a release with these tags serves on a color, and nothing is under way.
    ///
    /// # Errors
    /// As [`Play::wait`].
    pub async fn wait_stable(&mut self, color: &str, tags: &str) -> Result<History> {
        let what = format!("expected: {NAME} Stable on {color} with {tags}");
        self.wait(&what, |history| {
            let entry = view::resource(history)?;
            let settled = entry.text("/status/phase") == "Stable"
                && entry.text("/status/deploymentPhase") == "Stable"
                && entry.text("/status/rollout/step") == "Stable"
                && entry.text("/status/activeStrategy") == color
                && entry.number("/status/observedGeneration") == entry.number("/metadata/generation")
                && entry.annotation("e6data.io/rollback-to").is_none()
                && view::tags(history) == tags;
            settled.then_some(())
        })
        .await?;
        // What was deleted with the last step may still be on its way out of sight.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.settle().await
    }

    /// Checks that the last Event of a type and reason, after the first `told`, is about a release.
    pub async fn check_event(&self, scene: &str, told: usize, kind_and_reason: &str, version: &str) {
        let event = self.events.wait(told, kind_and_reason).await;
        self.checks.holds(
            &format!("{scene}: Event"),
            event.contains(version),
            format!("{kind_and_reason}: ...{version}..."),
            &event,
        );
    }

    /// Checks what the three conditions that matter most say.
    pub fn check_conditions(&self, history: &History, scene: &str, expected: [&str; 3]) {
        let Some(entry) = history.live(Kind::MetadataServices, NAME) else { return };
        let seen = ["Ready", "SpecApplied", "Stalled"].map(|kind| view::say_condition(entry, kind));
        self.checks.same(&format!("{scene}: conditions"), expected.join(", "), seen.join(", "));
    }

    /// Checks the statuses and versions of the history, oldest first.
    pub fn check_records(&self, history: &History, scene: &str, expected: &[(&str, &str)]) {
        let say = |version: &str, status: &str| format!("{version} {status}");
        let expected: Vec<String> = expected.iter().map(|(version, status)| say(version, status)).collect();
        let records = view::records(history);
        let seen: Vec<String> =
            records.iter().map(|one| say(one.text("version"), one.text("status"))).collect();
        self.checks.same(&format!("{scene}: history"), expected.join(", "), seen.join(", "));
    }
}
