//! The command line: subcommands and flags, each flag with an environment variable of the same name.

use std::{collections::BTreeSet, net::SocketAddr, str::FromStr, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, builder::BoolishValueParser};

use crate::{
    leader,
    telemetry::{self, LogFormat},
    version::Version,
};

/// The default namespace of the operator.
pub const DEFAULT_NAMESPACE: &str = "e6-operator-system";
/// The name of the Lease by which replicas elect a leader.
pub const DEFAULT_LEASE_NAME: &str = "e6-operator.e6data.io";
/// The default registry and path of images.
pub const DEFAULT_IMAGE_REPOSITORY: &str = "docker.io/e6data";

const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "e6-operator",
    version,
    about = "Blue-green releases of the e6data metadata services on Kubernetes",
    after_help = "The default command is `run`. The operator finds the cluster by KUBECONFIG, ~/.kube/config, or the service account \
                  of the Pod, in this order.",
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// The command; see [`Cli::into_command`] for the default.
    #[command(subcommand)]
    command: Option<Command>,
    /// The flags of `run` without a command.
    #[command(flatten)]
    run: RunArgs,
}

impl Cli {
    /// Returns the command; `run` is the default.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or_else(|| Command::Run(Box::new(self.run)))
    }
}

/// The commands of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator (the default)
    Run(Box<RunArgs>),
    /// Print the custom resource definition
    Crd(CrdArgs),
}

/// Flags of `crd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct CrdArgs {
    /// Leave out the CEL rules, for Kubernetes older than 1.25
    #[arg(long)]
    pub legacy: bool,
    /// Print the CRD of the next major version (v1beta1 and v1alpha1)
    #[arg(long, conflicts_with = "legacy")]
    pub next: bool,
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Namespaces to manage, as repeated flags or comma separated [default: all]
    #[arg(long = "watch-namespace", env = "E6_WATCH_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',', value_parser = parse_namespace)]
    pub watch_namespaces: Vec<String>,

    /// Elect a leader among the replicas by a Lease; if false, run a single replica
    #[arg(long, env = "E6_LEADER_ELECT", value_name = "BOOL", default_value = "true", action = ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub leader_elect: bool,

    /// Namespace of the Lease [default: namespace of the Pod, else e6-operator-system]
    #[arg(long, env = "E6_LEADER_ELECT_NAMESPACE", value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub leader_elect_namespace: Option<String>,

    /// Name of the Lease
    #[arg(long, env = "E6_LEADER_ELECT_LEASE_NAME", value_name = "NAME", default_value = DEFAULT_LEASE_NAME, value_parser = parse_object_name)]
    pub leader_elect_lease_name: String,

    /// Name of this replica in the Lease; the operator adds a random suffix, since two processes must never share a name
    /// [default: name of the Pod]
    #[arg(long, env = "E6_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,

    /// Address of /metrics; [::] is IPv6 and IPv4, 0 disables it
    #[arg(long, env = "E6_METRICS_BIND_ADDRESS", value_name = "ADDR:PORT", default_value = "[::]:8080")]
    pub metrics_bind_address: BindAddress,

    /// Address of /healthz and /readyz; [::] is IPv6 and IPv4, 0 disables them
    #[arg(long, env = "E6_HEALTH_PROBE_BIND_ADDRESS", value_name = "ADDR:PORT", default_value = "[::]:8081")]
    pub health_probe_bind_address: BindAddress,

    /// Log level: error, warn, info, debug, trace, or a list such as `info,e6_operator=debug`
    #[arg(long, env = "E6_LOG_LEVEL", value_name = "FILTER", default_value = telemetry::DEFAULT_FILTER, value_parser = parse_log_filter)]
    pub log_level: String,

    /// Format of log lines
    #[arg(long, env = "E6_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Most resources that are reconciled at the same time, 1 to 64
    #[arg(long, env = "E6_CONCURRENCY", value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,

    /// Interval of reconciles of a resource without changes, in seconds, 1 to 3600
    #[arg(long, env = "E6_RESYNC_SECONDS", value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub resync_seconds: u64,

    /// Registry and path of images for resources that set none
    #[arg(long, env = "E6_DEFAULT_IMAGE_REPOSITORY", value_name = "REPOSITORY", default_value = DEFAULT_IMAGE_REPOSITORY, value_parser = parse_repository)]
    pub default_image_repository: String,

    /// Deadline of one request to the API server, in seconds, 1 to 4; a write must end before the Lease of its sender
    /// expires
    #[arg(long, env = "E6_REQUEST_TIMEOUT_SECONDS", value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=4))]
    pub request_timeout_seconds: u64,

    /// Oldest supported storage version, such as 1.0.450; the operator reports older versions and deploys them
    #[arg(long, env = "E6_MIN_STORAGE_VERSION", value_name = "X.Y.Z")]
    pub min_storage_version: Option<Version>,

    /// Oldest supported schema version, such as 1.0.550; the operator reports older versions and deploys them
    #[arg(long, env = "E6_MIN_SCHEMA_VERSION", value_name = "X.Y.Z")]
    pub min_schema_version: Option<Version>,
}

