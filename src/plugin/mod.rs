//! The kubectl plugin: the binary under the name `kubectl-mds` is `kubectl mds`.
//!
//! It shows what a resource's status says, and asks for what users ask for by annotation; it does nothing that plain
//! kubectl cannot do, with the words and checks of the operator at hand.

mod act;
mod follow;
mod view;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use http::{HeaderValue, header::USER_AGENT};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use api::MetadataServices;

/// The name under which the binary is the plugin.
const NAME: &str = "kubectl-mds";
const AGENT: &str = concat!("kubectl-mds/", env!("CARGO_PKG_VERSION"));

/// Releases of MetadataServices at a glance.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "kubectl mds", version, about = "Releases of MetadataServices: see, wait, roll back")]
pub struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// Which cluster and namespace, as with kubectl.
#[derive(Debug, Args)]
struct Target {
    /// Namespace of the resource [default: the context's]
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, global = true, value_name = "CONTEXT")]
    context: Option<String>,
    /// Path of the kubeconfig [default: KUBECONFIG, else ~/.kube/config, else the pod's service account]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what serves, what is under way, and what needs a person
    Status(Named),
    /// Show the release history as a table
    History(Named),
    /// Roll back to a release of the history, by default to the one before
    Rollback {
        #[command(flatten)]
        named: Named,
        /// Version to go back to [default: the release before the serving one; while another is on its way or has
        /// failed, the serving one]
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
        #[command(flatten)]
        following: Following,
    },
    /// Try the release that failed again
    Retry(Asked),
    /// Replace every pod of the serving release, blue-green
    Restart(Asked),
    /// Start no new release until `resume`
    Pause(Named),
    /// Start releases again
    Resume(Named),
    /// Wait until what the spec asks for serves, printing each change
    Wait {
        #[command(flatten)]
        named: Named,
        /// How long to wait, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = follow::PATIENCE)]
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
    /// Wait for the outcome, printing each change
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = follow::PATIENCE)]
    timeout: u64,
}

/// Why the plugin gives up. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime cannot be set up.
    #[error("starting: {0}")]
    Start(#[from] std::io::Error),
    /// There is no usable kubeconfig.
    #[error("the kubeconfig is not usable: {0}; set KUBECONFIG, or name one with --kubeconfig and --context")]
    Config(String),
    /// The API server refuses or does not answer.
    #[error("{what}: {source}")]
    Api {
        /// What was tried.
        what: String,
        /// What came of it.
        #[source]
        source: Box<kube::Error>,
    },
    /// There is no such resource.
    #[error(
        "MetadataServices {name} does not exist in namespace {namespace}; see: kubectl get metadataservices -A"
    )]
    Absent {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// What was asked for makes no sense now.
    #[error("{0}")]
    Refused(String),
    /// It came out badly, or not in time.
    #[error("{0}")]
    Outcome(String),
}

/// Whether the binary was called as the plugin.
pub fn is_called(program: Option<&Path>) -> bool {
    program.and_then(Path::file_stem).is_some_and(|name| name == NAME)
}

/// Runs the plugin.
///
/// # Errors
/// When the cluster cannot be asked, or refuses, or what was waited for did not come.
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

/// The resource that is asked about.
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
            Command::Status(_) => say(&view::status(&self.get().await?)),
            Command::History(_) => say(&view::history(&self.get().await?)),
            Command::Rollback { to, following, .. } => {
                let resource = self.get().await?;
                self.ask(&resource, act::rollback(&resource, to.as_deref())?, *following).await?;
            }
            Command::Retry(asked) => {
                let resource = self.get().await?;
                self.ask(&resource, act::retry(&resource)?, asked.following).await?;
            }
            Command::Restart(asked) => {
                let resource = self.get().await?;
                self.ask(&resource, act::restart(&resource)?, asked.following).await?;
            }
            Command::Pause(_) => self.change(&act::pause(&self.get().await?, true)?).await?,
            Command::Resume(_) => self.change(&act::pause(&self.get().await?, false)?).await?,
            Command::Wait { timeout, .. } => self.follow(*timeout).await?,
        }
        Ok(())
    }

    async fn ask(
        &self,
        resource: &MetadataServices,
        change: act::Change,
        following: Following,
    ) -> Result<(), Error> {
        act::refuse_a_second(resource)?;
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

/// Prints; that the reader has gone (`| head`) is no failure.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;
