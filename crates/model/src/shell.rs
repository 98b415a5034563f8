//! An operator as the shell runs it (`controller::{pass, live, write}`): look, decide, write with preconditions, look
//! again. What another does between its look and its write, the API server holds against it.
//!
//! The look is one step here, although it is many requests: the resource is read before and after, and since it did not
//! change in between, the pass might as well have read it last. That the objects are not read at one instant is what a
//! torn look models ([`look_first`] and [`look_rest`]).

use super::ablation::Ablation;
use super::search::Search;
use super::state::{Actor, Age, DEPLOYMENT, Door, Life, Part, Pod, Record, State, Target, UNBOUNDED, World};
use super::tables::{Deed, grace_begins};
use super::world::{committed, landed};
use api::names::Color;
use api::status::Step;

/// Which part of the objects a torn look reads first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    Doors,
    Objects,
    /// The resource alone; without the second read of it, newer objects do not show.
    Resource,
    /// All objects before the resource: what is decided without the first read of it.
    World,
}

/// What a write came to.
enum Outcome {
    Done,
    Refused,
    Taken,
}

impl Search {
    /// A whole look and the decision. `None`: there is nothing to do.
    pub fn look(&mut self, state: &State, actor: usize) -> Result<Option<State>, String> {
        let world = state.world;
        self.decide(state, actor, &world)
    }

    fn decide(&mut self, state: &State, actor: usize, seen: &World) -> Result<Option<State>, String> {
        if seen.resource.life == Life::Gone {
            return Ok(None);
        }
        let decision = self.tables.decide(seen)?;
        let mut next = *state;
        next.actors[actor] = Actor { plan: decision.plan, ..Actor::default() };
        // Nothing is left to mend: from here on the laws ask as of any resource.
        let rests = decision.plan == 0 && self.tables.step(seen) == Some(Step::Stable);
        next.ghost.tampered &= !rests;
        if next == *state {
            return Ok(None);
        }
        let bounded = actor == 1 && next.budget.looks != UNBOUNDED;
        next.budget.looks -= u8::from(bounded);
        Ok(Some(next))
    }

    /// The first half of a torn look: it is remembered, while the resource does not change.
    pub fn look_first(&mut self, state: &State, actor: usize, half: Half) -> State {
        let mut next = *state;
        let look = self.intern_look(half, &state.world);
        next.actors[actor] = Actor { look, ..Actor::default() };
        next
    }

    /// The second half, the resource read again, and the decision.
    pub fn look_rest(&mut self, state: &State, actor: usize) -> Result<Option<State>, String> {
        let (half, held) = self.looks[usize::try_from(state.actors[actor].look).unwrap()];
        let mut seen = state.world;
        match half {
            Half::Doors => seen.doors = held.doors,
            Half::Objects => (seen.cells, seen.records) = (held.cells, held.records),
            Half::Resource => (seen.resource, seen.status) = (held.resource, held.status),
            Half::World => (seen.doors, seen.cells, seen.records) = (held.doors, held.cells, held.records),
        }
        let next = self.decide(state, actor, &seen)?;
        let outdated = state.actors[actor].failed;
        Ok(next.map(|mut next| {
            let plan = next.actors[actor].plan;
            let guarded = plan != 0
                && matches!(self.tables.deed(plan, 0), Deed::Commit(_) | Deed::ResourcePatch { .. });
            if outdated && guarded {
                next.actors[actor] = Actor::default();
            }
            next
        }))
    }

    /// The writes that an operator may do next: those of the first group that is not over. Also whether none of that
    /// group is over yet.
    pub fn open_deeds(&self, actor: &Actor) -> (Vec<u8>, bool) {
        let mut n = 0_u8;
        for group in &self.tables.in_flight(actor.plan).groups {
            let end = n + u8::try_from(group.len()).unwrap();
            let open: Vec<u8> = (n..end).filter(|n| actor.done & (1 << n) == 0).collect();
            if !open.is_empty() {
                let whole = open.len() == group.len();
                return (open, whole);
            }
            n = end;
        }
        (vec![], true)
    }

