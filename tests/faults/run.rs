//! Runs a scenario behind a proxy, undisturbed or under one fault.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::Value;
use testbed::proxy::{Fault, Plan, Proxy, Write};
use testbed::{History, Kind, Operator, Timeline, watcher};

use crate::bench::Bench;
use crate::case::Case;
use crate::deed::{Deed, at_rest};
use crate::end::{Counts, End, counts, end, is_ours, unnumbered};
use crate::judge::{self, Seen};
use crate::scenario::{Cue, NAME, Scenario};

/// How long a run may take beyond the undisturbed one (I37).
const BEYOND: Duration = Duration::from_secs(30);

/// How many times a lateness of the API server itself may delay a run: the request is given up, and tried again later.
const LATENESS: u32 = 4;

/// How long an undisturbed run may take, on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long any run may take, however late the API server is.
const LONGEST: Duration = Duration::from_secs(240);

/// How long nothing may happen before a run counts as ended.
const QUIET: Duration = Duration::from_millis(600);

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How an undisturbed run went.
pub struct Reference {
    /// Its writes.
    pub writes: Vec<Write>,
    /// How long it took.
    pub seconds: f64,
    /// The state at the end.
    pub end: End,
    /// What was created and deleted.
    pub counts: Counts,
}

impl Reference {
    /// What its writes are: `PATCH services`.
    pub fn kinds(&self) -> Vec<String> {
        self.writes.iter().map(|write| format!("{} {}", write.target.verb, write.target.resource)).collect()
    }
}

/// How a run under a fault went.
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// What is wrong.
    pub violations: Vec<String>,
    /// Whether its faults had an effect.
    pub struck: bool,
    /// How long it took.
    pub seconds: f64,
    /// By how much the API server was late with its answers, all together.
    pub late: Duration,
    writes: Vec<Write>,
    log: PathBuf,
}

/// A scenario that is being played.
struct Play<'a> {
    bench: &'a Bench,
    namespace: String,
    scenario: Scenario,
    timeline: Timeline,
    proxy: Proxy,
    operator: Operator,
    log: PathBuf,
    start: Instant,
    /// How much of the story is told.
    told: usize,
    /// The resource was deleted.
    deleted: bool,
}

impl Bench {
    /// Plays a scenario without faults.
    pub async fn undisturbed(&self, scenario: Scenario) -> Reference {
        let mut play = self.set_up(format!("reference-{scenario}"), scenario, Plan::default()).await;
        let ended = play.go(PATIENCE, |_| true).await;
        let seconds = play.start.elapsed().as_secs_f64();
        let history = play.history().await;
        let events = play.events().await;
        assert!(ended, "{scenario} did not end by itself; see {}", play.log.display());
        let seen = play.seen(&history, events, &[]);
        let violations = judge::invariants(&seen);
        assert!(violations.is_empty(), "{scenario} undisturbed: {violations:#?}");
        assert!(!seen.events.is_empty(), "{scenario} tells nothing");
        Reference {
            writes: play.proxy.writes(),
            seconds,
            end: end(&history, &play.namespace),
            counts: counts(&history, &play.namespace),
        }
    }

    /// Plays a case and compares it with the undisturbed run.
    pub async fn run(&self, case: &Case, reference: &Reference) -> Outcome {
        let mut play = self.set_up(case.namespace(), case.scenario, case.plan()).await;
        let namespace = play.namespace.clone();
        let faults = case.faults();
        let beyond = BEYOND * u32::try_from(faults.len()).unwrap();
        let patience = Duration::from_secs_f64(reference.seconds) + beyond;
        let anyhow = case.fault == Fault::Delete;
        // What was held up may have cost a number; the judge says whether it did.
        let held = faults.iter().any(|fault| matches!(fault, Fault::Delay(_)));
        let right = |is: End| is == reference.end || (held && unnumbered(&is) == unnumbered(&reference.end));
        let ended = play.go(patience, |history| anyhow || right(end(history, &namespace))).await;
        let seconds = play.start.elapsed().as_secs_f64();
        let history = play.history().await;
        let events = play.events().await;
        let mut violations = judge::judge(&play.seen(&history, events, &faults), reference);
        let late = play.proxy.lateness();
        if !ended {
            violations.push(format!(
                "I37: not at the end of the undisturbed run within {patience:.1?}; the API server was late by {late:.1?}"
            ));
        }
        if !play.operator.is_running() {
            violations.push("the operator ended by itself".to_owned());
        }
        let writes = play.proxy.writes();
        let felt = play.proxy.felt();
        let struck = faults.iter().all(|fault| felt.contains(fault));
        Outcome { case: *case, violations, struck, seconds, late, writes, log: play.log.clone() }
    }

