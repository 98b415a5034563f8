//! What others may do at any time: users, nodes, controllers, another hand, and misfortune.

use super::ablation::Ablation;
use super::search::{Search, Turn};
use super::shell::Half;
use super::state::{Cell, Life, Part, Pod, Record, State, Target, at, of};
use super::tables::Deed;
use super::times::Pass;
use api::names::{Color, Component};
use api::status::Step;

/// How a pod goes bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Break {
    /// It cannot start.
    Fail,
    /// It loses its readiness.
    Unready,
    /// Its container ends and is started again.
    Restart,
}

impl Search {
    /// Everything that may happen next.
    pub fn turns(&self, state: &State) -> Vec<Turn> {
        let mut turns = vec![];
        for actor in 0..self.config.operators {
            self.operator(state, actor, &mut turns);
        }
        nature(state, &mut turns);
        misfortune(state, self.config.fine, &mut turns);
        user(state, &mut turns);
        turns
    }

    fn operator(&self, state: &State, actor: u8, turns: &mut Vec<Turn>) {
        let doer = &state.actors[usize::from(actor)];
        if doer.plan != 0 {
            turns.extend(self.open_deeds(doer).0.into_iter().map(|n| Turn::Write(actor, n)));
            turns.push(Turn::Crash(actor));
        } else if doer.look != 0 {
            turns.push(Turn::LookRest(actor));
        } else if state.world.resource.life != Life::Gone && (actor == 0 || state.budget.looks > 0) {
            turns.push(Turn::Look(actor));
            let halves: &[Half] = match self.config.ablation {
                Some(Ablation::NoSecondRead) => &[Half::Resource],
                Some(Ablation::NoFirstRead) => &[Half::World],
                _ if self.config.torn => &[Half::Doors, Half::Objects],
                _ => &[],
            };
            turns.extend(halves.iter().map(|half| Turn::LookFirst(actor, *half)));
        }
    }

    /// The state after a turn; `None` if it changes nothing.
    pub fn take(&mut self, state: &State, turn: Turn) -> Result<Option<State>, String> {
        let mut next = match turn {
            Turn::Look(actor) => return self.look(state, usize::from(actor)),
            Turn::LookFirst(actor, half) => {
                return Ok(Some(self.look_first(state, usize::from(actor), half)));
            }
            Turn::LookRest(actor) => return self.look_rest(state, usize::from(actor)),
            Turn::Write(actor, n) => self.write(state, usize::from(actor), n)?,
            Turn::Crash(actor) => {
                let mut next = *state;
                next.actors[usize::from(actor)] = super::state::Actor::default();
                next
            }
            other => self.happen(state, other),
        };
        self.level(&mut next);
        if next == *state {
            return Ok(None);
        }
        let judgement = super::world::check(self, &next);
        self.heed(judgement)?;
        Ok(Some(next))
    }

    fn happen(&mut self, state: &State, turn: Turn) -> State {
        let mut next = *state;
        match turn {
            Turn::Ready(color) => self.become_ready(&mut next, color),
            Turn::Slices => self.slices_follow(&mut next),
            Turn::Collect => collect(&mut next),
            Turn::Pass(pass) => self.pass(&mut next, pass),
            Turn::Break(component, color, kind) => self.go_bad(&mut next, component, color, kind),
            Turn::Heal(color) => {
                next.budget.heals -= 1;
                self.heal(&mut next, color);
            }
            Turn::Wipe => {
                next.budget.losses -= 1;
                next.world.status = 0;
                (next.ghost.lost, next.ghost.unmarked) = (true, true);
                next.ghost.epoch = 0;
                self.resource_changed(&mut next, None);
            }
            Turn::Remove(target) => self.remove(&mut next, target),
            Turn::Drift(component, color) => {
                next.budget.drifts -= 1;
                next.ghost.tampered = true;
                next.world.doors[of(component)].selects = Some(color);
                self.touched(&mut next, usize::MAX, Target::Door(of(component)), false);
            }
            Turn::Edit(release) => {
                next.budget.edits -= 1;
                next.world.resource.spec = release;
                next.world.resource.generation += 1;
                self.resource_changed(&mut next, None);
            }
            Turn::Rollback(_) | Turn::Retry | Turn::Restart => {
                next.budget.asks -= 1;
                let resource = &mut next.world.resource;
                match turn {
                    Turn::Rollback(release) => resource.rollback = release,
                    Turn::Retry => resource.retry = true,
                    _ => resource.restart = true,
                }
                self.resource_changed(&mut next, None);
            }
            Turn::Delete => {
                next.budget.deletes -= 1;
                next.world.resource.life = Life::Leaves;
                self.resource_changed(&mut next, None);
            }
            Turn::Leave => self.leave(&mut next),
            Turn::Recreate => {
                let resource = &mut next.world.resource;
                (resource.life, resource.spec, resource.generation) = (Life::Lives, 1, 1);
            }
            Turn::Look(_) | Turn::LookFirst(..) | Turn::LookRest(_) | Turn::Write(..) | Turn::Crash(_) => {}
        }
        next
    }

