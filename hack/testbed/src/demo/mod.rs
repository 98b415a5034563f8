//! The demo: the main job from start to end on a real API server, watched by eyes that are not the operator's.

mod checks;
mod console;
mod events;
mod ground;
mod narrator;
mod operator;
mod play;
mod proof;
mod scenes;
mod shell;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use testbed::{Cluster, Error, Result, Timeline, assets};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use checks::Checks;
use console::Console;
use events::Events;
use ground::{Origin, Site};
use operator::Process;
use play::Play;
use shell::Shell;

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The operator's binary.
    pub operator: PathBuf,
    /// The run directory.
    pub dir: PathBuf,
    /// Leave all of it running.
    pub keep: bool,
    /// Where the images are, on a cluster with real nodes.
    pub images: Option<String>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every check held.
    Held,
    /// One did not, or something did not come.
    Failed,
    /// Somebody stopped it.
    Interrupted,
}

/// What has to be cleaned up, however it ends.
struct Stage {
    settings: Settings,
    console: Arc<Console>,
    checks: Arc<Checks>,
    site: Site,
    cluster: Option<Cluster>,
    shell: Option<Shell>,
    operator: Option<Process>,
    tasks: Vec<JoinHandle<()>>,
    /// Something was installed; whether the definition was.
    installed: Option<bool>,
}

/// Plays the demo; `stop` becomes ready when somebody wants it to end.
///
/// # Errors
/// When it cannot even begin.
pub async fn run(settings: Settings, stop: impl AsyncFn()) -> Result<Ending> {
    let start = Instant::now();
    let console = Arc::new(Console::new());
    if !settings.operator.is_file() {
        return Err(Error::Unsupported(format!(
            "there is no operator at {}; build it with `make build`, or name it with --operator",
            settings.operator.display()
        )));
    }
    let site = Site::find(&settings.dir)?;
    if operator::stop_kept(&site.own, &site.cluster)? {
        console.say("Stopped the operator that an earlier demo left running.");
    }
    let checks = Arc::new(Checks::new(Arc::clone(&console)));
    let mut stage = Stage {
        settings,
        console,
        checks,
        site,
        cluster: None,
        shell: None,
        operator: None,
        tasks: Vec::new(),
        installed: None,
    };
    let done = tokio::select! {
        done = stage.perform() => Some(done),
        () = stop() => None,
    };
    let ending = stage.judge(done, start.elapsed());
    let cleaned = tokio::select! {
        cleaned = stage.leave(ending) => cleaned,
        () = stop() => Err(Error::Unsupported("stopped before everything was cleaned up".to_owned())),
    };
    stage.console.release();
    match cleaned {
        Ok(()) => Ok(ending),
        Err(error) => {
            stage.console.say(&format!("error: cleaning up: {error}"));
            Ok(if ending == Ending::Held { Ending::Failed } else { ending })
        }
    }
}

impl Stage {
    async fn perform(&mut self) -> Result<()> {
        let console = Arc::clone(&self.console);
        let origin = self.site.origin.clone();
        console.scene("A cluster");
        let cluster = self.cluster.insert(self.site.open(&console, self.settings.keep).await?);
        let (client, kubeconfig) = (cluster.client()?, cluster.kubeconfig().to_path_buf());
        let shell = Shell::new(Arc::clone(&console), &kubeconfig, &cluster.kubectl());
        self.shell = Some(shell.clone());
        console.paragraph(&format!("$ export KUBECONFIG={}", kubeconfig.display()));
        let brought = !ground::has_definition(&client).await?;
        if origin != Origin::Started {
            ground::check_alone(&client, &console).await?;
            ground::clear_namespace(&client, &shell).await?;
        }
        self.installed = Some(brought);
        ground::install(&shell).await?;
        let images = self.settings.images.clone();
        if matches!(origin, Origin::Given(_)) {
            let images = images.as_deref().unwrap_or("docker.io/e6data");
            ground::check_pods(&client, &console, images).await?;
        }
        let zero = Instant::now();
        let timeline = Arc::new(Timeline::start(client.clone(), Some(view::NAMESPACE)).await?);
        let events = Arc::new(Events::default());
        let (done, told) = watch::channel(0);
        self.tasks.push(tokio::spawn(narrator::tell(Arc::clone(&console), Arc::clone(&timeline), done)));
        let telling = events::tell(Arc::clone(&console), client, zero, Arc::clone(&events));
        self.tasks.push(tokio::spawn(telling));
        let (binary, own) = (&self.settings.operator, &self.site.own);
        let operator = self.operator.insert(Process::new(binary, own, &kubeconfig, images.as_deref())?);
        console.gap();
        console.say(&format!("$ {} &", operator.command()));
        let pid = operator.start()?;
        console.say(&format!("Process {pid}; it logs to {}", operator.log().display()));
        let played = !matches!(origin, Origin::Given(_));
        let checks = Arc::clone(&self.checks);
        let mut play = Play { console, shell, checks, timeline, events, told, operator, zero, played };
        scenes::play(&mut play).await
    }