impl RunArgs {
    /// Returns the namespaces to manage, each once; empty means all.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.watch_namespaces.iter().filter(|name| !name.is_empty()).cloned().collect()
    }

    /// Returns [`RunArgs::resync_seconds`] as a duration.
    pub fn resync(&self) -> Duration {
        Duration::from_secs(self.resync_seconds)
    }

    /// Returns [`RunArgs::request_timeout_seconds`] as a duration.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_seconds)
    }

    /// Returns the namespace of the Lease: the flag, else the namespace of the Pod's service account, else `POD_NAMESPACE`,
    /// else [`DEFAULT_NAMESPACE`].
    pub fn lease_namespace(&self) -> String {
        let flag = self.leader_elect_namespace.clone();
        first_filled([
            flag,
            std::fs::read_to_string(NAMESPACE_FILE).ok(),
            std::env::var("POD_NAMESPACE").ok(),
        ])
        .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
    }

    /// Returns the name of this process in the Lease: the flag, else `POD_NAME`, else `HOSTNAME`, with a random suffix. Two
    /// processes with one name would both act as the holder. Examples are a container that restarts in its Pod, and one
    /// `--identity` for all replicas of a Deployment.
    pub fn unique_identity(&self) -> String {
        let base = first_filled([
            self.identity.clone(),
            std::env::var("POD_NAME").ok(),
            std::env::var("HOSTNAME").ok(),
        ])
        .unwrap_or_else(|| "e6-operator".to_owned());
        format!("{base}_{:08x}", leader::random_bits() & u64::from(u32::MAX))
    }
}

/// Returns the first candidate that is not empty, trimmed.
fn first_filled<const N: usize>(candidates: [Option<String>; N]) -> Option<String> {
    candidates.into_iter().flatten().map(|value| value.trim().to_owned()).find(|value| !value.is_empty())
}

/// The address of a listener; `None` (given as `0`) disables it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress(pub Option<SocketAddr>);

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "0" {
            return Ok(Self(None));
        }
        // Go programs accept `:8080`, which means both families.
        let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
        full.parse().map(|address| Self(Some(address))).map_err(|_| {
            "use an IP address and a port, such as [::]:8080 or 127.0.0.1:8080, or 0 to disable it".into()
        })
    }
}

/// Parses a namespace. An empty text is valid, since a chart renders an unset list so.
fn parse_namespace(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() || is_dns_label(name) {
        return Ok(name.to_owned());
    }
    Err("a namespace has at most 63 lower-case letters, digits and '-', and begins and ends with a letter or digit".into())
}

fn parse_object_name(text: &str) -> Result<String, String> {
    if text.len() <= 253 && text.split('.').all(is_dns_label) {
        return Ok(text.to_owned());
    }
    Err("an object's name has at most 253 lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit".into())
}

fn is_dns_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn parse_log_filter(text: &str) -> Result<String, String> {
    telemetry::parse_filter(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses the prefix of a repository, to which `/storage` and `/schema` are appended.
fn parse_repository(text: &str) -> Result<String, String> {
    let repository = text.trim_end_matches('/');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    let last = repository.rsplit('/').next().unwrap_or_default();
    if repository.is_empty()
        || !repository.chars().all(allowed)
        || repository.contains("//")
        || last.contains(':') && repository.contains('/')
    {
        return Err("use a registry and a path without scheme and tag, such as docker.io/e6data".to_owned());
    }
    Ok(repository.to_owned())
}

#[cfg(test)]
mod tests;
