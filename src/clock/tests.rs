use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn ts(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A clock whose monotonic time the test sets, in milliseconds.
fn manual() -> (ServerClock, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(0));
    let read = time.clone();
    (ServerClock::with_monotonic(Arc::new(move || ms(read.load(Ordering::SeqCst)))), time)
}

fn dated(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(DATE, value.parse().unwrap())])
}

#[test]
fn one_sample_bounds_the_time_by_resolution_and_latency() {
    let interval = OffsetInterval::from_sample(ms(1_000), ms(1_200), ts("2026-01-01T00:00:10Z"));
    // When the answer came, the server's time was in [10 s, 11 s + 200 ms).
    assert_eq!(interval.earliest(ms(1_200)), Some(ts("2026-01-01T00:00:10Z")));
    assert_eq!(interval.latest(ms(1_200)), Some(ts("2026-01-01T00:00:11.2Z")));
}

#[test]
fn samples_narrow_the_interval_and_it_always_holds_the_truth() {
    // The server's clock is 10.25 s + 700 ms ahead of the monotonic one: far from the clock of a node.
    let truth = |at: Duration| ts("2026-01-01T00:00:10.95Z") + at;
    let mut interval = None::<OffsetInterval>;
    for step in 0..50_u64 {
        let sent = ms(step * 1_373);
        let answered = sent + ms(20 + step % 7);
        let received = answered + ms(15 + step % 11);
        let date = Timestamp::from_second(truth(answered).as_second()).unwrap();
        match interval.as_mut() {
            None => interval = Some(OffsetInterval::from_sample(sent, received, date)),
            Some(known) => assert_eq!(known.sample(sent, received, date), Sampled::Agreed, "step {step}"),
        }
        let known = interval.unwrap();
        assert!(known.earliest(received).unwrap() <= truth(received), "step {step}");
        assert!(known.latest(received).unwrap() >= truth(received), "step {step}");
    }
    let at = ms(49 * 1_373 + 100);
    let known = interval.unwrap();
    let width = known.latest(at).unwrap().duration_since(known.earliest(at).unwrap());
    assert!(width < jiff::SignedDuration::from_millis(200), "{width:?}");
}

#[test]
fn a_jump_starts_anew() {
    for (case, date) in [
        ("forward", "2026-01-01T01:00:00Z"),
        ("back", "2025-12-31T23:00:00Z"),
        ("3 s", "2026-01-01T00:00:14Z"),
    ] {
        let mut interval = OffsetInterval::from_sample(ms(0), ms(10), ts("2026-01-01T00:00:10Z"));
        assert_eq!(interval.sample(ms(1_000), ms(1_010), ts(date)), Sampled::Jumped, "{case}");
        assert_eq!(interval.earliest(ms(1_010)), Some(ts(date)), "{case}");
    }
}

#[test]
fn drift_is_allowed_for() {
    let interval = OffsetInterval::from_sample(ms(0), ms(0), ts("2026-01-01T00:00:00Z"));
    let hour = Duration::from_secs(3_600);
    assert_eq!(interval.earliest(hour), Some(ts("2026-01-01T00:59:56.4Z")));
    // A server that ran 500 ppm slow for that hour is no jump.
    let mut slow = interval;
    assert_eq!(slow.sample(hour, hour, ts("2026-01-01T00:59:58Z")), Sampled::Agreed);
}

#[test]
fn the_clock_knows_nothing_before_the_first_answer_and_ignores_malformed_dates() {
    let (clock, _) = manual();
    for bad in ["", "yesterday", "Mon, 06 Nov 1994 08:49:37 GMT", "1736121600"] {
        clock.observe(ms(0), &dated(bad));
        assert!(clock.now().is_none(), "{bad:?}");
    }
    clock.observe(ms(0), &HeaderMap::new());
    assert_eq!(clock.now(), None);
    assert_eq!(clock.now_for_record(), None);
    clock.observe(ms(0), &dated("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(clock.now(), Some(ts("1994-11-06T08:49:37Z")));
    clock.observe(ms(0), &dated("nonsense"));
    assert_eq!(clock.now(), Some(ts("1994-11-06T08:49:37Z")));
}

#[test]
fn a_recorded_start_is_never_early_and_is_whole_seconds() {
    let (clock, time) = manual();
    clock.observe(ms(0), &dated("Thu, 01 Jan 2026 00:00:10 GMT"));
    assert_eq!(clock.now_for_record(), Some(ts("2026-01-01T00:00:11Z")));
    time.store(1, Ordering::SeqCst);
    assert_eq!(clock.now_for_record(), Some(ts("2026-01-01T00:00:12Z")));
    // A wait of 5 s begun now, really at 10.0 s to 11.0 s, ends no earlier than 5 s later.
    time.store(6_900, Ordering::SeqCst);
    assert!(clock.now() < Some(ts("2026-01-01T00:00:17Z")));
}

#[test]
fn time_runs_on_between_answers() {
    let (clock, time) = manual();
    clock.observe(ms(0), &dated("Thu, 01 Jan 2026 00:00:10 GMT"));
    time.store(30_000, Ordering::SeqCst);
    // 30 s later, less the drift allowance.
    assert_eq!(clock.now(), Some(ts("2026-01-01T00:00:39.97Z")));
}

#[tokio::test]
async fn the_layer_reads_the_date_and_passes_the_answer_on() {
    let (clock, time) = manual();
    time.store(100, Ordering::SeqCst);
    let server_time = time.clone();
    let inner = tower::service_fn(move |_: Request<()>| {
        server_time.store(400, Ordering::SeqCst);
        async {
            let response = Response::builder().status(404).header(DATE, "Thu, 01 Jan 2026 00:00:10 GMT");
            Ok::<_, std::convert::Infallible>(response.body("body").unwrap())
        }
    });
    let mut service = ClockLayer::new(clock.clone()).layer(inner);
    let response = service.call(Request::new(())).await.unwrap();
    assert_eq!((response.status().as_u16(), *response.body()), (404, "body"));
    assert_eq!(clock.now(), Some(ts("2026-01-01T00:00:10Z")));
    assert_eq!(clock.interval().unwrap().latest(ms(400)), Some(ts("2026-01-01T00:00:11.3Z")));
}
