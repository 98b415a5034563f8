//! Faults of the control plane in mid-rollout, one after another in one cluster without a watch cache; a restart also in
//! one that has it.
//!
//! Many resources, each with an operator of its own behind a proxy, are rolled out together; each operator's rollout
//! is held at another write. Then the control plane fails, the writes are let go or lost, and all must come to rest
//! on the release that was asked for, with no invariant broken. Without a watch cache watches are resumed from etcd:
//! the outside eye misses nothing, and a compaction is felt.

use std::time::{Duration, Instant};

use futures::future::join_all;
use testbed::proxy::{Fault, Halt, Outage};
use testbed::resource::quick;
use testbed::{Kind, Options};

use crate::bench::{Actor, Bench, LOOK, PATIENCE, Stage};
use crate::crd;
use crate::story::serves;

/// Writes of an upgrade, and so players: each is held at another one.
const WRITES: usize = 21;

/// A resource with an operator of its own.
pub struct Player {
    /// The resource.
    pub stage: Stage,
    /// The operator.
    pub actor: Actor,
    /// The number of the write at which it is held.
    pub number: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_may_fail_at_any_write() {
    let options = Options { apiserver_args: vec!["--watch-cache=false".into()], ..Options::default() };
    let bench = Bench::own("plane", options).await;
    let start = Instant::now();
    let mut players = players(&bench).await;
    restarted(&bench, &mut players).await;
    crashed(&bench, &mut players).await;
    without_etcd(&bench, &mut players).await;
    without_managers(&bench, &mut players).await;
    compacted(&bench, &mut players).await;
    for found in join_all(players.iter_mut().map(Player::violations)).await {
        assert!(found.is_empty(), "{found:#?}");
    }
    crd::outdated_at_any_write(&bench, &mut players).await;
    println!(
        "plane: {WRITES} writes, {} faults each, {:.0} s",
        5 + crd::OLDER.len(),
        start.elapsed().as_secs_f64()
    );
    drop(players);
    bench.tidy();
}

/// With a watch cache, as clusters have it, a new kube-apiserver refuses to go on with the watches of the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_starts_again_has_forgotten_all_watches() {
    let bench = Bench::own("cache", Options::default()).await;
    let mut players = players(&bench).await;
    let held = all_held(&mut players, "2", Fault::HoldBefore).await;
    restart(&bench).await;
    // The eye's watches are refused too: what it would miss until it lists anew, another one sees.
    join_all(players.iter_mut().map(|player| player.stage.look_anew(&bench.client))).await;
    held.into_iter().for_each(Halt::done);
    all_rest(&players, "kube-apiserver with a watch cache restarted", "2").await;
    are_told(&players, "a restart");
    for found in join_all(players.iter_mut().map(Player::violations)).await {
        assert!(found.is_empty(), "{found:#?}");
    }
    drop(players);
    bench.tidy();
}

async fn players(bench: &Bench) -> Vec<Player> {
    join_all((1..=WRITES).map(|number| player(bench, number))).await
}

async fn restart(bench: &Bench) {
    bench.cluster.stop_component("kube-apiserver").unwrap();
    bench.cluster.start_component("kube-apiserver").await.unwrap();
}

/// The operators were told that their place in a watch is no longer known.
fn are_told(players: &[Player], what: &str) {
    let refused = players.iter().filter(|player| player.actor.log().contains("too old")).count();
    assert!(refused * 2 > players.len(), "{what}: only {refused} operators had a watch refused as too old");
}

async fn player(bench: &Bench, number: usize) -> Player {
    let stage = bench.stage(&format!("plane-{number}")).await;
    let actor = bench.actor(&stage.namespace, "a", &["--leader-elect=false"]).await;
    stage.deploy(&quick("1", "1")).await;
    Player { stage, actor, number }
}

impl Player {
    /// Asks for a release and waits until its rollout is held; `None` when it needed fewer writes.
    pub async fn held(&mut self, tag: &str, fault: Fault) -> Option<Halt> {
        let act = async { self.stage.subject.upgrade(tag, tag).await.unwrap() };
        let over = self.stage.rests(PATIENCE, |state| serves(state, tag));
        let held = self.actor.held(self.number, fault, act, over).await?;
        // Or it would give the answer up, and try again, before the last of the others is held.
        self.actor.operator.pause();
        Some(held)
    }

    /// Waits until a release serves and nothing happens any more.
    pub async fn rests(&self, what: &str, tag: &str) {
        let rests = self.stage.rests(PATIENCE, |state| serves(state, tag)).await;
        let Self { stage, number, .. } = self;
        assert!(
            rests,
            "{what} at write {number} ({}): {tag} does not serve; {}",
            stage.namespace,
            stage.last()
        );
    }

