//! The proxy between a real client and a server that echoes requests.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};

use super::*;

/// Starts a server that answers every request with its own body, and counts them.
async fn echo(dir: &Path) -> (Upstream, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let kubeconfig = dir.join("upstream");
    std::fs::write(&kubeconfig, kubeconfig_text(listener.local_addr().unwrap())).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            let service = service_fn(move |request: Request<Incoming>| {
                counted.fetch_add(1, Ordering::SeqCst);
                async { Ok::<_, Infallible>(Response::new(request.into_body())) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    (Upstream::of(&kubeconfig).await.unwrap(), count)
}

struct Bench {
    _dir: tempfile::TempDir,
    proxy: Proxy,
    count: Arc<AtomicUsize>,
}

impl Bench {
    async fn new(number: usize, fault: Fault) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (upstream, count) = echo(dir.path()).await;
        let plan = Plan::on_write(number, fault);
        let proxy = Proxy::start(&upstream, &dir.path().join("proxy"), plan).await.unwrap();
        Self { _dir: dir, proxy, count }
    }

    /// Returns a client with its own connections.
    async fn client(&self) -> Api<ConfigMap> {
        Api::default_namespaced(Upstream::of(self.proxy.kubeconfig()).await.unwrap().0)
    }

    fn forwarded(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

async fn create(api: &Api<ConfigMap>, name: &str) -> Result<ConfigMap, kube::Error> {
    let object = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some(name.into()), ..Default::default() },
        ..Default::default()
    };
    api.create(&PostParams::default(), &object).await
}

/// Returns the result of the second of three writes: the status for the client (0: the connection broke), and the
/// number of writes that reached the server.
async fn second(fault: Fault) -> (u16, usize) {
    let bench = Bench::new(2, fault).await;
    let api = bench.client().await;
    create(&api, "a").await.unwrap();
    let code = match create(&api, "b").await {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(_) => 0,
    };
    create(&api, "c").await.unwrap();
    let writes = bench.proxy.writes();
    assert_eq!(writes.iter().map(|write| write.target.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(writes[1].fault, Some(fault));
    assert!(bench.proxy.is_idle());
    (code, bench.forwarded())
}

#[tokio::test]
async fn a_fault_strikes_its_write_and_no_other() {
    assert_eq!(second(Fault::LoseReply).await, (0, 3));
    assert_eq!(second(Fault::DropRequest).await, (0, 2));
    assert_eq!(second(Fault::Answer(409)).await, (409, 2));
    assert_eq!(second(Fault::Answer(503)).await, (503, 2));
    assert_eq!(second(Fault::AnswerAfter(504)).await, (504, 3));
    assert_eq!(second(Fault::Delay(Duration::from_millis(20))).await, (200, 3));
}

/// Returns the HTTP status of a read through the proxy (0: the connection broke).
async fn read(bench: &Bench, path: &str) -> u16 {
    let client = Upstream::of(bench.proxy.kubeconfig()).await.unwrap().0;
    match client.request_text(Request::get(path).body(vec![]).unwrap()).await {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(_) => 0,
    }
}

#[tokio::test]
async fn reads_fail_after_their_write_and_then_no_more() {
    let bench = Bench::new(1, Fault::FailReads).await;
    let api = bench.client().await;
    assert_eq!(read(&bench, "/api/v1/configmaps").await, 200);
    create(&api, "a").await.unwrap();
    let mut seen = vec![];
    for _ in 0..=BAD_READS {
        seen.push(read(&bench, "/api/v1/configmaps").await);
    }
    assert_eq!(seen.pop(), Some(200));
    assert!(seen.contains(&0) && seen.contains(&500) && !seen.contains(&200), "{seen:?}");
    assert!(bench.proxy.observed().contains(&Fault::FailReads));
}

#[tokio::test]
async fn a_forgotten_watch_is_told_so_once_and_another_is_not() {
    let bench = Bench::new(1, Fault::Forget).await;
    let (known, other) = ("/api/v1/configmaps?watch=true", "/api/v1/services?watch=true");
    assert_eq!(read(&bench, known).await, 200);
    create(&bench.client().await, "a").await.unwrap();
    assert_eq!((read(&bench, other).await, read(&bench, known).await), (200, 410));
    assert_eq!(read(&bench, known).await, 200);
}

#[tokio::test]
async fn a_kill_leaves_an_exact_prefix_and_the_next_client_goes_on() {
    for (fault, reached) in [(Fault::KillBefore, 1), (Fault::KillAfter, 2)] {
        let mut bench = Bench::new(2, fault).await;
        let api = bench.client().await;
        create(&api, "a").await.unwrap();
        let first = tokio::spawn({
            let api = api.clone();
            async move { create(&api, "b").await }
        });
        let kill = bench.proxy.halt().await;
        assert_eq!(bench.forwarded(), reached, "{fault}");
        // The client still lives, and writes on: held now, dropped when it is dead.
        let late = tokio::spawn(async move { create(&api, "late").await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!late.is_finished());
        kill.done();
        assert!(first.await.unwrap().is_err());
        assert!(late.await.unwrap().is_err());
        assert_eq!(bench.forwarded(), reached, "{fault}");
        create(&bench.client().await, "again").await.unwrap();
        assert_eq!(bench.forwarded(), reached + 1);
        assert_eq!(bench.proxy.writes().len(), 3);
    }
}

#[tokio::test]
async fn a_held_write_waits_for_the_test() {
    for (fault, reached) in [(Fault::HoldBefore, 1), (Fault::HoldAfter, 2)] {
        for passes in [true, false] {
            let mut bench = Bench::new(2, fault).await;
            let api = bench.client().await;
            create(&api, "a").await.unwrap();
            let second = tokio::spawn({
                let api = api.clone();
                async move { create(&api, "b").await }
            });
            let held = bench.proxy.halt().await;
            assert_eq!((held.fault, bench.forwarded()), (fault, reached));
            // Other writes continue.
            create(&bench.client().await, "c").await.unwrap();
            assert!(!second.is_finished());
            if passes {
                held.done();
            } else {
                held.cut();
            }
            assert_eq!(second.await.unwrap().is_ok(), passes, "{fault}");
            let lost = usize::from(fault == Fault::HoldBefore && !passes);
            assert_eq!(bench.forwarded(), 3 - lost, "{fault}");
        }
    }
}

#[tokio::test]
async fn an_outage_cuts_what_is_open_and_what_is_new_until_it_ends() {
    let bench = Bench::new(1, Fault::Delay(Duration::from_secs(20))).await;
    let api = bench.client().await;
    let open = tokio::spawn({
        let api = api.clone();
        async move { create(&api, "a").await }
    });
    while bench.proxy.writes().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.proxy.outage(Outage::All);
    let start = Instant::now();
    assert!(open.await.unwrap().is_err());
    assert!(start.elapsed() < Duration::from_secs(10), "the open connection is cut at once");
    assert!(create(&bench.client().await, "b").await.is_err());
    bench.proxy.outage(Outage::Leases);
    create(&bench.client().await, "c").await.unwrap();
    bench.proxy.outage(Outage::None);
    create(&api, "d").await.unwrap();
}
