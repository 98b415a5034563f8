//! Guards that a search can remove: in the input and the plan of the core, or in the modeled controller. A search
//! without a guard must find a violation (`ablation_cases`).

use jiff::Timestamp;

use super::ages::WAIT;
use api::names::{Color, PerColor};
use api::status::{MetadataServicesStatus, RecordStatus, Rollout, Step};
use rollout::facts::{Facts, Front, FrontState, Pods, ReleaseRef, Workload};
use rollout::intent::Intent;
use rollout::{Effect, Plan, plan};

/// A removed guard, by the behavior without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ablation {
    /// A status write ignores the version of the resource.
    UpdateAnyVersion,
    /// A patch of a front Service ignores its version, or repeats with the new version after a 409.
    RouteAnyVersion,
    /// A delete names the UID and no resourceVersion. The opposite removes nothing, because two objects never have
    /// the same resourceVersion.
    DeleteAnyVersion,
    /// A delete names neither, or repeats with the new values after a 409.
    DeleteAnything,
    /// The operator does not read the resource before the objects.
    NoFirstRead,
    /// The operator does not read the resource again after the objects.
    NoSecondRead,
    /// A create that finds an object of that name counts as successful.
    AcceptExistingObject,
    /// The operator deletes objects without a persisted Prune.
    PruneUnpersisted,
    /// The operator deletes orphans in Stable.
    PruneInStable,
    /// A front Service that selects the right side counts as correct with any epoch.
    NoEpochCheck,
    /// The operator marks a failed release only after it routes and deletes.
    MarkFailedLate,
    /// A failed release does not block its template.
    RetryFailed,
    /// If neither color is healthy for the deploy timeout, a newer release still waits.
    WaitWhileBothDown,
    /// A rollback without proof does not end at the deploy timeout.
    WaitForRollbackProof,
    /// A rollback continues to a color that lost a Deployment.
    RollBackToLostColor,
    /// The first switch needs the same proof as any other switch.
    ProveFirstSwitch,
    /// Without automatic rollback, a bad release does not make room for a newer one.
    NewReleaseWaits,
    /// The operator does not ask EndpointSlices for proof.
    NoProof,
    /// The operator skips the waits after the switch.
    NoWaits,
    /// A recovered status takes the highest known epoch, not a higher one.
    RebuildKeepsEpoch,
    /// A recovered status prunes without proof of the traffic.
    RebuildPrunesAtOnce,
    /// A recovery returns traffic to a color without raising the epochs of its objects.
    RebuildReturnsAtOnce,
    /// The operator routes a front Service although it carries a later epoch than the decision.
    NoEpochRaise,
    /// The operator switches although some Pods are not ready.
    SwitchWhenNotFull,
    /// The operator does not notice that readiness was lost and regained in the grace period.
    IgnoreFlapping,
    /// Prune ends while objects remain.
    EndPruneEarly,
    /// Objects of another epoch on the pending color count as objects of the pending release.
    AcceptDirtyColor,
    /// Foreign Pods do not prevent the creation of a Deployment.
    IgnoreForeignPods,
    /// The operator switches to a release without a ControllerRevision that records it as good.
    SwitchWithoutRevision,
    /// The operator rolls out a terminating resource.
    IgnoreDeletion,
    /// Prune forgets the restart that it makes room for.
    ForgetRestart,
}

impl Ablation {
    /// Returns the plan of the core without the guard.
    pub fn plan(
        self,
        intent: &Intent,
        status: Option<&MetadataServicesStatus>,
        mut facts: Facts,
        now: Timestamp,
    ) -> Plan {
        let deleted = intent.deleted && self != Self::IgnoreDeletion;
        let intent = &Intent { deleted, ..intent.clone() };
        let mut status = status.cloned();
        self.change_input(&mut status, &mut facts);
        let step = status.as_ref().and_then(|status| Some(status.rollout.as_ref()?.step));
        let switched = matches!(step, Some(Step::Switching | Step::Watching | Step::RollingBack));
        let ahead = if self == Self::NoWaits && switched { WAIT } else { 0 };
        let now = Timestamp::from_second(now.as_second() + ahead).unwrap();
        let made = plan(intent, status.as_ref(), &facts, now);
        self.change_plan(intent, status.as_ref(), &facts, now, made)
    }

    /// Changes the input of the core.
    fn change_input(self, status: &mut Option<MetadataServicesStatus>, facts: &mut Facts) {
        let step = status.as_ref().and_then(|status| Some(status.rollout.as_ref()?.step));
        match self {
            Self::NoEpochCheck => stamp(status.as_ref(), facts),
            Self::MarkFailedLate => mark(status.as_ref(), facts),
            Self::RetryFailed if step == Some(Step::Stable) => unblock(status.as_mut()),
            Self::NoProof => each_front(facts, |front| {
                let selects = front.selects;
                let one = PerColor::from_fn(|color| u32::from(selects == Some(color)));
                (front.ready, front.listed) = (one, one);
            }),
            Self::RebuildReturnsAtOnce if step.is_none() => make_newer(facts),
            Self::SwitchWhenNotFull if step == Some(Step::Deploying) => make_full(facts),
            Self::IgnoreFlapping => each_pods(facts, |pods| pods.last_transition = None),
            Self::EndPruneEarly if step == Some(Step::Prune) => hide_leftovers(status.as_ref(), facts),
            Self::AcceptDirtyColor if step == Some(Step::Deploying) => claim_objects(status.as_ref(), facts),
            Self::IgnoreForeignPods => each_pods(facts, |pods| {
                pods.alive = 0;
                pods.strays.clear();
            }),
            Self::SwitchWithoutRevision if step == Some(Step::Deploying) => {
                assume_good(status.as_ref(), facts);
            }
            _ => {}
        }
    }

