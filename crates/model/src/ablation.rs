//! Guards that can be taken away, in the model only: around the core's facts and moves, or in the modelled shell. Each
//! must be missed: a search without it has to find a broken law (`tests::ablations`).

use jiff::Timestamp;

use super::times::WAIT;
use api::names::{Color, PerColor};
use api::status::{MetadataServicesStatus, RecordStatus, Rollout, Step};
use rollout::facts::{Facts, Front, FrontState, Pods, ReleaseRef, Workload};
use rollout::intent::Intent;
use rollout::{Effect, Plan, plan};

/// A guard that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ablation {
    /// A status is written whatever the resource's version.
    CommitAnyVersion,
    /// A front Service is patched whatever its version, or sent again with the new one after a 409.
    PointAnyVersion,
    /// A delete names the UID only, no resourceVersion. (The other way round there is nothing to take away: two objects never
    /// have one resourceVersion.)
    DeleteAnyVersion,
    /// A delete names neither, or is sent again with the new ones after a 409.
    DeleteAnything,
    /// The resource is not read before the objects.
    NoFirstRead,
    /// The resource is not read again after the objects.
    NoSecondRead,
    /// A create that meets an object of that name goes on as if it had made it.
    TakeWhatExists,
    /// What is to be deleted is deleted without persisting Prune first.
    PruneUnpersisted,
    /// Orphans are deleted in Stable.
    SweepInStable,
    /// A front Service that selects the right side is right, whatever its stamp says.
    NoStamp,
    /// A failed release is not marked before the Services are moved and objects deleted.
    MarkLate,
    /// A failed release does not block its template.
    NoBlock,
    /// Where neither side is healthy for the deploy timeout, a newer release waits all the same.
    BothDown,
    /// A way back that stays unproved for the deploy timeout is not given up.
    UnprovedWayBack,
    /// A way back goes on to a side that has lost a Deployment.
    LostWayBack,
    /// The first switch is proved like any other.
    FirstSwitch,
    /// Nothing goes back by itself, and a bad release makes no room for a newer one.
    NoRoom,
    /// EndpointSlices are not asked for proof.
    NoProof,
    /// Waits after the switch are not kept.
    NoWaits,
    /// A rebuilt status takes the highest epoch that was seen, not a higher one.
    RebuildKeepsEpoch,
    /// A rebuilt status prunes without proof of where traffic goes.
    RebuildPrunesAtOnce,
    /// A rebuilt status goes back to a side that may be on its way out, without writing to it first.
    RebuildGoesBackAtOnce,
    /// A front Service that carries a later number than the decision is pointed all the same.
    NoLaterNumber,
    /// A switch does not ask whether all pods are ready.
    NotFull,
    /// Readiness lost and regained within the grace period goes unnoticed.
    NoFlapping,
    /// Prune ends before everything is gone.
    NotGone,
    /// Objects of another decision on the pending color are taken for its own.
    NotDirty,
    /// Pods of something else do not keep a Deployment from being created.
    NoStrays,
    /// A release is switched to without being recorded as good.
    NoGoodRecord,
    /// A resource that is being deleted is rolled out like any other.
    NoDeletion,
    /// What a color is cleared for is not remembered.
    ForgetRestart,
}

impl Ablation {
    /// What the core would decide without the guard.
    pub fn plan(
        self,
        intent: &Intent,
        status: Option<&MetadataServicesStatus>,
        mut facts: Facts,
        now: Timestamp,
    ) -> Plan {
        let deleted = intent.deleted && self != Self::NoDeletion;
        let intent = &Intent { deleted, ..intent.clone() };
        let mut status = status.cloned();
        self.bend(&mut status, &mut facts);
        let step = status.as_ref().and_then(|status| Some(status.rollout.as_ref()?.step));
        let switched = matches!(step, Some(Step::Switching | Step::Watching | Step::RollingBack));
        let ahead = if self == Self::NoWaits && switched { WAIT } else { 0 };
        let now = Timestamp::from_second(now.as_second() + ahead).unwrap();
        let made = plan(intent, status.as_ref(), &facts, now);
        self.twist(intent, status.as_ref(), &facts, now, made)
    }

    /// Changes what the core is told.
    fn bend(self, status: &mut Option<MetadataServicesStatus>, facts: &mut Facts) {
        let step = status.as_ref().and_then(|status| Some(status.rollout.as_ref()?.step));
        match self {
            Self::NoStamp => stamp(status.as_ref(), facts),
            Self::MarkLate => mark(status.as_ref(), facts),
            Self::NoBlock if step == Some(Step::Stable) => unblock(status.as_mut()),
            Self::NoProof => each_front(facts, |front| {
                let selects = front.selects;
                let one = PerColor::from_fn(|color| u32::from(selects == Some(color)));
                (front.ready, front.listed) = (one, one);
            }),
            Self::RebuildGoesBackAtOnce if step.is_none() => outnumber(facts),
            Self::NotFull if step == Some(Step::Deploying) => make_full(facts),
            Self::NoFlapping => each_pods(facts, |pods| pods.last_transition = None),
            Self::NotGone if step == Some(Step::Prune) => clear(status.as_ref(), facts),
            Self::NotDirty if step == Some(Step::Deploying) => claim(status.as_ref(), facts),
            Self::NoStrays => each_pods(facts, |pods| {
                pods.alive = 0;
                pods.strays.clear();
            }),
            Self::NoGoodRecord if step == Some(Step::Deploying) => assume_good(status.as_ref(), facts),
            _ => {}
        }
    }

