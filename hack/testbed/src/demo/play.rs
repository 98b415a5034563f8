//! The player of scenes: runs the commands, prints the changes, and checks the outcome.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Event;
use kube::runtime::{WatchStreamExt, watcher as kube_watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::narrator::{Line, Narrator};
use super::observe::{self, NAME, Seen};
use super::scenes::{Expect, NAMESPACE, Scene};
use super::shell::Shell;
use super::switch::{Check, prove};
use crate::invariants::{self, COMPONENTS, Waived};
use crate::{Error, History, Kind, Operator, Result, State, Timeline};

/// The limit of a change of state; more than the deploy timeout of the demo's resource.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts the operator.
pub type Start = Box<dyn Fn() -> Result<Operator>>;

/// The player of the scenes.
pub struct Play {
    /// The results so far.
    pub checks: Vec<Check>,
    /// The operator, if it runs.
    pub operator: Option<Operator>,
    shell: Shell,
    namespace: String,
    start: Start,
    timeline: Timeline,
    zero: Instant,
    narrator: Narrator,
    events: mpsc::UnboundedReceiver<Line>,
    /// The Events so far: `Normal TrafficSwitched: ...`.
    published: Vec<String>,
    first_templates: String,
}

impl Play {
    /// Starts the watches and the operator.
    pub async fn start(shell: Shell, client: Client, namespace: &str, start: Start) -> Result<Self> {
        let zero = Instant::now();
        let timeline = Timeline::start(client.clone(), Some(namespace)).await?;
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(watch_events(Api::namespaced(client, namespace), zero, sender));
        Ok(Self {
            checks: vec![],
            operator: Some(start()?),
            shell,
            namespace: namespace.to_owned(),
            start,
            timeline,
            zero,
            narrator: Narrator::default(),
            events,
            published: vec![],
            first_templates: String::new(),
        })
    }

    /// Plays a scene and checks its expectations.
    pub async fn scene(&mut self, scene: &Scene) -> Result<History> {
        let console = Rc::clone(&self.shell.console);
        if !scene.title.is_empty() {
            console.heading(scene.title);
        }
        console.paragraph(scene.text);
        let from = self.settle().await?.entries().last().map_or(0, |entry| entry.resource_version);
        let published = self.published.len();
        self.shell.run(&scene.command.replace(NAMESPACE, &self.namespace)).await?;
        let killed = if scene.kill { Some(self.kill(scene).await?) } else { None };
        let [phase, color, tags] = scene.end;
        self.wait(&format!("{NAME} {phase} on {color} with {tags}"), |state, _| {
            let end = [state.phase(), state.color(), &observe::tags(state.0)];
            state.is_settled() && state.deployment_phase() == "Stable" && end == scene.end
        })
        .await?;
        // The watches may see the last deletions a moment later.
        self.pause(Duration::from_millis(300)).await;
        let history = self.settle().await?;
        let first = self.first_templates.clone();
        let Some(state) = state(&history) else { return Ok(history) };
        let seen = Seen { history: &history, state, from, first: &first };
        if self.first_templates.is_empty() {
            self.first_templates = seen.templates();
        }
        for expect in scene.expect {
            let checks = match *expect {
                Expect::Same(what, text, look) => {
                    vec![Check::same(what, &text.replace(NAMESPACE, &self.namespace), &look(&seen))]
                }
                Expect::Switch(old, new) => prove(&seen, old, new),
                Expect::Event(kind_and_reason, tag) => {
                    vec![self.event(published, kind_and_reason, &state.version_of_tag(tag)).await]
                }
            };
            for check in checks {
                self.record(scene.name, check);
            }
        }
        if let Some(killed) = killed {
            let took = format!("{:.0} s", killed.elapsed().as_secs_f64());
            self.record(scene.name, Check::same("finished after the restart", &took, &took));
        }
        for (text, command) in scene.show {
            console.paragraph(text);
            self.shell.run(&command.replace(NAMESPACE, &self.namespace)).await?;
        }
        Ok(history)
    }

    /// Checks the invariants and the watches over the whole time.
    pub async fn whole_time(&mut self) -> Result<()> {
        let (scene, history) = ("all the time", self.settle().await?);
        for component in COMPONENTS {
            let name = format!("{NAME}-{component}");
            let states = history.of(Kind::Service, &name);
            let addresses: BTreeSet<_> =
                states.map(|one| [one.text("/metadata/uid"), one.text("/spec/clusterIP")]).collect();
            self.record(
                scene,
                Check::same(format!("addresses that {name} had"), "1", &addresses.len().to_string()),
            );
        }
        let waived = Waived::default();
        let found =
            invariants::check(&history, &waived).into_iter().chain(invariants::at_rest(&history, &waived));
        let found: Vec<String> = found.map(|finding| finding.to_string()).collect();
        let names: BTreeSet<&str> = invariants::INVARIANTS.iter().map(|one| one.name).collect();
        let (names, events) = (names.len(), history.entries().len());
        let what = format!("of {names} invariants, at each of {events} events, broken");
        self.record(scene, Check::same(what, "nothing", &observe::list(&found)));
        let gaps = self.timeline.gaps().to_string();
        self.record(scene, Check::same("gaps in the demo's watches", "0", &gaps));
        Ok(())
    }

    /// Ends the operator by SIGTERM, and checks that it ends well.
    pub fn end(&mut self) {
        let Some(mut operator) = self.operator.take() else { return };
        let asked = Instant::now();
        let ended = operator.terminate(Duration::from_secs(5));
        let text = format!("ended with code 0 after {:.1} s", asked.elapsed().as_secs_f64());
        let (held, seen) = (ended.is_ok(), ended.map_or_else(|error| error.to_string(), |()| text));
        let what = "the operator, asked to end (SIGTERM)";
        self.record("at the end", Check::new(held, what, "code 0 within 5 s", seen));
    }

    /// Adds a check to the results; prints it at once if it failed.
    fn record(&mut self, scene: &str, Check { held, text }: Check) {
        let check = Check { held, text: format!("{scene}: {text}") };
        if !held {
            self.shell.console.verdict(held, &check.text);
        }
        self.checks.push(check);
    }

    /// Kills the operator in the step Deploying and starts it again; returns the time of the start.
    async fn kill(&mut self, scene: &Scene) -> Result<Instant> {
        let deploying = "Deploying, both Deployments of green in place";
        self.wait(deploying, |state, history| {
            let made =
                |component| history.live(Kind::Deployment, &format!("{NAME}-{component}-green")).is_some();
            state.step() == "Deploying" && COMPONENTS.into_iter().all(made)
        })
        .await?;
        self.operator = None;
        self.shell.console.change(self.zero.elapsed(), "operator", "killed (SIGKILL)");
        self.pause(Duration::from_secs(2)).await;
        let dead = self.settle().await?;
        let step = state(&dead).map_or("", |state| state.step());
        self.record(scene.name, Check::same("step it was in", "Deploying", step));
        let start = Instant::now();
        self.operator = Some((self.start)()?);
        let text = "started again; it waits until the lease of the killed one ends (15 s)";
        self.shell.console.change(self.zero.elapsed(), "operator", text);
        Ok(start)
    }

    /// Checks the last Event of a type and reason after the first `from`; waits at most 5 s for it.
    async fn event(&mut self, from: usize, kind_and_reason: &str, version: &str) -> Check {
        let (start, head) = (Instant::now(), format!("{kind_and_reason}: "));
        loop {
            let found = self.published.iter().skip(from).rfind(|event| event.starts_with(&head)).cloned();
            if found.is_some() || start.elapsed() > Duration::from_secs(5) {
                let event = found.unwrap_or_else(|| "no such Event".to_owned());
                return Check::new(event.contains(version), "Event", format!("{head}...{version}..."), event);
            }
            self.tick().await;
        }
    }

    /// Waits for a state; the error names the state that is there instead.
    async fn wait(&mut self, what: &str, reached: impl Fn(State<'_>, &History) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let history = self.tick().await;
            let state = state(&history);
            if state.is_some_and(|state| reached(state, &history)) {
                return Ok(());
            }
            if self.operator.as_mut().is_some_and(|operator| !operator.is_running()) {
                return Err(Error::Unsupported("the operator ended by itself; see its log".to_owned()));
            }
            if start.elapsed() > PATIENCE {
                let seen = state.and_then(|state| state.0.get("/status"));
                let what = format!("expected: {what}\nseen: status {seen:?}");
                return Err(Error::Timeout { what, seconds: start.elapsed().as_secs_f64() });
            }
        }
    }

    async fn pause(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.tick().await;
        }
    }

    /// Prints the changes since the last call, with those of the next 60 ms, and returns the history.
    async fn tick(&mut self) -> History {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if !self.narrator.news(&self.timeline.history()).is_empty() || !self.events.is_empty() {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        self.narrate()
    }

    /// Prints the changes up to the present state of the API server, and returns the history.
    async fn settle(&mut self) -> Result<History> {
        self.timeline.settle(Duration::from_secs(10)).await?;
        Ok(self.narrate())
    }

    fn narrate(&mut self) -> History {
        let history = self.timeline.history();
        let mut lines = self.narrator.lines(&history);
        while let Ok(event) = self.events.try_recv() {
            self.published.push(event.2.clone());
            lines.push(event);
        }
        lines.sort_by_key(|line| line.0);
        for (at, topic, text) in lines {
            self.shell.console.change(at, topic, &text);
        }
        history
    }
}

fn state(history: &History) -> Option<State<'_>> {
    history.live(Kind::MetadataServices, NAME).map(|entry| State(entry))
}

/// Sends the Events about the resource until the receiver is gone.
async fn watch_events(api: Api<Event>, zero: Instant, sender: mpsc::UnboundedSender<Line>) {
    let only = format!("involvedObject.kind=MetadataServices,involvedObject.name={NAME}");
    let config = kube_watcher::Config::default().fields(&only);
    let mut events = std::pin::pin!(kube_watcher(api, config).default_backoff().applied_objects());
    while let Some(event) = events.next().await {
        let Ok(Event { type_, reason, message, .. }) = event else { continue };
        let [kind, reason, message] = [type_, reason, message].map(Option::unwrap_or_default);
        if sender.send((zero.elapsed(), "event", format!("{kind} {reason}: {message}"))).is_err() {
            return;
        }
    }
}
