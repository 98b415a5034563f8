mod fake;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;

use self::fake::{Contender, Fault, Server};
use super::*;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/ops/leases";

async fn seconds(count: f64) {
    sleep(Duration::from_secs_f64(count)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_creates_the_lease_and_renews_it_every_five_seconds() {
    let server = Server::default();
    let one = Contender::start(&server, "one");
    assert!(!one.leadership.may_write());
    one.leadership.acquired().await;
    assert!(one.leadership.may_write());
    assert_eq!(server.requests(), [format!("GET {PATH}/op"), format!("POST {PATH}")]);
    let created = server.lease();
    assert_eq!(created["spec"]["leaseDurationSeconds"], 15);
    assert_eq!(created["spec"]["leaseTransitions"], 0);
    seconds(22.0).await;
    assert_eq!(server.requests(), vec![format!("PUT {PATH}/op"); 4]);
    assert_eq!(server.lease()["spec"]["acquireTime"], created["spec"]["acquireTime"]);
    assert_ne!(server.lease()["spec"]["renewTime"], created["spec"]["renewTime"]);
    assert!(one.leadership.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_stop_releases_the_lease_and_the_standby_takes_over() {
    let server = Server::default();
    let one = Contender::start(&server, "one");
    one.leadership.acquired().await;
    let two = Contender::start(&server, "two");
    seconds(60.0).await;
    assert!(!two.leadership.may_write());
    let handle = one.leadership.clone();
    one.stop().await.unwrap();
    handle.lost().await;
    assert!(!handle.may_write());
    assert_eq!(server.holder(), "");
    assert_eq!(server.lease()["spec"]["leaseDurationSeconds"], 1);
    timeout(Duration::from_millis(2_500), two.leadership.acquired()).await.unwrap();
    assert_eq!(server.lease()["spec"]["leaseTransitions"], 1);
    assert_eq!(server.holder(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_stops_sends_nothing_more() {
    let server = Server::default();
    let one = Contender::start(&server, "one");
    one.leadership.acquired().await;
    let two = Contender::start(&server, "two");
    seconds(3.0).await;
    let lease = server.lease();
    server.requests();
    two.stop().await.unwrap();
    assert_eq!(server.requests(), Vec::<String>::new());
    assert_eq!(server.lease(), lease);
}

#[tokio::test(start_paused = true)]
async fn failing_renewals_end_the_right_to_write_after_ten_seconds() {
    for fault in [Fault::Hang, Fault::LostReply, Fault::Status(500), Fault::Status(403), Fault::Status(409)] {
        let server = Server::default();
        let one = Contender::start(&server, "one");
        one.leadership.acquired().await;
        one.set(fault);
        seconds(9.9).await;
        assert!(one.leadership.may_write(), "{fault:?}");
        seconds(0.1).await;
        assert!(!one.leadership.may_write(), "{fault:?}");
        timeout(Duration::from_millis(100), one.leadership.lost()).await.unwrap();
        let lost = one.task.await.unwrap().unwrap_err();
        assert!(lost.to_string().contains("ops/op could not be renewed within 10 s"), "{fault:?}: {lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_hang_or_lost_reply_is_survived() {
    for fault in [Fault::Hang, Fault::LostReply, Fault::Status(503)] {
        let server = Server::default();
        let one = Contender::start(&server, "one");
        one.leadership.acquired().await;
        seconds(4.0).await;
        one.set(fault);
        seconds(3.5).await;
        one.set(Fault::None);
        seconds(30.0).await;
        assert!(one.leadership.may_write(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_is_succeeded_after_the_lease_duration_and_not_before() {
    let server = Server::default();
    let one = Contender::start(&server, "one");
    one.leadership.acquired().await;
    let two = Contender::start(&server, "two");
    seconds(12.0).await;
    one.task.abort();
    let died = Instant::now();
    // The renewals have ended, so it may not use the rest of its time.
    seconds(0.01).await;
    assert!(!one.leadership.may_write());
    two.leadership.acquired().await;
    let waited = died.elapsed();
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(18), "{waited:?}");
    timeout(Duration::from_secs(1), one.leadership.lost()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_paused_leader_may_not_write_when_it_wakes() {
    let server = Server::default();
    let one = Contender::start(&server, "one");
    one.leadership.acquired().await;
    let two = Contender::start(&server, "two");
    seconds(7.0).await;
    one.freezer.freeze(true);
    seconds(40.0).await;
    // Its own loop has not run yet.
    assert!(!one.leadership.may_write());
    assert!(two.leadership.may_write());
    one.freezer.freeze(false);
    let lost = one.task.await.unwrap().unwrap_err();
    assert!(lost.to_string().contains("the process was paused"), "{lost}");
    assert_eq!(server.holder(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_by_force_is_noticed() {
    let server = Server::default();
    let one = Contender::start(&server, "one");
    one.leadership.acquired().await;
    server.store(&json!({"holderIdentity": "intruder", "leaseDurationSeconds": 15}));
    let lost = one.task.await.unwrap().unwrap_err();
    assert!(matches!(&lost, LeaseLost::Taken { holder, .. } if holder == "intruder"), "{lost}");
    assert_eq!(server.holder(), "intruder");
}

#[tokio::test(start_paused = true)]
async fn a_touched_or_deleted_lease_is_renewed_by_its_holder_and_binds_the_standby() {
    let server = Server::default();
    let one = Contender::start(&server, "one");
    one.leadership.acquired().await;
    let two = Contender::start(&server, "two");
    seconds(6.0).await;
    let touched = server.lease()["spec"].clone();
    server.store(&touched);
    server.requests();
    seconds(4.5).await;
    // The conflict is retried at once, not at the next renewal.
    let by_holder: Vec<_> =
        server.requests().into_iter().filter(|request| request.starts_with("PUT")).collect();
    assert_eq!(by_holder.len(), 2);
    seconds(5.5).await;
    assert!(one.leadership.may_write());
    server.0.lock().unwrap().lease = None;
    for _ in 0..200 {
        seconds(0.1).await;
        assert!(one.leadership.may_write() && !two.leadership.may_write());
    }
    assert_eq!(server.holder(), "one");
}

#[tokio::test(start_paused = true)]
async fn absurd_records_bind_for_a_bounded_time_and_labels_are_kept() {
    let far = "9999-12-31T23:59:59.999999Z";
    for (spec, least, most) in [
        (
            json!({"holderIdentity": "x", "leaseDurationSeconds": 15, "renewTime": far, "acquireTime": far}),
            15,
            19,
        ),
        (
            json!({"holderIdentity": "x", "leaseDurationSeconds": -1, "renewTime": "1970-01-01T00:00:00.000000Z", "leaseTransitions": -7}),
            15,
            19,
        ),
        (json!({"holderIdentity": "x", "leaseDurationSeconds": i32::MAX, "renewTime": "tomorrow"}), 300, 304),
        (json!({"holderIdentity": "", "renewTime": far}), 0, 1),
        (json!({}), 0, 1),
    ] {
        let server = Server::with(&spec);
        let start = Instant::now();
        let one = Contender::start(&server, "one");
        one.leadership.acquired().await;
        let waited = start.elapsed().as_secs();
        assert!((least..=most).contains(&waited), "{spec}: {waited} s");
        assert_eq!(server.lease()["metadata"]["labels"]["kept"], "yes");
        let time = server.lease()["spec"]["renewTime"].as_str().unwrap().parse::<jiff::Timestamp>();
        assert!(time.is_ok(), "{spec}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_holder_with_a_clock_in_the_past_keeps_its_lease() {
    let server = Server::default();
    let two = Contender::start(&server, "two");
    two.set(Fault::Hang);
    for renewal in 0..30 {
        let time = format!("1970-01-01T00:00:{renewal:02}.000000Z");
        server.store(&json!({"holderIdentity": "old", "leaseDurationSeconds": 15, "renewTime": time}));
        two.set(Fault::None);
        seconds(5.0).await;
        assert!(!two.leadership.may_write());
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_or_namespace_is_tried_again() {
    let server = Server::default();
    let one = Contender::start(&server, "one");
    one.set(Fault::Status(403));
    seconds(30.0).await;
    assert!(!one.leadership.may_write() && !one.task.is_finished());
    one.set(Fault::Status(404));
    seconds(30.0).await;
    assert!(!one.leadership.may_write());
    one.set(Fault::None);
    timeout(Duration::from_secs(3), one.leadership.acquired()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failures_that_need_a_user_name_the_remedy() {
    let server = Server::default();
    let fault = Arc::new(Mutex::new(Fault::Status(403)));
    let settings = Settings {
        namespace: "ops".into(),
        name: "op".into(),
        identity: "me".into(),
        timings: Timings::default(),
    };
    let api = LeaseApi::new(server.client(&fault), &settings);
    let forbidden = api.read().await.unwrap_err();
    assert!(forbidden.needs_user());
    let text = forbidden.to_string();
    assert!(
        text.contains("refused; grant get, create and update") && text.contains("namespace ops"),
        "{text}"
    );
    *fault.lock().unwrap() = Fault::Status(404);
    let missing = api.write(None, Record::default()).await.unwrap_err();
    assert!(missing.needs_user());
    assert!(missing.to_string().contains("kubectl create namespace ops"), "{missing}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_changes_nothing_is_no_renewal() {
    let spec = json!({"holderIdentity": "me"});
    let server = Server::with(&spec);
    let settings = Settings {
        namespace: "ops".into(),
        name: "op".into(),
        identity: "me".into(),
        timings: Timings::default(),
    };
    let api = LeaseApi::new(server.client(&Arc::new(Mutex::new(Fault::None))), &settings);
    let stored = api.read().await.unwrap();
    let same = api.write(stored, Record::from_spec(Some(&spec))).await;
    assert!(matches!(same, Err(Failure::Unchanged)));
}

#[tokio::test(start_paused = true)]
async fn without_election_there_is_always_a_leader() {
    let always = Leadership::always();
    assert!(always.may_write());
    always.acquired().await;
    assert!(timeout(Duration::from_secs(3_600), always.lost()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_election_that_ends_without_a_win_is_lost_and_never_acquired() {
    let server = Server::with(&json!({"holderIdentity": "x", "leaseDurationSeconds": 15}));
    let one = Contender::start(&server, "one");
    let handle = one.leadership.clone();
    seconds(1.0).await;
    one.stop().await.unwrap();
    handle.lost().await;
    assert!(timeout(Duration::from_secs(60), handle.acquired()).await.is_err());
}

/// Random faults, freezes, deaths and restarts of three contenders; at no moment may two of them write, and the
/// lease is never orphaned for long once the faults end.
#[tokio::test(start_paused = true)]
async fn never_two_writers_whatever_fails() {
    for seed in 1..=40_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut roll = move |sides: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % sides
        };
        let server = Server::default();
        let mut names = 0;
        let mut start = |server: &Server| {
            names += 1;
            Contender::start(server, &format!("c{names}"))
        };
        let mut contenders: Vec<Contender> = (0..3).map(|_| start(&server)).collect();
        for step in 0..1_200 {
            let index = usize::try_from(roll(3)).unwrap();
            let chosen = &contenders[index];
            match roll(60) {
                0 => chosen.set(Fault::Hang),
                1 => chosen.set(Fault::LostReply),
                2 => chosen.set(Fault::Status(500)),
                3 => chosen.freezer.freeze(true),
                4..=9 => {
                    chosen.set(Fault::None);
                    chosen.freezer.freeze(false);
                }
                _ => {}
            }
            if contenders[index].task.is_finished() || roll(300) == 0 {
                contenders[index].task.abort();
                contenders[index] = start(&server);
            }
            seconds(0.1).await;
            let writers = contenders.iter().filter(|one| one.leadership.may_write()).count();
            assert!(writers <= 1, "seed {seed}, step {step}: {writers} writers");
        }
        for one in &contenders {
            one.set(Fault::None);
            one.freezer.freeze(false);
        }
        seconds(40.0).await;
        assert!(
            contenders.iter().any(|one| one.leadership.may_write())
                || contenders.iter().all(|one| one.task.is_finished()),
            "seed {seed}: no leader"
        );
        for one in contenders {
            one.task.abort();
        }
    }
}
