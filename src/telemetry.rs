//! Logs: one line per event on standard output, as text or JSON.
//!
//! A line with the level `ERROR` needs the attention of a user, so that `kubectl logs | grep ERROR` is useful. Times are
//! the node's own, as in every container log.

use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, time::SystemTime},
    util::SubscriberInitExt as _,
};

/// The default filter.
pub const DEFAULT_FILTER: &str = "info";

/// Silences the HTTP layer of the Kubernetes client unless a filter names `kube_client`. It logs each failed or 5xx answer
/// at ERROR although the caller may retry, and the callers in this crate log final failures themselves. It also logs the
/// whole body of an undecodable answer, which may contain secrets.
const QUIET: &str = "kube_client::client=off";

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people: time, level, module, message, `field=value`.
    #[default]
    Text,
    /// A JSON object per line, with `timestamp`, `level`, `target`, `message` and the fields of the event.
    Json,
}

/// The cause of a failed setup of logging.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is malformed.
    #[error(
        "log filter \"{filter}\" is not valid ({reason}): use a level (error, warn, info, debug, trace) or a list such as \"info,e6_operator=debug\""
    )]
    Filter {
        /// The filter.
        filter: String,
        /// The error of the parser.
        reason: String,
    },
    /// Another subscriber is already installed.
    #[error("logging is set up already: init must be called once per process")]
    AlreadySet,
}

/// Sets up logging for the process: lines of `format` on standard output, chosen by `filter` (a level, or a list
/// of `target=level`), colored only on a terminal. A panic is logged at ERROR too.
///
/// # Errors
/// [`Error::Filter`] for a malformed filter, [`Error::AlreadySet`] if logging was set up before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), Error> {
    let ansi = std::io::stdout().is_terminal();
    subscriber(format, filter, std::io::stdout, ansi)?.try_init().map_err(|_| Error::AlreadySet)?;
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(panic = %panic, "the operator panicked: this is a bug, please report it");
    }));
    Ok(())
}

/// Reads a filter; an empty one means [`DEFAULT_FILTER`].
///
/// # Errors
/// [`Error::Filter`] if it is malformed.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, Error> {
    let asked = if filter.trim().is_empty() { DEFAULT_FILTER } else { filter };
    let full = if asked.contains("kube_client") { asked.to_owned() } else { format!("{asked},{QUIET}") };
    EnvFilter::builder()
        .parse(full)
        .map_err(|error| Error::Filter { filter: filter.to_owned(), reason: error.to_string() })
}

fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
    ansi: bool,
) -> Result<Box<dyn Subscriber + Send + Sync>, Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_timer(SystemTime)
        .with_writer(writer)
        .with_ansi(ansi);
    Ok(match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, emit: impl FnOnce()) -> Vec<String> {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(format, filter, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, emit);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn three_levels() {
        tracing::debug!("quiet");
        tracing::info!(name = "sample1", "done");
        tracing::error!(namespace = "team", name = "sample1", "failed");
    }

    #[test]
    fn error_token_stands_for_errors_only_in_both_formats() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = logged(format, "info", three_levels);
            assert_eq!(lines.len(), 2, "{lines:?}");
            let with_token: Vec<_> = lines.iter().filter(|line| line.contains("ERROR")).collect();
            assert_eq!(with_token.len(), 1, "{lines:?}");
            assert!(with_token[0].contains("failed") && with_token[0].contains("sample1"), "{lines:?}");
        }
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let lines = logged(LogFormat::Json, "", three_levels);
        let line: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["message"], "failed");
        assert_eq!(line["namespace"], "team");
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn the_clients_http_layer_is_silent_unless_asked_for() {
        let emit = || {
            tracing::error!(target: "kube_client::client::builder", "failed with status 503");
            tracing::error!(target: "kube_client::client::builder::deeper", "failed");
            tracing::warn!(target: "kube_runtime::watcher", "watch failed");
        };
        assert_eq!(logged(LogFormat::Text, "info", emit).len(), 1);
        assert_eq!(logged(LogFormat::Text, "debug", emit).len(), 1);
        assert_eq!(logged(LogFormat::Text, "info,kube_client=debug", emit).len(), 3);
    }

    #[test]
    fn a_malformed_filter_is_refused_with_a_remedy() {
        let error = parse_filter("info,e6_operator=loud").unwrap_err().to_string();
        assert!(error.contains("e6_operator=loud") && error.contains("info,e6_operator=debug"), "{error}");
        assert!(parse_filter("").is_ok());
        assert!(parse_filter("warn,kube=trace").is_ok());
    }
}
