//! Transitions: the next persisted status, built from the last one and one decision (design D14).

use api::names::{Color, Component, PerComponent};
use api::status::{
    MetadataServicesStatus, PodRestarts, RESTARTS_KEPT, RecordStatus, Request, Rollback, Rollout, Side, Step,
    Timers, Trigger,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::context::Context;
use crate::facts::{Facts, Image};
use crate::health::Verdict;
use crate::intent::Wanted;
use crate::plan::{Effect, EventNote, EventReason, Plan};
use crate::{conditions, history};

/// A status under construction. Its Events are published only after the status is persisted.
pub(crate) struct Transition<'a> {
    ctx: &'a Context<'a>,
    status: MetadataServicesStatus,
    rollout: Rollout,
    notes: Vec<EventNote>,
}

/// How an attempt ends without becoming the active release.
pub(crate) enum Outcome {
    /// The release failed. It stays blocked until a user asks for it.
    Failed(Verdict),
    /// The attempt was canceled: the Event to publish, and why.
    Cancelled(EventReason, Verdict),
}

impl<'a> Transition<'a> {
    /// Starts with the persisted status.
    pub fn new(ctx: &'a Context<'a>) -> Self {
        Self { ctx, status: ctx.status.clone(), rollout: ctx.rollout.clone(), notes: vec![] }
    }

    /// The plan that persists this status. A request that is carried out is dropped from it.
    pub fn commit(mut self) -> Option<Plan> {
        if self.rollout.request == self.ctx.rollout.request && self.ctx.request_is_done() {
            self.rollout.request = None;
        }
        self.status.rollout = Some(self.rollout);
        let status = conditions::status(self.ctx, self.status);
        self.notes.extend(conditions::condition_events(&self.ctx.status.conditions, &status.conditions));
        Some(Plan { notes: self.notes, ..Plan::of(Effect::UpdateStatus(Box::new(status))) })
    }

    /// Adds an Event.
    pub fn event(&mut self, what: EventReason, message: impl Into<String>) {
        self.notes.push(EventNote::new(what, message));
    }

    /// Records a request by annotation; `refused` says why it was refused.
    pub fn record_request(&mut self, kind: Trigger, value: &str, refused: Option<String>) {
        self.rollout.request = Some(Request { kind, value: value.to_owned(), refused });
    }

    /// Unblocks a failed release that the user names.
    pub fn unblock(&mut self, version: &str) {
        if let Some(record) = history::find(&mut self.status.release_history, version) {
            record.status = RecordStatus::Superseded;
        }
    }

    /// The timers of the step.
    pub const fn timers(&mut self) -> &mut Timers {
        &mut self.rollout.timers
    }

    /// Resets times after `latest` (seconds since 1970) to now. Returns whether there was one.
    pub fn reset_future_times(&mut self, latest: i64) -> bool {
        let Rollout { since, timers, .. } = &mut self.rollout;
        let Timers {
            ready_since,
            storage_failing_since,
            schema_failing_since,
            unready_since,
            unready_pod: _,
            empty_since,
            both_down_since,
        } = timers;
        let running = [
            ready_since,
            storage_failing_since,
            schema_failing_since,
            unready_since,
            empty_since,
            both_down_since,
        ];
        let times = running.into_iter().flatten().chain([since]);
        let mut any = false;
        for time in times.filter(|time| time.0.as_second() > latest) {
            *time = Time(self.ctx.now_for_record);
            any = true;
        }
        any
    }

    /// Sets or clears the reason why a release does not progress.
    pub fn set_cause(&mut self, version: &str, why: Option<Verdict>) {
        if let Some(record) = history::find(&mut self.status.release_history, version) {
            let (reason, message) = why.map(|why| (why.reason, why.message)).unzip();
            record.reason = reason;
            record.message = message;
        }
    }

    /// Records the time at which all Pods of a release were ready.
    pub fn mark_ready(&mut self, version: &str) {
        let now = Time(self.ctx.now_for_record);
        if let Some(record) = history::find(&mut self.status.release_history, version) {
            record.ready_at = Some(now);
        }
    }

    fn enter(&mut self, step: Step) {
        self.rollout.step = step;
        self.rollout.since = Time(self.ctx.now_for_record);
        self.rollout.timers = Timers::default();
    }