    /// One write of an operator.
    pub fn write(&mut self, state: &State, actor: usize, n: u8) -> Result<State, String> {
        let mut next = *state;
        let doer = state.actors[actor];
        let deed = self.tables.deed(doer.plan, usize::from(n));
        next.actors[actor].done |= 1 << n;
        let outcome = if doer.doomed & (1 << n) == 0 {
            self.execute(&mut next, actor, deed)?
        } else {
            Outcome::Refused
        };
        let doer = &mut next.actors[actor];
        match outcome {
            Outcome::Done => {}
            Outcome::Refused => doer.failed = true,
            Outcome::Taken => doer.taken = true,
        }
        self.conclude(&mut next, actor);
        self.give_way(&mut next, actor);
        Ok(next)
    }

    /// Ends a pass whose group is over and failed, or that has nothing left to do.
    fn conclude(&mut self, state: &mut State, actor: usize) {
        let doer = state.actors[actor];
        let (open, group_over) = self.open_deeds(&doer);
        if doer.plan == 0 || !group_over {
            return;
        }
        if doer.failed {
            state.actors[actor] = Actor::default();
        } else if doer.taken {
            let resource = &state.world.resource;
            let plan = if resource.life == Life::Lives && !doer.bereft {
                self.tables.explain(&state.world).plan
            } else {
                0
            };
            state.actors[actor] = Actor { plan, ..Actor::default() };
        } else if open.is_empty() {
            state.actors[actor] = Actor::default();
        }
    }

    fn execute(&mut self, state: &mut State, actor: usize, deed: Deed) -> Result<Outcome, String> {
        let judgement = landed(self, state, actor, deed);
        self.heed(judgement)?;
        let bereft = state.actors[actor].bereft;
        match deed {
            Deed::Commit(_) | Deed::ResourcePatch { .. }
                if bereft || state.world.resource.life == Life::Gone =>
            {
                return Ok(Outcome::Refused);
            }
            Deed::Commit(status) => self.commit(state, actor, status)?,
            Deed::ResourcePatch { restore, rollback, retry, restart } => {
                let resource = &mut state.world.resource;
                if restore != 0 && resource.spec != restore {
                    resource.spec = restore;
                    resource.generation += 1;
                }
                resource.rollback *= u8::from(!rollback);
                resource.retry &= !retry;
                resource.restart &= !restart;
                self.resource_changed(state, Some(actor));
            }
            Deed::CreateDoor(_) | Deed::Create { .. } => return Ok(self.create(state, actor, deed)),
            Deed::Point { .. } => return Ok(self.point(state, actor, deed)),
            Deed::Record { .. } => return Ok(self.record(state, actor, deed)),
            Deed::Stamp { color, component, part, epoch } => {
                let object = &mut state.world.cells[color][component].parts[usize::from(part)];
                if object.release == 0 {
                    return Ok(Outcome::Refused);
                }
                object.epoch = epoch;
                self.touched(state, actor, Target::Part(color, component, part), false);
            }
            Deed::DeletePart { color, component, part } => {
                let lag = self.config.lag;
                let cell = &mut state.world.cells[color][component];
                if part == DEPLOYMENT {
                    cell.lose_deployment(lag);
                } else {
                    cell.parts[usize::from(part)] = Part::default();
                }
                self.gone(state, actor, Target::Part(color, component, part));
            }
            Deed::DeleteRecord(at) => {
                state.world.records[at] = Record::default();
                self.gone(state, actor, Target::Record(at));
            }
        }
        Ok(Outcome::Done)
    }

    /// What a create meets that is not the first: an object of the resource, or of one that is gone.
    fn met(&self, orphan: bool) -> Outcome {
        if orphan {
            Outcome::Taken
        } else if self.ablated(Ablation::TakeWhatExists) {
            Outcome::Done
        } else {
            Outcome::Refused
        }
    }

