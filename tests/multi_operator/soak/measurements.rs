//! The resource usage of the measured operator, and the report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use testbed::harness::ProxiedOperator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::random_faults::FaultyReport;
use super::random_user::{Rollout, UserReport};
use super::{RESOURCES, Soak};

/// Time between two samples.
const EVERY: Duration = Duration::from_secs(2);

/// Number of parts of a run in the report.
const PARTS: usize = 10;

/// Maximum memory of the last third relative to the middle third: room for the allocator, but not for a leak.
const GROWTH: f64 = 1.05;

/// Additional bytes that the last third may use, for short runs.
const SLACK: f64 = 1.5e6;

/// Maximum number of Events per rollout (I44). Repetitions count.
const EVENTS: f64 = 6.0;

/// The introduction of the report.
const PREFACE: &str = "\
# Soak

Written by `make soak` (`tests/multi_operator/soak`); do not edit. One operator is measured and runs through all rollouts. A
second operator also acts as leader, and is killed at random writes, paused and restarted. Proxies inject random faults into
the requests of both: lost answers, dropped requests, 409, 429, 5xx, delays, broken and expired watches. Users upgrade
resources, apply releases that fail before or after the switch, change the spec during a rollout, request rollbacks and
restarts, delete resources and create them again. A third of the resources has a ServiceAccount and a disruption budget.
`hack/testbed/src/invariants.rs` checks the history of each resource. At the end no object may be left.
";

/// One sample of the metrics.
#[derive(Debug, Clone, Copy)]
struct Sample {
    done: usize,
    resident: f64,
    series: usize,
    files: f64,
}

/// All samples.
pub struct Measurements {
    samples: Vec<Sample>,
    wanted: usize,
}

impl Measurements {
    /// Samples the metrics until all rollouts are done.
    pub async fn collect(soak: &Soak, measured: &ProxiedOperator, port: u16) -> Self {
        let mut samples = vec![];
        while soak.done() < soak.wanted {
            tokio::time::sleep(EVERY).await;
            let Some(text) = scrape(port).await else {
                assert!(samples.is_empty(), "the operator answers no more: {}", measured.log());
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

    /// Returns the samples between two fractions of all rollouts.
    fn part(&self, from: usize, to: usize, of: usize) -> Vec<Sample> {
        let (from, to) = (self.wanted * from / of, self.wanted * to / of);
        self.samples.iter().filter(|one| one.done >= from && one.done < to).copied().collect()
    }

    /// Checks I44: the last third uses no more than the middle third.
    pub fn assert_flat(&self) {
        let (middle, last) = (self.part(1, 2, 3), self.part(2, 3, 3));
        assert!(!middle.is_empty() && !last.is_empty(), "too short to tell: {:?}", self.samples);
        let (was, is) = (mean(&middle, |one| one.resident), mean(&last, |one| one.resident));
        assert!(is <= was * GROWTH + SLACK, "I44: memory grew from {was:.0} to {is:.0} bytes");
        let most = |samples: &[Sample]| samples.iter().map(|one| one.series).max().unwrap_or_default();
        // The first error of each kind adds a series. There are few kinds.
        let (was, is) = (most(&middle), most(&last));
        assert!(is <= was + 8, "I44: metric series grew from {was} to {is}");
        let files = |samples: &[Sample]| samples.iter().map(|one| one.files).fold(0.0, f64::max);
        assert!(files(&last) <= files(&middle) + 16.0, "I44: open files grew to {}", files(&last));
    }

    /// Returns the report as Markdown.
    pub fn report(
        &self,
        soak: &Soak,
        users: &[UserReport],
        measured: &ProxiedOperator,
        faulty: &FaultyReport,
        events: f64,
        violations: usize,
    ) -> String {
        let mut text = format!("{PREFACE}\n");
        let writes = measured.proxy.writes();
        let injected = writes.iter().filter(|write| write.fault.is_some()).count();
        let slowest = users.iter().map(|user| user.slowest).fold(0.0, f64::max);
        let minutes = soak.start.elapsed().as_secs_f64() / 60.0;
        let mut rollouts: BTreeMap<Rollout, usize> = BTreeMap::new();
        for (rollout, count) in users.iter().flat_map(|user| &user.rollouts) {
            *rollouts.entry(*rollout).or_default() += count;
        }
        let rollouts: Vec<String> =
            rollouts.iter().map(|(rollout, count)| format!("{rollout:?} {count}")).collect();
        let _ = writeln!(text, "| what | figure |\n|---|---|");
        let _ =
            writeln!(text, "| rollouts, on {RESOURCES} resources | {} in {minutes:.1} min |", soak.done());
        let _ = writeln!(text, "| of these | {} |", rollouts.join(", "));
        let _ = writeln!(text, "| seed (`E6_TEST_SEED`) | {} |", soak.seed);
        let _ = writeln!(
            text,
            "| writes of the measured operator, failed on purpose | {}, {injected} |",
            writes.len()
        );
        let _ = writeln!(
            text,
            "| second operator: writes, kills, stops | {}, {}, {} |",
            faulty.writes, faulty.kills, faulty.pauses
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

/// Returns the number of Events per rollout. Repetitions count.
pub async fn events(soak: &Soak) -> f64 {
    let all = Api::<Event>::all(soak.cluster.client.clone()).list(&ListParams::default()).await.unwrap();
    let ours = all.items.iter().filter(|one| one.involved_object.kind.as_deref() == Some("MetadataServices"));
    let times = |one: &Event| one.series.as_ref().and_then(|series| series.count).or(one.count).unwrap_or(1);
    let count: i32 = ours.map(|one| times(one).max(1)).sum();
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let done = soak.done().max(1) as f64;
    f64::from(count) / done
}

/// Checks I44: the number of Events is bounded.
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

/// Returns the value of a series without labels.
fn value(text: &str, name: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("no series {name}"))
}
