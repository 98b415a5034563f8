//! Transitions: how one persisted decision turns the status into the next (design D14).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::Facts;
use super::health::Verdict;
use super::intent::Wanted;
use super::{Context, Effect, EventNote, EventReason, Plan, history, project, request};
use api::names::{Color, Component};
use api::status::{
    MetadataServicesStatus, PodRestarts, RESTARTS_KEPT, RecordStatus, Request, Rollback, Rollout, Side, Step,
    Timers, Trigger,
};

/// A status in the making. What it tells people is told only when it is persisted.
pub(super) struct Transition<'a> {
    ctx: &'a Context<'a>,
    status: MetadataServicesStatus,
    rollout: Rollout,
    notes: Vec<EventNote>,
}

impl<'a> Transition<'a> {
    /// Begins with the status as it is.
    pub fn of(ctx: &'a Context<'a>) -> Self {
        Self { ctx, status: ctx.status.clone(), rollout: ctx.rollout.clone(), notes: vec![] }
    }

    /// Persists it.
    pub fn commit(mut self) -> Option<Plan> {
        if self.rollout.request == self.ctx.rollout.request && request::done(self.ctx) {
            self.rollout.request = None;
        }
        self.status.rollout = Some(self.rollout);
        let status = project::status(self.ctx, self.status);
        self.notes.extend(project::condition_events(&self.ctx.status.conditions, &status.conditions));
        Some(Plan { effect: Effect::UpdateStatus(Box::new(status)), notes: self.notes, requeue_after: None })
    }

    /// Adds something to tell.
    pub fn tell(&mut self, what: EventReason, message: impl Into<String>) {
        self.notes.push(EventNote::new(what, message));
    }

    /// Notes a request by annotation.
    pub fn note(&mut self, kind: Trigger, value: &str, refused: Option<String>) {
        self.rollout.request = Some(Request { kind, value: value.to_owned(), refused });
    }

    /// Lifts the block of a release that the user names.
    pub fn unblock(&mut self, version: &str) {
        if let Some(record) = history::find(&mut self.status.release_history, version) {
            record.status = RecordStatus::Superseded;
        }
    }

    /// Changes the clocks of the step.
    pub const fn timers(&mut self) -> &mut Timers {
        &mut self.rollout.timers
    }

    /// Dates what began after `latest` as begun now; whether there was any.
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

    /// Notes on a record why it does not get on; cleared with `None`.
    pub fn remark(&mut self, version: &str, why: Option<Verdict>) {
        if let Some(record) = history::find(&mut self.status.release_history, version) {
            let (reason, message) = why.map(|why| (why.reason, why.message)).unzip();
            record.reason = reason;
            record.message = message;
        }
    }