    fn create(&mut self, state: &mut State, actor: usize, deed: Deed) -> Outcome {
        let orphan = state.actors[actor].bereft;
        match deed {
            Deed::CreateDoor(at) => {
                let door = &mut state.world.doors[at];
                if door.there {
                    return self.met(door.orphan);
                }
                *door = Door { there: true, orphan, ..Door::default() };
                self.touched(state, actor, Target::Door(at), true);
            }
            Deed::Create { color, component, part, release, epoch } => {
                let cell = &mut state.world.cells[color][component];
                let known = &mut cell.parts[usize::from(part)];
                if known.release != 0 {
                    return self.met(known.orphan);
                }
                *known = Part { release, epoch, orphan };
                if part == DEPLOYMENT {
                    cell.pod = Pod::Starting;
                }
                self.touched(state, actor, Target::Part(color, component, part), true);
            }
            _ => {}
        }
        Outcome::Done
    }

    fn point(&mut self, state: &mut State, actor: usize, deed: Deed) -> Outcome {
        let Deed::Point { door: at, selects, release, epoch } = deed else { return Outcome::Refused };
        let door = &mut state.world.doors[at];
        if !door.there {
            return Outcome::Refused;
        }
        let moved = door.selects != selects;
        *door = Door { selects, release, epoch, switched: Some(Age::Fresh), ..*door };
        if moved && !door.orphan && !state.ghost.tampered {
            state.ghost.moves[at] = (state.ghost.moves[at] + 1).min(3);
        }
        self.touched(state, actor, Target::Door(at), false);
        Outcome::Done
    }

    fn record(&mut self, state: &mut State, actor: usize, deed: Deed) -> Outcome {
        let Deed::Record { release, failed, number, create } = deed else { return Outcome::Refused };
        let at = usize::from(release) - 1;
        let known = state.world.records[at];
        if create && known.number != 0 {
            return self.met(known.orphan);
        }
        if !create && known.number == 0 {
            return Outcome::Refused;
        }
        let number = if number == 0 { known.number } else { number };
        let orphan = if create { state.actors[actor].bereft } else { known.orphan };
        state.world.records[at] = Record { number, failed, orphan };
        self.touched(state, actor, Target::Record(at), create);
        Outcome::Done
    }

    fn commit(&mut self, state: &mut State, actor: usize, status: u32) -> Result<(), String> {
        let judgement = committed(self, state, status);
        self.heed(judgement)?;
        let doomed = state.actors[actor].doomed;
        let before = self.tables.status(state.world.status);
        let after = self.tables.status(status).unwrap();
        if let Some(color) = grace_begins(before, after) {
            for (component, cell) in state.world.color_mut(color).iter_mut().enumerate() {
                cell.flapped &= doomed & (2 << component) != 0;
            }
        }
        let step = |status: Option<&api::status::MetadataServicesStatus>| {
            status.and_then(|status| Some(status.rollout.as_ref()?.step))
        };
        if step(Some(after)) == Some(Step::Switching) && step(before) != Some(Step::Switching) {
            let target = after.rollout.as_ref().and_then(|rollout| rollout.target.as_ref());
            let color = target.map_or(Color::Blue, |target| target.strategy);
            state.world.color_mut(color).iter_mut().for_each(|cell| cell.settled = cell.pod != Pod::None);
        }
        if step(Some(after)) == Some(Step::Stable) {
            state.world.cells.iter_mut().flatten().for_each(|cell| cell.settled = false);
        }
        state.world.status = status;
        self.resource_changed(state, Some(actor));
        Ok(())
    }

    // === What the API server holds against those who looked before ===

    /// The resource changed: decisions that were to be persisted are void, and so are looks that are not complete.
    pub fn resource_changed(&self, state: &mut State, by: Option<usize>) {
        for (n, actor) in state.actors.iter_mut().enumerate() {
            match self.config.ablation {
                // What is decided on it has an old resourceVersion.
                Some(Ablation::NoSecondRead) if actor.look != 0 => actor.failed = true,
                Some(Ablation::NoFirstRead) => {}
                _ if actor.look != 0 => *actor = Actor::default(),
                _ => {}
            }
            let first = if actor.plan == 0 { None } else { Some(self.tables.deed(actor.plan, 0)) };
            let guarded = match first {
                Some(Deed::Commit(_)) => !self.ablated(Ablation::CommitAnyVersion),
                Some(Deed::ResourcePatch { .. }) => true,
                _ => false,
            };
            if guarded && by != Some(n) {
                *actor = Actor::default();
            }
        }
    }

