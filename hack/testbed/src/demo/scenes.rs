//! The five scenes, as a user plays them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::{History, Kind, Result, watcher};

use super::play::Play;
use super::proof::{self, Switch};
use super::view::{self, COMPONENTS, NAME};

const APPLY: &str = "kubectl apply -n autoscalingv2 -f - <<EOF
apiVersion: e6data.io/v1alpha1
kind: MetadataServices
metadata:
  name: sample1
spec:
  storage:
    imageTag: 1.0.437-old
  schema:
    imageTag: 1.0.547-old
  rollout:                      # only for the demo; the defaults:
    gracePeriodSeconds: 4       # 120
    switchDwellSeconds: 2       # 10
    cleanupDelaySeconds: 4      # 30
    deployTimeoutSeconds: 60    # 600
    autoRollback:
      failureThresholdSeconds: 4  # 120
EOF";

const UPGRADE: &str = r#"kubectl patch metadataservices sample1 -n autoscalingv2 --type=merge -p '
{
"spec": {
"storage": {"imageTag": "1.0.500-new"},
"schema": {"imageTag": "1.0.600-new"}
}
}'"#;

const BREAK: &str = r#"kubectl patch metadataservices sample1 -n autoscalingv2 --type=merge -p '
{
"spec": {
"storage": {"imageTag": "1.0.510-crash"},
"schema": {"imageTag": "1.0.610-crash"}
}
}'"#;

const NEXT: &str = r#"kubectl patch metadataservices sample1 -n autoscalingv2 --type=merge -p '
{
"spec": {
"storage": {"imageTag": "1.0.700-next"},
"schema": {"imageTag": "1.0.800-next"}
}
}'"#;

/// The line of the guide, to the letter.
const ROLL_BACK: &str = r"kubectl annotate metadataservices sample1 -n autoscalingv2 \
e6data.io/rollback-to=$(kubectl get metadataservices sample1 -n autoscalingv2 \
-o jsonpath='{.status.releaseHistory[-2].version}')";

const SHOW: &str = "kubectl get metadataservices -n autoscalingv2";

const HISTORY: &str = "kubectl get metadataservices sample1 -n autoscalingv2 \\
-o jsonpath='{.status.releaseHistory}'";

/// What scenes tell later ones.
#[derive(Debug, Default)]
struct Memory {
    first: String,
    first_templates: BTreeMap<&'static str, Value>,
    second: String,
    failed: String,
    upgrade: String,
}

/// Plays all of them.
///
/// # Errors
/// When a state does not come, or a command fails.
pub async fn play(play: &mut Play<'_>) -> Result<()> {
    let mut memory = Memory::default();
    first_release(play, &mut memory).await?;
    upgrade(play, &mut memory).await?;
    bad_release(play, &mut memory).await?;
    clear(play, &memory).await?;
    roll_back(play, &memory).await?;
    show_history(play).await?;
    kill(play, &memory).await?;
    let history = play.settle().await?;
    whole_time(play, &history);
    Ok(())
}

async fn first_release(play: &mut Play<'_>, memory: &mut Memory) -> Result<()> {
    play.console.scene("1. The first release");
    play.console.paragraph(
        "A minimal MetadataServices: two image tags. Its rollout timers are short here, so that all of the demo \
         takes a minute or two.",
    );
    play.shell.run(APPLY).await?;
    let history = play.wait_stable("blue", "1.0.437-old 1.0.547-old").await?;
    memory.first = view::text(&history, "/status/activeReleaseVersion");
    memory.first_templates = proof::templates(&history, "blue");
    let phases = view::phases(&history, 0).join(" -> ");
    play.checks.same("1 create: deploymentPhase", "Deploying -> Switching -> Stable", phases);
    for component in COMPONENTS {
        let route = view::triple_at(&history, component, view::NOW).map(|triple| triple.route());
        let name = format!("1 create: Service {} selects", view::front(component));
        play.checks.same(&name, format!("blue {}", memory.first), route.unwrap_or_default());
        let shown = view::say_endpoints(&view::endpoints(&history, component, view::NOW));
        play.checks.same(&format!("1 create: endpoints of {}", view::front(component)), "1 blue", shown);
    }
    play.check_conditions(
        &history,
        "1 create",
        ["Ready=True Serving", "SpecApplied=True Applied", "Stalled=False None"],
    );
    play.check_records(&history, "1 create", &[(&memory.first, "Active")]);
    play.shell.run(SHOW).await?;
    Ok(())
}

