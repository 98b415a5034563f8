//! Faults of open watches.

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

/// Time for a fault to reach all open watches.
pub const HEARD: Duration = Duration::from_millis(50);

/// A fault of the watches that are open. Later watches are not affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchFault {
    /// Nothing.
    Open,
    /// The connection breaks.
    Cut,
    /// No events arrive, while the connection stays open.
    Silence,
    /// Events are lost for a while.
    Deaf,
    /// The API server reports an expired resourceVersion.
    Expired,
}

/// Time during which events are lost.
const DEAF: Duration = Duration::from_secs(3);

/// The event of an expired resourceVersion.
const TOO_OLD: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"too old resource version: 1 (2)","reason":"Expired","code":410}}"#,
    "\n"
);

/// The events that a watch loses on [`WatchFault::Deaf`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// None.
    Nothing,
    /// All.
    Events,
}

/// An open watch.
struct Open {
    body: Body,
    watch_faults: watch::Receiver<WatchFault>,
    missing: Missing,
    /// The received part of the last event.
    rest: Vec<u8>,
    deaf: Option<Instant>,
}

impl Open {
    /// Returns the complete events, unless they are lost.
    fn receive(&mut self, data: &[u8]) -> Bytes {
        self.rest.extend_from_slice(data);
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let lost = self.deaf.is_some_and(|until| Instant::now() < until);
        if lost { Bytes::new() } else { Bytes::from(whole) }
    }
}

/// Returns the events of a watch, until a fault changes them.
pub fn guided(body: Body, watch_faults: watch::Receiver<WatchFault>, missing: Missing) -> Body {
    let open = Open { body, watch_faults, missing, rest: vec![], deaf: None };
    let stream = futures::stream::unfold(Some(open), async |open| {
        let mut open = open?;
        tokio::select! {
            frame = open.body.frame() => {
                let said = frame?.map(|frame| Frame::data(open.receive(&frame.into_data().unwrap_or_default())));
                Some((said, Some(open)))
            }
            Ok(()) = open.watch_faults.changed() => {
                let watch_fault = *open.watch_faults.borrow();
                match watch_fault {
                    WatchFault::Cut => Some((Err(Cut), None)),
                    WatchFault::Silence => {
                        // No later fault affects it.
                        drop(open);
                        std::future::pending().await
                    }
                    WatchFault::Expired => Some((Ok(Frame::data(Bytes::from_static(TOO_OLD.as_bytes()))), None)),
                    WatchFault::Open | WatchFault::Deaf => {
                        if watch_fault == WatchFault::Deaf && open.missing == Missing::Events {
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
    /// Opens a watch, which later faults affect.
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
        let watch_faults = self.watch_faults.subscribe();
        self.state().watched.insert(path.to_owned());
        let answer = self.forward(head, body).await?;
        let missing = if path.contains("/metadataservices") { Missing::Nothing } else { Missing::Events };
        Ok(answer.map(|body| guided(body, watch_faults, missing)))
    }

    /// Injects a fault into all open watches, and waits until it has reached them.
    pub(super) async fn disturb(&self, fault: Fault) {
        let watch_fault = match fault {
            Fault::LoseEvents => WatchFault::Deaf,
            Fault::StallWatches => WatchFault::Silence,
            Fault::Expire => WatchFault::Expired,
            _ => WatchFault::Cut,
        };
        {
            let State { forgotten, watched, observed, .. } = &mut *self.state();
            if fault == Fault::Forget {
                // Each watch gets one 410.
                forgotten.clone_from(watched);
            }
            if self.watch_faults.receiver_count() > 0 {
                observed.insert(fault);
            }
        }
        self.watch_faults.send_replace(watch_fault);
        tokio::time::sleep(HEARD).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc::{UnboundedSender, unbounded};

    use super::*;

    /// Returns a watch, the sender of its faults, and the sender of its events.
    fn open(missing: Missing) -> (watch::Sender<WatchFault>, UnboundedSender<&'static str>, Body) {
        let (watch_faults, told) = watch::channel(WatchFault::Open);
        let (said, come) = unbounded::<&'static str>();
        let frames = come.map(|text| Ok(Frame::data(Bytes::from(text))));
        let body = guided(BodyExt::boxed_unsync(StreamBody::new(frames.boxed())), told, missing);
        (watch_faults, said, body)
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_continues_breaks_is_silent_or_expires() {
        for (watch_fault, heard, end) in [
            (WatchFault::Open, "a\n", "open"),
            (WatchFault::Cut, "", "cut"),
            (WatchFault::Silence, "", "open"),
            (WatchFault::Expired, TOO_OLD, "ended"),
        ] {
            let (watch_faults, said, mut body) = open(Missing::Nothing);
            watch_faults.send_replace(watch_fault);
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
                        // A silent watch has no receiver.
                        let _ = said.unbounded_send("a\n");
                    }
                    Err(_) => break "open",
                }
            };
            assert_eq!((text.as_str(), ended), (heard, end), "{watch_fault:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deaf_watch_loses_whole_events_only_and_goes_on() {
        for (missing, heard) in [(Missing::Nothing, "a\nb\nc\nd\n"), (Missing::Events, "a\nd\n")] {
            let (watch_faults, said, mut body) = open(missing);
            let mut text = String::new();
            let steps = [("a\nb", None, 0), ("\nc\nd", Some(WatchFault::Deaf), 0), ("\n", None, 4)];
            for (part, watch_fault, later) in steps {
                if let Some(watch_fault) = watch_fault {
                    watch_faults.send_replace(watch_fault);
                    receive(&mut body, &mut text).await;
                }
                tokio::time::sleep(Duration::from_secs(later)).await;
                said.unbounded_send(part).unwrap();
                receive(&mut body, &mut text).await;
            }
            assert_eq!(text, heard, "{missing:?}");
        }
    }

    async fn receive(body: &mut Body, text: &mut String) {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
}
