//! A generation's events as they arrive.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, stream::BoxStream};
use tokio::time::{Instant, Sleep};

use crate::{
    Error,
    schema::{Event, Payload},
    sse::Parser,
};

/// Events of one generation: tokens, then [`Event::Done`], then nothing; or an error, then nothing.
///
/// Dropping it hangs up, which cancels the session on every hop.
pub struct EventStream {
    bytes: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    parser: Parser,
    silence: Pin<Box<Sleep>>,
    idle: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// The final account came.
    Done,
    /// Nothing more is said.
    Closed,
}

impl EventStream {
    pub(crate) fn new(response: reqwest::Response, idle: Duration) -> Self {
        Self {
            bytes: response.bytes_stream().boxed(),
            parser: Parser::default(),
            silence: Box::pin(tokio::time::sleep(idle)),
            idle,
            state: State::Running,
        }
    }

    /// What an event's data means; `None` at the end of the stream.
    fn read(&mut self, data: &str) -> Option<Result<Event, Error>> {
        if data == "[DONE]" {
            let complete = self.state == State::Done;
            self.state = State::Closed;
            return (!complete).then_some(Err(Error::Truncated));
        }
        Some(match serde_json::from_str(data) {
            Ok(Payload::Token(token)) => Ok(Event::Token(token)),
            Ok(Payload::Done(done)) => {
                self.state = State::Done;
                Ok(Event::Done(done))
            }
            Ok(Payload::Error(body)) => Err(Error::Generation(body.error)),
            Err(error) => Err(Error::Protocol { reason: format!("event {:?}: {error}", head(data)) }),
        })
    }
}

/// Enough of a text to recognize it in a message.
fn head(text: &str) -> String {
    text.chars().take(120).collect()
}

impl Stream for EventStream {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.state == State::Closed {
                return Poll::Ready(None);
            }
            if let Some(message) = this.parser.take() {
                let item = this.read(&message.data);
                if matches!(item, Some(Err(_))) {
                    this.state = State::Closed;
                }
                return Poll::Ready(item);
            }
            let bytes = match this.bytes.poll_next_unpin(context) {
                Poll::Ready(bytes) => bytes,
                Poll::Pending => {
                    ready!(this.silence.poll_unpin(context));
                    this.state = State::Closed;
                    return Poll::Ready(Some(Err(Error::Timeout { after: this.idle })));
                }
            };
            let error = match bytes {
                Some(Ok(bytes)) => {
                    this.silence.as_mut().reset(Instant::now() + this.idle);
                    match this.parser.push(&bytes) {
                        Ok(()) => continue,
                        Err(error) => Some(error.into()),
                    }
                }
                Some(Err(error)) => Some(Error::Transport(error)),
                None => (this.state != State::Done).then_some(Error::Truncated),
            };
            this.state = State::Closed;
            return Poll::Ready(error.map(Err));
        }
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").field("state", &self.state).field("idle", &self.idle).finish_non_exhaustive()
    }
}