    /// Changes the plan of the core.
    fn change_plan(
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
            Self::PruneInStable if enters_prune && from.is_some_and(|from| from.step == Step::Stable) => {
                self.plan_as(intent, new, facts, now)
            }
            Self::NoEpochRaise if from.is_some_and(|from| from.step == to.step && from.epoch < to.epoch) => {
                let mut facts = facts.clone();
                let before = from.map_or(0, |from| from.epoch - 1);
                each_front(&mut facts, |front| front.epoch = front.epoch.min(before));
                plan(intent, status, &facts, now)
            }
            Self::WaitWhileBothDown if keeps_other_color(from, to) && !is(from, Step::RollingBack) => wait(),
            Self::RollBackToLostColor if keeps_other_color(from, to) && is(from, Step::RollingBack) => {
                let mut facts = facts.clone();
                hide_inactive_release(status, &mut facts);
                plan(intent, status, &facts, now)
            }
            Self::WaitForRollbackProof
                if is(from, Step::RollingBack)
                    && enters_prune
                    && !keeps_other_color(from, to)
                    && !proved(new, facts) =>
            {
                wait()
            }
            Self::ProveFirstSwitch
                if is(from, Step::Switching) && to.step == Step::Stable && !proved(new, facts) =>
            {
                wait()
            }
            Self::ForgetRestart if enters_prune => {
                committed(new, Rollout { target: None, ..to.clone() }, &made)
            }
            Self::NewReleaseWaits if gives_way(intent, new, from, to) => wait(),
            Self::RebuildPrunesAtOnce if from.is_none() && to.step == Step::RollingBack => {
                committed(new, Rollout { step: Step::Prune, ..to.clone() }, &made)
            }
            Self::RebuildKeepsEpoch if from.is_none() && to.step != Step::Deploying => {
                committed(new, Rollout { epoch: to.epoch - 1, ..to.clone() }, &made)
            }
            _ => made,
        }
    }

    /// Returns the plan for a status that is not persisted.
    fn plan_as(self, intent: &Intent, new: &MetadataServicesStatus, facts: &Facts, now: Timestamp) -> Plan {
        self.plan(intent, Some(new), facts.clone(), now)
    }
}

/// Returns the plan with another rollout in its status write.
fn committed(new: &MetadataServicesStatus, rollout: Rollout, made: &Plan) -> Plan {
    let pending_strategy = rollout.target.as_ref().map(|target| target.strategy);
    let new = MetadataServicesStatus { rollout: Some(rollout), pending_strategy, ..new.clone() };
    Plan { effect: Effect::UpdateStatus(Box::new(new)), ..made.clone() }
}

fn is(from: Option<&Rollout>, step: Step) -> bool {
    from.is_some_and(|from| from.step == step)
}

/// Returns whether the operator keeps another color than it decided before.
fn keeps_other_color(from: Option<&Rollout>, to: &Rollout) -> bool {
    from.is_some_and(|from| {
        let moving = matches!(from.step, Step::Switching | Step::Watching | Step::RollingBack);
        moving && to.step == Step::Prune && to.epoch > from.epoch
    })
}

/// Returns whether traffic returns to the old color to make room for a newer release.
fn gives_way(intent: &Intent, new: &MetadataServicesStatus, from: Option<&Rollout>, to: &Rollout) -> bool {
    let back = to.step == Step::RollingBack && (is(from, Step::Switching) || is(from, Step::Watching));
    let active = new.active().and_then(|side| new.record(&side.version));
    let undone = active.is_some_and(|record| record.hash == intent.wanted.hash);
    back && !undone && !intent.policy.auto_rollback
}

/// Returns whether `EndpointSlices` list the active color only.
fn proved(status: &MetadataServicesStatus, facts: &Facts) -> bool {
    status
        .active()
        .is_some_and(|side| facts.front.all(|front| front.state().is_some_and(|it| it.proves(side.strategy))))
}

/// Hides the release on the inactive color, so that the core cannot keep it.
fn hide_inactive_release(status: Option<&MetadataServicesStatus>, facts: &mut Facts) {
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

/// Makes the inactive colors appear empty once their Deployments are gone.
fn hide_leftovers(status: Option<&MetadataServicesStatus>, facts: &mut Facts) {
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

/// Makes all objects on the pending color appear as objects of the pending release.
fn claim_objects(status: Option<&MetadataServicesStatus>, facts: &mut Facts) {
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

/// Makes the objects of a color appear newer than the front Services.
fn make_newer(facts: &mut Facts) {
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
