//! How much the operator asks of the API server, by the audit log: exact upper bounds.

use serde_json::json;
use testbed::audit::{AuditLog, Request};
use testbed::resource::{merge, quick};
use testbed::{State, Subject};

use crate::bed::{Bed, case, together};
use crate::damage::{Damage, break_pods};

/// Events of one rollout, at most.
const EVENTS: usize = 6;

/// Reads of one upgrade, at most: every decision to write rests on what is read live (I41).
const READS: usize = 120;

/// Requests since a count was last taken.
struct Meter {
    seen: usize,
}

impl Meter {
    async fn new(bed: &Bed) -> Self {
        Self { seen: bed.audit().await.map_or(0, |audit| audit.requests().len()) }
    }

    /// The requests since the last reading; `None` without an audit log.
    async fn read(&mut self, bed: &Bed) -> Option<AuditLog> {
        let audit = bed.audit().await?;
        let before: Vec<String> = audit.requests()[..self.seen].iter().map(|one| one.id.clone()).collect();
        self.seen = audit.requests().len();
        Some(audit.filter(|request| !before.contains(&request.id)))
    }

    /// Asserts that since the last reading there were at most so many writes of objects.
    async fn at_most(&mut self, bed: &Bed, what: &str, most: usize) {
        let Some(audit) = self.read(bed).await else { return };
        let counts = audit.write_counts();
        println!("{what}: {} writes, {} Events: {:?}", counts.total(), counts.events, counts.objects);
        assert!(counts.total() <= most, "{what}: more than {most} writes: {counts:#?}\n{}", listing(&audit));
        assert!(counts.events <= EVENTS, "{what}: more than {EVENTS} Events: {}", counts.events);
        assert!(counts.total() > 0, "{what}: nothing was written at all");
    }
}

fn listing(audit: &AuditLog) -> String {
    let writes = audit.writes();
    let line = |one: &Request| format!("{} {} {} {}", one.verb, one.target(), one.name, one.code);
    writes.requests().iter().filter(|one| !one.is_lease()).map(line).collect::<Vec<_>>().join("\n")
}

/// Asserts that the first write of a rollout is the status that says Deploying.
async fn says_deploying_first(bed: &Bed, subject: &Subject, audit: &AuditLog) {
    let writes = audit.writes().filter(|request| !request.is_lease() && !request.is_event());
    assert_eq!(writes.requests()[0].target(), "metadataservices/status", "{}", listing(audit));
    let history = bed.history().await;
    let generation = subject.state(&history).unwrap().0.number("/metadata/generation");
    let of_this = |state: &State<'_>| state.0.number("/status/observedGeneration") == generation;
    let first = subject.states(&history).find(of_this).unwrap();
    assert_eq!((first.deployment_phase(), first.step()), ("Deploying", "Deploying"));
}

#[test]
fn writes_of_each_kind_of_rollout_are_bounded() {
    together(vec![
        case("upgrade", upgrades),
        case("before-switch", before_the_switch),
        case("after-switch", after_the_switch),
        case("manual", manual),
    ]);
}

async fn upgrades() {
    let bed = Bed::new("count-upgrade").await;
    let mut meter = Meter::new(&bed).await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"historyLimit": 2}}));
    let (subject, _) = bed.deploy("a", &spec).await;
    meter.at_most(&bed, "create", 15).await;
    for (tag, most) in [("2", 22), ("3", 23)] {
        let mut first = Meter { seen: meter.seen };
        subject.upgrade(tag, tag).await.unwrap();
        bed.serves(&subject, tag).await;
        bed.linger(3).await;
        meter.at_most(&bed, &format!("upgrade to {tag}"), most).await;
        if let Some(audit) = first.read(&bed).await {
            says_deploying_first(&bed, &subject, &audit).await;
            let reads = audit
                .filter(|request| matches!(request.verb.as_str(), "get" | "list") && !request.is_lease());
            let reads = reads.requests().len();
            println!("upgrade to {tag}: {reads} reads");
            assert!(reads <= READS, "more than {READS} reads: {reads}");
        }
    }
    bed.finish().await;
}

async fn before_the_switch() {
    let bed = Bed::new("count-before").await;
    let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
    let mut meter = Meter::new(&bed).await;
    subject.upgrade("2-crash", "2").await.unwrap();
    bed.rolled_back(&subject, "1").await;
    bed.linger(3).await;
    meter.at_most(&bed, "automatic rollback before the switch", 20).await;
    bed.finish().await;
}

async fn after_the_switch() {
    let bed = Bed::new("count-after").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"switchDwellSeconds": 2, "cleanupDelaySeconds": 120}}));
    let (subject, _) = bed.deploy("a", &spec).await;
    let mut meter = Meter::new(&bed).await;
    subject.upgrade("2", "2").await.unwrap();
    bed.step(&subject, "Watching").await;
    break_pods(&bed, "a", "schema", "green", Damage::Crashed).await;
    bed.step(&subject, "RollingBack").await;
    subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 2}})).await.unwrap();
    bed.rolled_back(&subject, "1").await;
    bed.linger(3).await;
    meter.at_most(&bed, "automatic rollback after the switch", 27).await;
    bed.finish().await;
}

async fn manual() {
    let bed = Bed::new("count-manual").await;
    let (subject, first) = bed.deploy("a", &quick("1", "1")).await;
    subject.upgrade("2", "2").await.unwrap();
    bed.serves(&subject, "2").await;
    let mut meter = Meter::new(&bed).await;
    subject.annotate("e6data.io/rollback-to", &first).await.unwrap();
    bed.serves(&subject, "1").await;
    bed.linger(3).await;
    meter.at_most(&bed, "manual rollback to a pruned release", 24).await;
    bed.finish().await;
}

#[tokio::test]
async fn at_rest_nothing_is_written_and_nothing_read() {
    let mut bed = Bed::with("count-rest", &["--resync-seconds=1"]).await;
    let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
    bed.deploy("b", &quick("1", "1")).await;
    subject.upgrade("2-crash", "1").await.unwrap();
    bed.rolled_back(&subject, "1").await;
    // The last own write is looked at once more.
    bed.linger(5).await;
    let mut meter = Meter::new(&bed).await;
    bed.linger(6).await;
    let at_rest = |request: &Request| !request.is_lease() && request.verb != "watch";
    if let Some(audit) = meter.read(&bed).await {
        let asked = audit.filter(at_rest);
        assert!(asked.requests().is_empty(), "asked at rest: {:#?}", asked.requests());
        assert!(
            audit.requests().iter().any(Request::is_lease),
            "the audit log shows what this operator asks"
        );
    }
    bed.restart().await;
    bed.linger(6).await;
    if let Some(audit) = meter.read(&bed).await {
        let asked = audit.filter(at_rest);
        let lists = asked.filter(|request| request.verb == "list");
        assert!(!lists.requests().is_empty(), "the restarted operator has filled its caches");
        let others = asked.filter(|request| request.verb != "list");
        assert!(others.requests().is_empty(), "a restart does more than lists: {:#?}", others.requests());
    }
    bed.finish().await;
}
