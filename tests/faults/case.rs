//! The cases: faults and their writes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use testbed::harness::variables;
use testbed::proxy::{Fault, Plan};

use crate::scenario::Scenario;

/// A fault at a write of a scenario, or two faults at two writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The scenario.
    pub scenario: Scenario,
    /// The number of the write, from 1.
    pub number: usize,
    /// The fault.
    pub fault: Fault,
    /// A later write, and its fault.
    pub then: Option<(usize, Fault)>,
}

impl Case {
    const fn one(scenario: Scenario, number: usize, fault: Fault) -> Self {
        Self { scenario, number, fault, then: None }
    }

    /// Returns the namespace of the run.
    pub fn namespace(&self) -> String {
        self.to_string().replace(':', "-")
    }

    /// Returns its part of `of` parts. The name decides, since the position in the list changes if a scenario has one
    /// write more in a run.
    fn part(&self, of: usize) -> usize {
        let sum = |sum: usize, byte: u8| sum.wrapping_mul(31).wrapping_add(byte.into());
        self.to_string().bytes().fold(0, sum) % of
    }

    /// Returns the faults by the numbers of their writes.
    pub fn plan(&self) -> Plan {
        Plan { writes: [(self.number, self.fault)].into_iter().chain(self.then).collect() }
    }

    /// Returns the number of the last write with a fault.
    pub fn last(&self) -> usize {
        self.then.map_or(self.number, |(number, _)| number)
    }

    /// Returns its faults.
    pub fn faults(&self) -> Vec<Fault> {
        [Some(self.fault), self.then.map(|(_, fault)| fault)].into_iter().flatten().collect()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.scenario, self.number, self.fault)?;
        self.then.map_or(Ok(()), |(number, fault)| write!(f, ":{number}:{fault}"))
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        let write = |number: &str, fault: &str| {
            let number = number.parse().map_err(|_| format!("{number} is not the number of a write"))?;
            Ok::<_, String>((number, fault.parse()?))
        };
        let (scenario, (number, fault), then) = match parts.as_slice() {
            [scenario, number, fault] => (scenario, write(number, fault)?, None),
            [scenario, number, fault, second, then] => {
                (scenario, write(number, fault)?, Some(write(second, then)?))
            }
            _ => return Err(format!("{text} is neither scenario:n:fault nor scenario:n:fault:m:fault")),
        };
        Ok(Self { scenario: scenario.parse()?, number, fault, then })
    }
}

/// Faults at every write of every scenario.
const EVERYWHERE: [Fault; 10] = [
    Fault::KillBefore,
    Fault::KillAfter,
    Fault::LoseReply,
    Fault::DropRequest,
    // Longer than the operator waits for an answer: the write arrives after the operator has canceled it.
    Fault::Delay(Duration::from_secs(6)),
    Fault::Answer(409),
    Fault::Answer(429),
    Fault::Answer(500),
    Fault::Answer(503),
    Fault::Answer(504),
];

/// Faults of which every write of every scenario gets a third.
const IN_TURN: [Fault; 11] = [
    Fault::Delay(Duration::from_millis(1500)),
    Fault::AnswerAfter(504),
    Fault::FailReads,
    Fault::CutWatches,
    Fault::StallWatches,
    Fault::LoseEvents,
    Fault::Expire,
    Fault::Forget,
    Fault::StaleRestart,
    Fault::SlowRestart,
    Fault::Delete,
];

/// Cases that once found a defect of the operator. They always run.
const KEPT: [Case; 7] = [
    // Silent watches while Pods became ready: the release waited until its deploy timeout.
    Case::one(Scenario::Upgrade, 7, Fault::StallWatches),
    // The deletion of a resource during a status write must not log an ERROR.
    Case::one(Scenario::Clear, 3, Fault::Delete),
    // The operator counted the dwell time from the start of the patch of a front Service, not from its effect.
    Case::one(Scenario::Upgrade, 12, Fault::Delay(Duration::from_millis(1_500))),
    // A delayed create interferes with the next attempt, depending on chance.
    Case::one(Scenario::Supersede, 6, Fault::Delay(Duration::from_secs(6))),
    // Pods were rejected, and their release failed, while the ServiceAccount was created.
    Case::one(Scenario::Settings, 2, Fault::Delay(Duration::from_secs(6))),
    // The first of two concurrent writes was outdated, and the operator ignored the 429 of the second. Their order
    // depends on chance.
    Case {
        scenario: Scenario::Upgrade,
        number: 2,
        fault: Fault::Answer(409),
        then: Some((3, Fault::Answer(429))),
    },
    Case {
        scenario: Scenario::Upgrade,
        number: 6,
        fault: Fault::Answer(429),
        then: Some((7, Fault::Answer(409))),
    },
];

