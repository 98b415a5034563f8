use std::future::pending;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};

use super::*;

const GATES: &[Gate] = &[
    Gate { name: "crd", remedy: "install the CRD" },
    Gate { name: "caches", remedy: "wait for the first lists" },
];

fn health() -> Health {
    Health::new(Health::MAX_SILENCE, GATES)
}

fn started(routes: Routes) -> SocketAddr {
    let server = Server::bind(([127, 0, 0, 1], 0).into(), "--flag").unwrap();
    let address = server.local_addr();
    tokio::spawn(server.serve(routes, pending()));
    address
}

/// Sends `head` and reads the whole answer.
async fn raw(address: SocketAddr, head: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    let answer = raw(address, &format!("{method} {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn readiness_lists_what_is_missing_until_all_gates_are_open() {
    let health = health();
    let address = started(Routes { health: Some(health.clone()), metrics: None });
    health.set("caches", true);
    let (status, _, body) = ask(address, "GET", "/readyz").await;
    assert_eq!(status, 503);
    assert!(
        body.contains("[-] crd: not ready: install the CRD") && body.contains("[+] caches: ok"),
        "{body}"
    );
    health.set("crd", true);
    assert_eq!(ask(address, "GET", "/readyz").await.0, 200);
    health.set("crd", false);
    health.set("unknown", true);
    assert_eq!(ask(address, "GET", "/readyz?verbose").await.0, 503);
}

#[tokio::test]
async fn methods_and_paths() {
    let metrics = Metrics::new().unwrap();
    let address = started(Routes { health: Some(health()), metrics: Some(metrics) });
    let (status, head, body) = ask(address, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("workqueue_depth{name=\"metadataservices\"} 0"), "{body}");

    let (status, head, body) = ask(address, "HEAD", "/healthz").await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains("content-length: 3"), "{head}");

    let (status, head, _) = ask(address, "POST", "/healthz").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: get, head"), "{head}");
    for path in ["/", "/metrics/", "/debug"] {
        assert_eq!(ask(address, "GET", path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_listener_serves_only_its_own_routes() {
    let probes = started(Routes { health: Some(health()), metrics: None });
    assert_eq!(ask(probes, "GET", "/metrics").await.0, 404);
    let metrics = started(Routes { health: None, metrics: Some(Metrics::new().unwrap()) });
    assert_eq!(ask(metrics, "GET", "/healthz").await.0, 404);
}

#[tokio::test]
async fn garbage_and_silence_harm_nobody() {
    let address = started(Routes { health: Some(health()), metrics: None });
    assert!(raw(address, "\u{1}\u{2} nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let silent: Vec<_> =
        futures::future::join_all((0..MAX_CONNECTIONS / 2).map(|_| TcpStream::connect(address))).await;
    assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
    drop(silent);
}

#[tokio::test]
async fn dawdlers_are_cut_off_and_make_room() {
    let address = started(Routes { health: Some(health()), metrics: None });
    let mut sockets = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.unwrap();
        sockets.push(socket);
    }
    let begun = std::time::Instant::now();
    assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
    let waited = begun.elapsed();
    assert!(waited > HEADER_TIMEOUT / 2 && waited < HEADER_TIMEOUT * 2, "{waited:?}");
}

#[tokio::test]
async fn it_stops_when_told() {
    let server = Server::bind(([127, 0, 0, 1], 0).into(), "--flag").unwrap();
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let routes = Routes { health: Some(health()), metrics: None };
    let running = tokio::spawn(server.serve(routes, async move {
        let _ = stopped.await;
    }));
    assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
    stop.send(()).unwrap();
    running.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_reported_with_the_flag() {
    let taken = Server::bind(([127, 0, 0, 1], 0).into(), "--one").unwrap();
    let error = Server::bind(taken.local_addr(), "--two").unwrap_err().to_string();
    assert!(error.contains("--two=0") && error.contains(&taken.local_addr().to_string()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn liveness_follows_the_heartbeat() {
    let health = health();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(health.live().is_ok());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(health.live().unwrap_err().contains("61 s"));
    health.heartbeat();
    assert!(health.live().is_ok());
}

#[test]
fn no_gates_means_ready() {
    assert!(Health::new(Duration::from_secs(1), &[]).ready().is_ok());
}

#[tokio::test]
async fn an_unspecified_ipv6_address_answers_both_families() {
    let server = Server::bind(([0_u16; 8], 0).into(), "--flag").unwrap();
    let port = server.local_addr().port();
    let routes = Routes { health: Some(health()), metrics: None };
    tokio::spawn(server.serve(routes, pending()));
    assert_eq!(ask(([127, 0, 0, 1], port).into(), "GET", "/healthz").await.0, 200);
    if let Ok(loopback) = std::net::TcpListener::bind("[::1]:0") {
        drop(loopback);
        assert_eq!(ask((std::net::Ipv6Addr::LOCALHOST, port).into(), "GET", "/healthz").await.0, 200);
    }
}

#[test]
fn a_node_without_ipv6_listens_on_all_ipv4_addresses() {
    let fails = |kind: io::ErrorKind| {
        move |address: SocketAddr| {
            if address.is_ipv6() { Err(io::Error::from(kind)) } else { Ok(address.to_string()) }
        }
    };
    let all = SocketAddr::from(([0_u16; 8], 8081));
    let without = fails(io::ErrorKind::Unsupported);
    assert_eq!(listen_or_fall_back(all, without).unwrap(), "0.0.0.0:8081");
    assert!(
        listen_or_fall_back("[fd00::1]:8081".parse().unwrap(), without).is_err(),
        "an address of the user's choice"
    );
    let used = listen_or_fall_back(all, fails(io::ErrorKind::AddrInUse)).unwrap_err();
    assert_eq!(used.kind(), io::ErrorKind::AddrInUse);
}
