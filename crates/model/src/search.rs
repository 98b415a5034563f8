//! Breadth-first search of all events. It keeps the predecessor of each state, so that a violation comes with the
//! shortest scenario.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};

use super::ablation::Ablation;
use super::ages::TimeStep;
use super::environment::Break;
use super::interner::{Interner, Write};
use super::scenario_text;
use super::state::{ApiState, Budget, History, Lifecycle, Release, State, Target, fingerprint, name};
use super::writer::FirstRead;
use api::names::{Color, Component};
use api::status::Step;
use simulator::invariants::Violation;

/// The start of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A resource that was just created.
    Fresh,
    /// Release `a` is active, at rest.
    Stable,
    /// Release `b` is active, at rest. Release `a` is the rollback target.
    Upgraded,
    /// An upgrade from `a` to `b`, right after the decision for this step.
    At(Step),
}

/// The bounds and checks of a search.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // independent switches of a search
pub struct Config {
    pub name: &'static str,
    pub start: Start,
    /// Number of operators, 1 or 2. Two operators both believe that they lead.
    pub operators: u8,
    pub budget: Budget,
    /// True if an operator may read front Services and other objects at two instants.
    pub split_reads: bool,
    /// True if Pods outlive their Deployment for a while.
    pub pods_linger: bool,
    /// True if both components may fail, not only storage.
    pub both_components: bool,
    /// True if a bad release is rolled back automatically.
    pub auto_rollback: bool,
    /// The removed guard.
    pub ablation: Option<Ablation>,
    /// True if decisions are checked against the invariants. Without it, only their effects are.
    pub check_decisions: bool,
    /// The number of the only invariant that is checked. All other violations are ignored.
    pub only_invariant: Option<&'static str>,
    /// Maximum number of states. A search that reaches it reports that it is cut.
    pub limit: usize,
}

/// An event of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Read(u8),
    ReadFirst(u8, FirstRead),
    ReadRest(u8),
    Write(u8, u8),
    Crash(u8),
    PodsReady(Color),
    UpdateSlices,
    CollectGarbage,
    TimePasses(TimeStep),
    BreakPod(Component, Color, Break),
    HealPods(Color),
    LoseStatus,
    DeleteExternally(Target),
    ChangeSelector(Component, Color),
    Edit(Release),
    Rollback(Release),
    Retry,
    Restart,
    Delete,
    RemoveResource,
    Recreate,
}

/// A violation and the scenario that leads to it.
#[derive(Clone, Debug)]
pub struct Counterexample {
    pub violation: String,
    pub scenario: String,
}

/// The size of a search.
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchResult {
    /// Number of distinct states.
    pub states: usize,
    /// Number of events from the start to the farthest state.
    pub depth: usize,
    /// Number of transitions.
    pub transitions: usize,
    /// Number of distinct API states from which an undisturbed operator was followed to rest.
    pub api_states: usize,
    /// True if every state was visited.
    pub complete: bool,
}

/// A hasher for fingerprints, which are well mixed already.
#[derive(Default)]
pub struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
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

type FingerprintMap<T> = HashMap<u64, T, BuildHasherDefault<IdentityHasher>>;

/// A running search.
pub struct Search {
    pub config: Config,
    pub interner: Interner,
    /// First halves of reads; number 0 is none.
    pub first_reads: Vec<(FirstRead, ApiState)>,
    read_numbers: HashMap<(FirstRead, ApiState), u32>,
    /// Fingerprints of states with a known permitted rest; the second set with all Pods healed first.
    pub known_to_rest: [HashSet<u64, BuildHasherDefault<IdentityHasher>>; 2],
    /// True if every state is followed to rest.
    pub follows_to_rest: bool,
    seen: FingerprintMap<u32>,
    /// The event that led to each state, and the number of the state before it.
    predecessors: Vec<(u32, Event)>,
}

