//! An operator as the controller runs it: it reads, decides, and writes with preconditions. The API server rejects a
//! write if its object changed after the read.
//!
//! A read is one event in the model, although it consists of many requests. The operator reads the resource before
//! and after the objects, and an unchanged resource could have been read last. Objects that are read at two instants
//! are modeled by a split read (`read_first` and `read_rest`).

use super::ablation::Ablation;
use super::interner::{Write, grace_begins};
use super::search::Search;
use super::state::{
    Age, ApiState, ColorObject, DEPLOYMENT, FrontService, Lifecycle, Pod, Progress, Revision, State, Target,
    UNBOUNDED,
};
use super::state_invariants::{status_invariants, write_invariants};
use api::names::Color;
use api::status::Step;
use simulator::invariants::Violation;

/// The objects that a split read reads first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FirstRead {
    Fronts,
    Objects,
    /// Only the resource. Without the second read of it, newer objects remain unnoticed.
    Resource,
    /// All objects before the resource: a decision without the first read of it.
    AllObjects,
}

/// The result of a write.
enum Outcome {
    Done,
    Rejected,
    NameTaken,
}

impl Search {
    /// Reads everything and decides. Returns `None` if there is nothing to do.
    pub fn read(&mut self, state: &State, operator: usize) -> Result<Option<State>, Violation> {
        let server = state.server;
        self.decide(state, operator, &server)
    }

    fn decide(
        &mut self,
        state: &State,
        operator: usize,
        seen: &ApiState,
    ) -> Result<Option<State>, Violation> {
        if seen.resource.lifecycle == Lifecycle::Absent {
            return Ok(None);
        }
        let decision = self.interner.decide(seen)?;
        let mut next = *state;
        next.operators[operator] = Progress { plan: decision.plan, ..Progress::default() };
        // The operator has repaired every external change, so the suspended invariants apply again.
        let rests = decision.plan == 0 && self.interner.step(seen) == Some(Step::Stable);
        next.history.externally_changed &= !rests;
        if next == *state {
            return Ok(None);
        }
        let bounded = operator == 1 && next.budget.reads != UNBOUNDED;
        next.budget.reads -= u8::from(bounded);
        Ok(Some(next))
    }

    /// Reads the first half of a split read. The result is valid while the resource does not change.
    pub fn read_first(&mut self, state: &State, operator: usize, first: FirstRead) -> State {
        let mut next = *state;
        let first_read = self.intern_read(first, &state.server);
        next.operators[operator] = Progress { first_read, ..Progress::default() };
        next
    }

    /// Reads the second half and the resource again, and decides.
    pub fn read_rest(&mut self, state: &State, operator: usize) -> Result<Option<State>, Violation> {
        let (first, earlier) =
            self.first_reads[usize::try_from(state.operators[operator].first_read).unwrap()];
        let mut seen = state.server;
        match first {
            FirstRead::Fronts => seen.fronts = earlier.fronts,
            FirstRead::Objects => (seen.cells, seen.revisions) = (earlier.cells, earlier.revisions),
            FirstRead::Resource => (seen.resource, seen.status) = (earlier.resource, earlier.status),
            FirstRead::AllObjects => {
                (seen.fronts, seen.cells, seen.revisions) =
                    (earlier.fronts, earlier.cells, earlier.revisions);
            }
        }
        let next = self.decide(state, operator, &seen)?;
        let outdated = state.operators[operator].failed;
        Ok(next.map(|mut next| {
            let plan = next.operators[operator].plan;
            let guarded = plan != 0
                && matches!(
                    self.interner.write(plan, 0),
                    Write::UpdateStatus(_) | Write::PatchResource { .. }
                );
            if outdated && guarded {
                next.operators[operator] = Progress::default();
            }
            next
        }))
    }

    /// Returns the writes that an operator may do next: the open writes of its first unfinished group. Also returns
    /// whether none of that group is finished.
    pub fn open_writes(&self, operator: &Progress) -> (Vec<u8>, bool) {
        let mut n = 0_u8;
        for group in &self.interner.in_flight(operator.plan).groups {
            let end = n + u8::try_from(group.len()).unwrap();
            let open: Vec<u8> = (n..end).filter(|n| operator.done & (1 << n) == 0).collect();
            if !open.is_empty() {
                let whole = open.len() == group.len();
                return (open, whole);
            }
            n = end;
        }
        (vec![], true)
    }

