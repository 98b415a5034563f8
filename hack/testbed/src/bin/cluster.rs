//! `cluster up`, `cluster down`, `cluster status`: a local control plane for people. `cluster path`: its programs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};
use testbed::{Cluster, Options, Result, assets, cluster, node, process};

/// A local Kubernetes control plane on loopback.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start it and print how to use it; it runs until `down`.
    Up {
        /// The run directory: kubeconfig, logs, data.
        #[arg(long, default_value = ".cluster")]
        dir: PathBuf,
        /// Who plays the node.
        #[arg(long, value_enum, default_value_t = Node::Kwok)]
        node: Node,
        /// A further flag of kube-apiserver, as `--apiserver-arg=--watch-cache=false`; repeated for more.
        #[arg(long = "apiserver-arg", value_name = "FLAG")]
        apiserver_args: Vec<String>,
    },
    /// Stop it.
    Down {
        /// The run directory.
        #[arg(long, default_value = ".cluster")]
        dir: PathBuf,
    },
    /// Put an image (a docker-archive or OCI tar) into the store of a real node.
    Import {
        /// The file.
        archive: PathBuf,
        /// The run directory.
        #[arg(long, default_value = ".cluster")]
        dir: PathBuf,
    },
    /// Print the path of a program, built first when it is not there.
    Path {
        /// Which one.
        #[arg(value_enum)]
        tool: Tool,
    },
    /// Say what of it runs.
    Status {
        /// The run directory.
        #[arg(long, default_value = ".cluster")]
        dir: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Tool {
    /// kube-apiserver; the rest of the control plane is beside it or in the cache.
    ControlPlane,
    /// The command-line client.
    Kubectl,
    /// The program that runs the pods of a real node.
    Kubelet,
    /// The program that leads the traffic of a real node.
    KubeProxy,
    /// The installer of charts.
    Helm,
    /// The same, version 3.
    Helm3,
    /// The directory of an older control plane, for KUBEBUILDER_ASSETS.
    #[value(name = "kubernetes-1.30")]
    Kubernetes130,
    /// The player of nodes and pods.
    Kwok,
    /// The source of `kubectl top` on a real node.
    MetricsServer,
    /// The directory of its manifests.
    MetricsServerManifests,
    /// The static program that plays storage and schema on a real node.
    Workload,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Node {
    /// KWOK: pods are played, nothing is executed.
    Kwok,
    /// A kubelet that runs containers.
    Real,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up { dir, node, apiserver_args } => up(&dir, node, apiserver_args).await,
        Command::Down { dir } => down(&dir),
        Command::Status { dir } => Ok(status(&dir)),
        Command::Import { archive, dir } => import(&archive, &dir),
        Command::Path { tool } => path(tool),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn up(dir: &Path, node: Node, apiserver_args: Vec<String>) -> Result<ExitCode> {
    if running(dir).len() == process::recorded(&dir.join("pids")).len() && !running(dir).is_empty() {
        println!("The cluster in {} runs already; stop it with: make cluster-down", dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    let start = Instant::now();
    let options =
        Options { dir: Some(dir.to_path_buf()), detached: true, apiserver_args, ..Options::default() };
    let told = |cluster: &Cluster| {
        println!("The cluster is up after {:.1} s.", start.elapsed().as_secs_f64());
        usage(cluster, dir);
    };
    match node {
        Node::Kwok => told(&Cluster::start(options).await?),
        // It blocks, and this program has nothing else to do.
        Node::Real => {
            tokio::task::block_in_place(|| cluster::with_node(options, async |cluster| told(&cluster)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn usage(cluster: &Cluster, dir: &Path) {
    println!();
    println!("  export KUBECONFIG={}", cluster.kubeconfig().display());
    let prefix = cluster.node().map(|node| node.prefix().join(" ") + " ").unwrap_or_default();
    println!("  {prefix}{} get nodes,deployments,pods -A", cluster.kubectl().display());
    println!();
    if prefix.is_empty() {
        println!("Pods are played, not run: the image's tag says how (see hack/cluster/stages.yaml).");
    } else {
        println!("The cluster has a network of its own: what speaks to it, the operator too, begins with");
        println!("  {prefix}");
        println!(
            "There is no registry: `cargo run -p testbed --bin cluster -- import TAR` puts an image into the node's store."
        );
    }
    println!("Logs are in {}; stop it with: make cluster-down", dir.join("logs").display());
}

fn down(dir: &Path) -> Result<ExitCode> {
    if Cluster::stop_recorded(dir)? {
        println!("The cluster in {} is stopped.", dir.display());
    } else {
        println!("No cluster runs in {}.", dir.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn import(archive: &Path, dir: &Path) -> Result<ExitCode> {
    node::RealNode::recorded(dir)?.import_archive(archive)?;
    println!("{} is in the node's store.", archive.display());
    Ok(ExitCode::SUCCESS)
}

fn path(tool: Tool) -> Result<ExitCode> {
    let path = match tool {
        Tool::ControlPlane => assets::control_plane()?.kube_apiserver,
        Tool::Kubectl => assets::kubectl()?,
        Tool::Kubelet => assets::kubelet()?,
        Tool::KubeProxy => assets::kube_proxy()?,
        Tool::Helm => assets::helm()?,
        Tool::Helm3 => assets::helm3()?,
        Tool::Kubernetes130 => assets::kubernetes_1_30()?,
        Tool::Kwok => assets::kwok()?,
        Tool::MetricsServer => assets::metrics_server()?.0,
        Tool::MetricsServerManifests => assets::metrics_server()?.1,
        Tool::Workload => node::static_programs::workload()?,
    };
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn status(dir: &Path) -> ExitCode {
    let recorded = process::recorded(&dir.join("pids"));
    let running = running(dir);
    if recorded.is_empty() {
        println!("No cluster runs in {}.", dir.display());
        return ExitCode::from(3);
    }
    for (name, pid) in &recorded {
        let state = if running.contains(pid) { "runs" } else { "has ended" };
        println!("{name:<24} {pid:>8}  {state}");
    }
    if running.len() == recorded.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The recorded processes that live.
fn running(dir: &Path) -> Vec<u32> {
    let Ok(dir) = dir.canonicalize() else { return Vec::new() };
    let mark = format!("{}/", dir.display());
    let recorded = process::recorded(&dir.join("pids"));
    recorded.into_iter().map(|(_, pid)| pid).filter(|pid| process::is_ours(*pid, &mark)).collect()
}
