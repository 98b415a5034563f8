//! Requests to etcd itself, through its JSON gateway on the client port.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::{Error, Result};

/// Forgets every revision before the present one: a watch that is resumed from an older one is refused.
pub(crate) async fn compact(port: u16) -> Result<u64> {
    // Any read returns the present revision.
    let answer = post(port, "/v3/kv/range", &json!({"key": "AA==", "count_only": true})).await?;
    let revision = answer.pointer("/header/revision").and_then(Value::as_str).unwrap_or_default().to_owned();
    post(port, "/v3/kv/compaction", &json!({"revision": revision, "physical": true})).await?;
    revision.parse().map_err(|_| Error::Unsupported(format!("etcd named no revision: {answer}")))
}

async fn post(port: u16, path: &str, body: &Value) -> Result<Value> {
    let trouble = |source| Error::Io { what: format!("ask etcd for {path}"), source };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(trouble)?;
    let body = body.to_string();
    // HTTP/1.0: the answer ends with the connection.
    let head = format!(
        "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.map_err(trouble)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(trouble)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if !head.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        return Err(Error::Unsupported(format!("etcd refused {path}: {answer}")));
    }
    serde_json::from_str(body)
        .map_err(|source| Error::Json { what: format!("etcd's answer to {path}"), source })
}