    /// Starts the spec's release on the inactive color.
    pub fn start(&mut self, trigger: Trigger) {
        let wanted = &self.ctx.intent.wanted;
        let color = self.status.active_strategy.map_or(Color::Blue, Color::other);
        let revisions = self.ctx.facts.revisions.iter().filter(|revision| revision.hash != wanted.hash);
        let kept: Vec<&str> = revisions.map(|revision| revision.version.as_str()).collect();
        let (name, ignored) =
            history::name_release(&self.status.release_history, &kept, wanted, self.ctx.now_for_record);
        if let Some(ignored) = ignored.filter(|_| self.status.record_of_hash(&wanted.hash).is_none()) {
            let text = format!(
                "spec.releaseVersion {ignored} names another release already; the release is named {name}"
            );
            self.event(EventReason::ReleaseVersionIgnored, text);
        }
        self.deploy(&wanted.clone(), name, color, trigger);
    }

    /// Deploys the active release again, on the other color.
    pub fn restart(&mut self, active: &Side) {
        if let Some(wanted) = release_of_record(&self.status, &active.version) {
            let color = active.strategy.other();
            self.deploy(&wanted, active.version.clone(), color, Trigger::Restart);
        }
    }

    fn deploy(&mut self, wanted: &Wanted, name: String, color: Color, trigger: Trigger) {
        let history = &mut self.status.release_history;
        let version = history::start_attempt(history, wanted, name, color, trigger, self.ctx.now_for_record);
        self.enter(Step::Deploying);
        self.rollout.epoch += 1;
        self.rollout.target = Some(Side { strategy: color, version: version.clone() });
        self.rollout.previous = None;
        self.rollout.switched_at = None;
        self.rollout.restarted_before = vec![];
        self.rollout.request = self.rollout.request.take().filter(|request| request.refused.is_none());
        let tags = format!("storage {}, schema {}", wanted.images.storage.tag, wanted.images.schema.tag);
        self.event(EventReason::ReleaseStarted, format!("deploying {version} to {color} ({tags})"));
    }

    /// Decides the switch of traffic to the target.
    pub fn switch_to(&mut self, target: &Side) {
        self.enter(Step::Switching);
        self.rollout.epoch += 1;
        self.rollout.switched_at = Some(Time(self.ctx.now_for_record));
        self.rollout.restarted_before = restarts(self.ctx.facts, target.strategy);
        let (version, color) = (&target.version, target.strategy);
        self.event(EventReason::TrafficSwitched, format!("switching traffic to {version} on {color}"));
    }

    /// Makes the target the active release. The one before it stays as the previous release.
    pub fn activate(&mut self, target: &Side) {
        let previous = self.status.active();
        history::activate(
            &mut self.status.release_history,
            &target.version,
            target.strategy,
            self.ctx.now_for_record,
        );
        let rolled_back = matches!(self.trigger_of(&target.version), Some(Trigger::Rollback));
        if let Some(from) = previous.as_ref().filter(|_| rolled_back) {
            self.last_rollback(&from.version, &target.version, "Manual", "requested by annotation");
        }
        self.status.active_strategy = Some(target.strategy);
        self.status.active_release_version = Some(target.version.clone());
        self.rollout.target = None;
        let next = if previous.is_some() { Step::Watching } else { Step::Stable };
        self.rollout.previous = previous;
        self.enter(next);
    }

    fn trigger_of(&self, version: &str) -> Option<Trigger> {
        self.status.record(version).map(|record| record.trigger)
    }

    fn last_rollback(&mut self, from: &str, to: &str, trigger: &str, reason: &str) {
        self.status.last_rollback = Some(Rollback {
            from: from.to_owned(),
            to: to.to_owned(),
            trigger: trigger.to_owned(),
            reason: reason.to_owned(),
            time: Time(self.ctx.now_for_record),
        });
    }

    /// Ends the pending release before the switch. Its color is pruned.
    pub fn end_before_switch(&mut self, target: &Side, outcome: &Outcome) {
        self.end_attempt(&target.version, outcome);
        self.prune();
    }

