//! The measurements of `docs/zero-downtime.md`, which `make e2e-measure` writes there.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use testbed::{Cluster, Options};
use tokio::net::TcpStream;
use traffic::record::{FrontService, Record, now};
use traffic::report::{Report, moved};

use crate::real_node::{on_node_with, try_on_node};
use crate::resource_under_load::ResourceUnderLoad;

/// The Service of the API server.
const API_SERVER: &str = "10.96.0.1:443";

/// Number of switches per mode of kube-proxy.
const SWITCHES: u32 = 20;

/// Seconds between the start of a failing release and its failure.
const BAD_AFTER: &str = "15";

#[test]
#[ignore = "ten minutes; `make e2e-measure` runs it"]
fn mixed_versions() {
    let row = |mode| {
        let row = windows(mode).unwrap_or_else(|reason| format!("not measured: {reason} | | | |"));
        format!("| {mode} | {row}\n")
    };
    let rows = ["iptables", "nftables", "ipvs"].map(row).concat();
    publish(
        "mixed-versions",
        &format!(
            "| kube-proxy | requests | failed | both releases at one front, median (worst) | one front after the other, \
         median (worst) |\n|---|---|---|---|---|\n{rows}"
        ),
    );
}

/// Returns one row, or the reason why there is none.
fn windows(mode: &str) -> Result<String, String> {
    let options = Options { proxy_mode: Some(mode.to_owned()), ..Options::default() };
    let measured = try_on_node(options, async |cluster| {
        if !leads_to_the_api_server().await {
            return Err("it starts here and leads to nothing".to_owned());
        }
        Ok(switches(cluster).await)
    });
    measured?
}

/// Returns whether Services work: the Service of the API server exists from the start.
async fn leads_to_the_api_server() -> bool {
    for _ in 0..20 {
        let connect = TcpStream::connect(API_SERVER);
        if matches!(tokio::time::timeout(Duration::from_secs(1), connect).await, Ok(Ok(_))) {
            return true;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    false
}

/// Returns the measurements of one mode.
async fn switches(cluster: &Cluster) -> String {
    let mut resource = ResourceUnderLoad::open(cluster, "windows", &json!({})).await;
    let mut asked = vec![];
    for _ in 0..SWITCHES {
        let since = now();
        let tag = resource.upgrade().await;
        resource.serves(tag).await;
        asked.push((resource.version(tag), since));
    }
    let records = resource.close().await;
    let (mut both, mut apart) = (vec![], vec![]);
    for (number, (version, since)) in asked.iter().enumerate() {
        let until = asked.get(number + 1).map_or(u64::MAX, |next| next.1);
        let (fronts, whole) = mixed(&records, version, *since, until).expect("it was asked");
        both.extend(fronts);
        apart.push(whole);
    }
    let report = Report::of(&records);
    let (requests, failed) = (report.answers() + report.failures(), report.failures());
    let spread = |times| median(times, &seconds).expect("there were switches");
    format!("{requests} | {failed} | {} | {} |", spread(both), spread(apart))
}

/// Returns the time during which two releases answered, in microseconds: at storage, at schema, and from the first
/// answer of the new release at either front Service to the last answer of the old one at either.
pub fn mixed(records: &[Record], release: &str, since: u64, until: u64) -> Option<([u64; 2], u64)> {
    let [storage, schema] = [FrontService::Storage, FrontService::Schema]
        .map(|front| moved(records, front, release, since, until));
    let (storage, schema) = (storage?, schema?);
    let first = storage.first_new.min(schema.first_new);
    let last = storage.last_old.max(schema.last_old);
    Some(([storage.mixed(), schema.mixed()], last.saturating_sub(first)))
}

#[test]
#[ignore = "ten minutes; `make e2e-measure` runs it"]
fn time_to_safety() {
    let fastest = json!({"gracePeriodSeconds": 0, "switchDwellSeconds": 0, "cleanupDelaySeconds": 30});
    let row = |timings: &str, rollout, after: &str, watched| {
        format!("| {timings} | {after} s after it began to listen | {}\n", safety(rollout, after, watched))
    };
    let mut rows: Vec<String> =
        (1..=5).map(|run| row(&format!("fastest, run {run}"), &fastest, BAD_AFTER, 60)).collect();
    let default = json!({"gracePeriodSeconds": 120, "switchDwellSeconds": 10, "cleanupDelaySeconds": 30});
    rows.push(row("default", &default, BAD_AFTER, 60));
    rows.push(row("default", &default, "140", 180));
    let rows = rows.concat();
    publish(
        "time-to-safety",
        &format!(
            "| timings | the release turns bad | failed requests | from the first bad answer to the last |\n\
         |---|---|---|---|\n{rows}"
        ),
    );
}

/// Returns the failed requests of a release that fails after it has started, observed for `watched` seconds.
fn safety(rollout: &serde_json::Value, after: &str, watched: u64) -> String {
    let mut row = String::new();
    on_node_with(Options::default(), async |cluster| {
        let mut resource = ResourceUnderLoad::open(cluster, "safety", rollout).await;
        resource.phase("a release that turns bad");
        resource.own_failures(watched + 10, u64::MAX);
        let bad = [("BAD_SECONDS", after)];
        resource.upgrade_with(&bad, &bad).await;
        resource.env.linger(watched).await;
        row = cost(&resource.leave().await);
    });
    eprintln!("{row}");
    row
}

fn cost(records: &[Record]) -> String {
    let failed: Vec<u64> =
        records.iter().filter(|record| record.outcome.is_err()).map(Record::asked).collect();
    match (failed.iter().min(), failed.iter().max()) {
        (Some(first), Some(last)) => format!("{} | {} |", failed.len(), seconds(last - first)),
        _ => "0 | none: it never served |".to_owned(),
    }
}

/// Returns median and maximum. None without values.
pub fn median(mut found: Vec<u64>, show: &dyn Fn(u64) -> String) -> Option<String> {
    found.sort_unstable();
    let worst = found.last()?;
    Some(format!("{} ({})", show(found[found.len() / 2]), show(*worst)))
}

/// Formats microseconds as seconds.
pub fn seconds(microseconds: u64) -> String {
    let milliseconds = microseconds / 1000;
    format!("{}.{:02} s", milliseconds / 1000, milliseconds % 1000 / 10)
}

/// Replaces a table of the document between its two marks.
pub fn publish(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/zero-downtime.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- measured: {name} -->\n"), format!("<!-- end: {name} -->"));
    let from = text.find(&begin).unwrap() + begin.len();
    let to = text.find(&end).unwrap();
    std::fs::write(&path, format!("{}{table}{}", &text[..from], &text[to..])).unwrap();
    println!("{table}");
}
