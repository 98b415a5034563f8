//! Watches that go wrong while they are open.

use std::time::Duration;

use futures::StreamExt;
use http::Response;
use http::request::Parts;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::refusal;
use super::{Body, Cut, Fault, Shared, State, Target};

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
    /// Events are lost for a while.
    Deaf,
    /// The API server has forgotten the place of the watch.
    Expired,
}

/// How long events are lost.
const DEAF: Duration = Duration::from_secs(3);

/// What the API server says when a watch's place is too old.
const TOO_OLD: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"too old resource version: 1 (2)","reason":"Expired","code":410}}"#,
    "\n"
);

/// Whether a watch loses events on [`Word::Deaf`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ears {
    /// It loses none.
    Sharp,
    /// It loses them.
    Dull,
}

/// A watch that is open.
struct Open {
    body: Body,
    words: watch::Receiver<Word>,
    ears: Ears,
    /// What of an event has come so far.
    rest: Vec<u8>,
    deaf: Option<Instant>,
}

impl Open {
    /// The events that are whole now, if they are not lost.
    fn hear(&mut self, data: &[u8]) -> Bytes {
        self.rest.extend_from_slice(data);
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let lost = self.deaf.is_some_and(|until| Instant::now() < until);
        if lost { Bytes::new() } else { Bytes::from(whole) }
    }
}

/// What a watch says, until a word changes it.
pub fn guided(body: Body, words: watch::Receiver<Word>, ears: Ears) -> Body {
    let open = Open { body, words, ears, rest: vec![], deaf: None };
    let stream = futures::stream::unfold(Some(open), async |open| {
        let mut open = open?;
        tokio::select! {
            frame = open.body.frame() => {
                let said = frame?.map(|frame| Frame::data(open.hear(&frame.into_data().unwrap_or_default())));
                Some((said, Some(open)))
            }
            Ok(()) = open.words.changed() => {
                let word = *open.words.borrow();
                match word {
                    Word::Cut => Some((Err(Cut), None)),
                    Word::Silence => {
                        // It hears no further word either.
                        drop(open);
                        std::future::pending().await
                    }
                    Word::Expired => Some((Ok(Frame::data(Bytes::from_static(TOO_OLD.as_bytes()))), None)),
                    Word::Open | Word::Deaf => {
                        if word == Word::Deaf && open.ears == Ears::Dull {
                            open.deaf = Some(Instant::now() + DEAF);
                        }
                        Some((Ok(Frame::data(Bytes::new())), Some(open)))
                    }
                }
            }
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(stream.boxed()))
}

impl Shared {
    /// Opens a watch, which words are for from now on.
    pub(super) async fn watch(
        &self,
        target: Target,
        head: Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Cut> {
        let path = target.uri.split('?').next().unwrap_or_default();
        let (late, forgotten) = {
            let mut state = self.state();
            (state.stale.behind(), state.forgotten.remove(path))
        };
        if forgotten {
            return refusal(410);
        }
        tokio::time::sleep(late).await;
        let words = self.words.subscribe();
        self.state().watched.insert(path.to_owned());
        let answer = self.forward(head, body).await?;
        let ears = if path.contains("/metadataservices") { Ears::Sharp } else { Ears::Dull };
        Ok(answer.map(|body| guided(body, words, ears)))
    }

    /// Lets what is planned happen to all open watches, and gives it time to arrive.
    pub(super) async fn disturb(&self, fault: Fault) {
        let word = match fault {
            Fault::LoseEvents => Word::Deaf,
            Fault::StallWatches => Word::Silence,
            Fault::Expire => Word::Expired,
            _ => Word::Cut,
        };
        {
            let State { forgotten, watched, felt, .. } = &mut *self.state();
            if fault == Fault::Forget {
                // Each is told once that its place is too old.
                forgotten.clone_from(watched);
            }
            if self.words.receiver_count() > 0 {
                felt.insert(fault);
            }
        }
        self.words.send_replace(word);
        tokio::time::sleep(HEARD).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc::{UnboundedSender, unbounded};

    use super::*;

    /// A watch, the words for it, and what the API server says on it.
    fn open(ears: Ears) -> (watch::Sender<Word>, UnboundedSender<&'static str>, Body) {
        let (words, told) = watch::channel(Word::Open);
        let (said, come) = unbounded::<&'static str>();
        let frames = come.map(|text| Ok(Frame::data(Bytes::from(text))));
        let body = guided(BodyExt::boxed_unsync(StreamBody::new(frames.boxed())), told, ears);
        (words, said, body)
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_goes_on_breaks_falls_silent_or_is_told_that_its_place_is_too_old() {
        for (word, heard, end) in [
            (Word::Open, "a\n", "open"),
            (Word::Cut, "", "cut"),
            (Word::Silence, "", "open"),
            (Word::Expired, TOO_OLD, "ended"),
        ] {
            let (words, said, mut body) = open(Ears::Sharp);
            words.send_replace(word);
            let (mut text, mut spoke) = (String::new(), false);
            let ended = loop {
                match tokio::time::timeout(HEARD, body.frame()).await {
                    Ok(Some(Ok(frame))) => {
                        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
                    }
                    Ok(Some(Err(_))) => break "cut",
                    Ok(None) => break "ended",
                    Err(_) if !spoke => {
                        spoke = true;
                        // Nobody listens any more to a watch that is silent.
                        let _ = said.unbounded_send("a\n");
                    }
                    Err(_) => break "open",
                }
            };
            assert_eq!((text.as_str(), ended), (heard, end), "{word:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deaf_watch_loses_whole_events_only_and_goes_on() {
        for (ears, heard) in [(Ears::Sharp, "a\nb\nc\nd\n"), (Ears::Dull, "a\nd\n")] {
            let (words, said, mut body) = open(ears);
            let mut text = String::new();
            let steps = [("a\nb", None, 0), ("\nc\nd", Some(Word::Deaf), 0), ("\n", None, 4)];
            for (part, word, later) in steps {
                if let Some(word) = word {
                    words.send_replace(word);
                    hear(&mut body, &mut text).await;
                }
                tokio::time::sleep(Duration::from_secs(later)).await;
                said.unbounded_send(part).unwrap();
                hear(&mut body, &mut text).await;
            }
            assert_eq!(text, heard, "{ears:?}");
        }
    }

    async fn hear(body: &mut Body, text: &mut String) {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
}
