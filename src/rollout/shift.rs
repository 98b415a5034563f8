//! Transitions: how one persisted decision turns the status into the next (design D14).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::Facts;
use super::health::Verdict;
use super::intent::Wanted;
use super::{Answer, Ctx, Move, Notice, Plan, What, history, project, request};
use crate::api::status::{
    Clocks, MetadataServicesStatus, PodRestarts, RESTARTS_KEPT, RecordStatus, Request, Rollback, Rollout,
    Side, Step, Trigger,
};
use crate::names::{Colour, Component};

/// A status in the making. What it tells people is told only when it is persisted.
pub(super) struct Shift<'a> {
    ctx: &'a Ctx<'a>,
    status: MetadataServicesStatus,
    rollout: Rollout,
    notices: Vec<Notice>,
}

impl<'a> Shift<'a> {
    /// Begins with the status as it is.
    pub fn of(ctx: &'a Ctx<'a>) -> Self {
        Self { ctx, status: ctx.status.clone(), rollout: ctx.rollout.clone(), notices: vec![] }
    }

    /// Persists it.
    pub fn commit(mut self) -> Answer {
        if self.rollout.request == self.ctx.rollout.request && request::done(self.ctx) {
            self.rollout.request = None;
        }
        self.status.rollout = Some(self.rollout);
        let status = project::status(self.ctx, self.status);
        self.notices.extend(project::news(&self.ctx.status.conditions, &status.conditions));
        Some(Plan { next: Move::Commit(Box::new(status)), notices: self.notices, again: None })
    }

