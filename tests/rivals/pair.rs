//! A leader stops at a write, another operator takes over, the first one wakes up.
//!
//! *lease*: both stand for election. The first is stopped (SIGSTOP) for longer than its lease, before its write
//! reaches the API server or after it was carried out; the second finishes the rollout; then the write is delivered
//! late, and the first wakes up: it must begin no write and end (I38, I39).
//!
//! *twins*: neither asks for a lease, so both believe that they lead. The first one's write is held until the second
//! has finished, then delivered late, and both go on (I38).

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use futures::StreamExt;
use testbed::proxy::{Fault, Write};

use crate::bench::{Actor, Bench, PATIENCE, Stage};
use crate::story::Story;

/// How the two relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Lease,
    Twins,
}

/// One write at which the first operator stops.
#[derive(Debug, Clone, Copy)]
struct Case {
    story: Story,
    mode: Mode,
    number: usize,
    fault: Fault,
}

/// How a case went.
struct Outcome {
    case: Case,
    violations: Vec<String>,
    struck: bool,
    /// Writes of the second operator: without any it took nothing over.
    taken_over: usize,
    /// The writes that reached the proxies, for a person.
    writes: Vec<String>,
    seconds: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_stops_at_any_write_and_wakes_up_when_another_leads() {
    let start = Instant::now();
    let bench = Bench::shared("pair").await;
    let counts = futures::future::join_all(Story::ALL.map(|story| undisturbed(&bench, story))).await;
    let cases = cases(&counts);
    println!("rivals: {counts:?} writes; {} cases, {} at a time", cases.len(), parallel());
    let outcomes: Vec<Outcome> = futures::stream::iter(cases)
        .map(|case| run(&bench, case))
        .buffer_unordered(parallel())
        .inspect(Outcome::report)
        .collect()
        .await;
    let bad: Vec<String> =
        outcomes.iter().filter(|one| !one.violations.is_empty()).map(|one| one.case.to_string()).collect();
    let missed = outcomes.iter().filter(|one| !one.struck).count();
    let idle = outcomes.iter().filter(|one| one.struck && one.taken_over == 0).count();
    println!(
        "rivals: {} cases, {} violations; {missed} not struck, {idle} with nothing left to take over; slowest {:.1} s; {:.0} s in all",
        outcomes.len(),
        outcomes.iter().map(|one| one.violations.len()).sum::<usize>(),
        outcomes.iter().map(|one| one.seconds).fold(0.0, f64::max),
        start.elapsed().as_secs_f64(),
    );
    assert!(missed * 10 <= outcomes.len(), "{missed} of {} faults did not strike", outcomes.len());
    assert!(idle * 10 <= outcomes.len(), "in {idle} of {} cases nothing was taken over", outcomes.len());
    assert!(
        bad.is_empty(),
        "failed; to repeat: E6_CASE={} cargo test --test rivals pair -- --nocapture",
        bad.join(",")
    );
    bench.tidy();
}

/// How many cases at a time: they wait for leases most of the time.
fn parallel() -> usize {
    let asked = std::env::var("E6_PARALLEL").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(12, |cores| cores.get() * 8))
}

/// The cases that the environment asks for: by default a stopped leader at every write of the upgrade, before it or
/// after it by turns, and a spread of the rest.
fn cases(counts: &[usize]) -> Vec<Case> {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    if let Some(text) = variable("E6_CASE") {
        return text.split(',').map(|case| case.parse().unwrap()).collect();
    }
    let all = variable("E6_RIVALS").is_some_and(|text| text == "all");
    let mut cases = vec![];
    // Those that wait for a lease first: they take longest.
    for mode in [Mode::Lease, Mode::Twins] {
        for (story, count) in Story::ALL.into_iter().zip(counts) {
            for number in 1..=*count {
                for (turn, fault) in [Fault::HoldBefore, Fault::HoldAfter].into_iter().enumerate() {
                    let usual = match mode {
                        Mode::Lease if story == Story::Upgrade => (number + turn) % 2 == 0,
                        Mode::Lease => (number + turn) % 6 == 0,
                        Mode::Twins => (number + turn) % 3 == 0,
                    };
                    if all || usual {
                        cases.push(Case { story, mode, number, fault });
                    }
                }
            }
        }
    }
    cases
}

/// How many writes a story has when nobody disturbs it.
async fn undisturbed(bench: &Bench, story: Story) -> usize {
    let stage = bench.stage(&format!("reference-{story}")).await;
    let actor = bench.actor(&stage.namespace, "a", &["--leader-elect=false"]).await;
    story.begin(&stage).await;
    let before = actor.proxy.writes().len();
    story.act(&stage).await;
    assert!(
        stage.rests(PATIENCE, |state| story.is_over(state)).await,
        "{story} does not end: {}",
        stage.last()
    );
    let violations = stage.violations().await;
    assert!(violations.is_empty(), "{story} undisturbed: {violations:#?}");
    let writes = actor.proxy.writes().split_off(before);
    println!("{story}:");
    for write in &writes {
        println!("  {write}");
    }
    writes.len()
}