    async fn set_up(&self, namespace: String, scenario: Scenario, plan: Plan) -> Play<'_> {
        let timeline = Timeline::start(self.client.clone(), Some(&namespace)).await.unwrap();
        let kubeconfig = self.dir.join(format!("{namespace}.kubeconfig"));
        let proxy = Proxy::start(&self.upstream, &kubeconfig, plan).await.unwrap();
        let log = self.dir.join(format!("{namespace}.log"));
        let first = scenario.story().iter().take_while(|(cue, _)| *cue == Cue::Start);
        let mut told = 0;
        for (_, deed) in first {
            deed.act(&self.client, &namespace, scenario).await;
            told += 1;
        }
        let start = Instant::now();
        let operator = self.operator(&namespace, &proxy, &log);
        Play { bench: self, namespace, scenario, timeline, proxy, operator, log, start, told, deleted: false }
    }
}

impl Play<'_> {
    /// Plays until the story is told, everything rests, `right` says that it rests where it should, and nothing
    /// happens any more.
    async fn go(&mut self, patience: Duration, right: impl Fn(&History) -> bool) -> bool {
        let mut quiet: Option<(usize, Instant)> = None;
        while self.start.elapsed() < (patience + LATENESS * self.proxy.lateness()).min(LONGEST) {
            self.obey().await;
            let history = self.timeline.history();
            self.tell(&history).await;
            let size = history.entries().len();
            let idle = self.is_told() && self.proxy.is_idle();
            if !idle {
                quiet = None;
                continue;
            }
            match quiet {
                Some((seen, since)) if seen == size => {
                    if since.elapsed() > QUIET {
                        return true;
                    }
                }
                _ => quiet = (self.rests(&history) && right(&history)).then(|| (size, Instant::now())),
            }
        }
        false
    }

    /// Does what the proxy asks for, if it asks within a moment.
    async fn obey(&mut self) {
        let Ok(halt) = tokio::time::timeout(LOOK, self.proxy.halt()).await else { return };
        if halt.fault == Fault::Delete {
            self.act(Deed::Delete).await;
            return halt.done();
        }
        self.operator.kill();
        halt.done();
        self.operator = self.bench.operator(&self.namespace, &self.proxy, &self.log);
    }

    /// Tells the next part of the story when it is time.
    async fn tell(&mut self, history: &History) {
        let next = self.scenario.story().get(self.told).filter(|(cue, _)| cue.is_given(history));
        if let Some((_, deed)) = next {
            self.told += 1;
            self.act(*deed).await;
        }
    }

    async fn act(&mut self, deed: Deed) {
        deed.act(&self.bench.client, &self.namespace, self.scenario).await;
        self.deleted |= deed == Deed::Delete;
    }

    fn is_told(&self) -> bool {
        self.deleted || self.told == self.scenario.story().len()
    }

    fn rests(&self, history: &History) -> bool {
        let owner = history.live(Kind::MetadataServices, NAME);
        if !self.deleted {
            return owner.is_some_and(|owner| at_rest(&owner.object));
        }
        let left = Kind::MADE.into_iter().flat_map(|kind| history.all_live(kind)).any(|entry| is_ours(entry));
        let pods = history.all_live(Kind::Pod).into_iter().any(|pod| !watcher::is_terminating(pod));
        owner.is_none() && !left && !pods
    }

    /// All that was seen, up to now.
    async fn history(&self) -> History {
        self.timeline.settle(Duration::from_secs(30)).await.unwrap();
        assert_eq!(self.timeline.gaps(), 0, "the timeline has gaps: the API server forgot too early");
        self.timeline.history()
    }

    /// The Events of the namespace.
    async fn events(&self) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.bench.client.clone(), &self.namespace);
        let events = api.list(&ListParams::default()).await.unwrap();
        let ours = events.items.iter().filter(|event| event.involved_object.name.as_deref() == Some(NAME));
        ours.map(|event| serde_json::to_string(event).unwrap()).collect()
    }

    fn seen<'a>(&'a self, history: &'a History, events: Vec<String>, faults: &'a [Fault]) -> Seen<'a> {
        Seen {
            history,
            namespace: &self.namespace,
            faults,
            requests: self.proxy.findings(NAME),
            writes: self.proxy.writes(),
            late: self.proxy.lateness(),
            calls: self.proxy.calls(),
            log: self.operator.log_text(),
            events,
            deleted: self.deleted,
        }
    }
}

impl Outcome {
    /// Prints a case that failed, so that it can be repeated.
    pub fn report(&self) {
        if self.violations.is_empty() {
            return;
        }
        println!("FAILED {} after {:.1} s; log {}", self.case, self.seconds, self.log.display());
        for violation in self.violations.iter().take(30) {
            println!("  {violation}");
        }
        for write in &self.writes {
            println!("    {write}");
        }
        println!("  to repeat: E6_CASE={} cargo test --test faults -- --nocapture", self.case);
    }
}

/// Whether a value holds a text anywhere.
pub fn holds(value: &Value, text: &str) -> bool {
    value.to_string().contains(text)
}