    async fn violations(&mut self) -> Vec<String> {
        let mut found = self.stage.violations().await;
        found.extend(self.actor.trouble(false));
        found.into_iter().map(|text| format!("{}: {text}", self.stage.namespace)).collect()
    }
}

/// All players roll out a release and are held.
pub async fn all_held(players: &mut [Player], tag: &str, fault: Fault) -> Vec<Halt> {
    let held: Vec<Halt> = join_all(players.iter_mut().map(|player| player.held(tag, fault)))
        .await
        .into_iter()
        .flatten()
        .collect();
    for player in players.iter() {
        player.actor.operator.resume();
    }
    // A view of the status may fall into the one before.
    assert!(held.len() + 2 >= WRITES, "only {} of {WRITES} were held", held.len());
    held
}

/// All players come to rest on a release.
pub async fn all_rest(players: &[Player], what: &str, tag: &str) {
    let start = Instant::now();
    join_all(players.iter().map(|player| player.rests(what, tag))).await;
    println!("plane: {what}: all at rest after {:.1} s", start.elapsed().as_secs_f64());
}

/// kube-apiserver is stopped and started; the writes arrive at the new one.
async fn restarted(bench: &Bench, players: &mut [Player]) {
    let held = all_held(players, "2", Fault::HoldBefore).await;
    restart(bench).await;
    held.into_iter().for_each(Halt::done);
    all_rest(players, "kube-apiserver restarted", "2").await;
}

/// kube-apiserver is killed when it has carried the writes out; their answers are lost.
async fn crashed(bench: &Bench, players: &mut [Player]) {
    let held = all_held(players, "3", Fault::HoldAfter).await;
    bench.cluster.kill_component("kube-apiserver").unwrap();
    held.into_iter().for_each(Halt::cut);
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.cluster.start_component("kube-apiserver").await.unwrap();
    all_rest(players, "kube-apiserver killed", "3").await;
}

/// etcd is away when the writes arrive.
async fn without_etcd(bench: &Bench, players: &mut [Player]) {
    let held = all_held(players, "4", Fault::HoldBefore).await;
    bench.cluster.kill_component("etcd").unwrap();
    held.into_iter().for_each(Halt::done);
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.cluster.start_component("etcd").await.unwrap();
    all_rest(players, "etcd killed", "4").await;
}

/// Nobody makes pods, follows endpoints or collects garbage for a while: nothing is taken for done.
async fn without_managers(bench: &Bench, players: &mut [Player]) {
    let held = all_held(players, "5", Fault::HoldBefore).await;
    bench.cluster.stop_component("kube-controller-manager").unwrap();
    held.into_iter().for_each(Halt::done);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut pruning = 0;
    for player in players.iter() {
        let history = player.stage.history().await;
        let state = player.stage.subject.state(&history).unwrap();
        let colors: std::collections::BTreeSet<_> = history
            .all_live(Kind::Pod)
            .iter()
            .filter_map(|pod| pod.label("strategy").map(str::to_owned))
            .collect();
        pruning += usize::from(state.step() == "Prune" && colors.len() == 2);
        assert!(
            !state.is_stable() || state.active() != state.version_of_tag("5") || colors.len() == 1,
            "{}: Stable with pods of {colors:?}",
            player.stage.namespace
        );
    }
    assert!(pruning >= 2, "only {pruning} were met in Prune with pods on both colors");
    bench.cluster.start_component("kube-controller-manager").await.unwrap();
    all_rest(players, "kube-controller-manager stopped", "5").await;
}

/// The operators are cut off; meanwhile the user changes his mind and etcd forgets the past. What they missed must
/// come to them by a new list.
async fn compacted(bench: &Bench, players: &mut [Player]) {
    let held = all_held(players, "6", Fault::HoldBefore).await;
    for player in players.iter() {
        player.actor.proxy.outage(Outage::All);
    }
    held.into_iter().for_each(Halt::cut);
    for player in players.iter() {
        player.stage.subject.upgrade("7", "7").await.unwrap();
    }
    // The eye must not be in the past when it is cut off.
    join_all(players.iter().map(|player| player.stage.history())).await;
    tokio::time::sleep(LOOK).await;
    bench.cluster.compact().await.unwrap();
    for player in players.iter() {
        player.actor.proxy.outage(Outage::None);
    }
    all_rest(players, "etcd compacted", "7").await;
    are_told(players, "a compaction");
}
