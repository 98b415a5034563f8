//! `make demo`: the main job, start to end, on a local cluster or on that of `E6_KUBECONFIG`.

#[path = "../demo/mod.rs"]
mod demo;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::FalseyValueParser;
use demo::{Ending, Settings};
use tokio::signal::unix::{SignalKind, signal};

/// Shows the operator at work on a real API server, and checks what it does by watches of its own.
///
/// Exits with 0 only if every observed state was the right one. E6_KUBECONFIG names a cluster to use.
#[derive(Debug, Parser)]
struct Cli {
    /// The operator's binary.
    #[arg(long, value_name = "FILE", default_value = "target/release/e6-operator")]
    operator: PathBuf,
    /// The run directory: the local cluster, and the logs.
    #[arg(long, value_name = "DIR", default_value = ".cluster")]
    dir: PathBuf,
    /// Leave the cluster and the operator running.
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new())]
    keep: bool,
    /// Registry and path of the images, for a cluster with real nodes.
    #[arg(long, env = "E6_DEMO_IMAGES", value_name = "REPOSITORY")]
    images: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let images = cli.images.filter(|images| !images.is_empty());
    let settings = Settings { operator: cli.operator, dir: cli.dir, keep: cli.keep, images };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let ending = runtime.block_on(demo::run(settings, asked_to_stop));
    // A build or a command that still runs must not hold this up.
    runtime.shutdown_background();
    match ending {
        Ok(Ending::Held) => ExitCode::SUCCESS,
        Ok(Ending::Failed) => ExitCode::FAILURE,
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Waits for Ctrl-C, SIGTERM or the end of the terminal.
async fn asked_to_stop() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let streams: Vec<_> = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    let mut waits: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            Box::pin(async move {
                stream.recv().await;
            })
        })
        .collect();
    if waits.is_empty() {
        std::future::pending::<()>().await;
    }
    let _ = futures::future::select_all(waits.drain(..)).await;
}
