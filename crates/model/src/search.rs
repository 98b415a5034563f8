//! Breadth-first search of everything that may happen, with the way to each state remembered, so that a broken law
//! comes with the shortest scenario that breaks it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};

use super::ablation::Ablation;
use super::env::Break;
use super::shell::Half;
use super::state::{Budget, Ghost, Life, Release, State, Target, World, fingerprint, name};
use super::tables::{Deed, Tables};
use super::tell;
use super::times::Pass;
use api::names::{Color, Component};
use api::status::Step;
use simulator::laws::Judgement;

/// Where a search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A resource that was just created.
    Fresh,
    /// Release `a` serves, settled.
    Stable,
    /// Release `b` serves, `a` is what a rollback would go to.
    Upgraded,
    /// From `a` to `b`, when this step has just been decided.
    At(Step),
}

/// What is searched.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // independent switches of a search
pub struct Config {
    pub name: &'static str,
    pub start: Start,
    /// One, or two that both believe they lead.
    pub operators: u8,
    pub budget: Budget,
    /// Whether a look reads front Services and other objects at two instants.
    pub torn: bool,
    /// Whether pods outlive their Deployment for a while.
    pub lag: bool,
    /// Whether either component breaks, not only storage.
    pub fine: bool,
    /// Whether a bad release goes back by itself.
    pub auto_rollback: bool,
    /// The guard that is taken away.
    pub ablation: Option<Ablation>,
    /// Whether decisions are held to the laws. Without it, only what comes of them counts.
    pub judged: bool,
    /// The only law whose breach is looked for, by the beginning of its words; others are passed over.
    pub only: Option<&'static str>,
    /// The search ends with so many states; a search that is cut says so.
    pub limit: usize,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Look(u8),
    LookFirst(u8, Half),
    LookRest(u8),
    Write(u8, u8),
    Crash(u8),
    Ready(Color),
    Slices,
    Collect,
    Pass(Pass),
    Break(Component, Color, Break),
    Heal(Color),
    Wipe,
    Remove(Target),
    Drift(Component, Color),
    Edit(Release),
    Rollback(Release),
    Retry,
    Restart,
    Delete,
    Leave,
    Recreate,
}

/// A law that does not hold, and how that comes about.
#[derive(Clone, Debug)]
pub struct Broken {
    pub law: String,
    pub scenario: String,
}

/// What a search found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// Distinct states.
    pub states: usize,
    /// Turns from the start to the farthest of them.
    pub depth: usize,
    /// Transitions.
    pub turns: usize,
    /// Distinct worlds from which an undisturbed operator was followed to its rest.
    pub worlds: usize,
    /// Whether every state was visited.
    pub whole: bool,
}

/// Fingerprints are mixed well already.
#[derive(Default)]
pub struct Plain(u64);

