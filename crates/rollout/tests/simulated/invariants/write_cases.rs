//! Cases of writes to objects, and of plans to wait.

use super::{Decision, doing, upgrade, violated};
use api::names::{Color, Component, PerComponent};
use api::status::Step;
use rollout::Action;
use rollout::facts::{Deployment, Extra, ObjectId, ObjectState, Setting, Workload};
use simulator::Sim;
use simulator::plan_input::route;

fn creating() -> Decision {
    doing(&upgrade(), |action| matches!(action, Action::Create(ObjectId::Deployment(..), _)))
}

fn deleting() -> Decision {
    doing(&upgrade(), |action| matches!(action, Action::Delete(_)))
}

pub fn persisted() -> Vec<&'static str> {
    violated(
        creating,
        &[
            ("I28: {action:?} for a terminating resource", |it| it.intent.deleted = true),
            ("an object is written without a status", |it| it.status = None),
            ("an object is written without a persisted decision", |it| it.status_from().rollout = None),
        ],
    )
}

pub fn creates() -> Vec<&'static str> {
    violated(
        creating,
        &[
            ("I4: {id:?} is created while the front Services differ", |it| {
                it.front().selects = Some(Color::Green);
            }),
            ("D15: the object is created with epoch {}", |it| it.tagged().epoch += 1),
            ("{id:?} is no object that Create makes", |it| {
                let tagged = it.tagged().clone();
                *it.action() = Action::Create(ObjectId::Front(Component::Schema), tagged);
            }),
            ("{id:?} is created for {version}, which is neither pending nor active", |it| {
                it.tagged().version = "c".into();
            }),
            ("{id:?} is created in {:?}", |it| it.rollout_from().step = Step::Prune),
            ("D8: a Deployment is created among foreign Pods", |it| {
                it.facts.colors.green = PerComponent::from_fn(|_| Workload {
                    pods: rollout::facts::Pods { alive: 1, ..Default::default() },
                    ..Workload::default()
                });
            }),
        ],
    )
}

pub fn deletes() -> Vec<&'static str> {
    violated(
        deleting,
        &[
            ("I4: {id:?} is deleted while the front Services differ", |it| {
                it.front().selects = Some(Color::Blue);
            }),
            ("D15: {id:?} is deleted in {:?}", |it| it.rollout_from().step = Step::Watching),
            ("I9: deleted before both front Services carry the decision", |it| it.front().epoch -= 1),
            ("{id:?} of the active color is deleted", |it| {
                *it.action() = Action::Delete(ObjectId::ConfigMap(Component::Storage, Color::Green));
            }),
            ("I3: {id:?} of a selected color is deleted", |it| {
                (it.status_from().active_strategy, it.status_from().active_release_version) = (None, None);
                *it.action() = Action::Delete(ObjectId::ConfigMap(Component::Storage, Color::Green));
            }),
            ("the revision of {version} is deleted, but its record remains", |it| {
                *it.action() = Action::Delete(ObjectId::Revision("a".into()));
            }),
            ("{extra:?} is deleted although the spec asks for it", |it| {
                *it.action() = Action::Delete(ObjectId::Extra(Extra::ServiceAccount));
            }),
            ("a front Service is deleted", |it| {
                *it.action() = Action::Delete(ObjectId::Front(Component::Storage));
            }),
        ],
    )
}

pub fn routes() -> Vec<&'static str> {
    violated(
        || doing(&upgrade(), |action| matches!(action, Action::Route(..))),
        &[
            ("D2: the route has epoch {}, the decision {}", |it| it.route().epoch += 1),
            ("D2: the route is {to:?}, the decision {side:?}", |it| it.route().version = "c".into()),
            ("404: no front Service", |it| it.facts.front = PerComponent::default()),
            ("I29: the front Service of {component} is written without a change", |it| {
                let to = it.route().clone();
                let front = it.front();
                (front.selects, front.version, front.epoch) = (to.color, Some(to.version), to.epoch);
            }),
            ("I13: the epoch of a front Service falls from {} to {}", |it| it.front().epoch = 99),
            ("I7: the selector of a front Service is emptied", |it| {
                (it.rollout_from().step, it.status_from().active_release_version) = (Step::Prune, None);
                *it.route() = route(None, it.rollout_from().epoch);
            }),
            ("I3: the route leads to {}, which is Failed", |it| it.know("b", Some("it crashed"))),
            ("I1, I10: the route leads to {side:?}, {of} is missing", |it| {
                it.storage(Color::Green).deployment = Deployment::Terminating;
            }),
        ],
    )
}

pub fn revisions() -> Vec<&'static str> {
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
        violated(
            || doing(&upgrade(), |action| matches!(action, Action::RecordRevision { .. })),
            &[
                ("I29: the revision of {} is written without a change", |it| it.know("b", None)),
                ("no template for {tagged:?}", |it| it.tagged().hash = "z-hash".into()),
            ],
        ),
        violated(settling, &[("I29: {setting:?} is applied without a change", |it| it.facts.stale.clear())]),
        violated(
            account,
            &[("I29: the ServiceAccount is applied without a change", |it| it.facts.stale.clear())],
        ),
    ]
    .concat()
}

pub fn epochs() -> Vec<&'static str> {
    let lost = || {
        let mut sim = upgrade();
        sim.until(Step::Watching);
        sim.make_unready(Component::Storage, Color::Green, 0);
        sim.lose_status();
        doing(&sim, |action| matches!(action, Action::RaiseEpoch(..)))
    };
    violated(
        lost,
        &[
            ("{id:?} has no epoch that can be raised", |it| {
                *it.action() = Action::RaiseEpoch(ObjectId::Front(Component::Storage), 9);
            }),
            ("D6: the epoch of {id:?} is raised while the status is valid", |it| {
                it.status = Sim::upgraded().status;
            }),
            ("I13: {id:?} gets epoch {epoch}, a front Service has a later one", |it| it.front().epoch = 99),
            ("I29: the epoch of {id:?} is written without a change", |it| {
                it.deployment(Color::Blue).tag.epoch = 98;
            }),
        ],
    )
}

pub fn rests() -> Vec<&'static str> {
    violated(
        || Decision::of(&Sim::upgraded()),
        &[
            ("the wait is {:?} s", |it| it.made.requeue_after = Some(0)),
            ("no active release in Stable", |it| it.status_from().active_strategy = None),
            ("I16: the front Services do not carry the decision", |it| it.front().epoch -= 1),
            ("I33: both colors have objects", |it| {
                it.storage(Color::Blue).service = ObjectState::Terminating;
            }),
            ("I33: revision without a record: {forgotten:?}", |it| it.know("c", None)),
            ("I30: a resource at rest requeues", |it| it.made.requeue_after = Some(30)),
            ("I33: the active color lacks an object", |it| {
                it.storage(Color::Green).config_map = ObjectState::Absent;
            }),
        ],
    )
}
