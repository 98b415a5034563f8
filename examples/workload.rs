//! Simulates storage or schema: a small HTTP server that answers with its component, release and color.
//!
//! Environment variables set its identity and its behavior. The times are in seconds since the start:
//!
//! | variable | meaning |
//! |---|---|
//! | `PORT` | port of the server; default 9005 for storage, 9006 otherwise |
//! | `COMPONENT`, `RELEASE`, `COLOR`, `POD` | identity in each response, set by the downward API |
//! | `START_SECONDS` | the server does not listen before this time |
//! | `NEVER_READY` | `/readyz` returns 503 from the start |
//! | `UNREADY_SECONDS` | `/readyz` returns 503 from this time; other requests succeed |
//! | `BAD_SECONDS` | `/readyz` returns 503 and other requests return 500 from this time |
//! | `UNLIVE_SECONDS` | `/livez` returns 503 from this time; `/readyz` succeeds |
//! | `CRASH_SECONDS` | the server exits with code 1 at this time |
//! | `DRAIN_SECONDS` | time after SIGTERM in which the server still accepts connections; default 2; 0 cuts open requests |
//!
//! Paths: `/`, `/slow/MILLISECONDS`, `/stream` (a line every 100 ms until SIGTERM), `/readyz`, `/livez`. The paths
//! `/be/good`, `/be/unready`, `/be/bad`, `/be/unlive` and `/be/gone` (crash) change the behavior immediately.
//! With the argument `pause` the program only sleeps until SIGTERM, like the pause container of a Pod.

use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

/// Maximum length of a request head, in bytes.
const LONGEST: usize = 4096;

/// Time limit of open connections after the drain.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// Behavior of the server.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    Unready,
    Bad,
    Unlive,
}