    /// Changes what the core decided.
    fn twist(
        self,
        intent: &Intent,
        status: Option<&MetadataServicesStatus>,
        facts: &Facts,
        now: Timestamp,
        made: Plan,
    ) -> Plan {
        let Effect::UpdateStatus(new) = &made.effect else { return made };
        let (Some(to), from) = (&new.rollout, status.and_then(|status| status.rollout.as_ref())) else {
            return made;
        };
        let wait = || Plan { effect: Effect::Wait, notes: vec![], requeue_after: Some(1) };
        let enters_prune = to.step == Step::Prune && from.is_some_and(|from| from.step != Step::Prune);
        match self {
            Self::PruneUnpersisted if enters_prune => self.plan_as(intent, new, facts, now),
            Self::SweepInStable if enters_prune && from.is_some_and(|from| from.step == Step::Stable) => {
                self.plan_as(intent, new, facts, now)
            }
            Self::NoLaterNumber if from.is_some_and(|from| from.step == to.step && from.epoch < to.epoch) => {
                let mut facts = facts.clone();
                let before = from.map_or(0, |from| from.epoch - 1);
                each_front(&mut facts, |front| front.epoch = front.epoch.min(before));
                plan(intent, status, &facts, now)
            }
            Self::BothDown if is_unstuck(from, to) && !is(from, Step::RollingBack) => wait(),
            Self::LostWayBack if is_unstuck(from, to) && is(from, Step::RollingBack) => {
                let mut facts = facts.clone();
                hide_other_side(status, &mut facts);
                plan(intent, status, &facts, now)
            }
            Self::UnprovedWayBack
                if is(from, Step::RollingBack)
                    && enters_prune
                    && !is_unstuck(from, to)
                    && !proved(new, facts) =>
            {
                wait()
            }
            Self::FirstSwitch
                if is(from, Step::Switching) && to.step == Step::Stable && !proved(new, facts) =>
            {
                wait()
            }
            Self::ForgetRestart if enters_prune => {
                committed(new, Rollout { target: None, ..to.clone() }, &made)
            }
            Self::NoRoom if makes_room(intent, new, from, to) => wait(),
            Self::RebuildPrunesAtOnce if from.is_none() && to.step == Step::RollingBack => {
                committed(new, Rollout { step: Step::Prune, ..to.clone() }, &made)
            }
            Self::RebuildKeepsEpoch if from.is_none() && to.step != Step::Deploying => {
                committed(new, Rollout { epoch: to.epoch - 1, ..to.clone() }, &made)
            }
            _ => made,
        }
    }

    /// The plan on a status that is not persisted.
    fn plan_as(self, intent: &Intent, new: &MetadataServicesStatus, facts: &Facts, now: Timestamp) -> Plan {
        self.plan(intent, Some(new), facts.clone(), now)
    }
}

/// The plan with another state of the rollout in what it commits.
fn committed(new: &MetadataServicesStatus, rollout: Rollout, made: &Plan) -> Plan {
    let pending_strategy = rollout.target.as_ref().map(|target| target.strategy);
    let new = MetadataServicesStatus { rollout: Some(rollout), pending_strategy, ..new.clone() };
    Plan { effect: Effect::UpdateStatus(Box::new(new)), ..made.clone() }
}

fn is(from: Option<&Rollout>, step: Step) -> bool {
    from.is_some_and(|from| from.step == step)
}

/// Another side is kept than was decided on.
fn is_unstuck(from: Option<&Rollout>, to: &Rollout) -> bool {
    from.is_some_and(|from| {
        let moving = matches!(from.step, Step::Switching | Step::Watching | Step::RollingBack);
        moving && to.step == Step::Prune && to.epoch > from.epoch
    })
}

/// Traffic goes back for a newer release, since nothing goes back by itself.
fn makes_room(intent: &Intent, new: &MetadataServicesStatus, from: Option<&Rollout>, to: &Rollout) -> bool {
    let back = to.step == Step::RollingBack && (is(from, Step::Switching) || is(from, Step::Watching));
    let active = new.active().and_then(|side| new.record(&side.version));
    let undone = active.is_some_and(|record| record.hash == intent.wanted.hash);
    back && !undone && !intent.policy.auto_rollback
}

/// Whether `EndpointSlices` show the side that serves, and nothing else.
fn proved(status: &MetadataServicesStatus, facts: &Facts) -> bool {
    status
        .active()
        .is_some_and(|side| facts.front.all(|front| front.state().is_some_and(|it| it.proves(side.strategy))))
}

/// What lies on the color that does not serve is no release that could be kept.
fn hide_other_side(status: Option<&MetadataServicesStatus>, facts: &mut Facts) {
    use rollout::facts::Deployment;
    let Some(active) = status.and_then(|status| status.active_strategy) else { return };
    if let Deployment::Present(state) = &mut facts.colors.get_mut(active.other()).storage.deployment {
        state.tag.version = "none".into();
    }
}

