//! The requests of the client. A hand-written HTTP client reports every failure and needs little CPU.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::record::Origin;

/// Time limit of a request, in addition to its expected duration.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection, and received bytes after the last answer.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer: who gave it, and whether the server will close the connection.
pub(crate) struct Answer {
    pub origin: Origin,
    pub last: bool,
}

impl Connection {
    pub async fn open(to: SocketAddr) -> Result<Self, String> {
        let stream = timed("connect", PATIENCE, TcpStream::connect(to)).await?;
        stream.set_nodelay(true).map_err(|error| format!("connect: {error}"))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Asks for `path` and reads the whole answer, which takes `expected` at least.
    pub async fn ask(&mut self, path: &str, last: bool, expected: Duration) -> Result<Answer, String> {
        self.send(path, last).await?;
        let head = timed("read", PATIENCE + expected, self.head()).await?;
        let length = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let body = timed("read", PATIENCE, self.body(length)).await?;
        let status = head.split(' ').nth(1).unwrap_or("");
        if status != "200" {
            return Err(format!("status {status} from {}", body.trim()));
        }
        let origin = body.parse::<Origin>().map_err(|error| error.to_string())?;
        Ok(Answer { origin, last: header(&head, "connection") == Some("close") })
    }

    /// Reads a stream to its end; each line must come within the patience, and the end must be said.
    pub async fn follow(&mut self) -> Result<Origin, String> {
        self.send("/stream", true).await?;
        timed("read", PATIENCE, self.head()).await?;
        let mut newest = None;
        loop {
            let size = timed("stream", PATIENCE, self.line()).await?;
            let size =
                usize::from_str_radix(size.trim(), 16).map_err(|_| format!("stream: bad chunk {size}"))?;
            let chunk = timed("stream", PATIENCE, self.body(size + 2)).await?;
            if size == 0 {
                return newest.ok_or_else(|| "stream: ended without a line".to_owned());
            }
            newest = Some(chunk.parse::<Origin>().map_err(|error| error.to_string())?);
        }
    }

    async fn send(&mut self, path: &str, last: bool) -> Result<(), String> {
        let connection = if last { "close" } else { "keep-alive" };
        let request = format!("GET {path} HTTP/1.1\r\nhost: front\r\nconnection: {connection}\r\n\r\n");
        timed("write", PATIENCE, self.stream.write_all(request.as_bytes())).await
    }

    async fn head(&mut self) -> io::Result<String> {
        self.until(b"\r\n\r\n").await
    }

    async fn line(&mut self) -> io::Result<String> {
        self.until(b"\r\n").await
    }

    async fn until(&mut self, mark: &[u8]) -> io::Result<String> {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|window| window == mark) {
                return Ok(self.take(at + mark.len()));
            }
            self.more().await?;
        }
    }

    async fn body(&mut self, length: usize) -> io::Result<String> {
        while self.unread.len() < length {
            self.more().await?;
        }
        Ok(self.take(length))
    }

    fn take(&mut self, length: usize) -> String {
        let rest = self.unread.split_off(length);
        let taken = std::mem::replace(&mut self.unread, rest);
        String::from_utf8_lossy(&taken).into_owned()
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.unread).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed in mid-answer"));
        }
        Ok(())
    }
}

/// The value of a header; names are in lower case here.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

async fn timed<T>(
    what: &str,
    patience: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, String> {
    match timeout(patience, work).await {
        Ok(done) => done.map_err(|error| format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: nothing for {} s", patience.as_secs())),
    }
}