    /// Adds something to tell.
    pub fn tell(&mut self, what: What, message: impl Into<String>) {
        self.notices.push(Notice::new(what, message));
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
    pub const fn clocks(&mut self) -> &mut Clocks {
        &mut self.rollout.clocks
    }

    /// Dates what began after `latest` as begun now; whether there was any.
    pub fn redate(&mut self, latest: i64) -> bool {
        let Rollout { since, clocks, .. } = &mut self.rollout;
        let Clocks {
            ready_since,
            storage_failing_since,
            schema_failing_since,
            unready_since,
            unready_pod: _,
            empty_since,
            both_down_since,
        } = clocks;
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
            *time = Time(self.ctx.stamp);
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
        let now = Time(self.ctx.stamp);
        if let Some(record) = history::find(&mut self.status.release_history, version) {
            record.ready_at = Some(now);
        }
    }

    fn enter(&mut self, step: Step) {
        self.rollout.step = step;
        self.rollout.since = Time(self.ctx.stamp);
        self.rollout.clocks = Clocks::default();
    }

    /// Starts the release that the spec describes, on the colour that does not serve.
    pub fn start(&mut self, trigger: Trigger) {
        let wanted = &self.ctx.intent.wanted;
        let colour = self.status.active_strategy.map_or(Colour::Blue, Colour::other);
        let revisions = self.ctx.facts.revisions.iter().filter(|revision| revision.hash != wanted.hash);
        let kept: Vec<&str> = revisions.map(|revision| revision.version.as_str()).collect();
        let (name, ignored) =
            history::name_release(&self.status.release_history, &kept, wanted, self.ctx.stamp);
        if let Some(ignored) = ignored.filter(|_| self.status.record_of_hash(&wanted.hash).is_none()) {
            let text = format!("spec.releaseVersion {ignored} names another release already; using {name}");
            self.tell(What::ReleaseVersionIgnored, text);
        }
        self.open(&wanted.clone(), name, colour, trigger);
    }

    /// Deploys the serving release anew on the other colour.
    pub fn restart(&mut self, active: &Side) {
        if let Some(wanted) = recorded(&self.status, &active.version) {
            let colour = active.strategy.other();
            self.open(&wanted, active.version.clone(), colour, Trigger::Restart);
        }
    }

    fn open(&mut self, wanted: &Wanted, name: String, colour: Colour, trigger: Trigger) {
        let history = &mut self.status.release_history;
        let version = history::open(history, wanted, name, colour, trigger, self.ctx.stamp);
        self.enter(Step::Deploying);
        self.rollout.epoch += 1;
        self.rollout.target = Some(Side { strategy: colour, version: version.clone() });
        self.rollout.previous = None;
        self.rollout.switched_at = None;
        self.rollout.restarted_before = vec![];
        self.rollout.request = self.rollout.request.take().filter(|request| request.refused.is_none());
        let tags = format!("storage {}, schema {}", wanted.images.storage.tag, wanted.images.schema.tag);
        self.tell(What::ReleaseStarted, format!("deploying {version} to {colour} ({tags})"));
    }

    /// Decides that traffic goes to the target.
    pub fn switch(&mut self, target: &Side) {
        self.enter(Step::Switching);
        self.rollout.epoch += 1;
        self.rollout.switched_at = Some(Time(self.ctx.stamp));
        self.rollout.restarted_before = restarts(self.ctx.facts, target.strategy);
        let (version, colour) = (&target.version, target.strategy);
        self.tell(What::TrafficSwitched, format!("switching traffic to {version} on {colour}"));
    }

    /// The target serves: it becomes the active release, what served before stays warm.
    pub fn serve(&mut self, target: &Side) {
        let previous = self.status.active();
        history::activate(&mut self.status.release_history, &target.version, target.strategy, self.ctx.stamp);
        let rolled_back = matches!(self.trigger_of(&target.version), Some(Trigger::Rollback));
        if let Some(from) = previous.as_ref().filter(|_| rolled_back) {
            self.last_rollback(&from.version, &target.version, "Manual", "asked for by annotation");
        }
        self.status.active_strategy = Some(target.strategy);
        self.status.active_release_version = Some(target.version.clone());
        self.rollout.target = None;
        let next = if previous.is_some() { Step::Grace } else { Step::Stable };
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
            time: Time(self.ctx.stamp),
        });
    }

    /// The release on its way is given up: its colour is pruned, what serves stays.
    pub fn give_up(&mut self, target: &Side, ending: &Ending) {
        self.end(&target.version, ending);
        self.prune();
    }

    /// Traffic goes back to the side that served before.
    pub fn go_back(&mut self, to: &Side, left: &Side, ending: &Ending) {
        history::reinstate(&mut self.status.release_history, &to.version, to.strategy, self.ctx.stamp);
        match ending {
            Ending::Failed(_) => {
                if let Some(record) = history::find(&mut self.status.release_history, &to.version) {
                    record.trigger = Trigger::AutoRollback;
                }
            }
            Ending::Dropped(what, why) => {
                let trigger = if *what == What::RolledBack { "Automatic" } else { "Manual" };
                self.last_rollback(&left.version, &to.version, trigger, &why.reason.clone());
            }
        }
        self.status.active_strategy = Some(to.strategy);
        self.status.active_release_version = Some(to.version.clone());
        self.enter(Step::RollingBack);
        self.rollout.epoch += 1;
        self.rollout.target = None;
        self.rollout.previous = None;
        self.end(&left.version, ending);
        // A failure has said already what goes on serving.
        if matches!(ending, Ending::Dropped(..)) {
            let switched = format!("switching traffic back to {} on {}", to.version, to.strategy);
            self.tell(What::TrafficSwitched, switched);
        }
    }

    /// Another side than the one that was decided on is kept, since it is the one that can serve; the decision
    /// gets a new number.
    pub fn keep_instead(&mut self, side: &Side) {
        let now = self.ctx.stamp;
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

    fn end(&mut self, version: &str, ending: &Ending) {
        let (history, now) = (&mut self.status.release_history, self.ctx.stamp);
        let (what, why) = match ending {
            Ending::Failed(why) => {
                history::fail(history, version, why.clone(), now);
                (What::RolloutFailed, why)
            }
            Ending::Dropped(what, why) => {
                history::abandon(history, version, why.clone(), now);
                (*what, why)
            }
        };
        self.tell(what, format!("{version}: {}", why.message));
        if let (Ending::Failed(why), Some(to)) = (ending, self.status.active_release_version.clone()) {
            let why = why.reason.clone();
            self.last_rollback(version, &to, "Automatic", &why);
            self.tell(What::RolledBack, format!("{to} goes on serving; {version} failed ({why})"));
        }
    }

    /// The point of no return: what does not serve is deleted from now on.
    pub fn prune(&mut self) {
        self.enter(Step::Prune);
        self.rollout.target = None;
        self.rollout.previous = None;
    }

    /// The colour of what is on its way is cleared first. What the spec describes is begun anew by that; a restart is only
    /// remembered here.
    pub fn clear(&mut self, target: &Side) {
        self.prune();
        let serves = self.status.active_release_version.as_ref() == Some(&target.version);
        self.rollout.target = serves.then(|| target.clone());
    }

    /// Nothing is left to do.
    pub fn rest(&mut self) {
        // What was to be begun anew on a clean colour, and is not wanted any more.
        let records = &self.status.release_history;
        let pending = records.iter().find(|record| record.status == RecordStatus::Pending);
        if let Some(version) = pending.map(|record| record.version.clone()) {
            let why = Verdict::plain("Superseded", "it was given up before it was deployed".into());
            history::abandon(&mut self.status.release_history, &version, why, self.ctx.stamp);
        }
        self.enter(Step::Stable);
        self.rollout.target = None;
        self.rollout.switched_at = None;
        self.rollout.restarted_before = vec![];
    }
}

/// How an attempt ends without serving on.
pub(super) enum Ending {
    /// It failed, and stays blocked until asked for again.
    Failed(Verdict),
    /// It was given up; what to tell, and why.
    Dropped(What, Verdict),
}

/// A recorded release as something to deploy.
fn recorded(status: &MetadataServicesStatus, version: &str) -> Option<Wanted> {
    use super::facts::Image;
    let record = status.record(version)?;
    Some(Wanted {
        hash: record.hash.clone(),
        images: crate::names::PerComponent {
            storage: Image { tag: record.storage_tag.clone(), reference: record.storage_image.clone() },
            schema: Image { tag: record.schema_tag.clone(), reference: record.schema_image.clone() },
        },
        release_version: None,
    })
}

/// Restart counts of a colour's pods, as many as a status has a place for.
pub(super) fn restarts(facts: &Facts, colour: Colour) -> Vec<PodRestarts> {
    Component::ALL
        .into_iter()
        .flat_map(|component| &facts.colours.get(colour).get(component).pods.restarts)
        .map(|(pod, count)| PodRestarts { pod: pod.clone(), count: *count })
        .take(RESTARTS_KEPT)
        .collect()
}
