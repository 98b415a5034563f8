//! The number of requests of the operator, by the audit log: exact upper bounds.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::audit::{AuditLog, Request};
use testbed::resource::{merge, quick};
use testbed::{State, Subject, pace};

use crate::SUITE;
use crate::pod_failures::{Damage, break_pods};
use testbed::harness::{TestEnv, case, together};

/// Maximum number of Events of one rollout.
const EVENTS: usize = 6;

/// Maximum number of reads of one upgrade. Every decision to write rests on live reads (I41).
const READS: usize = 120;

/// Time after which the operator repeats a request that a late API server has not answered.
const DEADLINE: Duration = Duration::from_secs(4);

/// Counts the requests since the last reading.
struct Meter {
    seen: usize,
    since: Instant,
}

impl Meter {
    async fn new(env: &TestEnv) -> Self {
        let since = Instant::now();
        Self { seen: env.audit().await.map_or(0, |audit| audit.requests().len()), since }
    }

    /// Returns the requests since the last reading. None without an audit log.
    async fn read(&mut self, env: &TestEnv) -> Option<AuditLog> {
        let audit = env.audit().await?;
        let before: Vec<String> = audit.requests()[..self.seen].iter().map(|one| one.id.clone()).collect();
        self.seen = audit.requests().len();
        Some(audit.filter(|request| !before.contains(&request.id)))
    }

    /// Asserts that the operator wrote objects at most `most` times since the last reading.
    async fn at_most(&mut self, env: &TestEnv, what: &str, most: usize) {
        let Some(audit) = self.read(env).await else { return };
        let counts = audit.write_counts();
        if pace::lateness(self.since) > DEADLINE {
            println!("{what}: not counted, the cluster was too late");
            return;
        }
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

/// Asserts that the first write of a rollout is the status with step Deploying.
async fn says_deploying_first(env: &TestEnv, subject: &Subject, audit: &AuditLog) {
    let writes = audit.writes().filter(|request| !request.is_lease() && !request.is_event());
    assert_eq!(writes.requests()[0].target(), "metadataservices/status", "{}", listing(audit));
    let history = env.history().await;
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
    let env = SUITE.env("count-upgrade").await;
    let mut meter = Meter::new(&env).await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"historyLimit": 2}}));
    let (subject, _) = env.deploy("a", &spec).await;
    meter.at_most(&env, "create", 15).await;
    for (tag, most) in [("2", 22), ("3", 23)] {
        let mut first = Meter { ..meter };
        subject.upgrade(tag, tag).await.unwrap();
        env.serves(&subject, tag).await;
        env.linger(3).await;
        meter.at_most(&env, &format!("upgrade to {tag}"), most).await;
        if let Some(audit) = first.read(&env).await {
            says_deploying_first(&env, &subject, &audit).await;
            let reads = audit
                .filter(|request| matches!(request.verb.as_str(), "get" | "list") && !request.is_lease());
            let reads = reads.requests().len();
            println!("upgrade to {tag}: {reads} reads");
            assert!(reads <= READS, "more than {READS} reads: {reads}");
        }
    }
    env.finish().await;
}

async fn before_the_switch() {
    let env = SUITE.env("count-before").await;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    let mut meter = Meter::new(&env).await;
    subject.upgrade("2-crash", "2").await.unwrap();
    env.rolled_back(&subject, "1").await;
    env.linger(3).await;
    meter.at_most(&env, "automatic rollback before the switch", 20).await;
    env.finish().await;
}

async fn after_the_switch() {
    let env = SUITE.env("count-after").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"switchDwellSeconds": 2, "cleanupDelaySeconds": 120}}));
    let (subject, _) = env.deploy("a", &spec).await;
    let mut meter = Meter::new(&env).await;
    subject.upgrade("2", "2").await.unwrap();
    env.step(&subject, "Watching").await;
    break_pods(&env, "a", "schema", "green", Damage::Crashed).await;
    env.step(&subject, "RollingBack").await;
    subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 2}})).await.unwrap();
    env.rolled_back(&subject, "1").await;
    env.linger(3).await;
    meter.at_most(&env, "automatic rollback after the switch", 27).await;
    env.finish().await;
}

async fn manual() {
    let env = SUITE.env("count-manual").await;
    let (subject, first) = env.deploy("a", &quick("1", "1")).await;
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    let mut meter = Meter::new(&env).await;
    subject.annotate("e6data.io/rollback-to", &first).await.unwrap();
    env.serves(&subject, "1").await;
    env.linger(3).await;
    meter.at_most(&env, "manual rollback to a pruned release", 24).await;
    env.finish().await;
}

#[tokio::test]
async fn at_rest_nothing_is_written_and_nothing_read() {
    let mut env = SUITE.env_with("count-rest", &["--resync-seconds=1"]).await;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    env.deploy("b", &quick("1", "1")).await;
    subject.upgrade("2-crash", "1").await.unwrap();
    env.rolled_back(&subject, "1").await;
    // The operator reconciles once more after its last write.
    env.linger(5).await;
    let mut meter = Meter::new(&env).await;
    env.linger(6).await;
    let at_rest = |request: &Request| !request.is_lease() && request.verb != "watch";
    if let Some(audit) = meter.read(&env).await {
        let asked = audit.filter(at_rest);
        assert!(asked.requests().is_empty(), "asked at rest: {:#?}", asked.requests());
        assert!(
            audit.requests().iter().any(Request::is_lease),
            "the audit log shows what this operator asks"
        );
    }
    env.restart().await;
    env.linger(6).await;
    if let Some(audit) = meter.read(&env).await {
        let asked = audit.filter(at_rest);
        let lists = asked.filter(|request| request.verb == "list");
        assert!(!lists.requests().is_empty(), "the restarted operator has filled its caches");
        let others = asked.filter(|request| request.verb != "list");
        assert!(others.requests().is_empty(), "a restart does more than lists: {:#?}", others.requests());
    }
    env.finish().await;
}
