//! Random numbers, and the random faults of both operators.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use testbed::proxy::{Fault, Outage, Plan};

use super::{Soak, chance};
use testbed::harness::{NAME, ProxiedOperator};

/// Numbers that look random and follow from a seed (SplitMix64).
pub struct Chance(u64);

impl Chance {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns an independent source with the same seed.
    pub fn branch(mut self, part: u64) -> Self {
        self.0 ^= part.wrapping_mul(0xd134_2543_de82_ef95);
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap();
        usize::try_from(self.next() % limit).unwrap()
    }

    /// Returns a duration below `limit`.
    pub fn time(&mut self, limit: Duration) -> Duration {
        let millis = usize::try_from(limit.as_millis()).unwrap();
        Duration::from_millis(u64::try_from(self.below(millis)).unwrap())
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Returns a random seed.
pub fn any_seed() -> u64 {
    RandomState::new().build_hasher().finish() % 1_000_000
}

/// Number of writes that a plan covers: more than any soak has.
const WRITES: usize = 400_000;

/// Faults that a client survives.
const FAULTS: [Fault; 14] = [
    Fault::LoseReply,
    Fault::DropRequest,
    Fault::Answer(409),
    Fault::Answer(429),
    Fault::Answer(500),
    Fault::Answer(503),
    Fault::Answer(504),
    Fault::AnswerAfter(504),
    Fault::Delay(Duration::from_millis(1_500)),
    // Longer than the operator waits for an answer: the write arrives after the operator has canceled it.
    Fault::Delay(Duration::from_secs(6)),
    Fault::FailReads,
    Fault::CutWatches,
    Fault::Expire,
    Fault::Forget,
];

/// Returns the faults of the measured operator: one write of thirty.
pub fn plan(seed: u64) -> Plan {
    let mut chance = Chance::new(seed ^ 0x57ea_d7ea);
    let writes = (1..WRITES).filter(|_| chance.below(30) == 0).collect::<Vec<_>>();
    Plan { writes: writes.into_iter().map(|number| (number, chance.of(&FAULTS))).collect::<BTreeMap<_, _>>() }
}

/// Returns the faults of the second operator: one write of fifteen, and a kill at one write of fifty.
fn faulty_plan(seed: u64) -> Plan {
    let mut chance = Chance::new(seed ^ 0x0001_2345);
    let mut writes = BTreeMap::new();
    for number in 1..WRITES {
        if chance.below(50) == 0 {
            writes.insert(number, chance.of(&[Fault::KillBefore, Fault::KillAfter]));
        } else if chance.below(15) == 0 {
            writes.insert(number, chance.of(&FAULTS));
        }
    }
    Plan { writes }
}

/// The second operator.
pub struct FaultyOperator {
    operator: ProxiedOperator,
    chance: Chance,
}

/// The results of the second operator.
pub struct FaultyReport {
    /// Number of kills.
    pub kills: usize,
    /// Number of pauses of some seconds.
    pub pauses: usize,
    /// Number of writes that reached its proxy.
    pub writes: usize,
    /// Violations in its log and its requests.
    pub trouble: Vec<String>,
}

impl FaultyOperator {
    /// Starts the operator.
    pub async fn start(soak: &Soak) -> Self {
        let flags = vec!["--leader-elect=false".to_owned()];
        let operator = soak.cluster.operator_with("soak-faulty", flags, &[]).await;
        operator.proxy.plan(faulty_plan(soak.seed));
        Self { operator, chance: chance(soak, 1_000) }
    }

    /// Kills, pauses and cuts off the operator until all rollouts are done.
    pub async fn run(mut self, soak: &Soak) -> FaultyReport {
        let (mut kills, mut pauses) = (0, 0);
        while soak.done() < soak.wanted {
            let until = Duration::from_secs(3) + self.chance.time(Duration::from_secs(12));
            if let Ok(kill) = tokio::time::timeout(until, self.operator.proxy.halt()).await {
                self.operator.process.kill();
                kill.done();
                self.operator.restart();
                kills += 1;
            } else if self.chance.below(2) == 0 {
                self.operator.process.pause();
                tokio::time::sleep(self.chance.time(Duration::from_secs(8))).await;
                self.operator.process.resume();
                pauses += 1;
            } else {
                // An outage breaks its watches.
                self.operator.proxy.outage(Outage::All);
                tokio::time::sleep(self.chance.time(Duration::from_secs(3))).await;
                self.operator.proxy.outage(Outage::None);
            }
        }
        let writes = self.operator.proxy.writes().len();
        let trouble = self.operator.panic().into_iter().chain(self.operator.proxy.undecided(NAME)).collect();
        FaultyReport { kills, pauses, writes, trouble }
    }
}
