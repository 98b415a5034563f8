//! `make demo`: the main job from start to end, on a local cluster or on the cluster of `E6_KUBECONFIG`.

use clap::Parser;
use testbed::demo;

#[tokio::main]
async fn main() {
    let code = demo::run(demo::Settings::parse()).await.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        1
    });
    // Returning from main would wait for a build or a command that still runs.
    std::process::exit(code);
}