async fn upgrade(play: &mut Play<'_>, memory: &mut Memory) -> Result<()> {
    play.console.scene("2. An upgrade: both components together, by the guide's own patch");
    let (from, told) = (view::moment(&play.settle().await?), play.events.count());
    play.shell.run(UPGRADE).await?;
    let history = play.wait_stable("green", "1.0.500-new 1.0.600-new").await?;
    memory.second = view::text(&history, "/status/activeReleaseVersion");
    let switch = Switch { history: &history, from, old: "blue", new: "green", version: &memory.second };
    switch.prove(&play.checks, "2 upgrade");
    play.check_event("2 upgrade", told, "Normal TrafficSwitched", &memory.second).await;
    memory.upgrade = proof::made_and_gone(&history, from);
    play.check_conditions(
        &history,
        "2 upgrade",
        ["Ready=True Serving", "SpecApplied=True Applied", "Stalled=False None"],
    );
    play.check_records(&history, "2 upgrade", &[(&memory.first, "Superseded"), (&memory.second, "Active")]);
    play.shell.run(SHOW).await?;
    Ok(())
}

async fn bad_release(play: &mut Play<'_>, memory: &mut Memory) -> Result<()> {
    play.console.scene("3. A release whose pods never start: rolled back by itself");
    let before = play.settle().await?;
    let (from, told) = (view::moment(&before), play.events.count());
    let serving = view::uids(&before, "green", from);
    play.shell.run(BREAK).await?;
    play.wait(&format!("expected: {NAME} Degraded, the bad release given up"), |history| {
        let entry = view::resource(history)?;
        let over = entry.text("/status/rollout/step") == "Stable"
            && entry.text("/status/phase") == "Degraded"
            && entry.number("/status/observedGeneration") == entry.number("/metadata/generation")
            && view::tags(history) == "1.0.510-crash 1.0.610-crash";
        over.then_some(())
    })
    .await?;
    let history = play.settle().await?;
    let failed = view::record_from_end(&history, 1);
    memory.failed = failed.as_ref().map(|record| record.text("version").to_owned()).unwrap_or_default();
    let reason = failed.map(|record| record.text("reason").to_owned()).unwrap_or_default();
    play.checks.same(
        "3 bad release: deploymentPhase, without a switch",
        "Deploying -> Cleanup -> Stable",
        view::phases(&history, from).join(" -> "),
    );
    let specs: Vec<_> = history
        .of(Kind::MetadataServices, NAME)
        .filter(|entry| entry.resource_version > from)
        .map(|entry| entry.get("/spec"))
        .collect();
    play.checks.holds(
        "3 bad release: spec, untouched",
        specs.windows(2).all(|pair| pair.first() == pair.last()),
        "as the user left it",
        view::tags(&history),
    );
    untouched(play, "3 bad release", &history, from);
    play.checks.same(
        "3 bad release: pods that serve",
        format!("the same {}", serving.len()),
        same_pods(&history, from, &serving),
    );
    check_verdict(play, &history, memory, &reason);
    play.check_event("3 bad release", told, "Warning RolloutFailed", &memory.failed).await;
    play.console.paragraph("What a user reads:");
    play.shell.run(SHOW).await?;
    let ask = "kubectl get metadataservices sample1 -n autoscalingv2 \\\n\
               -o jsonpath='{.status.conditions[?(@.type==\"SpecApplied\")].message}'";
    play.shell.run(ask).await?;
    Ok(())
}

fn check_verdict(play: &Play<'_>, history: &History, memory: &Memory, reason: &str) {
    let scene = "3 bad release";
    let failed = &memory.failed;
    let hard = ["CrashLoop", "ImagePullFailed", "ContainerStartError"];
    let expected = if play.played { "CrashLoop".to_owned() } else { hard.join(" or ") };
    let fits = if play.played { reason == expected } else { hard.contains(&reason) };
    play.checks.holds(&format!("{scene}: reason in the history"), fits, expected, reason);
    play.checks.same(
        &format!("{scene}: phase, deploymentPhase"),
        "Degraded, Stable",
        format!(
            "{}, {}",
            view::text(history, "/status/phase"),
            view::text(history, "/status/deploymentPhase")
        ),
    );
    play.check_conditions(
        history,
        scene,
        ["Ready=True Serving", "SpecApplied=False RolledBack", "Stalled=True RolledBack"],
    );
    let message = view::message(history, "SpecApplied");
    let retry = "kubectl annotate metadataservices sample1 -n autoscalingv2 e6data.io/retry=";
    for (what, part) in
        [("the pod", "pod sample1-"), ("a remedy", "Remedy: "), ("the way to try again", retry)]
    {
        let name = format!("{scene}: the condition's message names {what}");
        let there = message.contains(part);
        play.checks.holds(&name, there, format!("...{part}..."), if there { "yes" } else { &message });
    }
    play.check_records(
        history,
        scene,
        &[(&memory.first, "Superseded"), (&memory.second, "Active"), (failed, "Failed")],
    );
    play.checks.same(
        &format!("{scene}: left of blue"),
        "nothing",
        proof::list(&proof::left_of(history, "blue")),
    );
}

