//! The process: what is started in which order, and how it ends.
//!
//! Every replica serves probes and metrics and watches the CRD; only the leader reconciles. SIGTERM stops new passes,
//! lets those under way finish, and gives the lease back; a lost lease ends the process at once with a failure.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::cli::{BindAddress, RunArgs};
use crate::client;
use crate::clock::ServerClock;
use crate::controller::{self, Events, Settings, Shared, crd};
use crate::leader::{self, LeaderElection, Leadership, LeaseLost};
use crate::metrics::Metrics;
use crate::resources::Defaults;
use crate::server::{BindError, Gate, Health, Routes, Server};
use crate::telemetry;
use api::names::PerComponent;

/// Passes under way may take this long to finish after SIGTERM; the lease is given back after that.
const DRAIN: Duration = Duration::from_millis(3_500);
/// How often the main loop shows that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// What must be in place before the operator is ready.
const GATES: &[Gate] = &[
    Gate { name: "crd", remedy: crd::REMEDY },
    Gate { name: "caches", remedy: "wait; if it lasts, see the log for a watch that is forbidden or broken" },
];

/// Why the process ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// There is no client for the API server.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// An address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The metrics cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The runtime or its signal handlers cannot be set up.
    #[error("starting: {0}")]
    Start(#[from] std::io::Error),
    /// The lease was lost; another instance leads.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
}

/// Runs the operator until it is told to stop.
pub fn run(args: &RunArgs) -> Result<(), Error> {
    telemetry::init(args.log_format, &args.log_level)?;
    // One thread does: the work is waiting, and every further thread costs an allocator's arena.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(operate(args));
    // Watches and Events that are still under way have nothing to lose.
    runtime.shutdown_timeout(Duration::from_millis(100));
    if let Err(failure) = &outcome {
        error!(error = %failure, "stopped");
    }
    outcome
}

async fn operate(args: &RunArgs) -> Result<(), Error> {
    let identity = args.unique_identity();
    info!(version = env!("CARGO_PKG_VERSION"), identity, "e6-operator");
    let (stop, stopping) = watch::channel(false);
    on_signal(stop)?;
    let (clock, metrics) = (ServerClock::new(), Metrics::new()?);
    let health = Health::new(Health::MAX_SILENCE, GATES);
    // A standby has no caches to fill and is ready to take over.
    health.set("caches", true);
    listen(args, &health, &metrics, &stopping).await?;
    tokio::spawn(beat(health.clone()));

    let config = client::config().await?;
    let client = client::work_client(&config, &clock, &metrics, args.request_timeout())?;
    let installed = crd::Installed::default();
    let gate = health.clone();
    tokio::spawn(crd::follow(client.clone(), installed.clone(), move |state| {
        gate.set("crd", matches!(state, crd::State::Current | crd::State::Outdated(_)));
    }));

    let election = election(args, &config, &clock, &metrics, &identity)?;
    let leadership = election.as_ref().map_or_else(Leadership::always, LeaderElection::leadership);
    let (done, drained) = watch::channel(false);
    let work = async {
        lead(args, &client, &clock, &metrics, &leadership, &installed, &health, &identity, &stopping).await;
        let _ = done.send(true);
    };
    let lease = async {
        if let Some(election) = election {
            return election.run(raised(drained)).await;
        }
        raised(drained).await;
        Ok(())
    };
    let lost = leadership.clone();
    let work = async {
        tokio::select! {
            () = work => {}
            () = lost.lost() => {}
        }
    };
    metrics.set_leader(&args.leader_elect_lease_name, false);
    let ((), outcome) = futures::join!(work, lease);
    outcome?;
    info!("stopped");
    Ok(())
}