    /// Returns traffic from the release `left` to the previous release `to`.
    pub fn roll_back(&mut self, to: &Side, left: &Side, outcome: &Outcome) {
        history::reactivate(
            &mut self.status.release_history,
            &to.version,
            to.strategy,
            self.ctx.now_for_record,
        );
        match outcome {
            Outcome::Failed(_) => {
                if let Some(record) = history::find(&mut self.status.release_history, &to.version) {
                    record.trigger = Trigger::AutoRollback;
                }
            }
            Outcome::Cancelled(what, why) => {
                let trigger = if *what == EventReason::RolledBack { "Automatic" } else { "Manual" };
                self.last_rollback(&left.version, &to.version, trigger, &why.reason.clone());
            }
        }
        self.status.active_strategy = Some(to.strategy);
        self.status.active_release_version = Some(to.version.clone());
        self.enter(Step::RollingBack);
        self.rollout.epoch += 1;
        self.rollout.target = None;
        self.rollout.previous = None;
        self.end_attempt(&left.version, outcome);
        // The Event of a failure names the release that stays active.
        if matches!(outcome, Outcome::Cancelled(..)) {
            let switched = format!("switching traffic back to {} on {}", to.version, to.strategy);
            self.event(EventReason::TrafficSwitched, switched);
        }
    }

    /// Keeps this side under a new epoch, and prunes the other without proof.
    pub fn keep(&mut self, side: &Side) {
        let now = self.ctx.now_for_record;
        history::activate(&mut self.status.release_history, &side.version, side.strategy, now);
        self.status.active_strategy = Some(side.strategy);
        self.status.active_release_version = Some(side.version.clone());
        self.rollout.epoch += 1;
        self.prune();
    }

    /// Raises the epoch of the same decision.
    pub const fn set_epoch(&mut self, epoch: i64) {
        self.rollout.epoch = epoch;
    }

    fn end_attempt(&mut self, version: &str, outcome: &Outcome) {
        let (history, now) = (&mut self.status.release_history, self.ctx.now_for_record);
        let (what, why) = match outcome {
            Outcome::Failed(why) => {
                history::fail(history, version, why.clone(), now);
                (EventReason::RolloutFailed, why)
            }
            Outcome::Cancelled(what, why) => {
                history::abandon(history, version, why.clone(), now);
                (*what, why)
            }
        };
        self.event(what, format!("{version}: {}", why.message));
        if let (Outcome::Failed(why), Some(to)) = (outcome, self.status.active_release_version.clone()) {
            let why = why.reason.clone();
            self.last_rollback(version, &to, "Automatic", &why);
            self.event(EventReason::RolledBack, format!("{to} stays active; {version} failed ({why})"));
        }
    }

    /// Enters Prune, the point of no return: the objects of the inactive color are deleted.
    pub fn prune(&mut self) {
        self.enter(Step::Prune);
        self.rollout.target = None;
        self.rollout.previous = None;
    }

    /// Prunes the pending color, which holds objects of another decision.
    ///
    /// The spec's release starts again by itself. A restart is kept as the target, since nothing else remembers it.
    pub fn prune_pending_color(&mut self, target: &Side) {
        self.prune();
        let serves = self.status.active_release_version.as_ref() == Some(&target.version);
        self.rollout.target = serves.then(|| target.clone());
    }

    /// Enters Stable.
    pub fn finish(&mut self) {
        // A release that waited for a clean color and is not desired any more.
        let records = &self.status.release_history;
        let pending = records.iter().find(|record| record.status == RecordStatus::Pending);
        if let Some(version) = pending.map(|record| record.version.clone()) {
            let why = Verdict::plain("Superseded", "it was cancelled before it was deployed".into());
            history::abandon(&mut self.status.release_history, &version, why, self.ctx.now_for_record);
        }
        self.enter(Step::Stable);
        self.rollout.target = None;
        self.rollout.switched_at = None;
        self.rollout.restarted_before = vec![];
    }
}

/// The wanted release of a record, for another deployment.
fn release_of_record(status: &MetadataServicesStatus, version: &str) -> Option<Wanted> {
    let record = status.record(version)?;
    Some(Wanted {
        hash: record.hash.clone(),
        images: PerComponent {
            storage: Image { tag: record.storage_tag.clone(), reference: record.storage_image.clone() },
            schema: Image { tag: record.schema_tag.clone(), reference: record.schema_image.clone() },
        },
        release_version: None,
    })
}

/// Restart counts of the Pods of a color, at most [`RESTARTS_KEPT`].
pub(crate) fn restarts(facts: &Facts, color: Color) -> Vec<PodRestarts> {
    Component::ALL
        .into_iter()
        .flat_map(|component| &facts.colors.get(color).get(component).pods.restarts)
        .map(|(pod, count)| PodRestarts { pod: pod.clone(), count: *count })
        .take(RESTARTS_KEPT)
        .collect()
}
