//! A watch of the CRD: whether it is installed and has every field that this operator needs (design D17).

use futures::{Stream, StreamExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::watches::report as report_watch;
use api::crd::missing_fields;

/// The name of the CRD.
pub const NAME: &str = "metadataservices.e6data.io";
/// The command that installs or updates the CRD; the chart of the CRD does the same.
pub const REMEDY: &str = concat!(
    "kubectl apply -f https://github.com/e6data/e6-operator/releases/download/v",
    env!("CARGO_PKG_VERSION"),
    "/metadataservices.e6data.io.yaml"
);

/// The state of the installed CRD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The watch has not answered yet.
    #[default]
    Unknown,
    /// The CRD is not installed or not established.
    Missing,
    /// The CRD lacks these fields.
    Outdated(Vec<String>),
    /// The CRD has every field that the operator needs.
    Current,
}

/// The last known state of the CRD. The clones share it.
#[derive(Clone, Debug)]
pub struct Installed(watch::Sender<State>);

impl Default for Installed {
    fn default() -> Self {
        Self(watch::Sender::new(State::Unknown))
    }
}

impl Installed {
    /// Returns the command that updates the CRD, if it is outdated.
    pub fn outdated(&self) -> Option<String> {
        matches!(*self.0.borrow(), State::Outdated(_)).then(|| REMEDY.to_owned())
    }

    /// Waits until the CRD is installed, outdated or not.
    pub async fn usable(&self) {
        let usable = |state: &State| matches!(state, State::Outdated(_) | State::Current);
        // The wait cannot fail: the sender lives as long as self.
        let _ = self.0.subscribe().wait_for(usable).await;
    }

    /// Returns a stream with one item for each change of the state.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        futures::stream::unfold(self.0.subscribe(), |mut changes| async {
            changes.changed().await.ok().map(|()| ((), changes))
        })
    }

    fn set(&self, state: State) -> bool {
        self.0.send_if_modified(|known| {
            let changed = *known != state;
            *known = state;
            changed
        })
    }
}

/// Watches the CRD until dropped and calls `changed` after each change of its state.
pub async fn follow(client: Client, installed: Installed, changed: impl Fn(&State)) {
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut listed = State::Missing;
    while let Some(event) = events.next().await {
        let state = match event {
            Ok(Event::Init) => {
                listed = State::Missing;
                continue;
            }
            Ok(Event::InitApply(crd)) => {
                listed = judge(&crd);
                continue;
            }
            Ok(Event::InitDone) => std::mem::take(&mut listed),
            Ok(Event::Apply(crd)) => judge(&crd),
            Ok(Event::Delete(_)) => State::Missing,
            Err(failure) => {
                report_watch("customresourcedefinitions", &failure);
                continue;
            }
        };
        if installed.set(state.clone()) {
            log(&state);
            changed(&state);
        }
    }
}

fn judge(crd: &CustomResourceDefinition) -> State {
    let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
    let established = conditions.is_some_and(|conditions| {
        conditions.iter().any(|found| found.type_ == "Established" && found.status == "True")
    });
    if !established {
        return State::Missing;
    }
    let missing = missing_fields(crd);
    if missing.is_empty() { State::Current } else { State::Outdated(missing) }
}

fn log(state: &State) {
    match state {
        State::Missing => {
            error!("the CRD {NAME} is not installed; the operator waits for it. Install it: {REMEDY}");
        }
        State::Outdated(fields) => warn!(
            missing = fields.join(", "),
            "the CRD {NAME} is older than this operator: no release will start. Update it: {REMEDY}"
        ),
        State::Current => info!("the CRD {NAME} is installed"),
        State::Unknown => {}
    }
}