impl Hasher for Plain {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed so")
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Prints<T> = HashMap<u64, T, BuildHasherDefault<Plain>>;

/// A search under way.
pub struct Search {
    pub config: Config,
    pub tables: Tables,
    /// First halves of looks; number 0 is none.
    pub looks: Vec<(Half, World)>,
    look_numbers: HashMap<(Half, World), u32>,
    /// Worlds that are known to come to a good rest, healed first or not.
    pub drained: [HashSet<u64, BuildHasherDefault<Plain>>; 2],
    /// Whether to follow every world to its rest.
    pub drains: bool,
    seen: Prints<u32>,
    /// The turn that led to each state, and the state before it.
    way: Vec<(u32, Turn)>,
}

impl Search {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tables: Tables::new(&config),
            looks: vec![(Half::World, World::default())],
            look_numbers: HashMap::new(),
            drained: Default::default(),
            drains: true,
            seen: HashMap::default(),
            way: vec![],
        }
    }

    pub fn ablated(&self, ablation: Ablation) -> bool {
        self.config.ablation == Some(ablation)
    }

    /// Passes over a breach of a law that is not looked for.
    pub fn heed(&self, judgement: Judgement) -> Judgement {
        match (judgement, self.config.only) {
            (Err(law), Some(only)) if !is_of(&law, only) => Ok(()),
            (judgement, _) => judgement,
        }
    }

    /// The number of the first half of a look.
    pub fn intern_look(&mut self, half: Half, world: &World) -> u32 {
        let next = u32::try_from(self.looks.len()).unwrap();
        let number = *self.look_numbers.entry((half, *world)).or_insert(next);
        if number == next {
            self.looks.push((half, *world));
        }
        number
    }

    pub fn age_look(&mut self, look: u32, pass: Pass) -> u32 {
        let (half, mut world) = self.looks[usize::try_from(look).unwrap()];
        world.status = self.tables.age(world.status, pass);
        for door in &mut world.doors {
            door.switched = door.switched.map(|age| age.after(pass));
        }
        self.intern_look(half, &world)
    }

    /// Whether a release served, as far as the status tells.
    pub fn served(&self, world: &World, release: Release) -> bool {
        let status = self.tables.status(world.status);
        let record = status.and_then(|status| status.record(name(release)));
        record.is_some_and(|record| record.activated_at.is_some())
    }

    pub fn start(&mut self) -> Result<State, Broken> {
        let mut state = State::default();
        let resource = &mut state.world.resource;
        (resource.life, resource.spec, resource.generation) = (Life::Lives, 1, 1);
        let settle = |search: &mut Self, state: &mut State| {
            let settled = search.drain(&state.world, Ghost::default(), false, None);
            let settled = settled.map_err(|law| Broken { law, scenario: String::new() })?;
            state.world = settled.unwrap_or(state.world);
            Ok(())
        };
        if self.config.start != Start::Fresh {
            settle(self, &mut state)?;
        }
        match self.config.start {
            Start::Fresh | Start::Stable => {}
            Start::Upgraded => {
                (state.world.resource.spec, state.world.resource.generation) = (2, 2);
                settle(self, &mut state)?;
            }
            Start::At(step) => {
                (state.world.resource.spec, state.world.resource.generation) = (2, 2);
                let reached = self.drain(&state.world, Ghost::default(), false, Some(step));
                let reached = reached.map_err(|law| Broken { law, scenario: String::new() })?;
                state.world = reached.unwrap_or_else(|| panic!("{step:?} is not reached"));
                self.drained = Default::default();
            }
        }
        state.ghost = Ghost::default();
        state.budget = self.config.budget;
        Ok(state)
    }

    /// Visits everything.
    pub fn run(&mut self) -> Result<Found, Broken> {
        let start = self.start()?;
        let mut found = Found { whole: true, ..Found::default() };
        let mut frontier = VecDeque::from([(start, 0_u32, 0_usize)]);
        self.seen.insert(fingerprint(&start), 0);
        self.way.push((0, Turn::Recreate));
        while let Some((state, at, depth)) = frontier.pop_front() {
            found.depth = found.depth.max(depth);
            self.rests(&state).map_err(|law| self.broken(&start, at, None, law))?;
            for turn in self.turns(&state) {
                let next = self.take(&state, turn).map_err(|law| self.broken(&start, at, Some(turn), law))?;
                let Some(next) = next else { continue };
                found.turns += 1;
                let number = u32::try_from(self.way.len()).unwrap();
                let print = fingerprint(&next);
                if *self.seen.entry(print).or_insert(number) == number {
                    self.way.push((at, turn));
                    frontier.push_back((next, number, depth + 1));
                }
            }
            if self.way.len() >= self.config.limit {
                found.whole = false;
                break;
            }
        }
        found.states = self.way.len();
        found.worlds = self.drained[0].len();
        Ok(found)
    }

    /// The laws about where a state leads if it is left alone.
    fn rests(&mut self, state: &State) -> Result<(), String> {
        if !self.drains {
            return Ok(());
        }
        for healed in [false, true] {
            let judgement = self.comes_to_rest(state, healed);
            self.heed(judgement)?;
        }
        Ok(())
    }

    fn broken(&mut self, start: &State, at: u32, last: Option<Turn>, law: String) -> Broken {
        let mut turns: Vec<Turn> = last.into_iter().collect();
        let mut at = at;
        while at != 0 {
            let (before, turn) = self.way[usize::try_from(at).unwrap()];
            turns.push(turn);
            at = before;
        }
        turns.reverse();
        let mut text = String::new();
        let mut state = *start;
        for (n, turn) in turns.iter().enumerate() {
            let words = tell::turn(self, &state, *turn);
            let _ = writeln!(text, "{:>4}. {words}", n + 1);
            if let Ok(Some(next)) = self.take(&state, *turn) {
                state = next;
                let _ = writeln!(text, "      {}", tell::state(self, &state));
            }
        }
        Broken { law, scenario: text }
    }

    /// What a deed is, for a scenario.
    pub fn deed_of(&self, state: &State, actor: u8, n: u8) -> Deed {
        self.tables.deed(state.actors[usize::from(actor)].plan, usize::from(n))
    }
}

/// Whether the words of a breach begin with this law, or name it among the first.
pub fn is_of(words: &str, law: &str) -> bool {
    let named = words.split(':').next().unwrap_or_default();
    named.split(", ").any(|name| name == law)
}
