//! The demo: the main job from start to end on a real API server, judged by watches that are not the operator's.
//!
//! [`SCENES`] are data; [`Play`] runs their commands and checks their expectations. The scenarios play the same scenes.

mod console;
mod narrator;
pub mod observe;
mod play;
mod scenes;
mod shell;
mod switch;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::FalseyValueParser;

use crate::error::IoContext;
use crate::{Cluster, Error, Operator, Result, ports, process};
pub use console::Console;
pub use play::{Play, Start};
use scenes::NAMESPACE;
pub use scenes::{SCENES, Scene};
pub use shell::Shell;
pub use switch::Check;

/// Shows the operator on a real API server, and checks its actions by watches of its own.
///
/// Exits with 0 only if every observed state was the right one. `make demo` provides the cluster.
#[derive(Debug, Clone, Parser)]
pub struct Settings {
    /// The operator's binary.
    #[arg(long, value_name = "FILE", default_value = "target/debug/e6-operator")]
    operator: PathBuf,
    /// The run directory of the local cluster, also for the operator's log.
    #[arg(long, value_name = "DIR", default_value = ".cluster")]
    dir: PathBuf,
    /// The kubeconfig of the cluster.
    #[arg(long, value_name = "FILE", default_value = ".cluster/kubeconfig")]
    kubeconfig: PathBuf,
    /// Leave the operator running.
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new())]
    keep: bool,
    /// Registry and path of the images, for a cluster with real nodes.
    #[arg(long, env = "E6_DEMO_IMAGES", value_name = "REPOSITORY")]
    images: Option<String>,
}

/// The operator's name in the record of processes.
const RECORD: &str = "e6-operator";
const CRD: &str = "metadataservices.e6data.io";
const DELETE: &str = "kubectl delete namespace -l e6data.io/demo --timeout=120s";
/// Prints the leases of operators for a whole namespace or cluster that are renewed within 7 s.
const RENEWED: &str = r#"leases() { kubectl get leases -A --field-selector metadata.name=e6-operator.e6data.io -o \
jsonpath='{range .items[?(@.spec.holderIdentity!="")]}{.metadata.namespace} {.metadata.resourceVersion}{"\n"}{end}'; }
before=$(leases); [[ -z $before ]] || { sleep 7; leases | grep -vxF "$before" || true; }"#;
const HINT: &str = "\
On a cluster with real nodes the demo needs the image storage with the tags 1.0.437-old, 1.0.500-new and 1.0.700-next, \
and schema with 1.0.547-old, 1.0.600-new and 1.0.800-next, which listen on the ports 9005 and 9006 and do not run as root. \
Push them, and name their place with E6_DEMO_IMAGES=registry/path, or let KWOK play the pods, or unset E6_KUBECONFIG: \
then `make demo` starts a cluster of its own.";

/// Everything that has to be cleaned up, however the demo ends.
struct Demo {
    settings: Settings,
    console: Rc<Console>,
    play: Option<Play>,
    /// A shell for the cleanup, and whether it has to delete the definition; `None` until the demo installs something.
    installed: Option<(Shell, bool)>,
}

/// Plays the demo, and returns the exit code.
pub async fn run(mut settings: Settings) -> Result<i32> {
    let (start, console) = (Instant::now(), Rc::new(Console::stdout()));
    std::fs::create_dir_all(settings.dir.join("demo")).at("create", &settings.dir)?;
    settings.dir = settings.dir.canonicalize().at("find", &settings.dir)?;
    settings.kubeconfig = settings.kubeconfig.canonicalize().at("find", &settings.kubeconfig)?;
    let lock = File::create(settings.dir.join("demo/lock")).at("lock", &settings.dir)?;
    if lock.try_lock().is_err() {
        let dir = settings.dir.display();
        return Err(Error::Unsupported(format!(
            "another demo runs in {dir}; name another one: CLUSTER_DIR=..."
        )));
    }
    if stop_kept(&settings.dir)? {
        console.say("Stopped the operator that an earlier demo left running.");
    }
    let mut demo = Demo { settings, console, play: None, installed: None };
    let done = tokio::select! {
        done = demo.perform() => Some(done),
        _ = tokio::signal::ctrl_c() => None,
    };
    let code = demo.judge(done, start);
    demo.leave(code).await.map(|()| code)
}

