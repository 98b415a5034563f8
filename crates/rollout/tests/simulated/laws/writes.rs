//! A write to an object, and nothing to do.

use super::{Taken, broken, doing, upgrade};
use api::names::{Color, Component, PerComponent};
use api::status::Step;
use rollout::Action;
use rollout::facts::{Deployment, Extra, ObjectId, ObjectState, Setting, Workload};
use simulator::Sim;
use simulator::scene::route;

fn creating() -> Taken {
    doing(&upgrade(), |action| matches!(action, Action::Create(ObjectId::Deployment(..), _)))
}

fn deleting() -> Taken {
    doing(&upgrade(), |action| matches!(action, Action::Delete(_)))
}

pub fn machines() -> Vec<&'static str> {
    broken(
        creating,
        &[
            ("I28: {action:?} for a resource that is being deleted", |it| it.intent.deleted = true),
            ("objects are written without a status", |it| it.status = None),
            ("objects are written without a persisted decision", |it| it.status_from().rollout = None),
        ],
    )
}

pub fn creates() -> Vec<&'static str> {
    broken(
        creating,
        &[
            ("I4: {id:?} is created while the fronts differ", |it| it.front().selects = Some(Color::Green)),
            ("D15: created under epoch {}", |it| it.tagged().epoch += 1),
            ("not created so: {id:?}", |it| {
                let tagged = it.tagged().clone();
                *it.action() = Action::Create(ObjectId::Front(Component::Schema), tagged);
            }),
            ("{id:?} is created for {version}, which is not on its way and does not serve", |it| {
                it.tagged().version = "c".into();
            }),
            ("{id:?} is created in {:?}", |it| it.rollout_from().step = Step::Prune),
            ("D8: a Deployment is created among pods of something else", |it| {
                it.facts.colors.green = PerComponent::from_fn(|_| Workload {
                    pods: rollout::facts::Pods { alive: 1, ..Default::default() },
                    ..Workload::default()
                });
            }),
        ],
    )
}

pub fn deletes() -> Vec<&'static str> {
    broken(
        deleting,
        &[
            ("I4: {id:?} is deleted while the fronts differ", |it| it.front().selects = Some(Color::Blue)),
            ("D15: {id:?} is deleted in {:?}", |it| it.rollout_from().step = Step::Watching),
            ("I9: deleted before the stamps", |it| it.front().epoch -= 1),
            ("{id:?} serves and is deleted", |it| {
                *it.action() = Action::Delete(ObjectId::ConfigMap(Component::Storage, Color::Green));
            }),
            ("I3: {id:?} is selected and deleted", |it| {
                (it.status_from().active_strategy, it.status_from().active_release_version) = (None, None);
                *it.action() = Action::Delete(ObjectId::ConfigMap(Component::Storage, Color::Green));
            }),
            ("{version} is in the history, its revision is deleted", |it| {
                *it.action() = Action::Delete(ObjectId::Revision("a".into()));
            }),
            ("{extra:?} is wanted and deleted", |it| {
                *it.action() = Action::Delete(ObjectId::Extra(Extra::ServiceAccount));
            }),
            ("a front Service is deleted", |it| {
                *it.action() = Action::Delete(ObjectId::Front(Component::Storage));
            }),
        ],
    )
}

pub fn points() -> Vec<&'static str> {
    broken(
        || doing(&upgrade(), |action| matches!(action, Action::Route(..))),
        &[
            ("D2: pointed with epoch {}, decided {}", |it| it.pointed().epoch += 1),
            ("D2: pointed to {to:?}, decided {side:?}", |it| it.pointed().version = "c".into()),
            ("404: no front to point", |it| it.facts.front = PerComponent::default()),
            ("I29: {component} is pointed for nothing", |it| {
                let to = it.pointed().clone();
                let front = it.front();
                (front.selects, front.version, front.epoch) = (to.color, Some(to.version), to.epoch);
            }),
            ("I13: the stamp goes from {} to {}", |it| it.front().epoch = 99),
            ("I7: pointed to nothing", |it| {
                (it.rollout_from().step, it.status_from().active_release_version) = (Step::Prune, None);
                *it.pointed() = route(None, it.rollout_from().epoch);
            }),
            ("I3: pointed to {}, which is Failed", |it| it.know("b", Some("it crashed"))),
            ("I1, I10: pointed to {side:?}, {of} is not there", |it| {
                it.storage(Color::Green).deployment = Deployment::Terminating;
            }),
        ],
    )
}

pub fn records() -> Vec<&'static str> {
    let settling = || {
        let mut sim = Sim::stable();
        sim.stale = vec![Setting::Front(Component::Storage)];
        doing(&sim, |_| true)
    };
    let account = || {
        let mut sim = upgrade();
        sim.stale = vec![Setting::ACCOUNT];
        doing(&sim, |action| *action == Action::ApplyServiceAccount)
    };
    [
        broken(
            || doing(&upgrade(), |action| matches!(action, Action::RecordRevision { .. })),
            &[
                ("I29: {} is recorded for nothing", |it| it.know("b", None)),
                ("no template for {tagged:?}", |it| it.tagged().hash = "z-hash".into()),
            ],
        ),
        broken(settling, &[("I29: {setting:?} is settled for nothing", |it| it.facts.stale.clear())]),
        broken(account, &[("I29: the account is settled for nothing", |it| it.facts.stale.clear())]),
    ]
    .concat()
}

pub fn stamps() -> Vec<&'static str> {
    let lost = || {
        let mut sim = upgrade();
        sim.until(Step::Watching);
        sim.unready(Component::Storage, Color::Green, 0);
        sim.lose_status();
        doing(&sim, |action| matches!(action, Action::RaiseEpoch(..)))
    };
    broken(
        lost,
        &[
            ("not stamped so: {id:?}", |it| {
                *it.action() = Action::RaiseEpoch(ObjectId::Front(Component::Storage), 9);
            }),
            ("D6: {id:?} is stamped while the status stands", |it| it.status = Sim::upgraded().status),
            ("I13: {id:?} is stamped {epoch}, a front is later", |it| it.front().epoch = 99),
            ("I29: {id:?} is stamped for nothing", |it| it.deployment(Color::Blue).tag.epoch = 98),
        ],
    )
}

// === Nothing is to be done ===

pub fn rests() -> Vec<&'static str> {
    broken(
        || Taken::of(&Sim::upgraded()),
        &[
            ("a wait of {:?}", |it| it.made.requeue_after = Some(0)),
            ("nothing serves in Stable", |it| it.status_from().active_strategy = None),
            ("I16: the fronts do not carry the decision", |it| it.front().epoch -= 1),
            ("I33: both colors have objects", |it| {
                it.storage(Color::Blue).service = ObjectState::Terminating
            }),
            ("I33: {forgotten:?} is left over", |it| it.know("c", None)),
            ("I30: a settled resource wants to be looked at again", |it| it.made.requeue_after = Some(30)),
            ("I33: the serving color is not whole", |it| {
                it.storage(Color::Green).config_map = ObjectState::Absent;
            }),
        ],
    )
}
