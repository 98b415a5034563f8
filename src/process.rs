//! The process: the order in which its parts start, and how it ends.
//!
//! Every replica serves probes and metrics and watches the CRD; only the leader reconciles. SIGTERM starts no new
//! reconciles, waits for those in progress, and releases the Lease. A lost Lease ends the process at once with a failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cli::{BindAddress, RunArgs};
use crate::client;
use crate::clock::ServerClock;
use crate::controller::{self, Events, Shared, crd};
use crate::leader::{self, LeaderElection, Leadership, LeaseLost};
use crate::metrics::Metrics;
use crate::observe::Settings;
use crate::resources::Defaults;
use crate::server::{BindError, Gate, Health, Routes, Server};
use crate::telemetry;
use api::names::PerComponent;

/// How long reconciles in progress may take after SIGTERM. The Lease is released after that.
const DRAIN: Duration = Duration::from_millis(3_500);
/// How often the main loop reports that it runs.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The conditions of readiness.
const GATES: &[Gate] = &[
    Gate { name: "crd", remedy: crd::REMEDY },
    Gate { name: "caches", remedy: "wait; if it lasts, search the log for a forbidden or failed watch" },
];

/// The cause of a failure of the process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Logging cannot be set up.
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
    /// The Lease was lost; another replica leads.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
}

/// Runs the operator until SIGTERM or SIGINT.
pub fn run(args: &RunArgs) -> Result<(), Error> {
    telemetry::init(args.log_format, &args.log_level)?;
    // The operator mostly waits, so one thread is enough; every further thread costs memory for its allocator.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(operate(args));
    // Watches and queued Events can be dropped.
    runtime.shutdown_timeout(Duration::from_millis(100));
    if let Err(failure) = &outcome {
        error!(error = %failure, "stopped");
    }
    outcome
}

/// The parts of one replica.
struct Replica<'a> {
    args: &'a RunArgs,
    identity: String,
    client: Client,
    clock: ServerClock,
    metrics: Metrics,
    health: Health,
    installed: crd::Installed,
    leadership: Leadership,
    /// Canceled by SIGTERM and SIGINT.
    stopping: CancellationToken,
}

async fn operate(args: &RunArgs) -> Result<(), Error> {
    let identity = args.unique_identity();
    info!(version = env!("CARGO_PKG_VERSION"), identity, "e6-operator");
    let stopping = CancellationToken::new();
    on_signal(stopping.clone())?;
    let (clock, metrics) = (ServerClock::new(), Metrics::new()?);
    let health = Health::new(Health::MAX_SILENCE, GATES);
    // A standby has no caches to fill and is ready to take over.
    health.set("caches", true);
    listen(args, &health, &metrics, &stopping)?;
    tokio::spawn(heartbeat(health.clone()));

    let config = client::config().await?;
    let client = client::work_client(&config, &clock, &metrics, args.request_timeout())?;
    let installed = crd::Installed::default();
    let gate = health.clone();
    tokio::spawn(crd::follow(client.clone(), installed.clone(), move |state| {
        gate.set("crd", matches!(state, crd::State::Current | crd::State::Outdated(_)));
    }));

    let election = election(args, &config, &clock, &metrics, &identity)?;
    let leadership = election.as_ref().map_or_else(Leadership::always, LeaderElection::leadership);
    metrics.set_leader(&args.leader_elect_lease_name, false);
    let lost = leadership.clone();
    let replica = Replica { args, identity, client, clock, metrics, health, installed, leadership, stopping };
    let drained = CancellationToken::new();
    let work = async {
        tokio::select! {
            () = replica.lead() => drained.cancel(),
            () = lost.lost() => {}
        }
    };
    let lease = async {
        if let Some(election) = election {
            return election.run(drained.cancelled()).await;
        }
        drained.cancelled().await;
        Ok(())
    };
    let ((), outcome) = futures::join!(work, lease);
    outcome?;
    info!("stopped");
    Ok(())
}