    /// Carries out one write of an operator.
    pub fn perform(&mut self, state: &State, operator: usize, n: u8) -> Result<State, Violation> {
        let mut next = *state;
        let progress = state.operators[operator];
        let write = self.interner.write(progress.plan, usize::from(n));
        next.operators[operator].done |= 1 << n;
        let outcome = if progress.rejected & (1 << n) == 0 {
            self.execute(&mut next, operator, write)?
        } else {
            Outcome::Rejected
        };
        let progress = &mut next.operators[operator];
        match outcome {
            Outcome::Done => {}
            Outcome::Rejected => progress.failed = true,
            Outcome::NameTaken => progress.name_taken = true,
        }
        self.end_reconcile(&mut next, operator);
        self.skip_rejected(&mut next, operator);
        Ok(next)
    }

    /// Ends a reconcile if its group is finished and failed, or if all writes are finished.
    fn end_reconcile(&mut self, state: &mut State, operator: usize) {
        let progress = state.operators[operator];
        let (open, group_over) = self.open_writes(&progress);
        if progress.plan == 0 || !group_over {
            return;
        }
        if progress.failed {
            state.operators[operator] = Progress::default();
        } else if progress.name_taken {
            let resource = &state.server.resource;
            let plan = if resource.lifecycle == Lifecycle::Live && !progress.orphaned {
                self.interner.explain(&state.server).plan
            } else {
                0
            };
            state.operators[operator] = Progress { plan, ..Progress::default() };
        } else if open.is_empty() {
            state.operators[operator] = Progress::default();
        }
    }

    fn execute(&mut self, state: &mut State, operator: usize, write: Write) -> Result<Outcome, Violation> {
        let result = write_invariants(self, state, operator, write);
        self.check(result)?;
        let orphaned = state.operators[operator].orphaned;
        match write {
            Write::UpdateStatus(_) | Write::PatchResource { .. }
                if orphaned || state.server.resource.lifecycle == Lifecycle::Absent =>
            {
                return Ok(Outcome::Rejected);
            }
            Write::UpdateStatus(status) => self.commit(state, operator, status)?,
            Write::PatchResource { restore, rollback, retry, restart } => {
                let resource = &mut state.server.resource;
                if restore != 0 && resource.spec != restore {
                    resource.spec = restore;
                    resource.generation += 1;
                }
                resource.rollback *= u8::from(!rollback);
                resource.retry &= !retry;
                resource.restart &= !restart;
                self.resource_changed(state, Some(operator));
            }
            Write::CreateFront(_) | Write::CreateObject { .. } => {
                return Ok(self.create(state, operator, write));
            }
            Write::Route { .. } => return Ok(self.point(state, operator, write)),
            Write::RecordRevision { .. } => return Ok(self.record(state, operator, write)),
            Write::RaiseEpoch { color, component, kind, epoch } => {
                let object = &mut state.server.cells[color][component].objects[usize::from(kind)];
                if object.release == 0 {
                    return Ok(Outcome::Rejected);
                }
                object.epoch = epoch;
                self.object_changed(state, operator, Target::Object(color, component, kind), false);
            }
            Write::DeleteObject { color, component, kind } => {
                let pods_linger = self.config.pods_linger;
                let cell = &mut state.server.cells[color][component];
                if kind == DEPLOYMENT {
                    cell.lose_deployment(pods_linger);
                } else {
                    cell.objects[usize::from(kind)] = ColorObject::default();
                }
                self.object_deleted(state, operator, Target::Object(color, component, kind));
            }
            Write::DeleteRevision(at) => {
                state.server.revisions[at] = Revision::default();
                self.object_deleted(state, operator, Target::Revision(at));
            }
        }
        Ok(Outcome::Done)
    }

    /// Returns the result of a create that finds an existing object.
    fn existing_object(&self, orphan: bool) -> Outcome {
        if orphan {
            Outcome::NameTaken
        } else if self.ablated(Ablation::AcceptExistingObject) {
            Outcome::Done
        } else {
            Outcome::Rejected
        }
    }

