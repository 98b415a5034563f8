//! Events outside the operator: actions of users, nodes, controllers and other clients, and faults.

use super::ablation::Ablation;
use super::ages::TimeStep;
use super::interner::Write;
use super::search::{Event, Search};
use super::state::{Cell, ColorObject, Lifecycle, Pod, Revision, State, Target, at, of};
use super::writer::FirstRead;
use api::names::{Color, Component};
use api::status::Step;
use simulator::invariants::Violation;

/// The way in which a Pod fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Break {
    /// It cannot start.
    Fail,
    /// It becomes unready.
    Unready,
    /// Its container restarts.
    Restart,
}

impl Search {
    /// Returns all events that may happen next.
    pub fn events(&self, state: &State) -> Vec<Event> {
        let mut events = vec![];
        for operator in 0..self.config.operators {
            self.operator(state, operator, &mut events);
        }
        controllers(state, &mut events);
        faults(state, self.config.both_components, &mut events);
        user(state, &mut events);
        events
    }

    fn operator(&self, state: &State, operator: u8, events: &mut Vec<Event>) {
        let progress = &state.operators[usize::from(operator)];
        if progress.plan != 0 {
            events.extend(self.open_writes(progress).0.into_iter().map(|n| Event::Write(operator, n)));
            events.push(Event::Crash(operator));
        } else if progress.first_read != 0 {
            events.push(Event::ReadRest(operator));
        } else if state.server.resource.lifecycle != Lifecycle::Absent
            && (operator == 0 || state.budget.reads > 0)
        {
            events.push(Event::Read(operator));
            let first_reads: &[FirstRead] = match self.config.ablation {
                Some(Ablation::NoSecondRead) => &[FirstRead::Resource],
                Some(Ablation::NoFirstRead) => &[FirstRead::AllObjects],
                _ if self.config.split_reads => &[FirstRead::Fronts, FirstRead::Objects],
                _ => &[],
            };
            events.extend(first_reads.iter().map(|first| Event::ReadFirst(operator, *first)));
        }
    }

    /// Returns the state after an event; `None` if the event changes nothing.
    pub fn next_state(&mut self, state: &State, event: Event) -> Result<Option<State>, Violation> {
        let mut next = match event {
            Event::Read(operator) => return self.read(state, usize::from(operator)),
            Event::ReadFirst(operator, first) => {
                return Ok(Some(self.read_first(state, usize::from(operator), first)));
            }
            Event::ReadRest(operator) => return self.read_rest(state, usize::from(operator)),
            Event::Write(operator, n) => self.perform(state, usize::from(operator), n)?,
            Event::Crash(operator) => {
                let mut next = *state;
                next.operators[usize::from(operator)] = super::state::Progress::default();
                next
            }
            other => self.apply(state, other),
        };
        self.normalize(&mut next);
        if next == *state {
            return Ok(None);
        }
        let result = super::state_invariants::check_state(self, &next);
        self.check(result)?;
        Ok(Some(next))
    }

    fn apply(&mut self, state: &State, event: Event) -> State {
        let mut next = *state;
        match event {
            Event::PodsReady(color) => self.become_ready(&mut next, color),
            Event::UpdateSlices => self.slices_follow(&mut next),
            Event::CollectGarbage => collect_garbage(&mut next),
            Event::TimePasses(elapsed) => self.advance_time(&mut next, elapsed),
            Event::BreakPod(component, color, kind) => self.break_pod(&mut next, component, color, kind),
            Event::HealPods(color) => {
                next.budget.heals -= 1;
                self.heal(&mut next, color);
            }
            Event::LoseStatus => {
                next.budget.status_losses -= 1;
                next.server.status = 0;
                (next.history.status_lost, next.history.mark_may_be_late) = (true, true);
                next.history.epoch = 0;
                self.resource_changed(&mut next, None);
            }
            Event::DeleteExternally(target) => self.delete_externally(&mut next, target),
            Event::ChangeSelector(component, color) => {
                next.budget.selector_changes -= 1;
                next.history.externally_changed = true;
                next.server.fronts[of(component)].selects = Some(color);
                self.object_changed(&mut next, usize::MAX, Target::Front(of(component)), false);
            }
            Event::Edit(release) => {
                next.budget.edits -= 1;
                next.server.resource.spec = release;
                next.server.resource.generation += 1;
                self.resource_changed(&mut next, None);
            }
            Event::Rollback(_) | Event::Retry | Event::Restart => {
                next.budget.requests -= 1;
                let resource = &mut next.server.resource;
                match event {
                    Event::Rollback(release) => resource.rollback = release,
                    Event::Retry => resource.retry = true,
                    _ => resource.restart = true,
                }
                self.resource_changed(&mut next, None);
            }
            Event::Delete => {
                next.budget.deletes -= 1;
                next.server.resource.lifecycle = Lifecycle::Terminating;
                self.resource_changed(&mut next, None);
            }
            Event::RemoveResource => self.remove_resource(&mut next),
            Event::Recreate => {
                let resource = &mut next.server.resource;
                (resource.lifecycle, resource.spec, resource.generation) = (Lifecycle::Live, 1, 1);
            }
            Event::Read(_)
            | Event::ReadFirst(..)
            | Event::ReadRest(_)
            | Event::Write(..)
            | Event::Crash(_) => {}
        }
        next
    }