struct Server {
    /// Component, release, color and Pod, separated by spaces.
    name: String,
    mood: Cell<Mood>,
    /// True after SIGTERM.
    ending: watch::Receiver<bool>,
    open: Cell<usize>,
    drain: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut told = match signal(SignalKind::terminate()) {
        Ok(told) => told,
        Err(error) => return complain(&error),
    };
    if std::env::args().nth(1).as_deref() == Some("pause") {
        told.recv().await;
        return ExitCode::SUCCESS;
    }
    let (end, ending) = watch::channel(false);
    let server = Rc::new(Server {
        name: ["COMPONENT", "RELEASE", "COLOR", "POD"].map(|name| text(name, "-")).join(" "),
        mood: Cell::new(if std::env::var_os("NEVER_READY").is_some() { Mood::Unready } else { Mood::Good }),
        ending,
        open: Cell::new(0),
        drain: Duration::from_secs(number("DRAIN_SECONDS").unwrap_or(2)),
    });
    let local = LocalSet::new();
    let work = local.run_until(async {
        tokio::select! {
            ended = serve(&server) => ended,
            () = async {
                told.recv().await;
                println!("told to end");
                end.send_replace(true);
                sleep(server.drain).await;
            } => Ok(()),
        }
    });
    if let Err(error) = work.await {
        return complain(&error);
    }
    // From here the server accepts no new connections. Open connections may finish.
    let idle = async {
        while server.open.get() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if !server.drain.is_zero() && timeout(LAST_WORDS, local.run_until(idle)).await.is_err() {
        eprintln!("ended with {} connections in use", server.open.get());
    }
    ExitCode::SUCCESS
}

fn complain(error: &io::Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn text(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Accepts connections without end.
async fn serve(server: &Rc<Server>) -> io::Result<()> {
    if let Some(seconds) = number("START_SECONDS") {
        sleep(Duration::from_secs(seconds)).await;
    }
    let port = number("PORT").unwrap_or(if server.name.starts_with("storage ") { 9005 } else { 9006 });
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    println!("{} listens on {port}", server.name);
    for (variable, mood) in
        [("UNREADY_SECONDS", Mood::Unready), ("BAD_SECONDS", Mood::Bad), ("UNLIVE_SECONDS", Mood::Unlive)]
    {
        if let Some(seconds) = number(variable) {
            let server = Rc::clone(server);
            tokio::task::spawn_local(async move {
                sleep(Duration::from_secs(seconds)).await;
                server.mood.set(mood);
            });
        }
    }
    if let Some(seconds) = number("CRASH_SECONDS") {
        tokio::task::spawn_local(async move {
            sleep(Duration::from_secs(seconds)).await;
            crash();
        });
    }
    loop {
        let (stream, _) = listener.accept().await?;
        let server = Rc::clone(server);
        server.open.set(server.open.get() + 1);
        tokio::task::spawn_local(async move {
            // A client that closes its connection during a request is no error of the server.
            let _ = converse(stream, &server).await;
            server.open.set(server.open.get() - 1);
        });
    }
}

fn crash() -> ! {
    eprintln!("crashing as told");
    std::process::exit(1)
}

/// Answers the requests of a connection in sequence.
async fn converse(mut stream: TcpStream, server: &Server) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut unread = Vec::new();
    let mut ending = server.ending.clone();
    loop {
        let request = tokio::select! {
            request = request(&mut stream, &mut unread) => request?,
            // During the drain an idle connection stays open for one more request. Its response closes the connection.
            () = async {
                let _ = ending.wait_for(|ending| *ending).await;
                sleep(server.drain).await;
            } => None,
        };
        let Some(request) = request else { return Ok(()) };
        let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
        let last = request.to_ascii_lowercase().contains("\r\nconnection: close");
        if path == "/stream" {
            return pour(&mut stream, server).await;
        }
        let (status, body) = answer(&path, server).await;
        let last = last || *server.ending.borrow();
        let connection = if last { "close" } else { "keep-alive" };
        let length = body.len();
        let whole = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: {connection}\
             \r\n\r\n{body}"
        );
        stream.write_all(whole.as_bytes()).await?;
        if last {
            return stream.shutdown().await;
        }
    }
}

/// Returns the head of the next request, or None at the end of the connection. Requests have no bodies.
async fn request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = unread.split_off(end + 4);
            let head = String::from_utf8_lossy(unread).into_owned();
            *unread = rest;
            return Ok(Some(head));
        }
        if unread.len() > LONGEST || stream.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    }
}

/// Returns the status line and the body of a response.
async fn answer(path: &str, server: &Server) -> (&'static str, String) {
    let mood = server.mood.get();
    let refuse = |refuse: bool| if refuse { "503 Service Unavailable" } else { "200 OK" };
    if let Some(milliseconds) = path.strip_prefix("/slow/") {
        sleep(Duration::from_millis(milliseconds.parse().unwrap_or(2000))).await;
    }
    if let Some(mood) = path.strip_prefix("/be/") {
        match mood {
            "good" => server.mood.set(Mood::Good),
            "unready" => server.mood.set(Mood::Unready),
            "bad" => server.mood.set(Mood::Bad),
            "unlive" => server.mood.set(Mood::Unlive),
            "gone" => crash(),
            _ => return ("404 Not Found", "no such mood\n".into()),
        }
    }
    match path {
        "/readyz" => (refuse(matches!(mood, Mood::Unready | Mood::Bad)), "ready or not\n".into()),
        "/livez" => (refuse(mood == Mood::Unlive), "alive or not\n".into()),
        _ if mood == Mood::Bad => ("500 Internal Server Error", format!("{}\n", server.name)),
        _ => ("200 OK", format!("{}\n", server.name)),
    }
}

/// Writes a line every 100 ms until SIGTERM. The last chunk marks the response as complete.
async fn pour(stream: &mut TcpStream, server: &Server) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n").await?;
    let line = format!("{}\n", server.name);
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    while !*server.ending.borrow() {
        stream.write_all(chunk.as_bytes()).await?;
        sleep(Duration::from_millis(100)).await;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    stream.shutdown().await
}