    /// An object was changed, or created: writes that were decided on what was there before are refused.
    pub fn touched(&mut self, state: &mut State, by: usize, target: Target, created: bool) {
        self.doom(state, by, |search, deed| match deed {
            Deed::Point { door, .. } => {
                target == Target::Door(door) && !search.ablated(Ablation::PointAnyVersion)
            }
            Deed::Stamp { color, component, part, .. } => target == Target::Part(color, component, part),
            Deed::DeletePart { color, component, part } => {
                target == Target::Part(color, component, part)
                    && !search.ablated(Ablation::DeleteAnything)
                    && (created || !search.ablated(Ablation::DeleteAnyVersion))
            }
            Deed::Record { release, create, .. } => {
                target == Target::Record(usize::from(release) - 1) && !create
            }
            Deed::DeleteRecord(at) => target == Target::Record(at),
            _ => false,
        });
    }

    /// An object is gone: a patch of it is refused, a delete of it has nothing to do.
    pub fn gone(&mut self, state: &mut State, by: usize, target: Target) {
        self.doom(state, by, |_, deed| match deed {
            Deed::Point { door, .. } => target == Target::Door(door),
            Deed::Stamp { color, component, part, .. } => target == Target::Part(color, component, part),
            Deed::Record { release, create, .. } => {
                target == Target::Record(usize::from(release) - 1) && !create
            }
            _ => false,
        });
    }

    /// A pod changed its readiness, and with it the status and the version of its Deployment.
    pub fn pod_changed(&mut self, state: &mut State, color: usize, component: usize) {
        state.world.cells[color][component].flapped = true;
        for actor in &mut state.actors {
            if actor.plan != 0 && self.begins_grace(actor.plan, color) {
                actor.doomed |= 2 << component;
            }
        }
        self.touched(state, usize::MAX, Target::Part(color, component, DEPLOYMENT), false);
    }

    /// Whether a plan persists the beginning of a grace period on this color.
    fn begins_grace(&self, plan: u32, color: usize) -> bool {
        let Deed::Commit(status) = self.tables.deed(plan, 0) else { return false };
        let begun = self.tables.status(status).and_then(|status| grace_begins(None, status));
        begun.is_some_and(|begun| super::state::at(begun) == color)
    }

    fn doom(&mut self, state: &mut State, by: usize, is_doomed: impl Fn(&Self, Deed) -> bool) {
        for n in 0..state.actors.len() {
            let doer = state.actors[n];
            if doer.plan == 0 {
                continue;
            }
            let deeds = self.tables.in_flight(doer.plan).groups.iter().flatten().enumerate();
            let mut doomed = 0_u16;
            for (at, deed) in deeds {
                if doer.done & (1 << at) == 0 && is_doomed(self, *deed) {
                    doomed |= 1 << at;
                }
            }
            state.actors[n].doomed |= doomed;
            if by != n {
                self.give_way(state, n);
            }
        }
    }

    /// Writes that are next and will be refused may as well have been: it makes no difference when.
    fn give_way(&mut self, state: &mut State, n: usize) {
        let doer = state.actors[n];
        if doer.plan == 0
            || matches!(self.tables.deed(doer.plan, 0), Deed::Commit(_) | Deed::ResourcePatch { .. })
        {
            return;
        }
        for deed in self.open_deeds(&doer).0 {
            if doer.doomed & (1 << deed) != 0 {
                state.actors[n].done |= 1 << deed;
                state.actors[n].doomed &= !(1 << deed);
                state.actors[n].failed = true;
            }
        }
        if state.actors[n].failed {
            self.conclude(state, n);
        }
    }
}
