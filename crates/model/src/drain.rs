//! Where a state leads if faults stop: the invariants tagged L. A single operator takes over; pods start,
//! EndpointSlices follow, garbage is collected, time passes; until nothing is due any more.

use std::collections::HashSet;

use super::env::collect;
use super::search::Search;
use super::state::{Ghost, Life, Pod, State, World, fingerprint, name};
use super::tell;
use super::times::Pass;
use super::world::rested;
use api::names::Color;
use api::status::{RecordStatus, Side, Step};

/// So many passes and events bring every state to rest.
const PATIENCE: usize = 400;

impl Search {
    /// Fails unless this state comes to a good rest, with its broken pods as they are, or healed first.
    pub fn comes_to_rest(&mut self, state: &State, healed: bool) -> Result<(), String> {
        let world = &state.world;
        if world.resource.life != Life::Lives {
            return Ok(());
        }
        let Some(end) = self.drain(world, state.ghost, healed, None)? else { return Ok(()) };
        self.is_good_end(&end, healed).map_err(|law| {
            let how = if healed { " with all pods healed" } else { "" };
            format!("{law}\nleft alone{how}, it ends as {}", tell::world(self, &end))
        })
    }

    /// Follows an undisturbed operator to its rest, or until it enters a step. `None`: it meets a world that is known to
    /// end well. Of what is remembered counts whether proof is waived, and a mark may have come too late.
    pub fn drain(
        &mut self,
        world: &World,
        Ghost { waived, unmarked, .. }: Ghost,
        healed: bool,
        until: Option<Step>,
    ) -> Result<Option<World>, String> {
        let mut state = State { world: *world, ..State::default() };
        state.ghost.tampered = self.tables.tampered;
        (state.ghost.waived, state.ghost.unmarked) = (waived, unmarked);
        if healed {
            for color in Color::ALL {
                self.heal(&mut state, color);
            }
        }
        let kind = usize::from(healed);
        let mut path = HashSet::new();
        let mut idle = 0;
        while path.len() < PATIENCE {
            let print = fingerprint(&(state.world, state.ghost.waived, state.ghost.unmarked));
            if until.is_some() && self.tables.step(&state.world) == until {
                return Ok(Some(state.world));
            }
            if until.is_none() && self.drained[kind].contains(&print) {
                self.drained[kind].extend(path);
                return Ok(None);
            }
            if idle == 0 && !path.insert(print) {
                return Err(format!("I30, I37: goes in circles; now {}", tell::world(self, &state.world)));
            }
            let decision = self.tables.decide(&state.world)?;
            let acted = decision.plan != 0 && self.carry_out(&mut state, decision.plan)?;
            if acted || self.nature_acts(&mut state) {
                idle = 0;
            } else if decision.again && idle < 2 {
                self.pass(&mut state, if idle == 0 { Pass::Waits } else { Pass::Timeout });
                idle += 1;
            } else {
                self.drained[kind].extend(path);
                return Ok(Some(state.world));
            }
        }
        Err(format!("I37: never comes to rest; now {}", tell::world(self, &state.world)))
    }

    /// A whole pass; `false` if it changed nothing, since a name is taken.
    fn carry_out(&mut self, state: &mut State, plan: u32) -> Result<bool, String> {
        let before = state.world;
        state.actors[0].plan = plan;
        while state.actors[0].plan == plan {
            let Some(n) = self.open_deeds(&state.actors[0]).0.first().copied() else { break };
            *state = self.write(state, 0, n)?;
        }
        // What an obstacle made it persist is the next pass's business.
        state.actors[0] = super::state::Actor::default();
        Ok(state.world != before)
    }

    /// The next thing that happens by itself, if there is one.
    fn nature_acts(&mut self, state: &mut State) -> bool {
        let before = state.world;
        for color in Color::ALL {
            self.become_ready(state, color);
        }
        self.slices_follow(state);
        collect(state);
        state.world.cells.iter_mut().flatten().for_each(|cell| cell.flapped = false);
        state.world != before
    }

    pub fn is_good_end(&self, end: &World, healed: bool) -> Result<(), String> {
        let status = self.tables.status(end.status).ok_or("I37: ends without a status")?;
        let rollout = status.rollout.as_ref().ok_or("I37: ends without a machine")?;
        let wanted = status.record_of_hash(&simulator::hash(name(end.resource.spec)));
        let serving = status.active();
        let serves_wanted =
            wanted.is_some_and(|wanted| serving.as_ref().is_some_and(|side| side.version == wanted.version));
        let blocked = serving.is_some() && wanted.is_some_and(|wanted| wanted.status == RecordStatus::Failed);
        if rollout.step == Step::Stable {
            rested(self, end)?;
            let asked = end.resource.rollback != 0 || end.resource.retry || end.resource.restart;
            return match (serves_wanted || blocked, asked) {
                (true, false) => Ok(()),
                (true, true) => Err("I24: a request is never answered".into()),
                (false, _) => Err("I26, I37: rests on a release that is not wanted, unblocked".into()),
            };
        }
        if healed {
            return Err(format!("I37: all pods are well, and it stays in {:?}", rollout.step));
        }
        let newer = !blocked && !is_deployed(end, end.resource.spec);
        let auto = self.tables.auto_rollback;
        is_excused(end, rollout.step, newer, auto, serving.as_ref(), rollout.target.as_ref())
    }
}

/// Only these stay where they are while pods are broken: a first release; and, while nothing newer is
/// wanted, a switch that neither side can serve, and a way back to a side that got sick meanwhile. A release that does not
/// go back by itself stays too.
fn is_excused(
    end: &World,
    step: Step,
    newer: bool,
    auto: bool,
    serving: Option<&Side>,
    target: Option<&Side>,
) -> Result<(), String> {
    let sick = |color: Color| end.cells[super::state::at(color)].iter().any(|cell| cell.pod != Pod::Ready);
    let excused = match step {
        Step::Deploying => (serving.is_none() || !auto) && target.is_some_and(|target| sick(target.strategy)),
        Step::Switching | Step::Watching if auto => !newer && sick(Color::Blue) && sick(Color::Green),
        Step::Switching | Step::Watching => {
            !newer && target.or(serving).is_some_and(|new| sick(new.strategy))
        }
        Step::RollingBack => !newer && serving.is_some_and(|serving| sick(serving.strategy)),
        Step::Stable | Step::Prune | Step::Unknown => false,
    };
    if excused { Ok(()) } else { Err(format!("I37: stays in {step:?} without an excuse")) }
}

fn is_deployed(world: &World, release: u8) -> bool {
    world.cells.iter().any(|color| color.iter().all(|cell| cell.deployed() == Some(release)))
}