/// Waits for the lead, then reconciles until told to stop.
#[allow(clippy::too_many_arguments)] // the parts of the process, each used once
async fn lead(
    args: &RunArgs,
    client: &Client,
    clock: &ServerClock,
    metrics: &Metrics,
    leadership: &Leadership,
    installed: &crd::Installed,
    health: &Health,
    identity: &str,
    stopping: &watch::Receiver<bool>,
) {
    let ready = async {
        leadership.acquired().await;
        metrics.set_leader(&args.leader_elect_lease_name, true);
        installed.usable().await;
        knows_sleep(client).await
    };
    let sleep_action = tokio::select! {
        knows = ready => knows,
        () = raised(stopping.clone()) => return,
    };
    let shared = Shared {
        client: client.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        leadership: leadership.clone(),
        events: Events::start(client.clone(), identity.to_owned()),
        installed: installed.clone(),
        settings: settings(args, sleep_action),
        concurrency: args.concurrency,
        resync: args.resync(),
        stopping: stopping.clone(),
    };
    metrics.set_max_concurrent(args.concurrency);
    health.set("caches", false);
    let namespaces = args.namespaces();
    let scopes: Vec<Option<String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
    let unfilled = Arc::new(AtomicUsize::new(scopes.len()));
    let controllers = scopes.into_iter().map(|scope| {
        let (health, unfilled) = (health.clone(), unfilled.clone());
        let synced = move || {
            if unfilled.fetch_sub(1, Ordering::AcqRel) == 1 {
                health.set("caches", true);
            }
        };
        controller::run(shared.clone(), scope, synced, raised(stopping.clone()))
    });
    let drained = async {
        raised(stopping.clone()).await;
        tokio::time::sleep(DRAIN).await;
        warn!("passes under way did not finish in time and are cut off; the next leader goes on from there");
    };
    tokio::select! {
        _ = join_all(controllers) => {}
        () = drained => {}
    }
}

/// Resolves when the flag is raised.
async fn raised(mut flag: watch::Receiver<bool>) {
    // An error means that the other side is gone: the same.
    let _ = flag.wait_for(|raised| *raised).await;
}

fn on_signal(stop: watch::Sender<bool>) -> Result<(), std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: finishing"),
            _ = interrupt.recv() => info!("SIGINT: finishing"),
        }
        let _ = stop.send(true);
        // Kept until the end, or the flag would read as raised by its loss alone.
        std::future::pending::<()>().await;
    });
    Ok(())
}

async fn beat(health: Health) {
    loop {
        health.beat();
        tokio::time::sleep(BEAT).await;
    }
}

async fn listen(
    args: &RunArgs,
    health: &Health,
    metrics: &Metrics,
    stopping: &watch::Receiver<bool>,
) -> Result<(), BindError> {
    let probes = Routes { health: Some(health.clone()), metrics: None };
    let numbers = Routes { health: None, metrics: Some(metrics.clone()) };
    let BindAddress(health_address) = args.health_probe_bind_address;
    let BindAddress(metrics_address) = args.metrics_bind_address;
    for (address, flag, routes) in [
        (health_address, "--health-probe-bind-address", probes),
        (metrics_address, "--metrics-bind-address", numbers),
    ] {
        if let Some(address) = address {
            let server = Server::bind(address, flag).await?;
            info!(address = %server.local_addr(), flag, "listening");
            tokio::spawn(serve(server, routes, raised(stopping.clone())));
        }
    }
    Ok(())
}

async fn serve(server: Server, routes: Routes, stop: impl Future<Output = ()>) {
    server.serve(routes, stop).await;
}

fn election(
    args: &RunArgs,
    config: &kube::Config,
    clock: &ServerClock,
    metrics: &Metrics,
    identity: &str,
) -> Result<Option<LeaderElection>, client::Error> {
    if !args.leader_elect {
        return Ok(None);
    }
    let settings = leader::Settings {
        namespace: args.lease_namespace(),
        name: args.leader_elect_lease_name.clone(),
        identity: identity.to_owned(),
        timings: leader::Timings::default(),
    };
    let client = client::lease_client(config, clock, metrics)?;
    Ok(Some(LeaderElection::new(client, settings, clock.clone())))
}

fn settings(args: &RunArgs, sleep_action: bool) -> Settings {
    Settings {
        defaults: Defaults { image_repository: args.default_image_repository.clone(), sleep_action },
        minimum: PerComponent { storage: args.min_storage_version, schema: args.min_schema_version },
    }
}

/// Whether the server knows the sleep action of preStop hooks: on by default since Kubernetes 1.30.
async fn knows_sleep(client: &Client) -> bool {
    loop {
        match client.apiserver_version().await {
            Ok(version) => {
                let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or(0);
                return (number(&version.major), number(&version.minor)) >= (1, 30);
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404) => {
                warn!(
                    code = status.code,
                    "/version may not be read: pods get a preStop hook without a sleep action"
                );
                return false;
            }
            Err(failure) => {
                warn!(error = %failure, "the API server's version is not known yet, asking again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