    pub fn slices_follow(&self, state: &mut State) {
        state.server.fronts.iter_mut().for_each(|front| front.listed = front.selects);
        state.history.proof_waived &= self.interner.step(&state.server) == Some(Step::Prune);
    }

    pub fn become_ready(&mut self, state: &mut State, color: Color) {
        for component in 0..2 {
            let cell = &mut state.server.cells[at(color)][component];
            if cell.pod == Pod::Starting {
                cell.pod = Pod::Ready;
                self.pod_changed(state, at(color), component);
            }
        }
    }

    pub fn heal(&mut self, state: &mut State, color: Color) {
        for component in 0..2 {
            let cell = &mut state.server.cells[at(color)][component];
            if matches!(cell.pod, Pod::Failing | Pod::Unready) {
                cell.pod = Pod::Ready;
                self.pod_changed(state, at(color), component);
            }
        }
    }

    fn break_pod(&mut self, state: &mut State, component: Component, color: Color, kind: Break) {
        state.budget.breaks -= 1;
        let cell = state.server.cell_mut(component, color);
        match kind {
            Break::Fail => cell.pod = Pod::Failing,
            Break::Unready => cell.pod = Pod::Unready,
            Break::Restart => cell.restarts += 1,
        }
        if kind != Break::Restart {
            self.pod_changed(state, at(color), of(component));
        }
    }

    pub fn advance_time(&mut self, state: &mut State, elapsed: TimeStep) {
        match elapsed {
            TimeStep::Waits => {}
            TimeStep::Timeout => state.budget.timeouts = state.budget.timeouts.saturating_sub(1),
            TimeStep::ClockBack => state.budget.clock_jumps -= 1,
        }
        state.server.status = self.interner.age(state.server.status, elapsed);
        for front in &mut state.server.fronts {
            front.switched = front.switched.map(|age| age.after(elapsed));
        }
        for operator in &mut state.operators {
            operator.plan = self.interner.age_plan(operator.plan, elapsed);
            if operator.first_read != 0 {
                operator.first_read = self.age_read(operator.first_read, elapsed);
            }
        }
    }

    fn delete_externally(&mut self, state: &mut State, target: Target) {
        state.budget.external_deletes -= 1;
        state.history.externally_changed = true;
        let pods_linger = self.config.pods_linger;
        match target {
            Target::Front(front) => state.server.fronts[front] = super::state::FrontService::default(),
            Target::Revision(record) => state.server.revisions[record] = Revision::default(),
            Target::Object(color, component, 0) => {
                state.server.cells[color][component].lose_deployment(pods_linger);
            }
            Target::Object(color, component, kind) => {
                state.server.cells[color][component].objects[usize::from(kind)] = ColorObject::default();
            }
        }
        self.object_deleted(state, usize::MAX, target);
    }

    /// Deletes the resource. The garbage collector owns its objects from now on.
    fn remove_resource(&mut self, state: &mut State) {
        state.server.resource = super::state::Resource::default();
        state.server.status = 0;
        state.history = super::state::History::default();
        for front in state.server.fronts.iter_mut().filter(|front| front.there) {
            front.orphan = true;
        }
        for kind in state.server.cells.iter_mut().flatten().flat_map(|cell| &mut cell.objects) {
            kind.orphan |= kind.release != 0;
        }
        for record in state.server.revisions.iter_mut().filter(|record| record.number != 0) {
            record.orphan = true;
        }
        self.resource_changed(state, None);
        for operator in state.operators.iter_mut().filter(|operator| operator.plan != 0) {
            operator.orphaned = true;
        }
    }