/// The cases that the environment selects.
pub enum Asked {
    /// Every fault in every scenario, and every kind of write of the scenario.
    Spread,
    /// All cases of one part, by its number and the number of parts.
    All(usize, usize),
    /// These cases.
    Only(Vec<Case>),
}

/// Reads the environment.
pub fn asked() -> Asked {
    if let Some(text) = variables::get(variables::CASE) {
        return Asked::Only(text.split(',').map(|case| case.parse().unwrap()).collect());
    }
    match variables::get(variables::FAULTS).as_deref() {
        None => Asked::Spread,
        Some("all") => Asked::All(0, 1),
        Some(part) => {
            let numbers = part.split_once('/').map(|(part, of)| (part.parse(), of.parse()));
            match numbers {
                Some((Ok(part), Ok(of))) if (1..=of).contains(&part) => Asked::All(part - 1, of),
                _ => panic!("{}={part}: only `all` or a part like `2/8` is known", variables::FAULTS),
            }
        }
    }
}

/// Returns the maximum number of cases at a time. [`testbed::pace`] allows as many of them as the API server can
/// handle.
pub fn parallel() -> usize {
    variables::parallel(8)
}

impl Asked {
    /// Returns whether a scenario must run.
    pub fn includes(&self, scenario: Scenario) -> bool {
        match self {
            Self::Spread | Self::All(..) => true,
            Self::Only(cases) => cases.iter().any(|case| case.scenario == scenario),
        }
    }

    /// Returns the cases. `writes` returns the kinds of the writes of a reference run, such as `PATCH services`.
    pub fn cases(self, writes: impl Fn(Scenario) -> Vec<String>) -> Vec<Case> {
        match self {
            Self::Only(cases) => cases,
            Self::Spread => Scenario::ALL.into_iter().flat_map(|one| spread(one, &writes(one))).collect(),
            Self::All(part, of) => {
                let all = Scenario::ALL.into_iter().flat_map(|one| all(one, writes(one).len()));
                all.filter(|case| case.part(of) == part).collect()
            }
        }
    }
}

/// Returns whether a fault fits a scenario. A resource that the scenario deletes is not deleted earlier.
fn fits(scenario: Scenario, fault: Fault) -> bool {
    !(scenario == Scenario::Delete && fault == Fault::Delete)
}

fn all(scenario: Scenario, writes: usize) -> impl Iterator<Item = Case> {
    (1..=writes).flat_map(move |number| {
        let turn = IN_TURN
            .into_iter()
            .enumerate()
            .filter(move |(at, _)| at % 3 == number % 3)
            .map(|(_, fault)| fault);
        let faults = EVERYWHERE.into_iter().chain(turn).filter(move |fault| fits(scenario, *fault));
        let kept = KEPT.into_iter().filter(move |case| case.scenario == scenario && case.number == number);
        let cases: BTreeSet<Case> = faults
            .map(|fault| Case::one(scenario, number, fault))
            .chain(kept)
            .chain(pair(scenario, number, writes))
            .collect();
        cases
    })
}

/// Returns a case with two faults; each write has another pair. The second fault happens during or after the recovery
/// from the first one. No pair contains a deletion.
fn pair(scenario: Scenario, number: usize, writes: usize) -> Option<Case> {
    let faults: Vec<Fault> =
        EVERYWHERE.into_iter().chain(IN_TURN).filter(|fault| *fault != Fault::Delete).collect();
    let turn = Scenario::ALL.iter().position(|one| *one == scenario).unwrap_or_default();
    let at = turn * 5 + number;
    let (fault, second) = (faults[at % faults.len()], faults[(at * 3 + 1) % faults.len()]);
    let later = number + 1 + at % 4;
    // No further fault affects a silent watch.
    let deaf = fault == Fault::StallWatches && second.is_for_watches();
    (later <= writes && fault != second && !deaf).then_some(Case {
        scenario,
        number,
        fault,
        then: Some((later, second)),
    })
}