impl Demo {
    async fn perform(&mut self) -> Result<()> {
        let (console, kubeconfig) = (Rc::clone(&self.console), self.settings.kubeconfig.clone());
        console.heading("The operator");
        let cluster = Cluster::existing(&kubeconfig).await?;
        let (client, shell) =
            (cluster.client()?, Shell::new(Rc::clone(&console), &kubeconfig, &cluster.kubectl()));
        console.paragraph(&format!("$ export KUBECONFIG={}", kubeconfig.display()));
        if let Some((namespace, _)) = shell.quietly(RENEWED).await?.split_once(' ') {
            return Err(Error::Unsupported(format!(
                "an e6-operator runs on this cluster already (Lease e6-operator.e6data.io in namespace {namespace}), and \
                 the demo kills and starts one of its own: stop that one, or use another cluster"
            )));
        }
        shell.quietly(DELETE).await?;
        let known = shell.quietly(&format!("kubectl get crd {CRD} --ignore-not-found -o name")).await?;
        self.installed = Some((shell.clone(), known.is_empty()));
        shell.run(&format!("kubectl apply -f crds/{CRD}.yaml")).await?;
        shell.run(&format!("kubectl wait --for=condition=Established --timeout=60s crd/{CRD}")).await?;
        shell.run(&format!("kubectl create namespace {NAMESPACE}")).await?;
        shell.quietly(&format!("kubectl label namespace {NAMESPACE} e6data.io/demo=yes")).await?;
        let images = self.settings.images.as_ref().filter(|at| !at.is_empty());
        let flags = format!(
            "run --watch-namespace={NAMESPACE} --leader-elect-namespace={NAMESPACE} \
             --metrics-bind-address=127.0.0.1:{} --health-probe-bind-address=127.0.0.1:{}{}",
            ports::free_port()?,
            ports::free_port()?,
            images.map(|at| format!(" --default-image-repository={at}")).unwrap_or_default()
        );
        // A copy: `make cluster-down` knows the processes of a cluster by its directory.
        let operator = Operator::own_copy(&self.settings.operator, &self.settings.dir.join("demo"))?;
        let log = self.log();
        let _ = std::fs::remove_file(&log);
        console.say(&format!("$ e6-operator {flags} &\nIts log is {}", log.display()));
        let start =
            move || Operator::spawn(&operator, &kubeconfig, &flags.split(' ').collect::<Vec<_>>(), &log);
        let play = self.play.insert(Play::start(shell, client, NAMESPACE, Box::new(start)).await?);
        for scene in &SCENES {
            play.scene(scene).await?;
        }
        play.whole_time().await
    }

    /// Prints all checks and the verdict, and returns the exit code.
    fn judge(&mut self, done: Option<Result<()>>, start: Instant) -> i32 {
        let Some(done) = done else {
            self.console.paragraph("Stopped.");
            return 130;
        };
        if let Some(play) = self.play.as_mut().filter(|_| done.is_ok() && !self.settings.keep) {
            play.end();
        }
        self.console.heading("The checks, by watches of the demo's own");
        let checks = self.play.as_ref().map_or(&[][..], |play| &play.checks);
        for check in checks {
            self.console.verdict(check.held, &check.text);
        }
        let all = !checks.is_empty() && checks.iter().all(|check| check.held);
        let verdict = match &done {
            Ok(()) if all => "every one held",
            Ok(()) => "NOT all held",
            Err(error) => {
                self.console.verdict(false, &format!("the demo could not continue\n{error}"));
                self.console.paragraph(if self.is_ours() || checks.is_empty() { "" } else { HINT });
                "then it could not continue"
            }
        };
        let took = start.elapsed().as_secs_f64();
        self.console.paragraph(&format!("{} checks, {verdict}, {took:.0} s.", checks.len()));
        if all && done.is_ok() {
            return 0;
        }
        self.console
            .say(&format!("Logs: {}, and of a local cluster in logs beside it", self.log().display()));
        1
    }

    /// Deletes the namespace, and the definition if it was new; or leaves everything running on request.
    async fn leave(&mut self, code: i32) -> Result<()> {
        let play = self.play.take();
        let Some((shell, new)) = &self.installed else { return Ok(()) };
        if let (true, Some(operator)) =
            (self.settings.keep && code != 130, play.and_then(|play| play.operator))
        {
            return self.keep(operator.leave());
        }
        shell.run(DELETE).await?;
        if *new { shell.run(&format!("kubectl delete crd {CRD} --timeout=60s")).await } else { Ok(()) }
    }

    /// Records an operator that keeps running, and prints how to use and how to stop it.
    fn keep(&self, pid: u32) -> Result<()> {
        let pids = self.settings.dir.join("pids");
        let mut all = process::recorded(&pids);
        all.push((RECORD.to_owned(), pid));
        process::record(&pids, &all)?;
        let (dir, kubeconfig) = (self.settings.dir.display(), self.settings.kubeconfig.display());
        let kubectl = crate::assets::kubectl_at_hand();
        let stop = format!("kill {pid}; kubectl delete namespace {NAMESPACE}");
        let stop = if self.is_ours() { format!("make cluster-down CLUSTER_DIR={dir}") } else { stop };
        self.console.heading("Everything keeps running");
        self.console.say(&format!(
            "  export KUBECONFIG={kubeconfig}\n  {} get mds,pods,services -n {NAMESPACE}\n\n\
             The operator is process {pid}, its log is {}\nStop everything with: {stop}",
            kubectl.display(),
            self.log().display()
        ));
        Ok(())
    }

    /// Returns whether the cluster is the local one.
    fn is_ours(&self) -> bool {
        self.settings.kubeconfig.parent() == Some(&self.settings.dir)
    }

    fn log(&self) -> PathBuf {
        self.settings.dir.join("demo/operator.log")
    }
}

/// Stops an operator that an earlier demo left running; returns whether there was one.
fn stop_kept(dir: &Path) -> Result<bool> {
    let record = dir.join("pids");
    let (kept, others): (Vec<_>, Vec<_>) =
        process::recorded(&record).into_iter().partition(|(name, _)| name == RECORD);
    let mark = dir.join("demo").display().to_string();
    let stopped = kept.iter().filter(|(_, pid)| process::end(*pid, &mark, Duration::from_secs(5))).count();
    if !kept.is_empty() {
        process::record(&record, &others)?;
    }
    Ok(stopped > 0)
}