async fn run(bench: &Bench, case: Case) -> Outcome {
    let start = Instant::now();
    let stage = bench.stage(&case.namespace()).await;
    let election = format!("--leader-elect={}", case.mode == Mode::Lease);
    let mut first = bench.actor(&stage.namespace, "a", &[&election]).await;
    case.story.begin(&stage).await;
    // Stands by, and sees the lease while it is held.
    let mut second = match case.mode {
        Mode::Lease => Some(bench.actor(&stage.namespace, "b", &[&election]).await),
        Mode::Twins => None,
    };
    let over = |state: testbed::State<'_>| case.story.is_over(state);
    let held = first.held(case.number, case.fault, case.story.act(&stage), stage.rests(PATIENCE, over)).await;
    let mut violations = vec![];
    let struck = held.is_some();
    if let Some(held) = held {
        if case.mode == Mode::Lease {
            // What it permitted itself together with the held write is on its way: a stop in between would let it wake
            // up with the check behind it.
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(first.operator.pause(), "{case}: the first operator has ended");
        }
        let second = match &mut second {
            Some(second) => second,
            none => none.insert(bench.actor(&stage.namespace, "b", &[&election]).await),
        };
        if !stage.reaches(PATIENCE, over).await {
            violations.push(format!("I37: the second operator did not finish: {}", stage.last()));
        }
        if case.mode == Mode::Lease {
            leads(second).await;
        }
        held.done();
        // Let it land while its sender sleeps.
        tokio::time::sleep(Duration::from_millis(200)).await;
        if case.mode == Mode::Lease {
            first.operator.resume();
            violations.extend(wakes_to_end(&mut first).await);
        }
    }
    if !stage.rests(PATIENCE, over).await {
        violations.push(format!("I36: not at rest where it should: {}", stage.last()));
    }
    violations.extend(judge(&stage, case).await);
    violations.extend(second.as_mut().map(|second| fit(second, case.mode)).unwrap_or_default());
    if case.mode == Mode::Twins {
        violations.extend(fit(&mut first, case.mode));
    }
    let lines = |actor: &Actor, name: &str| -> Vec<String> {
        actor.proxy.writes().iter().map(|write| line(name, write, start)).collect()
    };
    let mut writes = lines(&first, "a");
    writes.extend(second.iter().flat_map(|second| lines(second, "b")));
    let taken_over = second.map_or(0, |second| second.proxy.writes().len());
    Outcome { case, violations, struck, taken_over, writes, seconds: start.elapsed().as_secs_f64() }
}

fn line(name: &str, write: &Write, start: Instant) -> String {
    format!("{:>7.3} {name} {write}", (write.at - start).as_secs_f64())
}

/// Waits until an operator holds its lease: with nothing left to do it is not seen otherwise.
async fn leads(actor: &Actor) {
    let start = Instant::now();
    while actor.proxy.renewals().is_empty() {
        assert!(start.elapsed() < PATIENCE, "no takeover: {}", actor.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// I39: woken when another leads, it begins no write, and ends.
async fn wakes_to_end(first: &mut Actor) -> Vec<String> {
    if !first.ends_by_itself(Duration::from_secs(10)).await {
        return vec!["I39: the first operator did not end when it woke up without its lease".to_owned()];
    }
    let late = first.late_writes();
    late.into_iter().chain(first.trouble(true)).collect()
}

/// What is wrong with an operator that should live.
fn fit(actor: &mut Actor, mode: Mode) -> Vec<String> {
    let late = if mode == Mode::Lease { actor.late_writes() } else { vec![] };
    late.into_iter().chain(actor.trouble(false)).collect()
}

/// The invariants, and the history that the story must leave.
async fn judge(stage: &Stage, case: Case) -> Vec<String> {
    let mut found = stage.violations().await;
    let history = stage.timeline.history();
    let summary = stage.subject.state(&history).map(|state| state.summary()).unwrap_or_default();
    if summary != case.story.summary() {
        found.push(format!("I36: the history is {summary:?}"));
    }
    found
}

impl Case {
    fn namespace(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.mode == Mode::Lease { "lease" } else { "twins" };
        write!(f, "{}:{mode}:{}:{}", self.story, self.number, self.fault)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        let [story, mode, number, fault] = parts.as_slice() else {
            return Err(format!("{text} is not story:mode:n:fault"));
        };
        let mode = match *mode {
            "lease" => Mode::Lease,
            "twins" => Mode::Twins,
            other => return Err(format!("no mode {other}")),
        };
        let number = number.parse().map_err(|_| format!("{number} is not the number of a write"))?;
        Ok(Self { story: story.parse()?, mode, number, fault: fault.parse()? })
    }
}

impl Outcome {
    fn report(&self) {
        if self.violations.is_empty() {
            return;
        }
        println!("FAILED {} after {:.1} s", self.case, self.seconds);
        for violation in self.violations.iter().take(20) {
            println!("  {violation}");
        }
        for write in &self.writes {
            println!("    {write}");
        }
    }
}
