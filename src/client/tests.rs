use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response, header::DATE};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{ListParams, WatchParams},
};
use tower::{Layer as _, Service as _};

use super::*;

/// An HTTP server on loopback that answers 404 and notes the user agents it saw.
async fn server() -> (Config, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let notes = seen.clone();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let notes = notes.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let agent = request.headers().get(USER_AGENT).unwrap().to_str().unwrap().to_owned();
                notes.lock().unwrap().push(agent);
                let body = r#"{"kind":"Status","status":"Failure","reason":"NotFound","code":404}"#;
                let response = Response::builder()
                    .status(404)
                    .header(DATE, "Thu, 01 Jan 2026 00:00:10 GMT")
                    .body(Full::new(Bytes::from_static(body.as_bytes())));
                async { Ok::<_, Infallible>(response.unwrap()) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    (Config::new(format!("http://{address}").parse().unwrap()), seen)
}

#[tokio::test]
async fn answers_feed_the_clock_and_are_counted_and_the_operator_names_itself() {
    let (config, agents) = server().await;
    let (clock, metrics) = (ServerClock::new(), Metrics::new().unwrap());
    let work = work_client(&config, &clock, &metrics, Duration::from_secs(4)).unwrap();
    let lease = lease_client(&config, &clock, &metrics).unwrap();
    assert!(clock.now().is_none());
    for client in [work, lease] {
        let pods: Api<Pod> = Api::namespaced(client, "team");
        assert!(matches!(pods.get("x").await, Err(kube::Error::Api(status)) if status.is_not_found()));
    }
    assert!(clock.now().is_some());
    let text = metrics.render().unwrap();
    assert!(text.contains(r#"rest_client_requests_total{code="404",method="GET"} 2"#), "{text}");
    assert_eq!(*agents.lock().unwrap(), [AGENT, AGENT]);
}

#[tokio::test]
async fn a_client_for_tls_can_be_built_with_the_compiled_in_provider() {
    let config = Config::new("https://127.0.0.1:1".parse().unwrap());
    let client = lease_client(&config, &ServerClock::new(), &Metrics::new().unwrap()).unwrap();
    let pods: Api<Pod> = Api::namespaced(client, "team");
    assert!(pods.get("x").await.is_err());
}

#[test]
fn preparing_turns_retries_off_and_sets_one_user_agent() {
    let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
    config.headers.push((USER_AGENT, HeaderValue::from_static("other")));
    let config = prepared(prepared(config));
    assert!(!config.default_retry);
    assert_eq!(config.headers, [(USER_AGENT, HeaderValue::from_static(AGENT))]);
    assert_eq!(config.connect_timeout, Some(Duration::from_secs(5)));
}

/// A client whose server never answers.
fn black_hole(metrics: &Metrics) -> Client {
    let inner = tower::service_fn(|_: Request<kube::client::Body>| {
        futures::future::pending::<Result<Response<Full<Bytes>>, tower::BoxError>>()
    });
    let counted = RequestCountLayer::new(metrics.clone()).layer(inner);
    Client::new(DeadlineLayer::new(Duration::from_secs(4)).layer(counted), "default")
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_request_ends_at_its_deadline_and_is_counted() {
    let metrics = Metrics::new().unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(black_hole(&metrics), "team");
    let start = tokio::time::Instant::now();
    let error = maps.get("front").await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 4);
    let kube::Error::Service(inner) = &error else { panic!("{error}") };
    let late = inner.downcast_ref::<DeadlineExceeded>().unwrap();
    assert_eq!(late.path, "/api/v1/namespaces/team/configmaps/front");
    assert!(error.to_string().contains("not answered within 4 s"), "{error}");

    let start = tokio::time::Instant::now();
    assert!(maps.list(&ListParams::default()).await.is_err());
    assert_eq!(start.elapsed(), DeadlineLayer::LIST);
    let start = tokio::time::Instant::now();
    assert!(maps.watch(&WatchParams::default(), "0").await.is_err());
    assert_eq!(start.elapsed(), DeadlineLayer::LIST);

    let text = metrics.render().unwrap();
    assert!(text.contains(r#"rest_client_requests_total{code="<error>",method="GET"} 3"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_bounded_too_but_a_watch_may_last() {
    let stalled = || {
        let chunks = futures::stream::pending::<Result<hyper::body::Frame<Bytes>, Infallible>>();
        Response::new(http_body_util::StreamBody::new(chunks))
    };
    let inner = tower::service_fn(move |_: Request<()>| async move { Ok::<_, Infallible>(stalled()) });
    let mut service = DeadlineLayer::new(Duration::from_secs(4)).layer(inner);
    let error = service.call(Request::new(())).await.err().unwrap();
    assert!(error.is::<DeadlineExceeded>());
    let mut watch = Request::new(());
    watch.extensions_mut().insert("watch");
    assert!(service.call(watch).await.is_ok());
}

/// The body is the one of API Priority and Fairness. Other answers stay unchanged.
#[tokio::test]
async fn retry_after_is_in_the_error() {
    let answer = |code: u16, header: Option<&'static str>| {
        let service = tower::service_fn(move |_: Request<()>| async move {
            let mut response = Response::builder().status(code);
            if let Some(seconds) = header {
                response = response.header("Retry-After", seconds);
            }
            let body = Full::new(Bytes::from_static(b"Too many requests, please try again later."));
            Ok::<_, Infallible>(response.body(body).unwrap())
        });
        async move {
            let mut service = RetryAfterLayer.layer(service);
            let answer = service.call(Request::new(())).await.unwrap();
            http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes()
        }
    };
    let status: kube::core::Status = serde_json::from_slice(&answer(429, Some("7")).await).unwrap();
    assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, 7));
    for (code, header) in [(429, None), (429, Some("soon")), (503, Some("7")), (200, Some("7"))] {
        assert!(answer(code, header).await.starts_with(b"Too many"), "{code} {header:?}");
    }
}