/// Returns a case for every fault, distributed over the writes of a scenario, and one for each remaining kind of
/// write.
fn spread(scenario: Scenario, writes: &[String]) -> Vec<Case> {
    let faults: Vec<Fault> =
        EVERYWHERE.into_iter().chain(IN_TURN).filter(|fault| fits(scenario, *fault)).collect();
    let mut cases: Vec<Case> = KEPT.into_iter().filter(|case| case.scenario == scenario).collect();
    // The order differs between scenarios, so that a fault affects another part of each.
    let turn = Scenario::ALL.iter().position(|one| *one == scenario).unwrap_or_default() * 7;
    for at in 0..faults.len() {
        let fault = faults[(at + turn) % faults.len()];
        let case = Case::one(scenario, at * writes.len() / faults.len() + 1, fault);
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    // Two pairs: an early one, and one in the middle.
    let pairs = (1..=writes.len()).filter_map(|number| pair(scenario, number, writes.len()));
    cases.extend(
        pairs.enumerate().filter(|(at, _)| at % (writes.len() / 2).max(1) == 1).map(|(_, case)| case),
    );
    for (at, kind) in writes.iter().enumerate() {
        let met = cases.iter().any(|case| writes.get(case.number - 1) == Some(kind));
        if !met {
            cases.push(Case::one(scenario, at + 1, Fault::KillAfter));
        }
    }
    cases
}

#[cfg(test)]
fn example(scenario: Scenario) -> Vec<String> {
    // The last scenario has few writes, like one whose requests only change the status.
    let kinds = ["PUT status", "POST services", "PATCH services", "DELETE services"];
    let count = if scenario == Scenario::Clear { 3 } else { 22 };
    (0..count).map(|at| kinds[at * kinds.len() / count].to_owned()).collect()
}

#[test]
fn a_case_reads_back() {
    let case: Case = "upgrade:7:answer-after-504".parse().unwrap();
    assert_eq!(case.to_string(), "upgrade:7:answer-after-504");
    let pair: Case = "upgrade:7:kill-after:9:answer-409".parse().unwrap();
    assert_eq!(pair.to_string(), "upgrade:7:kill-after:9:answer-409");
    assert_eq!(
        (pair.plan().writes.len(), pair.namespace().as_str()),
        (2, "upgrade-7-kill-after-9-answer-409")
    );
    for wrong in ["upgrade:x:kill-before", "upgrade:1:kill-before:2", "upgrade:1:kill-before:x:answer-409"] {
        assert!(wrong.parse::<Case>().is_err(), "{wrong}");
    }
}

#[test]
fn the_spread_has_every_fault_in_every_scenario_and_every_kind_of_write() {
    let cases = Asked::Spread.cases(example);
    assert!(cases.len() >= 240, "{}", cases.len());
    assert!(cases.iter().filter(|case| case.then.is_some()).count() >= 2 * Scenario::ALL.len() - 2);
    for scenario in Scenario::ALL {
        let writes = example(scenario);
        let here: Vec<&Case> = cases.iter().filter(|case| case.scenario == scenario).collect();
        for fault in EVERYWHERE.into_iter().chain(IN_TURN).filter(|fault| fits(scenario, *fault)) {
            assert!(here.iter().any(|case| case.fault == fault), "{scenario} {fault}");
        }
        for kind in &writes {
            assert!(here.iter().any(|case| writes[case.number - 1] == *kind), "{scenario} {kind}");
        }
    }
}

#[test]
fn all_has_every_write_under_every_fault_and_its_parts_make_the_whole() {
    let cases = Asked::All(0, 1).cases(example);
    for scenario in Scenario::ALL {
        for number in 1..=example(scenario).len() {
            for fault in EVERYWHERE {
                assert!(cases.contains(&Case::one(scenario, number, fault)), "{scenario} {number} {fault}");
            }
        }
        for fault in IN_TURN.into_iter().filter(|fault| fits(scenario, *fault)) {
            assert!(cases.iter().any(|case| case.scenario == scenario && case.fault == fault));
        }
    }
    let pairs: Vec<_> = cases.iter().filter_map(|case| Some((case.fault, case.then?.1))).collect();
    for fault in EVERYWHERE.into_iter().chain(IN_TURN).filter(|fault| *fault != Fault::Delete) {
        let (first, second) =
            (|pair: &(Fault, Fault)| pair.0 == fault, |pair: &(Fault, Fault)| pair.1 == fault);
        assert!(pairs.iter().any(first) && pairs.iter().any(second), "{fault} is in no pair");
    }
    let parts: usize = (0..7).map(|part| Asked::All(part, 7).cases(example).len()).sum();
    assert_eq!(parts, cases.len());
}