/// Checks that no front Service changed where it sends traffic.
fn untouched(play: &Play<'_>, scene: &str, history: &History, from: u64) {
    for component in COMPONENTS {
        let before = view::triple_at(history, component, from).map(|triple| triple.route());
        let switches = view::switches(history, component, from);
        let moved = switches.iter().find(|(_, triple)| Some(triple.route()) != before);
        play.checks.same(
            &format!("{scene}: Service {} sends traffic to", view::front(component)),
            before.clone().unwrap_or_default(),
            moved.map_or_else(|| before.clone().unwrap_or_default(), |(_, triple)| triple.route()),
        );
    }
}

/// `the same 2`, or what is different of the pods that served.
fn same_pods(history: &History, from: u64, uids: &std::collections::BTreeSet<String>) -> String {
    let hurt = history.of_kind(Kind::Pod).find(|pod| {
        let mine = pod.resource_version > from && uids.contains(pod.text("/metadata/uid"));
        mine && (view::ending(pod) || pod.condition("Ready") != "True")
    });
    if let Some(pod) = hurt {
        return format!("{} was not ready or ending for a moment", pod.name);
    }
    let now = view::uids(history, "green", view::NOW);
    if now == *uids { format!("the same {}", now.len()) } else { format!("others: {now:?} for {uids:?}") }
}

async fn clear(play: &mut Play<'_>, memory: &Memory) -> Result<()> {
    play.console.scene("4. Manual rollback, by the guide's own line, twice");
    play.console.paragraph(
        "While the failed release stands in the spec, releaseHistory[-2] is the release that serves: going back \
         to it clears the failure, without a switch.",
    );
    let before = play.settle().await?;
    let (from, serving) = (view::moment(&before), view::uids(&before, "green", view::NOW));
    let generation = view::resource(&before).map_or(0, |entry| entry.number("/metadata/generation"));
    play.shell.run(ROLL_BACK).await?;
    let history = play.wait_stable("green", "1.0.500-new 1.0.600-new").await?;
    let scene = "4 rollback-to, first";
    play.checks.same(
        &format!("{scene}: serves, and stands in the spec"),
        format!("{} 1.0.500-new 1.0.600-new", memory.second),
        format!("{} {}", view::text(&history, "/status/activeReleaseVersion"), view::tags(&history)),
    );
    untouched(play, scene, &history, from);
    play.checks.same(
        &format!("{scene}: pods that serve"),
        format!("the same {}", serving.len()),
        same_pods(&history, from, &serving),
    );
    play.checks.same(
        &format!("{scene}: created or deleted"),
        "nothing",
        proof::made_and_gone(&history, from),
    );
    gone_again(play, scene, &history, from, generation);
    play.check_conditions(
        &history,
        scene,
        ["Ready=True Serving", "SpecApplied=True Applied", "Stalled=False None"],
    );
    play.check_records(
        &history,
        scene,
        &[(&memory.failed, "Failed"), (&memory.first, "Superseded"), (&memory.second, "Active")],
    );
    Ok(())
}

/// Checks that the annotation was there and is gone, and that spec and annotation changed in one write.
fn gone_again(play: &Play<'_>, scene: &str, history: &History, from: u64, generation: i64) {
    let states: Vec<_> = history
        .of(Kind::MetadataServices, NAME)
        .filter(|entry| entry.resource_version > from)
        .map(|entry| (entry.annotation("e6data.io/rollback-to"), entry.number("/metadata/generation")))
        .collect();
    let asked = states.iter().any(|(annotation, _)| annotation.is_some());
    let first_without =
        states.iter().skip_while(|(annotation, _)| annotation.is_none()).find(|(it, _)| it.is_none());
    let in_one = first_without.is_some_and(|(_, now)| *now == generation + 1);
    play.checks.holds(
        &format!("{scene}: annotation"),
        asked && in_one,
        "set by kubectl, then gone in the same write that restores the spec",
        format!("gone with generation {}", first_without.map_or(0, |(_, now)| *now)),
    );
}