impl Search {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            interner: Interner::new(&config),
            first_reads: vec![(FirstRead::AllObjects, ApiState::default())],
            read_numbers: HashMap::new(),
            known_to_rest: Default::default(),
            follows_to_rest: true,
            seen: HashMap::default(),
            predecessors: vec![],
        }
    }

    pub fn ablated(&self, ablation: Ablation) -> bool {
        self.config.ablation == Some(ablation)
    }

    /// Ignores violations of other invariants than the selected one.
    pub fn check(&self, result: Result<(), Violation>) -> Result<(), Violation> {
        match (result, self.config.only_invariant) {
            (Err(violation), Some(only)) if !is_of(&violation, only) => Ok(()),
            (result, _) => result,
        }
    }

    /// Returns the number of the first half of a read.
    pub fn intern_read(&mut self, first: FirstRead, server: &ApiState) -> u32 {
        let next = u32::try_from(self.first_reads.len()).unwrap();
        let number = *self.read_numbers.entry((first, *server)).or_insert(next);
        if number == next {
            self.first_reads.push((first, *server));
        }
        number
    }

    pub fn age_read(&mut self, first_read: u32, elapsed: TimeStep) -> u32 {
        let (first, mut server) = self.first_reads[usize::try_from(first_read).unwrap()];
        server.status = self.interner.age(server.status, elapsed);
        for front in &mut server.fronts {
            front.switched = front.switched.map(|age| age.after(elapsed));
        }
        self.intern_read(first, &server)
    }

    /// Returns whether the status records that a release has served.
    pub fn served(&self, server: &ApiState, release: Release) -> bool {
        let status = self.interner.status(server.status);
        let record = status.and_then(|status| status.record(name(release)));
        record.is_some_and(|record| record.activated_at.is_some())
    }

    pub fn start(&mut self) -> Result<State, Counterexample> {
        let mut state = State::default();
        let resource = &mut state.server.resource;
        (resource.lifecycle, resource.spec, resource.generation) = (Lifecycle::Live, 1, 1);
        let rest = |search: &mut Self, state: &mut State| {
            let settled = search.run_to_rest(&state.server, History::default(), false, None);
            let settled =
                settled.map_err(|violation| Counterexample { violation, scenario: String::new() })?;
            state.server = settled.unwrap_or(state.server);
            Ok(())
        };
        if self.config.start != Start::Fresh {
            rest(self, &mut state)?;
        }
        match self.config.start {
            Start::Fresh | Start::Stable => {}
            Start::Upgraded => {
                (state.server.resource.spec, state.server.resource.generation) = (2, 2);
                rest(self, &mut state)?;
            }
            Start::At(step) => {
                (state.server.resource.spec, state.server.resource.generation) = (2, 2);
                let reached = self.run_to_rest(&state.server, History::default(), false, Some(step));
                let reached =
                    reached.map_err(|violation| Counterexample { violation, scenario: String::new() })?;
                state.server = reached.unwrap_or_else(|| panic!("{step:?} is not reached"));
                self.known_to_rest = Default::default();
            }
        }
        state.history = History::default();
        state.budget = self.config.budget;
        Ok(state)
    }

    /// Visits all states.
    pub fn run(&mut self) -> Result<SearchResult, Counterexample> {
        let start = self.start()?;
        let mut found = SearchResult { complete: true, ..SearchResult::default() };
        let mut frontier = VecDeque::from([(start, 0_u32, 0_usize)]);
        self.seen.insert(fingerprint(&start), 0);
        self.predecessors.push((0, Event::Recreate));
        while let Some((state, at, depth)) = frontier.pop_front() {
            found.depth = found.depth.max(depth);
            self.check_rest(&state).map_err(|violation| self.counterexample(&start, at, None, violation))?;
            for event in self.events(&state) {
                let next = self
                    .next_state(&state, event)
                    .map_err(|violation| self.counterexample(&start, at, Some(event), violation))?;
                let Some(next) = next else { continue };
                found.transitions += 1;
                let number = u32::try_from(self.predecessors.len()).unwrap();
                let print = fingerprint(&next);
                if *self.seen.entry(print).or_insert(number) == number {
                    self.predecessors.push((at, event));
                    frontier.push_back((next, number, depth + 1));
                }
            }
            if self.predecessors.len() >= self.config.limit {
                found.complete = false;
                break;
            }
        }
        found.states = self.predecessors.len();
        found.api_states = self.known_to_rest[0].len();
        Ok(found)
    }

    /// Checks the end that a state leads to.
    fn check_rest(&mut self, state: &State) -> Result<(), Violation> {
        if !self.follows_to_rest {
            return Ok(());
        }
        for healed in [false, true] {
            let result = self.comes_to_rest(state, healed);
            self.check(result)?;
        }
        Ok(())
    }

    fn counterexample(
        &mut self,
        start: &State,
        at: u32,
        last: Option<Event>,
        violation: String,
    ) -> Counterexample {
        let mut events: Vec<Event> = last.into_iter().collect();
        let mut at = at;
        while at != 0 {
            let (before, event) = self.predecessors[usize::try_from(at).unwrap()];
            events.push(event);
            at = before;
        }
        events.reverse();
        let mut text = String::new();
        let mut state = *start;
        for (n, event) in events.iter().enumerate() {
            let line = scenario_text::event(self, &state, *event);
            let _ = writeln!(text, "{:>4}. {line}", n + 1);
            if let Ok(Some(next)) = self.next_state(&state, *event) {
                state = next;
                let _ = writeln!(text, "      {}", scenario_text::state(self, &state));
            }
        }
        Counterexample { violation, scenario: text }
    }

    /// Returns a write of an operator, for a scenario.
    pub fn write_of(&self, state: &State, operator: u8, n: u8) -> Write {
        self.interner.write(state.operators[usize::from(operator)].plan, usize::from(n))
    }
}

/// Returns whether a violation names this invariant among its numbers.
pub fn is_of(violation: &str, invariant: &str) -> bool {
    let named = violation.split(':').next().unwrap_or_default();
    named.split(", ").any(|name| name == invariant)
}