fn each_front(facts: &mut Facts, change: impl Fn(&mut FrontState)) {
    for front in [&mut facts.front.storage, &mut facts.front.schema] {
        if let Front::Present(state) = front {
            change(state);
        }
    }
}

fn each_pods(facts: &mut Facts, change: impl Fn(&mut Pods)) {
    for color in Color::ALL {
        let color = facts.colors.get_mut(color);
        change(&mut color.storage.pods);
        change(&mut color.schema.pods);
    }
}

fn stamp(status: Option<&MetadataServicesStatus>, facts: &mut Facts) {
    let Some(epoch) = status.and_then(|status| Some(status.rollout.as_ref()?.epoch)) else { return };
    each_front(facts, |front| front.epoch = epoch);
}

fn mark(status: Option<&MetadataServicesStatus>, facts: &mut Facts) {
    let Some(status) = status else { return };
    for record in status.release_history.iter().filter(|record| record.status == RecordStatus::Failed) {
        match facts.revisions.iter_mut().find(|known| known.version == record.version) {
            Some(known) => known.failed = Some("failed".into()),
            None => facts.revisions.push(rollout::facts::Revision {
                version: record.version.clone(),
                hash: record.hash.clone(),
                flaw: None,
                number: 0,
                failed: Some("failed".into()),
                images: api::names::PerComponent::default(),
                created: 0,
            }),
        }
    }
}

fn unblock(status: Option<&mut MetadataServicesStatus>) {
    let Some(status) = status else { return };
    for record in status.release_history.iter_mut().filter(|record| record.status == RecordStatus::Failed) {
        record.status = RecordStatus::Superseded;
    }
}

fn target(status: Option<&MetadataServicesStatus>) -> Option<(Color, String, i64)> {
    let rollout = status?.rollout.as_ref()?;
    let target = rollout.target.as_ref()?;
    Some((target.strategy, target.version.clone(), rollout.epoch))
}

fn make_full(facts: &mut Facts) {
    use rollout::facts::Deployment;
    for color in Color::ALL {
        let color = facts.colors.get_mut(color);
        for workload in [&mut color.storage, &mut color.schema] {
            if let Deployment::Present(state) = &mut workload.deployment {
                (state.updated, state.ready, state.available, state.replicas) =
                    (state.desired, state.desired, state.desired, state.desired);
                workload.pods.problem = None;
            }
        }
    }
}

/// The colors that do not serve look empty once their Deployments are gone.
fn clear(status: Option<&MetadataServicesStatus>, facts: &mut Facts) {
    use rollout::facts::Deployment;
    let active = status.and_then(|status| status.active_strategy);
    for color in Color::ALL.into_iter().filter(|color| Some(*color) != active) {
        let color = facts.colors.get_mut(color);
        for workload in [&mut color.storage, &mut color.schema] {
            if workload.deployment == Deployment::Absent {
                *workload = rollout::facts::Workload::default();
            }
        }
    }
}

/// Whatever lies on the pending color looks like the target's own.
fn claim(status: Option<&MetadataServicesStatus>, facts: &mut Facts) {
    use rollout::facts::Deployment;
    let Some((color, version, epoch)) = target(status) else { return };
    let color = facts.colors.get_mut(color);
    for workload in [&mut color.storage, &mut color.schema] {
        if matches!(workload.deployment, Deployment::Present(_)) {
            workload.pods.strays.clear();
        }
        each_tag(workload, |tag| (tag.version, tag.epoch) = (version.clone(), epoch));
    }
}

/// Whatever lies on a color looks later than what the front Services carry.
fn outnumber(facts: &mut Facts) {
    let later = facts.front.iter().filter_map(|(_, front)| Some(front.state()?.epoch + 1)).max();
    let later = later.unwrap_or(0);
    for color in Color::ALL {
        let color = facts.colors.get_mut(color);
        for workload in [&mut color.storage, &mut color.schema] {
            each_tag(workload, |tag| tag.epoch = tag.epoch.max(later));
        }
    }
}

fn each_tag(workload: &mut Workload, change: impl Fn(&mut ReleaseRef)) {
    use rollout::facts::{Deployment, ObjectState};
    if let Deployment::Present(state) = &mut workload.deployment {
        change(&mut state.tag);
    }
    for piece in [&mut workload.config_map, &mut workload.service] {
        if let ObjectState::Present(tag) = piece {
            change(tag);
        }
    }
}

fn assume_good(status: Option<&MetadataServicesStatus>, facts: &mut Facts) {
    let Some((_, version, _)) = target(status) else { return };
    let number = facts.revisions.iter().map(|known| known.number).max().unwrap_or(0) + 1;
    facts.revisions.retain(|known| known.version != version);
    facts.revisions.push(rollout::facts::Revision {
        hash: format!("{version}-hash"),
        flaw: None,
        version,
        number,
        failed: None,
        images: api::names::PerComponent::default(),
        created: 0,
    });
}
