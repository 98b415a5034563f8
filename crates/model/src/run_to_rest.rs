//! The end that a state leads to without further events: the liveness invariants. A single operator reconciles, Pods
//! start, EndpointSlices follow, the garbage collector runs and time passes, until nothing is due.

use std::collections::HashSet;

use super::ages::TimeStep;
use super::environment::collect_garbage;
use super::scenario_text;
use super::search::Search;
use super::state::{ApiState, History, Lifecycle, Pod, State, fingerprint, name};
use super::state_invariants::rest_invariants;
use api::names::Color;
use api::status::{RecordStatus, Side, Step};
use simulator::invariants::Violation;

/// Maximum number of reconciles and events until rest.
const MAX_STEPS: usize = 400;

impl Search {
    /// Fails unless this state comes to a permitted rest, with its failed Pods as they are, or with all Pods healed.
    pub fn comes_to_rest(&mut self, state: &State, healed: bool) -> Result<(), Violation> {
        let server = &state.server;
        if server.resource.lifecycle != Lifecycle::Live {
            return Ok(());
        }
        let Some(end) = self.run_to_rest(server, state.history, healed, None)? else { return Ok(()) };
        self.is_good_end(&end, healed).map_err(|violation| {
            let how = if healed { " with all pods healed" } else { "" };
            format!(
                "{violation}\nwithout further events{how}, the end is {}",
                scenario_text::server(self, &end)
            )
        })
    }

    /// Follows an undisturbed operator to rest, or until it enters a step. Returns `None` if it reaches a state with
    /// a known permitted end. Only `proof_waived` and `mark_may_be_late` of the history matter.
    pub fn run_to_rest(
        &mut self,
        server: &ApiState,
        History { proof_waived, mark_may_be_late, .. }: History,
        healed: bool,
        until: Option<Step>,
    ) -> Result<Option<ApiState>, Violation> {
        let mut state = State { server: *server, ..State::default() };
        state.history.externally_changed = self.interner.externally_changed;
        (state.history.proof_waived, state.history.mark_may_be_late) = (proof_waived, mark_may_be_late);
        if healed {
            for color in Color::ALL {
                self.heal(&mut state, color);
            }
        }
        let kind = usize::from(healed);
        let mut path = HashSet::new();
        let mut idle = 0;
        while path.len() < MAX_STEPS {
            let print =
                fingerprint(&(state.server, state.history.proof_waived, state.history.mark_may_be_late));
            if until.is_some() && self.interner.step(&state.server) == until {
                return Ok(Some(state.server));
            }
            if until.is_none() && self.known_to_rest[kind].contains(&print) {
                self.known_to_rest[kind].extend(path);
                return Ok(None);
            }
            if idle == 0 && !path.insert(print) {
                return Err(format!(
                    "I30, I37: reconciles repeat the same states; now {}",
                    scenario_text::server(self, &state.server)
                ));
            }
            let decision = self.interner.decide(&state.server)?;
            let acted = decision.plan != 0 && self.carry_out(&mut state, decision.plan)?;
            if acted || self.controllers_act(&mut state) {
                idle = 0;
            } else if decision.requeues && idle < 2 {
                self.advance_time(&mut state, if idle == 0 { TimeStep::Waits } else { TimeStep::Timeout });
                idle += 1;
            } else {
                self.known_to_rest[kind].extend(path);
                return Ok(Some(state.server));
            }
        }
        Err(format!("I37: never comes to rest; now {}", scenario_text::server(self, &state.server)))
    }

    /// Carries out all writes of a plan. Returns `false` if they changed nothing, because a name is taken.
    fn carry_out(&mut self, state: &mut State, plan: u32) -> Result<bool, Violation> {
        let before = state.server;
        state.operators[0].plan = plan;
        while state.operators[0].plan == plan {
            let Some(n) = self.open_writes(&state.operators[0]).0.first().copied() else { break };
            *state = self.perform(state, 0, n)?;
        }
        // A status write after a rejected create is the work of the next reconcile.
        state.operators[0] = super::state::Progress::default();
        Ok(state.server != before)
    }

    /// Lets nodes and controllers act. Returns whether anything changed.
    fn controllers_act(&mut self, state: &mut State) -> bool {
        let before = state.server;
        for color in Color::ALL {
            self.become_ready(state, color);
        }
        self.slices_follow(state);
        collect_garbage(state);
        state.server.cells.iter_mut().flatten().for_each(|cell| cell.readiness_changed = false);
        state.server != before
    }

    pub fn is_good_end(&self, end: &ApiState, healed: bool) -> Result<(), Violation> {
        let status = self.interner.status(end.status).ok_or("I37: ends without a status")?;
        let rollout = status.rollout.as_ref().ok_or("I37: ends without a rollout in the status")?;
        let wanted = status.record_of_hash(&simulator::hash(name(end.resource.spec)));
        let active = status.active();
        let wanted_is_active =
            wanted.is_some_and(|wanted| active.as_ref().is_some_and(|side| side.version == wanted.version));
        let blocked = active.is_some() && wanted.is_some_and(|wanted| wanted.status == RecordStatus::Failed);
        if rollout.step == Step::Stable {
            rest_invariants(self, end)?;
            let asked = end.resource.rollback != 0 || end.resource.retry || end.resource.restart;
            return match (wanted_is_active || blocked, asked) {
                (true, false) => Ok(()),
                (true, true) => Err("I24: a request remains without an answer".into()),
                (false, _) => {
                    Err("I26, I37: rests on an unwanted release although the wanted one is not blocked"
                        .into())
                }
            };
        }
        if healed {
            return Err(format!("I37: stays in {:?} although all Pods are healthy", rollout.step));
        }
        let newer = !blocked && !is_deployed(end, end.resource.spec);
        let auto = self.interner.auto_rollback;
        may_stay(end, rollout.step, newer, auto, active.as_ref(), rollout.target.as_ref())
    }
}

/// Fails unless the operator may stay in this step while Pods are failed.
///
/// These cases are permitted: a first release; a release without automatic rollback; and, if the spec asks for no
/// newer release, a switch with two unhealthy colors and a rollback to a color that became unhealthy.
fn may_stay(
    end: &ApiState,
    step: Step,
    newer: bool,
    auto: bool,
    active: Option<&Side>,
    target: Option<&Side>,
) -> Result<(), Violation> {
    let unhealthy =
        |color: Color| end.cells[super::state::at(color)].iter().any(|cell| cell.pod != Pod::Ready);
    let permitted = match step {
        Step::Deploying => {
            (active.is_none() || !auto) && target.is_some_and(|target| unhealthy(target.strategy))
        }
        Step::Switching | Step::Watching if auto => {
            !newer && unhealthy(Color::Blue) && unhealthy(Color::Green)
        }
        Step::Switching | Step::Watching => {
            !newer && target.or(active).is_some_and(|new| unhealthy(new.strategy))
        }
        Step::RollingBack => !newer && active.is_some_and(|active| unhealthy(active.strategy)),
        Step::Stable | Step::Prune | Step::Unknown => false,
    };
    if permitted { Ok(()) } else { Err(format!("I37: stays in {step:?} without a permitted reason")) }
}

fn is_deployed(server: &ApiState, release: u8) -> bool {
    server.cells.iter().any(|color| color.iter().all(|cell| cell.deployed() == Some(release)))
}
