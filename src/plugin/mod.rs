//! The kubectl plugin: the binary under the name `kubectl-mds` is `kubectl mds`.
//!
//! It shows the status of a resource and sends requests by annotation. Plain kubectl can do the same; the plugin adds checks
//! and explanations.

mod follow;
mod requests;
mod view;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use http::{HeaderValue, header::USER_AGENT};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use api::MetadataServices;

/// The name of the binary as a plugin.
const NAME: &str = "kubectl-mds";
const AGENT: &str = concat!("kubectl-mds/", env!("CARGO_PKG_VERSION"));

/// The command line of the plugin.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "kubectl mds", version, about = "Show, wait for and roll back releases of MetadataServices")]
pub struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// The cluster and namespace, as in kubectl.
#[derive(Debug, Args)]
struct Target {
    /// Namespace of the resource [default: namespace of the context]
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Context of the kubeconfig [default: current context]
    #[arg(long, global = true, value_name = "CONTEXT")]
    context: Option<String>,
    /// Path of the kubeconfig [default: KUBECONFIG, else ~/.kube/config, else the service account of the Pod]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the active and the pending release, problems that need an action, and the history
    Status(Named),
    /// Show the release history as a table
    History(Named),
    /// Roll back to a release in the history, by default to the previous one
    Rollback {
        #[command(flatten)]
        named: Named,
        /// Version to roll back to [default: previous release; active release while another one is pending or has
        /// failed]
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
        #[command(flatten)]
        following: Following,
    },
    /// Retry the failed release
    Retry(Asked),
    /// Replace every Pod of the active release, blue-green
    Restart(Asked),
    /// Hold new releases until `resume`
    Pause(Named),
    /// Start new releases again
    Resume(Named),
    /// Wait until the release in the spec is active; print each change
    Wait {
        #[command(flatten)]
        named: Named,
        /// Longest wait, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = follow::TIMEOUT)]
        timeout: u64,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// Name of the MetadataServices
    name: String,
}

#[derive(Debug, Args)]
struct Asked {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    following: Following,
}

#[derive(Clone, Copy, Debug, Args)]
struct Following {
    /// Wait for the outcome; print each change
    #[arg(long)]
    wait: bool,
    /// Longest wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = follow::TIMEOUT)]
    timeout: u64,
}

/// A failure of the plugin. Each text names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime cannot be set up.
    #[error("starting: {0}")]
    Start(#[from] std::io::Error),
    /// There is no usable kubeconfig.
    #[error("the kubeconfig is not usable: {0}; set KUBECONFIG, or use --kubeconfig and --context")]
    Config(String),
    /// The API server rejects the request or does not answer.
    #[error("{what}: {source}")]
    Api {
        /// The attempted request.
        what: String,
        /// The answer, or the lack of one.
        #[source]
        source: Box<kube::Error>,
    },
    /// The resource does not exist.
    #[error(
        "MetadataServices {name} does not exist in namespace {namespace}; see: kubectl get metadataservices -A"
    )]
    Absent {
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// The request does not fit the state of the resource.
    #[error("{0}")]
    Refused(String),
    /// The awaited outcome did not occur, or not in time.
    #[error("{0}")]
    Outcome(String),
}

/// Returns whether the binary was called as the plugin.
pub fn is_called(program: Option<&Path>) -> bool {
    program.and_then(Path::file_stem).is_some_and(|name| name == NAME)
}

/// Runs the plugin.
///
/// # Errors
/// If the cluster does not answer or rejects the request, or if the awaited outcome did not occur.
pub fn run(cli: &Cli) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let subject = Subject::connect(&cli.target, cli.command.name()).await?;
        Box::pin(subject.carry_out(&cli.command)).await
    })
}

impl Command {
    fn name(&self) -> &str {
        match self {
            Self::Status(named) | Self::History(named) | Self::Pause(named) | Self::Resume(named) => {
                &named.name
            }
            Self::Retry(asked) | Self::Restart(asked) => &asked.named.name,
            Self::Rollback { named, .. } | Self::Wait { named, .. } => &named.name,
        }
    }
}

/// The resource of a command.
struct Subject {
    api: Api<MetadataServices>,
    name: String,
    namespace: String,
}

impl Subject {
    async fn connect(target: &Target, name: &str) -> Result<Self, Error> {
        let mut config = config(target).await?;
        config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
        let namespace = target.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| Error::Config(error.to_string()))?;
        Ok(Self { api: Api::namespaced(client, &namespace), name: name.to_owned(), namespace })
    }

    async fn carry_out(&self, command: &Command) -> Result<(), Error> {
        match command {
            Command::Status(_) => print(&view::status(&self.get().await?)),
            Command::History(_) => print(&view::history(&self.get().await?)),
            Command::Rollback { to, following, .. } => {
                let resource = self.get().await?;
                self.request(&resource, requests::rollback(&resource, to.as_deref())?, *following).await?;
            }
            Command::Retry(asked) => {
                let resource = self.get().await?;
                self.request(&resource, requests::retry(&resource)?, asked.following).await?;
            }
            Command::Restart(asked) => {
                let resource = self.get().await?;
                self.request(&resource, requests::restart(&resource)?, asked.following).await?;
            }
            Command::Pause(_) => self.change(&requests::pause(&self.get().await?, true)?).await?,
            Command::Resume(_) => self.change(&requests::pause(&self.get().await?, false)?).await?,
            Command::Wait { timeout, .. } => self.follow(*timeout).await?,
        }
        Ok(())
    }

    async fn request(
        &self,
        resource: &MetadataServices,
        change: requests::Change,
        following: Following,
    ) -> Result<(), Error> {
        requests::reject_second(resource)?;
        self.change(&change).await?;
        if following.wait { self.follow(following.timeout).await } else { Ok(()) }
    }

    async fn get(&self) -> Result<MetadataServices, Error> {
        let found = self.api.get_opt(&self.name).await;
        found.map_err(|source| self.failed("reading", source))?.ok_or_else(|| self.absent())
    }

    fn absent(&self) -> Error {
        Error::Absent { name: self.name.clone(), namespace: self.namespace.clone() }
    }

    fn failed(&self, doing: &str, source: kube::Error) -> Error {
        let what = format!("{doing} MetadataServices {} in namespace {}", self.name, self.namespace);
        Error::Api { what, source: Box::new(source) }
    }
}

async fn config(target: &Target) -> Result<Config, Error> {
    let unusable = |error: &dyn std::error::Error| Error::Config(error.to_string());
    let options = KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
    match (&target.kubeconfig, &target.context) {
        (Some(path), _) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unusable(&error))
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|error| unusable(&error)),
        (None, None) => Config::infer().await.map_err(|error| unusable(&error)),
    }
}

/// Prints a text. A closed pipe (`| head`) is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;