async fn roll_back(play: &mut Play<'_>, memory: &Memory) -> Result<()> {
    play.console.paragraph("Asked again, the same line brings back the release before that, whole.");
    let before = play.settle().await?;
    let (from, told) = (view::moment(&before), play.events.count());
    let generation = view::resource(&before).map_or(0, |entry| entry.number("/metadata/generation"));
    play.shell.run(ROLL_BACK).await?;
    let history = play.wait_stable("blue", "1.0.437-old 1.0.547-old").await?;
    let scene = "4 rollback-to, second";
    let switch = Switch { history: &history, from, old: "green", new: "blue", version: &memory.first };
    switch.prove(&play.checks, scene);
    play.check_event(scene, told, "Normal TrafficSwitched", &memory.first).await;
    gone_again(play, scene, &history, from, generation);
    let whole = proof::templates(&history, "blue") == memory.first_templates;
    play.checks.holds(
        &format!("{scene}: pod templates"),
        whole && memory.first_templates.len() == COMPONENTS.len(),
        "those of the first release, to the letter",
        "those of the first release, to the letter",
    );
    play.check_records(
        &history,
        scene,
        &[(&memory.failed, "Failed"), (&memory.second, "Superseded"), (&memory.first, "Active")],
    );
    let last = |field| view::text(&history, &format!("/status/lastRollback/{field}"));
    play.checks.same(
        &format!("{scene}: lastRollback"),
        format!("Manual {} -> {}", memory.second, memory.first),
        format!("{} {} -> {}", last("trigger"), last("from"), last("to")),
    );
    Ok(())
}

async fn show_history(play: &mut Play<'_>) -> Result<()> {
    play.console.scene("5. The history; and an operator that is killed in the middle of a rollout");
    play.console.say("The history, here as a table:");
    play.shell.ask(HISTORY).await?;
    let history = play.timeline.history();
    play.console.output(&table(&history));
    Ok(())
}

fn table(history: &History) -> String {
    let fields = ["version", "status", "strategy", "storageTag", "schemaTag", "trigger", "reason"];
    let mut rows =
        vec![["VERSION", "STATUS", "COLOR", "STORAGE", "SCHEMA", "TRIGGER", "REASON"].map(str::to_owned)];
    rows.extend(
        view::records(history).iter().map(|record| fields.map(|field| record.text(field).to_owned())),
    );
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..fields.len()).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn kill(play: &mut Play<'_>, memory: &Memory) -> Result<()> {
    let (from, told) = (view::moment(&play.settle().await?), play.events.count());
    play.shell.run(NEXT).await?;
    play.wait("expected: Deploying, both Deployments of green there", |history| {
        let deploying = view::text(history, "/status/rollout/step") == "Deploying";
        let made = COMPONENTS
            .iter()
            .all(|component| history.live(Kind::Deployment, &format!("{NAME}-{component}-green")).is_some());
        (deploying && made).then_some(())
    })
    .await?;
    play.operator.kill();
    play.console.change(play.zero.elapsed(), "operator", "killed (SIGKILL)");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let dead = play.settle().await?;
    let scene = "5 operator killed";
    play.checks.same(
        &format!("{scene}: step it was in"),
        "Deploying",
        view::text(&dead, "/status/rollout/step"),
    );
    let at = Instant::now();
    let pid = play.operator.start()?;
    let text = format!("started again, process {pid}; it waits until the lease of the dead one ends (15 s)");
    play.console.change(play.zero.elapsed(), "operator", &text);
    let history = play.wait_stable("green", "1.0.700-next 1.0.800-next").await?;
    let version = view::text(&history, "/status/activeReleaseVersion");
    let switch = Switch { history: &history, from, old: "blue", new: "green", version: &version };
    switch.prove(&play.checks, scene);
    play.check_event(scene, told, "Normal TrafficSwitched", &version).await;
    play.checks.same(
        &format!("{scene}: created and deleted, as in the upgrade of scene 2"),
        &memory.upgrade,
        proof::made_and_gone(&history, from),
    );
    play.checks
        .ok(&format!("{scene}: finished after the restart"), format!("{:.0} s", at.elapsed().as_secs_f64()));
    play.check_records(
        &history,
        scene,
        &[
            (&memory.failed, "Failed"),
            (&memory.second, "Superseded"),
            (&memory.first, "Superseded"),
            (&version, "Active"),
        ],
    );
    play.shell.run(SHOW).await?;
    Ok(())
}

/// What must be true of the whole time.
fn whole_time(play: &Play<'_>, history: &History) {
    for component in COMPONENTS {
        let name = view::front(component);
        let mut seen: Vec<String> = history
            .of(Kind::Service, &name)
            .map(|entry| format!("{} {}", entry.text("/metadata/uid"), entry.text("/spec/clusterIP")))
            .collect();
        seen.dedup();
        play.checks.same(&format!("all the time: addresses that {name} had"), 1, seen.len());
    }
    let waived = watcher::Waived::default();
    let found = watcher::check(history, &waived).into_iter().chain(watcher::at_rest(history, &waived));
    let found: Vec<String> = found.map(|finding| finding.to_string()).collect();
    let rules: BTreeSet<&str> = watcher::RULES.iter().map(|rule| rule.invariant).collect();
    play.checks.same(
        &format!(
            "all the time: of {} invariants, at each of {} events, broken",
            rules.len(),
            history.entries().len()
        ),
        "nothing",
        proof::list(&found),
    );
    play.checks.same("all the time: gaps in what the demo's watches saw", 0, play.timeline.gaps());
}
