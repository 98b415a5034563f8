//! Holds a simulated history to the laws: each decision to those of `laws`, and what only a history shows besides.

use super::Sim;
use super::cluster::Door;
use super::laws::{self, Judgement};
use super::scene::Scene;
use api::names::{Component, PerComponent};
use api::status::{MetadataServicesStatus, Step};
use rollout::facts::ObjectId;
use rollout::{Action, Plan};

/// What is remembered from write to write.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Selector changes of each front Service within this rollout.
    moves: PerComponent<u32>,
    /// The highest epoch seen.
    epoch: i64,
    /// Whether the front Services may differ until the next rest: the status was lost in between.
    pub lost: bool,
}

impl Memory {
    /// With the status, the number of the last decision is gone; what is stamped on objects remains.
    pub fn forget_epoch(&mut self) {
        self.epoch = 0;
    }
}

/// Fails with the story so far.
macro_rules! must {
    ($sim:expr, $holds:expr, $($words:tt)*) => {
        assert!($holds, "{}\n{}", format!($($words)*), $sim.story())
    };
}

fn judge(sim: &Sim, law: impl Fn(&Scene) -> Judgement) {
    let (facts, now) = (sim.facts(), sim.now());
    let (intent, status, tampered, edited) = (&sim.intent, sim.status.as_ref(), sim.tampered, sim.edited);
    let judgement = law(&Scene { intent, status, facts: &facts, now, tampered, edited });
    must!(sim, judgement.is_ok(), "{}", judgement.unwrap_err());
}

pub fn before_commit(sim: &mut Sim, new: &MetadataServicesStatus) {
    judge(sim, |scene| laws::commit(scene, new));
    let Some(rollout) = new.rollout.as_ref() else { return };
    must!(sim, rollout.epoch >= sim.memory.epoch, "I13: epoch {} after {}", rollout.epoch, sim.memory.epoch);
    let old = sim.status.as_ref().and_then(|old| old.rollout.as_ref()).map(|old| old.epoch);
    sim.memory.epoch = rollout.epoch;
    if rollout.step == Step::Deploying && old.is_none_or(|old| old < rollout.epoch) {
        sim.memory.moves = PerComponent::default();
    }
}

pub fn before_action(sim: &mut Sim, action: &Action) {
    judge(sim, |scene| laws::action(scene, action));
    let Action::Route(component, to) = action else { return };
    let front = door(sim, *component).cloned().unwrap_or_default();
    if to.color.is_some() && front.selects != to.color && !sim.tampered {
        *sim.memory.moves.get_mut(*component) += 1;
        let moves = *sim.memory.moves.get(*component);
        must!(sim, moves <= 2 || sim.memory.lost, "I5: the selector of {component} moved {moves} times");
    }
}

pub fn after_write(sim: &Sim) {
    for component in Component::ALL {
        let Some(selects) = door(sim, component).and_then(|door| door.selects) else { continue };
        let cell = sim.cluster.cell(component, selects);
        let lives = cell.deployment.is_some() && !cell.terminating;
        must!(sim, lives || sim.tampered, "I1: {component} selects {selects}, which has no Deployment");
    }
    for component in Component::ALL.into_iter().filter(|_| sim.serves) {
        let served = door(sim, component).and_then(|door| door.selects);
        let ready = served.map(|color| sim.cluster.cell(component, color).pods.iter().any(|pod| pod.ready));
        must!(sim, ready == Some(true), "{component} selects {served:?}, where no pod is ready");
    }
    let routes = |component| door(sim, component).map(|door| (door.selects, &door.version));
    let differ = match (routes(Component::Storage), routes(Component::Schema)) {
        (Some(storage), Some(schema)) => storage != schema,
        _ => false,
    };
    if differ && !sim.tampered && !sim.memory.lost {
        // Prune: only out of a dead end, when another side is kept than was decided on.
        let moving = matches!(sim.step(), Some(Step::Switching | Step::RollingBack | Step::Prune));
        must!(sim, moving, "I4: the fronts differ");
    }
}

pub fn at_rest(sim: &mut Sim, made: &Plan) {
    let barred = !sim.taken.is_empty();
    judge(sim, |scene| laws::rest(scene, made, barred));
    if sim.step() == Some(Step::Stable) && !sim.intent.deleted {
        sim.tampered = false;
        sim.edited = false;
        sim.memory.lost = false;
    }
}

fn door(sim: &Sim, component: Component) -> Option<&Door> {
    sim.cluster.fronts.get(component).as_ref()
}

/// Whether an object of others holds a name that this action needs.
pub fn is_barred(taken: &[ObjectId], action: &Action) -> bool {
    match action {
        Action::Create(id, _) => taken.contains(id),
        Action::CreateFront(component) => taken.contains(&ObjectId::Front(*component)),
        _ => false,
    }
}