    fn create(&mut self, state: &mut State, operator: usize, write: Write) -> Outcome {
        let orphan = state.operators[operator].orphaned;
        match write {
            Write::CreateFront(at) => {
                let front = &mut state.server.fronts[at];
                if front.there {
                    return self.existing_object(front.orphan);
                }
                *front = FrontService { there: true, orphan, ..FrontService::default() };
                self.object_changed(state, operator, Target::Front(at), true);
            }
            Write::CreateObject { color, component, kind, release, epoch } => {
                let cell = &mut state.server.cells[color][component];
                let known = &mut cell.objects[usize::from(kind)];
                if known.release != 0 {
                    return self.existing_object(known.orphan);
                }
                *known = ColorObject { release, epoch, orphan };
                if kind == DEPLOYMENT {
                    cell.pod = Pod::Starting;
                }
                self.object_changed(state, operator, Target::Object(color, component, kind), true);
            }
            _ => {}
        }
        Outcome::Done
    }

    fn point(&mut self, state: &mut State, operator: usize, write: Write) -> Outcome {
        let Write::Route { front: at, selects, release, epoch } = write else { return Outcome::Rejected };
        let front = &mut state.server.fronts[at];
        if !front.there {
            return Outcome::Rejected;
        }
        let moved = front.selects != selects;
        *front = FrontService { selects, release, epoch, switched: Some(Age::Fresh), ..*front };
        if moved && !front.orphan && !state.history.externally_changed {
            state.history.selector_changes[at] = (state.history.selector_changes[at] + 1).min(3);
        }
        self.object_changed(state, operator, Target::Front(at), false);
        Outcome::Done
    }

    fn record(&mut self, state: &mut State, operator: usize, write: Write) -> Outcome {
        let Write::RecordRevision { release, failed, number, create } = write else {
            return Outcome::Rejected;
        };
        let at = usize::from(release) - 1;
        let known = state.server.revisions[at];
        if create && known.number != 0 {
            return self.existing_object(known.orphan);
        }
        if !create && known.number == 0 {
            return Outcome::Rejected;
        }
        let number = if number == 0 { known.number } else { number };
        let orphan = if create { state.operators[operator].orphaned } else { known.orphan };
        state.server.revisions[at] = Revision { number, failed, orphan };
        self.object_changed(state, operator, Target::Revision(at), create);
        Outcome::Done
    }

    fn commit(&mut self, state: &mut State, operator: usize, status: u32) -> Result<(), Violation> {
        let result = status_invariants(self, state, status);
        self.check(result)?;
        let rejected = state.operators[operator].rejected;
        let before = self.interner.status(state.server.status);
        let after = self.interner.status(status).unwrap();
        if let Some(color) = grace_begins(before, after) {
            for (component, cell) in state.server.color_mut(color).iter_mut().enumerate() {
                cell.readiness_changed &= rejected & (2 << component) != 0;
            }
        }
        let step = |status: Option<&api::status::MetadataServicesStatus>| {
            status.and_then(|status| Some(status.rollout.as_ref()?.step))
        };
        if step(Some(after)) == Some(Step::Switching) && step(before) != Some(Step::Switching) {
            let target = after.rollout.as_ref().and_then(|rollout| rollout.target.as_ref());
            let color = target.map_or(Color::Blue, |target| target.strategy);
            state
                .server
                .color_mut(color)
                .iter_mut()
                .for_each(|cell| cell.older_than_switch = cell.pod != Pod::None);
        }
        if step(Some(after)) == Some(Step::Stable) {
            state.server.cells.iter_mut().flatten().for_each(|cell| cell.older_than_switch = false);
        }
        state.server.status = status;
        self.resource_changed(state, Some(operator));
        Ok(())
    }

    // === Rejections by the API server ===

    /// Handles a change of the resource: status writes of other operators and incomplete reads are void.
    pub fn resource_changed(&self, state: &mut State, by: Option<usize>) {
        for (n, operator) in state.operators.iter_mut().enumerate() {
            match self.config.ablation {
                // A decision on this read has an old resourceVersion.
                Some(Ablation::NoSecondRead) if operator.first_read != 0 => operator.failed = true,
                Some(Ablation::NoFirstRead) => {}
                _ if operator.first_read != 0 => *operator = Progress::default(),
                _ => {}
            }
            let first = if operator.plan == 0 { None } else { Some(self.interner.write(operator.plan, 0)) };
            let guarded = match first {
                Some(Write::UpdateStatus(_)) => !self.ablated(Ablation::UpdateAnyVersion),
                Some(Write::PatchResource { .. }) => true,
                _ => false,
            };
            if guarded && by != Some(n) {
                *operator = Progress::default();
            }
        }
    }