    pub fn slices_follow(&self, state: &mut State) {
        state.world.doors.iter_mut().for_each(|door| door.listed = door.selects);
        state.ghost.waived &= self.tables.step(&state.world) == Some(Step::Prune);
    }

    pub fn become_ready(&mut self, state: &mut State, color: Color) {
        for component in 0..2 {
            let cell = &mut state.world.cells[at(color)][component];
            if cell.pod == Pod::Starting {
                cell.pod = Pod::Ready;
                self.pod_changed(state, at(color), component);
            }
        }
    }

    pub fn heal(&mut self, state: &mut State, color: Color) {
        for component in 0..2 {
            let cell = &mut state.world.cells[at(color)][component];
            if matches!(cell.pod, Pod::Failing | Pod::Unready) {
                cell.pod = Pod::Ready;
                self.pod_changed(state, at(color), component);
            }
        }
    }

    fn go_bad(&mut self, state: &mut State, component: Component, color: Color, kind: Break) {
        state.budget.breaks -= 1;
        let cell = state.world.cell_mut(component, color);
        match kind {
            Break::Fail => cell.pod = Pod::Failing,
            Break::Unready => cell.pod = Pod::Unready,
            Break::Restart => cell.restarts += 1,
        }
        if kind != Break::Restart {
            self.pod_changed(state, at(color), of(component));
        }
    }

    pub fn pass(&mut self, state: &mut State, pass: Pass) {
        match pass {
            Pass::Waits => {}
            Pass::Timeout => state.budget.timeouts = state.budget.timeouts.saturating_sub(1),
            Pass::Back => state.budget.jumps -= 1,
        }
        state.world.status = self.tables.age(state.world.status, pass);
        for door in &mut state.world.doors {
            door.switched = door.switched.map(|age| age.after(pass));
        }
        for actor in &mut state.actors {
            actor.plan = self.tables.age_plan(actor.plan, pass);
            if actor.look != 0 {
                actor.look = self.age_look(actor.look, pass);
            }
        }
    }

    fn remove(&mut self, state: &mut State, target: Target) {
        state.budget.hands -= 1;
        state.ghost.tampered = true;
        let lag = self.config.lag;
        match target {
            Target::Door(door) => state.world.doors[door] = super::state::Door::default(),
            Target::Record(record) => state.world.records[record] = Record::default(),
            Target::Part(color, component, 0) => state.world.cells[color][component].lose_deployment(lag),
            Target::Part(color, component, part) => {
                state.world.cells[color][component].parts[usize::from(part)] = Part::default();
            }
        }
        self.gone(state, usize::MAX, target);
    }

    /// The resource is gone; its objects are the garbage collector's.
    fn leave(&mut self, state: &mut State) {
        state.world.resource = super::state::Resource::default();
        state.world.status = 0;
        state.ghost = super::state::Ghost::default();
        for door in state.world.doors.iter_mut().filter(|door| door.there) {
            door.orphan = true;
        }
        for part in state.world.cells.iter_mut().flatten().flat_map(|cell| &mut cell.parts) {
            part.orphan |= part.release != 0;
        }
        for record in state.world.records.iter_mut().filter(|record| record.number != 0) {
            record.orphan = true;
        }
        self.resource_changed(state, None);
        for actor in state.actors.iter_mut().filter(|actor| actor.plan != 0) {
            actor.bereft = true;
        }
    }

