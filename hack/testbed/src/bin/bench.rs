//! `make bench`: measures the operator on a control plane of its own and rewrites `docs/benchmarks.md`.
//!
//! Requests and bytes are counted and are the same everywhere; times are given as medians and as ratios to a plain
//! write of this machine, since they say little by themselves.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use testbed::audit::AuditLog;
use testbed::resource::{Subject, quick};
use testbed::{Cluster, Kind, Operator, Options, Timeline};

/// Seconds that a rollout of [`quick`] waits by its own timers.
const TIMERS: f64 = 4.0;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the operator is watched at rest.
const REST: Duration = Duration::from_secs(60);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Measures the operator.
#[derive(Debug, Parser)]
struct Cli {
    /// The operator's release binary.
    #[arg(long, value_name = "FILE", default_value = "target/release/e6-operator")]
    operator: PathBuf,
    /// Upgrades to measure.
    #[arg(long, default_value = "20")]
    upgrades: usize,
    /// Where the result is written.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    output: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the measurements are made.
struct Bench {
    cluster: Cluster,
    client: Client,
    subject: Subject,
    timeline: Timeline,
}

async fn measure(cli: &Cli) -> Outcome<()> {
    println!("Starting a control plane ...");
    let bench = Bench::open().await?;
    let log = std::env::temp_dir().join(format!("e6-bench-{}.log", std::process::id()));
    let flags =
        ["--leader-elect-namespace=default", "--metrics-bind-address=0", "--health-probe-bind-address=0"];
    let operator = Operator::spawn(&cli.operator, bench.cluster.kubeconfig(), &flags, &log)?;
    let mut report = String::from(HEAD);
    let size = std::fs::metadata(&cli.operator)?.len();

    println!("Creating ...");
    let created = bench.counted(bench.first()).await?;
    println!("Upgrading {} times ...", cli.upgrades);
    let baseline = bench.baseline().await?;
    let (mut requests, mut firsts, mut wholes) = (vec![], vec![], vec![]);
    for number in 0..cli.upgrades {
        let (counts, took) = bench.counted_upgrade(&format!("2.{number}")).await?;
        requests.push(counts);
        firsts.push(took.0);
        wholes.push(took.1);
    }
    println!("Resting for {} s ...", REST.as_secs());
    let rest = bench
        .counted(async {
            tokio::time::sleep(REST).await;
            Ok(())
        })
        .await?;
    let memory = resident(operator.pid())?;
    let writes = median(requests.iter().map(|counts| to_f64(counts.0)).collect());
    let reads = median(requests.iter().map(|counts| to_f64(counts.1)).collect());
    writeln!(report, "| writes to create | {} |", created.0)?;
    writeln!(
        report,
        "| writes of an upgrade, median of {}, most of which trim the history | {writes:.0} |",
        cli.upgrades
    )?;
    writeln!(report, "| reads of an upgrade, median | {reads:.0} |")?;
    writeln!(
        report,
        "| requests in {} s at rest, besides the lease and watches | {} |",
        REST.as_secs(),
        rest.0 + rest.1
    )?;
    writeln!(report, "| resident memory at rest, one resource | {memory:.1} MB |")?;
    writeln!(report, "| release binary | {:.1} MB |", to_f64(usize::try_from(size)?) / 1e6)?;
    let first = median(firsts);
    writeln!(
        report,
        "| from edit to the operator's first write, median, in plain writes of this machine | {:.1} |",
        first / baseline
    )?;
    let whole = median(wholes);
    writeln!(report, "| a whole upgrade, median, over the sum of its own timers | {:.2} |", whole / TIMERS)?;
    std::fs::write(&cli.output, &report)?;
    println!("{report}\nWritten to {}.", cli.output.display());
    drop(operator);
    bench.cluster.stop();
    Ok(())
}

/// The text above the table.
const HEAD: &str = "# Benchmarks

Written by `make bench`, on a control plane of its own with KWOK pods. Requests are counted by the API server's audit log,
Events and the lease apart. Times are medians and ratios: a plain write is an annotation patched by another client on the
same machine.

| what | measured |
|---|---|
";

impl Bench {
    async fn open() -> Outcome<Self> {
        let cluster = Cluster::start(Options::default()).await?;
        let client = cluster.client()?;
        let status = std::process::Command::new(cluster.kubectl())
            .env("KUBECONFIG", cluster.kubeconfig())
            .args(["apply", "-f", "crds/metadataservices.e6data.io.yaml"])
            .status()?;
        if !status.success() {
            return Err("kubectl apply of the CRD failed; run from the root of the repository".into());
        }
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some("bench".into()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let timeline = Timeline::start(client.clone(), Some("bench")).await?;
        let subject = Subject::new(&client, "bench", "sample1");
        Ok(Self { cluster, client, subject, timeline })
    }

    async fn first(&self) -> Outcome<()> {
        self.subject.create(&quick("1.0", "1.0")).await?;
        self.stable("1.0").await
    }

    async fn stable(&self, tag: &str) -> Outcome<()> {
        self.timeline
            .wait_until(&format!("{tag} serves"), PATIENCE, |history| {
                let state = self.subject.state(history)?;
                let serves = state.is_stable() && state.version_of_tag(tag) == state.active();
                (serves && !state.active().is_empty()).then_some(())
            })
            .await?;
        Ok(())
    }

    /// Seconds until the operator's first write, and until the upgrade is complete.
    async fn upgrade(&self, tag: &str) -> Outcome<(f64, f64)> {
        let start = Instant::now();
        self.subject.upgrade(tag, tag).await?;
        let wait = self.timeline.wait_until("the first write", PATIENCE, |history| {
            let state = self.subject.state(history)?;
            (state.deployment_phase() == "Deploying").then_some(())
        });
        wait.await?;
        let first = start.elapsed().as_secs_f64();
        self.stable(tag).await?;
        Ok((first, start.elapsed().as_secs_f64()))
    }

    async fn counted_upgrade(&self, tag: &str) -> Outcome<((usize, usize), (f64, f64))> {
        let mut took = (0.0, 0.0);
        let counts = self
            .counted(async {
                took = self.upgrade(tag).await?;
                Ok(())
            })
            .await?;
        Ok((counts, took))
    }

    /// Median seconds of a plain write, seen by the same watch.
    async fn baseline(&self) -> Outcome<f64> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), "bench", &Kind::MetadataServices.resource());
        let mut times = vec![];
        for number in 0..21 {
            let mark = number.to_string();
            let patch = serde_json::json!({"metadata": {"annotations": {"bench": mark}}});
            let start = Instant::now();
            api.patch("sample1", &PatchParams::default(), &Patch::Merge(&patch)).await?;
            let seen = self.timeline.wait_until("the mark", PATIENCE, |history| {
                let entry = history.latest(Kind::MetadataServices, "sample1")?;
                (entry.annotation("bench") == Some(mark.as_str())).then_some(())
            });
            seen.await?;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(median(times))
    }

    /// Writes and reads of the operator while something happens.
    async fn counted(&self, what: impl Future<Output = Outcome<()>>) -> Outcome<(usize, usize)> {
        let before = self.log()?.requests().len();
        what.await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let log = self.log()?;
        let new = log.requests().get(before..).unwrap_or_default();
        let work = new.iter().filter(|request| !request.is_event() && !request.is_lease());
        let (writes, reads): (Vec<_>, Vec<_>) = work.partition(|request| request.is_write());
        Ok((writes.len(), reads.iter().filter(|request| request.verb != "watch").count()))
    }

    fn log(&self) -> Outcome<AuditLog> {
        let path: &Path = self.cluster.audit_log().ok_or("the cluster has no audit log")?;
        Ok(AuditLog::read(path)?.by_agent("e6-operator/"))
    }
}

fn resident(pid: u32) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[allow(clippy::cast_precision_loss)] // counts and sizes far below 2^52
fn to_f64(count: usize) -> f64 {
    count as f64
}
