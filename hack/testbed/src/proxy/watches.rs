//! Watches that go wrong while they are open.

use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::watch;

use super::{Body, Cut};

/// How long a word takes to reach all open watches, amply.
pub const HEARD: Duration = Duration::from_millis(50);

/// What open watches are told. It does not concern those that are opened later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing.
    Open,
    /// The connection breaks.
    Cut,
    /// Nothing comes any more, while the connection stays.
    Silence,
    /// The API server has forgotten the place of the watch.
    Expired,
}

/// What the API server says when a watch's place is too old.
const TOO_OLD: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"too old resource version: 1 (2)","reason":"Expired","code":410}}"#,
    "\n"
);

/// What a watch says, until a word changes it.
pub fn guided(body: Body, words: watch::Receiver<Word>) -> Body {
    let stream = futures::stream::unfold(Some((body, words)), async |open| {
        let (mut body, mut words) = open?;
        tokio::select! {
            frame = body.frame() => Some((frame?, Some((body, words)))),
            Ok(()) = words.changed() => {
                let word = *words.borrow();
                match word {
                    Word::Open => Some((Ok(Frame::data(Bytes::new())), Some((body, words)))),
                    Word::Cut => Some((Err(Cut), None)),
                    Word::Silence => std::future::pending().await,
                    Word::Expired => Some((Ok(Frame::data(Bytes::from_static(TOO_OLD.as_bytes()))), None)),
                }
            }
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(stream.boxed()))
}
