//! Checks of a simulated history: the invariants of each decision, and the invariants that need the history.

use super::Sim;
use super::cluster_state::FrontService;
use super::invariants::{self, Violation};
use super::plan_input::PlanInput;
use api::names::{Component, PerComponent};
use api::status::{MetadataServicesStatus, Step};
use rollout::facts::ObjectId;
use rollout::{Action, Plan};

/// State that the checks keep between writes.
#[derive(Clone, Debug, Default)]
pub struct CheckState {
    /// Number of selector changes of each front Service in the current rollout.
    selector_changes: PerComponent<u32>,
    /// The highest epoch so far.
    epoch: i64,
    /// True if the status was lost since the last rest. The front Services may differ until then.
    pub status_lost: bool,
}

impl CheckState {
    /// Forgets the last epoch, because it is lost with the status. Epochs on objects remain.
    pub fn forget_epoch(&mut self) {
        self.epoch = 0;
    }
}

/// Fails with the trace if the condition is false.
macro_rules! ensure {
    ($sim:expr, $holds:expr, $($words:tt)*) => {
        assert!($holds, "{}\n{}", format!($($words)*), $sim.trace_text())
    };
}

fn check(sim: &Sim, invariant: impl Fn(&PlanInput) -> Result<(), Violation>) {
    let (facts, now) = (sim.facts(), sim.now());
    let (intent, status, externally_changed, status_edited) =
        (&sim.intent, sim.status.as_ref(), sim.externally_changed, sim.status_edited);
    let result =
        invariant(&PlanInput { intent, status, facts: &facts, now, externally_changed, status_edited });
    ensure!(sim, result.is_ok(), "{}", result.unwrap_err());
}

pub fn before_commit(sim: &mut Sim, new: &MetadataServicesStatus) {
    check(sim, |input| invariants::status_update(input, new));
    let Some(rollout) = new.rollout.as_ref() else { return };
    ensure!(
        sim,
        rollout.epoch >= sim.checks.epoch,
        "I13: epoch {} after {}",
        rollout.epoch,
        sim.checks.epoch
    );
    let old = sim.status.as_ref().and_then(|old| old.rollout.as_ref()).map(|old| old.epoch);
    sim.checks.epoch = rollout.epoch;
    if rollout.step == Step::Deploying && old.is_none_or(|old| old < rollout.epoch) {
        sim.checks.selector_changes = PerComponent::default();
    }
}

pub fn before_action(sim: &mut Sim, action: &Action) {
    check(sim, |input| invariants::action(input, action));
    if let Action::Delete(id) | Action::Adopt(id) | Action::RaiseEpoch(id, _) = action {
        let stamped = !sim.cluster.unstamped.contains_key(id);
        ensure!(sim, stamped, "I46: {action:?}, but an earlier operator made the object");
    }
    let Action::Route(component, to) = action else { return };
    let front = front(sim, *component).cloned().unwrap_or_default();
    if to.color.is_some() && front.selects != to.color && !sim.externally_changed {
        *sim.checks.selector_changes.get_mut(*component) += 1;
        let changes = *sim.checks.selector_changes.get(*component);
        ensure!(
            sim,
            changes <= 2 || sim.checks.status_lost,
            "I5: the selector of {component} changed {changes} times"
        );
    }
}

pub fn after_write(sim: &Sim) {
    for component in Component::ALL {
        let Some(selects) = front(sim, component).and_then(|front| front.selects) else { continue };
        let cell = sim.cluster.cell(component, selects);
        let lives = cell.deployment.is_some() && !cell.terminating;
        ensure!(
            sim,
            lives || sim.externally_changed,
            "I1: {component} selects {selects}, which has no Deployment"
        );
    }
    for component in Component::ALL.into_iter().filter(|_| sim.must_serve) {
        let served = front(sim, component).and_then(|front| front.selects);
        let ready = served.map(|color| sim.cluster.cell(component, color).pods.iter().any(|pod| pod.ready));
        ensure!(sim, ready == Some(true), "{component} selects {served:?}, where no pod is ready");
    }
    let routes = |component| front(sim, component).map(|front| (front.selects, &front.version));
    let differ = match (routes(Component::Storage), routes(Component::Schema)) {
        (Some(storage), Some(schema)) => storage != schema,
        _ => false,
    };
    // Adopted front Services differ in their release for a moment, and select one color.
    let adopts = sim.status.as_ref().is_none_or(|status| status.rollout.is_none());
    if differ && !adopts && !sim.externally_changed && !sim.checks.status_lost {
        // In Prune only to resolve a deadlock, where the operator keeps another color than it decided before.
        let moving = matches!(sim.step(), Some(Step::Switching | Step::RollingBack | Step::Prune));
        ensure!(sim, moving, "I4: the front Services differ");
    }
}

pub fn at_rest(sim: &mut Sim, made: &Plan) {
    let name_taken = !sim.taken_names.is_empty();
    check(sim, |input| invariants::at_rest(input, made, name_taken));
    if sim.step() == Some(Step::Stable) && !sim.intent.deleted {
        sim.externally_changed = false;
        sim.status_edited = false;
        sim.checks.status_lost = false;
    }
}

fn front(sim: &Sim, component: Component) -> Option<&FrontService> {
    sim.cluster.fronts.get(component).as_ref()
}

/// Returns whether an action needs a name that a foreign object uses.
pub fn needs_taken_name(taken: &[ObjectId], action: &Action) -> bool {
    match action {
        Action::Create(id, _) => taken.contains(id),
        Action::CreateFront(component) => taken.contains(&ObjectId::Front(*component)),
        _ => false,
    }
}

/// Returns the kind of an action, for counts.
pub fn kind(action: &Action) -> &'static str {
    match action {
        Action::CreateFront(_) => "CreateFront",
        Action::Route(..) => "Route",
        Action::Create(..) => "Create",
        Action::Adopt(_) => "Adopt",
        Action::AdoptFront(..) => "AdoptFront",
        Action::AdoptUnstamped(..) => "AdoptUnstamped",
        Action::RaiseEpoch(..) => "RaiseEpoch",
        Action::RecordRevision { .. } => "RecordRevision",
        Action::Delete(_) => "Delete",
        Action::ApplySetting(_) => "ApplySetting",
        Action::ApplyServiceAccount => "ApplyServiceAccount",
    }
}