    /// Says what was found, and how it ended.
    fn judge(&mut self, done: Option<Result<()>>, took: Duration) -> Ending {
        self.console.release();
        let Some(done) = done else {
            self.console.paragraph("Stopped.");
            return Ending::Interrupted;
        };
        if done.is_ok() && !self.settings.keep {
            self.end_operator();
        }
        for task in self.tasks.drain(..) {
            task.abort();
        }
        self.console.scene("What was checked, by watches of its own");
        self.checks.summary();
        let held = done.is_ok() && self.checks.all_held();
        if let Err(error) = &done {
            self.console.verdict(false, "the demo could not go on");
            self.console.say(&format!("{error}"));
        }
        let count = self.checks.count();
        let verdict = match (held, &done) {
            (true, _) => "every one held",
            (false, Ok(())) => "NOT all held",
            (false, Err(_)) => "then it could not go on",
        };
        self.console.paragraph(&format!("{count} checks, {verdict}, {:.0} s.", took.as_secs_f64()));
        if held {
            return Ending::Held;
        }
        self.console.say(&self.logs());
        Ending::Failed
    }

    fn end_operator(&mut self) {
        let Some(operator) = &mut self.operator else { return };
        let start = Instant::now();
        let ended = operator.terminate(Duration::from_secs(5));
        let seen = ended.map_or_else(
            |error| error.to_string(),
            |()| format!("ended with code 0 after {:.1} s", start.elapsed().as_secs_f64()),
        );
        let what = "at the end: the operator, asked to end (SIGTERM)";
        self.checks.holds(what, seen.starts_with("ended with code 0"), "code 0 within 5 s", seen);
    }

    /// Where to look.
    fn logs(&self) -> String {
        let operator = self.operator.as_ref().map(|operator| operator.log().display().to_string());
        let plane = !matches!(self.site.origin, Origin::Given(_));
        let plane = plane.then(|| format!("{}/logs (the control plane)", self.site.cluster.display()));
        let all: Vec<String> = operator.into_iter().chain(plane).collect();
        if all.is_empty() { String::new() } else { format!("Logs: {}", all.join(", ")) }
    }

    /// Leaves the place as it was found, or running when that is asked for.
    async fn leave(&mut self, ending: Ending) -> Result<()> {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        if self.settings.keep && ending != Ending::Interrupted && self.cluster.is_some() {
            return self.keep();
        }
        if let Some(operator) = &mut self.operator {
            let _ = operator.terminate(Duration::from_secs(5));
        }
        if self.site.origin == Origin::Started {
            drop(self.cluster.take());
            // A cluster that was to be kept does not end with its handle.
            Cluster::stop_recorded(&self.site.cluster)?;
            self.console.say("The cluster is stopped.");
            return Ok(());
        }
        if let (Some(shell), Some(definition)) = (&self.shell, self.installed) {
            ground::uninstall(shell, definition).await?;
        }
        if self.site.origin == Origin::Found {
            let stop = ground::down(&self.site.cluster);
            self.console.say(&format!("The cluster goes on running; stop it with: {stop}"));
        }
        Ok(())
    }

    /// Leaves everything running, and says how to use and how to stop it.
    fn keep(&mut self) -> Result<()> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        let given = matches!(self.site.origin, Origin::Given(_));
        let pids = (!given).then_some(self.site.cluster.as_path());
        let kubectl = assets::kubectl_at_hand();
        let (kubeconfig, namespace) = (cluster.kubeconfig().display(), view::NAMESPACE);
        self.console.scene("All of it goes on running");
        self.console.say(&format!("  export KUBECONFIG={kubeconfig}"));
        if let Some(dir) = kubectl.parent().filter(|dir| dir.is_absolute()) {
            self.console.say(&format!("  export PATH={}:$PATH", dir.display()));
        }
        self.console.say(&format!("  kubectl get mds,pods,services -n {namespace}"));
        let mut stop = format!("kubectl delete namespace {namespace}");
        if let Some(operator) = &mut self.operator {
            let pid = operator.leave(&self.site.own, pids)?;
            self.console.paragraph(&format!("The operator is process {pid}. {}", self.logs()));
            stop = format!("kill {pid}; {stop}");
        }
        let stop = if given { stop } else { ground::down(&self.site.cluster) };
        self.console.say(&format!("Stop all of it with: {stop}"));
        Ok(())
    }
}