impl Replica<'_> {
    /// Waits until this replica leads, then reconciles until the process has to end.
    async fn lead(&self) {
        let ready = async {
            self.leadership.acquired().await;
            self.metrics.set_leader(&self.args.leader_elect_lease_name, true);
            self.installed.usable().await;
            supports_prestop_sleep(&self.client).await
        };
        let sleep_action = tokio::select! {
            supported = ready => supported,
            () = self.stopping.cancelled() => return,
        };
        let shared = self.shared(sleep_action);
        self.metrics.set_max_concurrent(self.args.concurrency);
        self.health.set("caches", false);
        let namespaces = self.args.namespaces();
        let scopes: Vec<Option<String>> =
            if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
        let unfilled = Arc::new(AtomicUsize::new(scopes.len()));
        let controllers = scopes.into_iter().map(|scope| {
            let (health, unfilled) = (self.health.clone(), unfilled.clone());
            let synced = move || {
                if unfilled.fetch_sub(1, Ordering::AcqRel) == 1 {
                    health.set("caches", true);
                }
            };
            controller::run(shared.clone(), scope, synced, self.stopping.clone().cancelled_owned())
        });
        let deadline = async {
            self.stopping.cancelled().await;
            tokio::time::sleep(DRAIN).await;
            warn!("reconciles did not complete in time and are cancelled; the next leader completes them");
        };
        tokio::select! {
            _ = join_all(controllers) => {}
            () = deadline => {}
        }
    }

    fn shared(&self, sleep_action: bool) -> Shared {
        let args = self.args;
        Shared {
            client: self.client.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            leadership: self.leadership.clone(),
            events: Events::start(self.client.clone(), self.identity.clone()),
            installed: self.installed.clone(),
            settings: Settings {
                defaults: Defaults { image_repository: args.default_image_repository.clone(), sleep_action },
                minimum: PerComponent { storage: args.min_storage_version, schema: args.min_schema_version },
            },
            concurrency: args.concurrency,
            resync: args.resync(),
            stopping: self.stopping.clone(),
        }
    }
}

fn on_signal(stopping: CancellationToken) -> Result<(), std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM received, stopping"),
            _ = interrupt.recv() => info!("SIGINT received, stopping"),
        }
        stopping.cancel();
    });
    Ok(())
}

async fn heartbeat(health: Health) {
    loop {
        health.heartbeat();
        tokio::time::sleep(HEARTBEAT).await;
    }
}

fn listen(
    args: &RunArgs,
    health: &Health,
    metrics: &Metrics,
    stopping: &CancellationToken,
) -> Result<(), BindError> {
    let probes = Routes { health: Some(health.clone()), metrics: None };
    let exposition = Routes { health: None, metrics: Some(metrics.clone()) };
    let BindAddress(health_address) = args.health_probe_bind_address;
    let BindAddress(metrics_address) = args.metrics_bind_address;
    for (address, flag, routes) in [
        (health_address, "--health-probe-bind-address", probes),
        (metrics_address, "--metrics-bind-address", exposition),
    ] {
        if let Some(address) = address {
            let server = Server::bind(address, flag)?;
            info!(address = %server.local_addr(), flag, "listening");
            tokio::spawn(server.serve(routes, stopping.clone().cancelled_owned()));
        }
    }
    Ok(())
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

/// Returns whether the API server accepts the sleep action of preStop hooks: on by default since Kubernetes 1.30.
async fn supports_prestop_sleep(client: &Client) -> bool {
    loop {
        match client.apiserver_version().await {
            Ok(version) => {
                let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or(0);
                return (number(&version.major), number(&version.minor)) >= (1, 30);
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404) => {
                warn!(
                    code = status.code,
                    "/version cannot be read: Pods get no preStop hook with a sleep action"
                );
                return false;
            }
            Err(failure) => {
                warn!(error = %failure, "the version of the API server is not known yet, retrying");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