    /// Notes when all pods of the target were first ready.
    pub fn ready(&mut self, version: &str) {
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

    /// Starts the release that the spec describes, on the color that does not serve.
    pub fn start(&mut self, trigger: Trigger) {
        let wanted = &self.ctx.intent.wanted;
        let color = self.status.active_strategy.map_or(Color::Blue, Color::other);
        let revisions = self.ctx.facts.revisions.iter().filter(|revision| revision.hash != wanted.hash);
        let kept: Vec<&str> = revisions.map(|revision| revision.version.as_str()).collect();
        let (name, ignored) =
            history::name_release(&self.status.release_history, &kept, wanted, self.ctx.now_for_record);
        if let Some(ignored) = ignored.filter(|_| self.status.record_of_hash(&wanted.hash).is_none()) {
            let text = format!("spec.releaseVersion {ignored} names another release already; using {name}");
            self.tell(EventReason::ReleaseVersionIgnored, text);
        }
        self.open(&wanted.clone(), name, color, trigger);
    }

    /// Deploys the serving release anew on the other color.
    pub fn restart(&mut self, active: &Side) {
        if let Some(wanted) = release_of_record(&self.status, &active.version) {
            let color = active.strategy.other();
            self.open(&wanted, active.version.clone(), color, Trigger::Restart);
        }
    }

    fn open(&mut self, wanted: &Wanted, name: String, color: Color, trigger: Trigger) {
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
        self.tell(EventReason::ReleaseStarted, format!("deploying {version} to {color} ({tags})"));
    }

    /// Decides that traffic goes to the target.
    pub fn switch(&mut self, target: &Side) {
        self.enter(Step::Switching);
        self.rollout.epoch += 1;
        self.rollout.switched_at = Some(Time(self.ctx.now_for_record));
        self.rollout.restarted_before = restarts(self.ctx.facts, target.strategy);
        let (version, color) = (&target.version, target.strategy);
        self.tell(EventReason::TrafficSwitched, format!("switching traffic to {version} on {color}"));
    }

    /// The target serves: it becomes the active release, what served before stays warm.
    pub fn serve(&mut self, target: &Side) {
        let previous = self.status.active();
        history::activate(
            &mut self.status.release_history,
            &target.version,
            target.strategy,
            self.ctx.now_for_record,
        );
        let rolled_back = matches!(self.trigger_of(&target.version), Some(Trigger::Rollback));
        if let Some(from) = previous.as_ref().filter(|_| rolled_back) {
            self.last_rollback(&from.version, &target.version, "Manual", "asked for by annotation");
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

    /// The release on its way is given up: its color is pruned, what serves stays.
    pub fn give_up(&mut self, target: &Side, outcome: &Outcome) {
        self.end(&target.version, outcome);
        self.prune();
    }

    /// Traffic goes back to the side that served before.
    pub fn go_back(&mut self, to: &Side, left: &Side, outcome: &Outcome) {
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
        self.end(&left.version, outcome);
        // A failure has said already what goes on serving.
        if matches!(outcome, Outcome::Cancelled(..)) {
            let switched = format!("switching traffic back to {} on {}", to.version, to.strategy);
            self.tell(EventReason::TrafficSwitched, switched);
        }
    }

    /// Another side than the one that was decided on is kept, since it is the one that can serve; the decision
    /// gets a new number.
    pub fn keep_instead(&mut self, side: &Side) {
        let now = self.ctx.now_for_record;
        history::activate(&mut self.status.release_history, &side.version, side.strategy, now);
        self.status.active_strategy = Some(side.strategy);
        self.status.active_release_version = Some(side.version.clone());
        self.rollout.epoch += 1;
        self.prune();
    }

    /// The decision stays, under a later number.
    pub const fn renumber(&mut self, epoch: i64) {
        self.rollout.epoch = epoch;
    }

    fn end(&mut self, version: &str, outcome: &Outcome) {
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
        self.tell(what, format!("{version}: {}", why.message));
        if let (Outcome::Failed(why), Some(to)) = (outcome, self.status.active_release_version.clone()) {
            let why = why.reason.clone();
            self.last_rollback(version, &to, "Automatic", &why);
            self.tell(EventReason::RolledBack, format!("{to} goes on serving; {version} failed ({why})"));
        }
    }

    /// The point of no return: what does not serve is deleted from now on.
    pub fn prune(&mut self) {
        self.enter(Step::Prune);
        self.rollout.target = None;
        self.rollout.previous = None;
    }

    /// The color of what is on its way is cleared first. What the spec describes is begun anew by that; a restart is only
    /// remembered here.
    pub fn clear(&mut self, target: &Side) {
        self.prune();
        let serves = self.status.active_release_version.as_ref() == Some(&target.version);
        self.rollout.target = serves.then(|| target.clone());
    }

    /// Nothing is left to do.
    pub fn rest(&mut self) {
        // What was to be begun anew on a clean color, and is not wanted any more.
        let records = &self.status.release_history;
        let pending = records.iter().find(|record| record.status == RecordStatus::Pending);
        if let Some(version) = pending.map(|record| record.version.clone()) {
            let why = Verdict::plain("Superseded", "it was given up before it was deployed".into());
            history::abandon(&mut self.status.release_history, &version, why, self.ctx.now_for_record);
        }
        self.enter(Step::Stable);
        self.rollout.target = None;
        self.rollout.switched_at = None;
        self.rollout.restarted_before = vec![];
    }
}

/// How an attempt ends without serving on.
pub(super) enum Outcome {
    /// It failed, and stays blocked until asked for again.
    Failed(Verdict),
    /// It was given up; what to tell, and why.
    Cancelled(EventReason, Verdict),
}

/// A recorded release as something to deploy.
fn release_of_record(status: &MetadataServicesStatus, version: &str) -> Option<Wanted> {
    use super::facts::Image;
    let record = status.record(version)?;
    Some(Wanted {
        hash: record.hash.clone(),
        images: api::names::PerComponent {
            storage: Image { tag: record.storage_tag.clone(), reference: record.storage_image.clone() },
            schema: Image { tag: record.schema_tag.clone(), reference: record.schema_image.clone() },
        },
        release_version: None,
    })
}

/// Restart counts of a color's pods, as many as a status has a place for.
pub(super) fn restarts(facts: &Facts, color: Color) -> Vec<PodRestarts> {
    Component::ALL
        .into_iter()
        .flat_map(|component| &facts.colors.get(color).get(component).pods.restarts)
        .map(|(pod, count)| PodRestarts { pod: pod.clone(), count: *count })
        .take(RESTARTS_KEPT)
        .collect()
}