    /// Clears fields that make no difference any more, so that states with the same future are equal.
    fn normalize(&mut self, state: &mut State) {
        let grace = self
            .interner
            .status(state.server.status)
            .and_then(|status| status.rollout.as_ref())
            .is_some_and(|rollout| rollout.timers.ready_since.is_some());
        let begins = |operator: &super::state::Progress| {
            operator.plan != 0
                && matches!(self.interner.write(operator.plan, 0), Write::UpdateStatus(_))
                && operator.rejected != 0
        };
        if !grace && !state.operators.iter().any(begins) {
            state.server.cells.iter_mut().flatten().for_each(|cell| cell.readiness_changed = false);
        }
    }
}

/// Adds the events of nodes and controllers, and the passage of time.
fn controllers(state: &State, events: &mut Vec<Event>) {
    for color in Color::ALL {
        if state.server.cells[at(color)].iter().any(|cell| cell.pod == Pod::Starting) {
            events.push(Event::PodsReady(color));
        }
    }
    if state.server.fronts.iter().any(|front| front.listed != front.selects) {
        events.push(Event::UpdateSlices);
    }
    events.push(Event::CollectGarbage);
    events.push(Event::TimePasses(TimeStep::Waits));
    if state.budget.timeouts > 0 {
        events.push(Event::TimePasses(TimeStep::Timeout));
    }
    if state.budget.clock_jumps > 0 {
        events.push(Event::TimePasses(TimeStep::ClockBack));
    }
}

/// Adds the faults. They hit storage only, unless `both_components` is set; the core treats both components alike.
fn faults(state: &State, both_components: bool, events: &mut Vec<Event>) {
    let budget = &state.budget;
    if budget.status_losses > 0 && state.server.status != 0 {
        events.push(Event::LoseStatus);
    }
    for color in Color::ALL {
        let sick = |cell: &Cell| matches!(cell.pod, Pod::Failing | Pod::Unready);
        if budget.heals > 0 && state.server.cells[at(color)].iter().any(sick) {
            events.push(Event::HealPods(color));
        }
        for component in Component::ALL.into_iter().take(if both_components { 2 } else { 1 }) {
            match state.server.cell(component, color).pod {
                _ if budget.breaks == 0 => {}
                Pod::Starting => events.push(Event::BreakPod(component, color, Break::Fail)),
                Pod::Ready => {
                    events.push(Event::BreakPod(component, color, Break::Unready));
                    events.push(Event::BreakPod(component, color, Break::Restart));
                }
                Pod::None | Pod::Failing | Pod::Unready => {}
            }
            if budget.selector_changes > 0 && state.server.fronts[of(component)].there {
                events.push(Event::ChangeSelector(component, color));
            }
        }
    }
    if budget.external_deletes > 0 {
        external_deletes(state, events);
    }
}

fn external_deletes(state: &State, events: &mut Vec<Event>) {
    for (n, front) in state.server.fronts.iter().enumerate() {
        events.extend(front.there.then_some(Event::DeleteExternally(Target::Front(n))));
    }
    for (n, record) in state.server.revisions.iter().enumerate() {
        events.extend((record.number != 0).then_some(Event::DeleteExternally(Target::Revision(n))));
    }
    for (color, cells) in state.server.cells.iter().enumerate() {
        for (component, cell) in cells.iter().enumerate() {
            let there = (0..3_u8).filter(|kind| cell.objects[usize::from(*kind)].release != 0);
            events.extend(there.map(|kind| Event::DeleteExternally(Target::Object(color, component, kind))));
        }
    }
}

fn user(state: &State, events: &mut Vec<Event>) {
    let (budget, resource) = (&state.budget, &state.server.resource);
    match resource.lifecycle {
        Lifecycle::Absent => return events.push(Event::Recreate),
        Lifecycle::Terminating => return events.push(Event::RemoveResource),
        Lifecycle::Live => {}
    }
    if budget.edits > 0 {
        events.extend((1..=3).filter(|release| *release != resource.spec).map(Event::Edit));
    }
    if budget.requests > 0 {
        events.extend((1..=4).map(Event::Rollback));
        events.extend([Event::Retry, Event::Restart]);
    }
    if budget.deletes > 0 {
        events.push(Event::Delete);
    }
}

/// Deletes all objects without an owner, as the garbage collector does.
pub fn collect_garbage(state: &mut State) {
    for cell in state.server.cells.iter_mut().flatten() {
        cell.stray = 0;
        if cell.objects[0].orphan {
            cell.lose_deployment(false);
        }
        for kind in cell.objects.iter_mut().filter(|kind| kind.orphan) {
            *kind = ColorObject::default();
        }
    }
    for front in state.server.fronts.iter_mut().filter(|front| front.orphan) {
        *front = super::state::FrontService::default();
    }
    for record in state.server.revisions.iter_mut().filter(|record| record.orphan) {
        *record = Revision::default();
    }
}