    /// Forgets what makes no difference any more, so that equal futures are one state.
    fn level(&mut self, state: &mut State) {
        let grace = self
            .tables
            .status(state.world.status)
            .and_then(|status| status.rollout.as_ref())
            .is_some_and(|rollout| rollout.timers.ready_since.is_some());
        let begins = |actor: &super::state::Actor| {
            actor.plan != 0 && matches!(self.tables.deed(actor.plan, 0), Deed::Commit(_)) && actor.doomed != 0
        };
        if !grace && !state.actors.iter().any(begins) {
            state.world.cells.iter_mut().flatten().for_each(|cell| cell.flapped = false);
        }
    }
}

/// What nodes and controllers do sooner or later, and time.
fn nature(state: &State, turns: &mut Vec<Turn>) {
    for color in Color::ALL {
        if state.world.cells[at(color)].iter().any(|cell| cell.pod == Pod::Starting) {
            turns.push(Turn::Ready(color));
        }
    }
    if state.world.doors.iter().any(|door| door.listed != door.selects) {
        turns.push(Turn::Slices);
    }
    turns.push(Turn::Collect);
    turns.push(Turn::Pass(Pass::Waits));
    if state.budget.timeouts > 0 {
        turns.push(Turn::Pass(Pass::Timeout));
    }
    if state.budget.jumps > 0 {
        turns.push(Turn::Pass(Pass::Back));
    }
}

/// `fine`: to either component, else to storage only (the core treats them alike).
fn misfortune(state: &State, fine: bool, turns: &mut Vec<Turn>) {
    let budget = &state.budget;
    if budget.losses > 0 && state.world.status != 0 {
        turns.push(Turn::Wipe);
    }
    for color in Color::ALL {
        let sick = |cell: &Cell| matches!(cell.pod, Pod::Failing | Pod::Unready);
        if budget.heals > 0 && state.world.cells[at(color)].iter().any(sick) {
            turns.push(Turn::Heal(color));
        }
        for component in Component::ALL.into_iter().take(if fine { 2 } else { 1 }) {
            match state.world.cell(component, color).pod {
                _ if budget.breaks == 0 => {}
                Pod::Starting => turns.push(Turn::Break(component, color, Break::Fail)),
                Pod::Ready => {
                    turns.push(Turn::Break(component, color, Break::Unready));
                    turns.push(Turn::Break(component, color, Break::Restart));
                }
                Pod::None | Pod::Failing | Pod::Unready => {}
            }
            if budget.drifts > 0 && state.world.doors[of(component)].there {
                turns.push(Turn::Drift(component, color));
            }
        }
    }
    if budget.hands > 0 {
        removals(state, turns);
    }
}

fn removals(state: &State, turns: &mut Vec<Turn>) {
    for (n, door) in state.world.doors.iter().enumerate() {
        turns.extend(door.there.then_some(Turn::Remove(Target::Door(n))));
    }
    for (n, record) in state.world.records.iter().enumerate() {
        turns.extend((record.number != 0).then_some(Turn::Remove(Target::Record(n))));
    }
    for (color, cells) in state.world.cells.iter().enumerate() {
        for (component, cell) in cells.iter().enumerate() {
            let there = (0..3_u8).filter(|part| cell.parts[usize::from(*part)].release != 0);
            turns.extend(there.map(|part| Turn::Remove(Target::Part(color, component, part))));
        }
    }
}

fn user(state: &State, turns: &mut Vec<Turn>) {
    let (budget, resource) = (&state.budget, &state.world.resource);
    match resource.life {
        Life::Gone => return turns.push(Turn::Recreate),
        Life::Leaves => return turns.push(Turn::Leave),
        Life::Lives => {}
    }
    if budget.edits > 0 {
        turns.extend((1..=3).filter(|release| *release != resource.spec).map(Turn::Edit));
    }
    if budget.asks > 0 {
        turns.extend((1..=4).map(Turn::Rollback));
        turns.extend([Turn::Retry, Turn::Restart]);
    }
    if budget.deletes > 0 {
        turns.push(Turn::Delete);
    }
}

/// The garbage collector: what has no owner any more goes.
pub fn collect(state: &mut State) {
    for cell in state.world.cells.iter_mut().flatten() {
        cell.stray = 0;
        if cell.parts[0].orphan {
            cell.lose_deployment(false);
        }
        for part in cell.parts.iter_mut().filter(|part| part.orphan) {
            *part = Part::default();
        }
    }
    for door in state.world.doors.iter_mut().filter(|door| door.orphan) {
        *door = super::state::Door::default();
    }
    for record in state.world.records.iter_mut().filter(|record| record.orphan) {
        *record = Record::default();
    }
}
