//! The client: new connections at a steady rate, open connections, slow requests and a stream, for both front
//! Services.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::probe::Connection;
use crate::record::{FrontService, Origin, Record, RequestKind, now};
use crate::report::Report;

/// Time between two requests of an open connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The duration of a slow answer.
const SLOW: Duration = Duration::from_secs(2);

/// Time for pending requests to finish at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(8);

/// What to ask, and how hard.
#[derive(Debug, Clone, Parser)]
#[command(about = "Asks both front Services as their clients do, and counts what fails")]
pub struct Options {
    /// Address and port of the storage Service.
    #[arg(long)]
    pub storage: SocketAddr,
    /// Address and port of the schema Service.
    #[arg(long)]
    pub schema: SocketAddr,
    /// New connections per second to each.
    #[arg(long, default_value_t = 500)]
    pub rate: u32,
    /// Connections to each that stay open and ask ten times a second.
    #[arg(long, default_value_t = 4)]
    pub kept: usize,
    /// Requests to each, one after the other, whose answer takes two seconds.
    #[arg(long, default_value_t = 2)]
    pub slow: usize,
    /// Streams from each.
    #[arg(long, default_value_t = 1)]
    pub streams: usize,
    /// How long; for ever (until SIGTERM) by default.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Write a line for each answer to this file; `-` is standard output.
    #[arg(long)]
    pub records: Option<PathBuf>,
}

struct Book {
    report: RefCell<Report>,
    out: RefCell<Option<Box<dyn Write>>>,
    ending: watch::Sender<bool>,
}

/// Sends requests until the end of the time or a signal. Pending requests may then finish.
///
/// # Errors
/// When the file of records cannot be written.
pub async fn run(options: Options) -> io::Result<Report> {
    let out: Option<Box<dyn Write>> = match &options.records {
        None => None,
        Some(path) if path.as_os_str() == "-" => Some(Box::new(io::stdout())),
        Some(path) => Some(Box::new(BufWriter::new(File::create(path)?))),
    };
    let book = Rc::new(Book {
        report: RefCell::default(),
        out: RefCell::new(out),
        ending: watch::Sender::new(false),
    });
    let local = LocalSet::new();
    local
        .run_until(async {
            start(&options, &book);
            wait_for_the_end(options.seconds).await;
            book.ending.send_replace(true);
            let deadline = Instant::now() + LAST_ANSWERS;
            while Rc::strong_count(&book) > 1 && Instant::now() < deadline {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    if let Some(out) = book.out.borrow_mut().as_mut() {
        out.flush()?;
    }
    Ok(book.report.take())
}

fn start(options: &Options, book: &Rc<Book>) {
    for (front, to) in [(FrontService::Storage, options.storage), (FrontService::Schema, options.schema)] {
        spawn_local(fresh(Rc::clone(book), front, to, options.rate));
        for _ in 0..options.kept {
            spawn_local(kept(Rc::clone(book), front, to));
        }
        for _ in 0..options.slow {
            spawn_local(slow(Rc::clone(book), front, to));
        }
        for _ in 0..options.streams {
            spawn_local(stream(Rc::clone(book), front, to));
        }
    }
}

async fn wait_for_the_end(seconds: Option<u64>) {
    let told = async |kind| match signal(kind) {
        Ok(mut told) => drop(told.recv().await),
        Err(_) => std::future::pending().await,
    };
    let over = async {
        match seconds {
            Some(seconds) => sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = told(SignalKind::terminate()) => {}
        () = told(SignalKind::interrupt()) => {}
        () = over => {}
    }
}

/// Opens a new connection for every request at a steady rate, independent of earlier requests.
async fn fresh(book: Rc<Book>, front: FrontService, to: SocketAddr, rate: u32) {
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !book.over() {
        ticks.tick().await;
        let book = Rc::clone(&book);
        spawn_local(async move {
            let start = Instant::now();
            let answer = once(to, "/", Duration::ZERO).await;
            book.enter(front, RequestKind::Fresh, start, answer);
        });
    }
}

async fn once(to: SocketAddr, path: &str, expected: Duration) -> Result<Origin, String> {
    Ok(Connection::open(to).await?.ask(path, true, expected).await?.origin)
}

/// One connection, used until the server says that an answer is the last.
async fn kept(book: Rc<Book>, front: FrontService, to: SocketAddr) {
    let mut connection = None;
    while !book.over() {
        let start = Instant::now();
        let answer = match connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::open(to).await,
        };
        let answer = match answer {
            Ok(mut open) => match open.ask("/", false, Duration::ZERO).await {
                Ok(answer) => {
                    connection = (!answer.last).then_some(open);
                    Ok(answer.origin)
                }
                Err(reason) => Err(reason),
            },
            Err(reason) => Err(reason),
        };
        book.enter(front, RequestKind::Kept, start, answer);
        sleep(PAUSE).await;
    }
}

async fn slow(book: Rc<Book>, front: FrontService, to: SocketAddr) {
    let path = format!("/slow/{}", SLOW.as_millis());
    while !book.over() {
        let start = Instant::now();
        let answer = once(to, &path, SLOW).await;
        let failed = answer.is_err();
        book.enter(front, RequestKind::Slow, start, answer);
        if failed {
            sleep(PAUSE).await;
        }
    }
}

async fn stream(book: Rc<Book>, front: FrontService, to: SocketAddr) {
    while !book.over() {
        let start = Instant::now();
        let follow = async {
            let mut open = Connection::open(to).await?;
            open.follow().await
        };
        let mut ending = book.ending.subscribe();
        let answer = tokio::select! {
            answer = follow => answer,
            // A stream never ends by itself.
            _ = ending.wait_for(|over| *over) => return,
        };
        book.enter(front, RequestKind::Stream, start, answer);
        sleep(PAUSE).await;
    }
}

impl Book {
    fn over(&self) -> bool {
        *self.ending.borrow()
    }

    fn enter(&self, front: FrontService, kind: RequestKind, start: Instant, outcome: Result<Origin, String>) {
        let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let record = Record { at: now(), front, kind, took, outcome };
        if let Some(out) = self.out.borrow_mut().as_mut() {
            // A full disk must not stop the client; the summary is complete all the same.
            let _ = writeln!(out, "{record}");
        }
        self.report.borrow_mut().add(&record);
    }
}
