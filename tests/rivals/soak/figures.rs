//! What the measured operator needs while the rollouts go by, and the report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::deeds::{Deed, Lived};
use super::{RESOURCES, Soak, trouble};
use crate::bench::Actor;

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(2);

/// Parts into which a run is cut for the report.
const PARTS: usize = 10;

/// How much the last third may need more than the middle one: what an allocator keeps, not what a leak takes.
const GROWTH: f64 = 1.05;

/// The same in bytes, for a run that is short.
const SLACK: f64 = 1.5e6;

/// I44: so many Events a rollout may have at most, repeats counted.
const EVENTS: f64 = 6.0;

/// What the report is about.
const PREFACE: &str = "\
# Soak

Written by `make soak` (`tests/rivals/soak`); do not edit. One operator, which is measured, lives through all rollouts; a
second one believes that it leads too, and is killed at random writes, stopped and started. Proxies fail the requests of
both at random: answers lost, requests dropped, 409, 429, 5xx, delays, watches cut or told that their place is too old.
Resources are upgraded, broken before the switch or after it, changed in mid-rollout, rolled back, restarted, deleted and
made again; a third of them has a ServiceAccount and a budget. What an outside eye saw is judged by the rules of
`hack/testbed/src/watcher.rs`; in the end nothing may be left of any object.
";

/// One look at the operator.
#[derive(Debug, Clone, Copy)]
struct Sample {
    done: usize,
    resident: f64,
    series: usize,
    files: f64,
}

/// All looks at it.
pub struct Figures {
    samples: Vec<Sample>,
    wanted: usize,
}

impl Figures {
    /// Looks at the operator until all rollouts are done.
    pub async fn collect(soak: &Soak, steady: &Actor, port: u16) -> Self {
        let mut samples = vec![];
        while soak.done() < soak.wanted {
            tokio::time::sleep(EVERY).await;
            let Some(text) = scrape(port).await else {
                assert!(samples.is_empty(), "the operator answers no more: {}", steady.log());
                continue;
            };
            samples.push(Sample {
                done: soak.done(),
                resident: value(&text, "process_resident_memory_bytes"),
                series: text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count(),
                files: value(&text, "process_open_fds"),
            });
        }
        Self { samples, wanted: soak.wanted }
    }

    /// Samples of a part of the run, in shares of all rollouts.
    fn part(&self, from: usize, to: usize, of: usize) -> Vec<Sample> {
        let (from, to) = (self.wanted * from / of, self.wanted * to / of);
        self.samples.iter().filter(|one| one.done >= from && one.done < to).copied().collect()
    }

    /// I44: the last third needs no more than the middle one.
    pub fn assert_flat(&self) {
        let (middle, last) = (self.part(1, 2, 3), self.part(2, 3, 3));
        assert!(!middle.is_empty() && !last.is_empty(), "too short to tell: {:?}", self.samples);
        let (was, is) = (mean(&middle, |one| one.resident), mean(&last, |one| one.resident));
        assert!(is <= was * GROWTH + SLACK, "I44: memory grew from {was:.0} to {is:.0} bytes");
        let most = |samples: &[Sample]| samples.iter().map(|one| one.series).max().unwrap_or_default();
        // An error that is met for the first time has a series of its own; there are few kinds of errors.
        let (was, is) = (most(&middle), most(&last));
        assert!(is <= was + 8, "I44: metric series grew from {was} to {is}");
        let files = |samples: &[Sample]| samples.iter().map(|one| one.files).fold(0.0, f64::max);
        assert!(files(&last) <= files(&middle) + 16.0, "I44: open files grew to {}", files(&last));
    }

    /// The report, as Markdown.
    pub fn report(
        &self,
        soak: &Soak,
        lives: &[Lived],
        steady: &Actor,
        rival: &trouble::Lived,
        events: f64,
        violations: usize,
    ) -> String {
        let mut text = format!("{PREFACE}\n");
        let writes = steady.proxy.writes();
        let struck = writes.iter().filter(|write| write.fault.is_some()).count();
        let slowest = lives.iter().map(|life| life.slowest).fold(0.0, f64::max);
        let minutes = soak.start.elapsed().as_secs_f64() / 60.0;
        let mut deeds: BTreeMap<Deed, usize> = BTreeMap::new();
        for (deed, count) in lives.iter().flat_map(|life| &life.deeds) {
            *deeds.entry(*deed).or_default() += count;
        }
        let deeds: Vec<String> = deeds.iter().map(|(deed, count)| format!("{deed:?} {count}")).collect();
        let _ = writeln!(text, "| what | figure |\n|---|---|");
        let _ =
            writeln!(text, "| rollouts, on {RESOURCES} resources | {} in {minutes:.1} min |", soak.done());
        let _ = writeln!(text, "| of these | {} |", deeds.join(", "));
        let _ = writeln!(text, "| seed (`E6_SEED`) | {} |", soak.seed);
        let _ = writeln!(
            text,
            "| writes of the measured operator, failed on purpose | {}, {struck} |",
            writes.len()
        );
        let _ = writeln!(
            text,
            "| second operator: writes, kills, stops | {}, {}, {} |",
            rival.writes, rival.kills, rival.pauses
        );
        let _ = writeln!(text, "| slowest rollout | {slowest:.0} s |");
        let _ = writeln!(text, "| Events per rollout | {events:.1} |");
        let _ = writeln!(text, "| violations and orphans | {violations} |\n");
        let _ = writeln!(
            text,
            "| rollouts done | resident, MB | metric series | open files |\n|---|---|---|---|"
        );
        for part in 0..PARTS {
            let samples = self.part(part, part + 1, PARTS);
            let Some(last) = samples.last() else { continue };
            let resident = mean(&samples, |one| one.resident) / 1e6;
            let files = mean(&samples, |one| one.files);
            let _ = writeln!(text, "| {} | {resident:.1} | {} | {files:.0} |", last.done, last.series);
        }
        text
    }
}

fn mean(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let count = samples.len() as f64;
    samples.iter().map(of).sum::<f64>() / count
}

/// Events that the operators wrote for each rollout, repeats counted.
pub async fn events(soak: &Soak) -> f64 {
    let all = Api::<Event>::all(soak.bench.client.clone()).list(&ListParams::default()).await.unwrap();
    let ours = all.items.iter().filter(|one| one.involved_object.kind.as_deref() == Some("MetadataServices"));
    let times = |one: &Event| one.series.as_ref().and_then(|series| series.count).or(one.count).unwrap_or(1);
    let count: i32 = ours.map(|one| times(one).max(1)).sum();
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let done = soak.done().max(1) as f64;
    f64::from(count) / done
}

/// I44: Events are few, for the sake of the API server and of those who read them.
pub fn assert_few(events: f64) {
    assert!((1.0..=EVENTS).contains(&events), "I44: {events:.1} Events per rollout");
}

async fn scrape(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text.split_once("\r\n\r\n")?.1.to_owned())
}

/// The value of a series without labels.
fn value(text: &str, name: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("no series {name}"))
}
