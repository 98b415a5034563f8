//! Which faults strike where.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use testbed::proxy::Fault;

use crate::scenario::Scenario;

/// One fault on one write of one scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The scenario.
    pub scenario: Scenario,
    /// The number of the write, from 1.
    pub number: usize,
    /// What happens to it.
    pub fault: Fault,
}

impl Case {
    /// The namespace it plays in.
    pub fn namespace(&self) -> String {
        format!("{}-{}-{}", self.scenario, self.number, self.fault)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.scenario, self.number, self.fault)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        let [scenario, number, fault] = parts.as_slice() else {
            return Err(format!("{text} is not scenario:n:fault"));
        };
        let number = number.parse().map_err(|_| format!("{number} is not the number of a write"))?;
        Ok(Self { scenario: scenario.parse()?, number, fault: fault.parse()? })
    }
}

/// The faults besides the kills.
fn others() -> [Fault; 10] {
    [
        Fault::LoseReply,
        Fault::Answer(409),
        Fault::AnswerAfter(504),
        Fault::Answer(500),
        Fault::DropRequest,
        Fault::Answer(429),
        // Longer than the operator waits for an answer: the write comes when it has been given up.
        Fault::Delay(Duration::from_secs(6)),
        Fault::Answer(503),
        Fault::Answer(504),
        Fault::Delay(Duration::from_millis(1500)),
    ]
}

/// What the environment asks for.
pub enum Asked {
    /// Kills at every write of the scenarios of the issue, and a spread of the rest.
    Usual,
    /// Every fault on every write of every scenario.
    All,
    /// These.
    Only(Vec<Case>),
}

/// Reads the environment.
pub fn asked() -> Asked {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    if let Some(text) = variable("E6_CASE") {
        return Asked::Only(text.split(',').map(|case| case.parse().unwrap()).collect());
    }
    match variable("E6_FAULTS").as_deref() {
        None => Asked::Usual,
        Some("all") => Asked::All,
        Some(other) => panic!("E6_FAULTS={other}: only `all` is known"),
    }
}

/// How many cases at a time: by default what two cores can do without the operators being late.
pub fn parallel() -> usize {
    let asked = std::env::var("E6_PARALLEL").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(8, |cores| cores.get() * 5))
}

impl Asked {
    /// Whether a scenario has to be run.
    pub fn includes(&self, scenario: Scenario) -> bool {
        match self {
            Self::Usual | Self::All => true,
            Self::Only(cases) => cases.iter().any(|case| case.scenario == scenario),
        }
    }

    /// The cases, by the number of writes that the undisturbed runs had.
    pub fn cases(self, writes: impl Fn(Scenario) -> usize) -> Vec<Case> {
        let (all, usual) = match self {
            Self::Only(cases) => return cases,
            Self::All => (true, false),
            Self::Usual => (false, true),
        };
        let mut cases = vec![];
        for (at, scenario) in Scenario::ALL.into_iter().enumerate() {
            for number in 1..=writes(scenario) {
                let faults: Vec<Fault> = others()
                    .into_iter()
                    .enumerate()
                    .filter(|(index, _)| all || spread(scenario, at + number, *index))
                    .map(|(_, fault)| fault)
                    .collect();
                // Of the scenarios that the issue does not name, a fifth of the kills.
                let kills = |fault: Fault| {
                    let turn = usize::from(fault == Fault::KillAfter) * 2;
                    (!usual || scenario.is_named() || (number + turn) % 5 == 0).then_some(fault)
                };
                let kills = [Fault::KillBefore, Fault::KillAfter].into_iter().filter_map(kills);
                cases.extend(kills.chain(faults).map(|fault| Case { scenario, number, fault }));
            }
        }
        cases
    }
}

/// Whether a fault is in the spread: each write of the upgrade has one, every third of the other scenarios.
fn spread(scenario: Scenario, turn: usize, index: usize) -> bool {
    if scenario == Scenario::Upgrade {
        turn % others().len() == index
    } else {
        turn.is_multiple_of(3) && (turn / 3) % others().len() == index
    }
}

#[test]
fn a_case_reads_back_and_every_write_is_killed_twice() {
    let case: Case = "upgrade:7:answer-after-504".parse().unwrap();
    assert_eq!(case.to_string(), "upgrade:7:answer-after-504");
    assert!("upgrade:x:kill-before".parse::<Case>().is_err());
    let usual = Asked::Usual.cases(|_| 20);
    for scenario in Scenario::ALL.into_iter().filter(|one| one.is_named()) {
        for fault in [Fault::KillBefore, Fault::KillAfter] {
            let hit = usual.iter().filter(|case| case.scenario == scenario && case.fault == fault).count();
            assert_eq!(hit, 20, "{scenario} {fault}");
        }
    }
    for fault in others() {
        assert!(usual.iter().any(|case| case.fault == fault), "{fault}");
    }
    assert_eq!(Asked::All.cases(|_| 20).len(), Scenario::ALL.len() * 20 * 12);
}