    /// Handles a changed or created object: writes with an older resourceVersion will be rejected.
    pub fn object_changed(&mut self, state: &mut State, by: usize, target: Target, created: bool) {
        self.reject(state, by, |search, write| match write {
            Write::Route { front, .. } => {
                target == Target::Front(front) && !search.ablated(Ablation::RouteAnyVersion)
            }
            Write::RaiseEpoch { color, component, kind, .. } => {
                target == Target::Object(color, component, kind)
            }
            Write::DeleteObject { color, component, kind } => {
                target == Target::Object(color, component, kind)
                    && !search.ablated(Ablation::DeleteAnything)
                    && (created || !search.ablated(Ablation::DeleteAnyVersion))
            }
            Write::RecordRevision { release, create, .. } => {
                target == Target::Revision(usize::from(release) - 1) && !create
            }
            Write::DeleteRevision(at) => target == Target::Revision(at),
            _ => false,
        });
    }

    /// Handles a deleted object: a patch of it is rejected, a delete of it has no effect.
    pub fn object_deleted(&mut self, state: &mut State, by: usize, target: Target) {
        self.reject(state, by, |_, write| match write {
            Write::Route { front, .. } => target == Target::Front(front),
            Write::RaiseEpoch { color, component, kind, .. } => {
                target == Target::Object(color, component, kind)
            }
            Write::RecordRevision { release, create, .. } => {
                target == Target::Revision(usize::from(release) - 1) && !create
            }
            _ => false,
        });
    }

    /// Handles a change of a Pod's readiness. The status and the version of its Deployment change too.
    pub fn pod_changed(&mut self, state: &mut State, color: usize, component: usize) {
        state.server.cells[color][component].readiness_changed = true;
        for operator in &mut state.operators {
            if operator.plan != 0 && self.begins_grace(operator.plan, color) {
                operator.rejected |= 2 << component;
            }
        }
        self.object_changed(state, usize::MAX, Target::Object(color, component, DEPLOYMENT), false);
    }

    /// Returns whether a plan persists the start of a grace period on this color.
    fn begins_grace(&self, plan: u32, color: usize) -> bool {
        let Write::UpdateStatus(status) = self.interner.write(plan, 0) else { return false };
        let begun = self.interner.status(status).and_then(|status| grace_begins(None, status));
        begun.is_some_and(|begun| super::state::at(begun) == color)
    }

    fn reject(&mut self, state: &mut State, by: usize, is_rejected: impl Fn(&Self, Write) -> bool) {
        for n in 0..state.operators.len() {
            let progress = state.operators[n];
            if progress.plan == 0 {
                continue;
            }
            let writes = self.interner.in_flight(progress.plan).groups.iter().flatten().enumerate();
            let mut rejected = 0_u16;
            for (at, write) in writes {
                if progress.done & (1 << at) == 0 && is_rejected(self, *write) {
                    rejected |= 1 << at;
                }
            }
            state.operators[n].rejected |= rejected;
            if by != n {
                self.skip_rejected(state, n);
            }
        }
    }

    /// Marks the next writes as finished if they will be rejected, because the time of the rejection makes no
    /// difference.
    fn skip_rejected(&mut self, state: &mut State, n: usize) {
        let progress = state.operators[n];
        if progress.plan == 0
            || matches!(
                self.interner.write(progress.plan, 0),
                Write::UpdateStatus(_) | Write::PatchResource { .. }
            )
        {
            return;
        }
        for write in self.open_writes(&progress).0 {
            if progress.rejected & (1 << write) != 0 {
                state.operators[n].done |= 1 << write;
                state.operators[n].rejected &= !(1 << write);
                state.operators[n].failed = true;
            }
        }
        if state.operators[n].failed {
            self.end_reconcile(state, n);
        }
    }
}
