//! A session's control stream at a hop, and the stream that takes its place when the coordinator is reached directly.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};

use crate::{
    limits::OPEN_DEADLINE,
    peer::wire::{Frame, Link, LinkError},
};

/// Most frames that wait for the new stream, which has room for them at once: switching is between two steps, when little
/// is said.
const MAX_HELD: usize = 8;

/// The stream to the coordinator.
///
/// `Switch` says that nothing more comes over the stream there is. This side then says so too, behind all that was queued,
/// and goes on with the stream that the coordinator opened.
pub(super) struct Control {
    link: Link,
    resumed: mpsc::Receiver<Link>,
    max_payload_bytes: usize,
    /// While the old stream has ended and the new one is not there: when it is too late.
    switching: Option<Pin<Box<Sleep>>>,
    held: VecDeque<Frame>,
    /// Open until the session ends: closed at once, a stream may take its last bytes with it. A stream is replaced once.
    old: Option<Link>,
}

impl Control {
    pub(super) fn new(link: Link, resumed: mpsc::Receiver<Link>) -> Self {
        Self { link, resumed, max_payload_bytes: 0, switching: None, held: VecDeque::new(), old: None }
    }

    /// As [`Link::limit_payload`].
    pub(super) fn limit_payload(&mut self, bytes: usize) {
        self.max_payload_bytes = bytes;
        self.link.limit_payload(bytes);
    }

    /// Bytes that arrived.
    pub(super) fn received_bytes(&self) -> u64 {
        self.link.received_bytes() + self.old.as_ref().map_or(0, Link::received_bytes)
    }

    /// As [`Link::has_room_to_spare`].
    pub(super) fn has_room_to_spare(&self) -> bool {
        self.switching.is_none() && self.link.has_room_to_spare()
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// As [`Link::queue`].
    pub(super) fn queue(&mut self, frame: Frame) -> Result<(), LinkError> {
        if self.switching.is_none() {
            return self.link.queue(frame);
        }
        if self.held.len() >= MAX_HELD {
            return Err(LinkError::Backlog);
        }
        self.held.push_back(frame);
        Ok(())
    }

    /// As [`Link::poll_drain`].
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.link.poll_drain(cx)
    }

    /// As [`Link::poll_next`], over one stream after the other.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, LinkError>> {
        loop {
            if self.switching.is_some() {
                ready!(self.poll_switched(cx))?;
            }
            match ready!(self.link.poll_next(cx))? {
                Frame::Switch => {
                    if self.old.is_some() {
                        return Poll::Ready(Err(LinkError::Backlog));
                    }
                    self.link.queue(Frame::Switch)?;
                    self.switching = Some(Box::pin(sleep(OPEN_DEADLINE)));
                }
                frame => return Poll::Ready(Ok(frame)),
            }
        }
    }

    /// As [`Link::recv`].
    pub(super) async fn recv(&mut self) -> Result<Frame, LinkError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Ready when the new stream is in use.
    fn poll_switched(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        ready!(self.link.poll_drain(cx))?;
        let Poll::Ready(resumed) = self.resumed.poll_recv(cx) else {
            let late = self.switching.as_mut().is_none_or(|deadline| deadline.as_mut().poll(cx).is_ready());
            return if late { Poll::Ready(Err(LinkError::Closed)) } else { Poll::Pending };
        };
        let mut link = resumed.ok_or(LinkError::Closed)?;
        link.limit_payload(self.max_payload_bytes);
        self.old = Some(std::mem::replace(&mut self.link, link));
        self.switching = None;
        for frame in self.held.drain(..) {
            self.link.queue(frame)?;
        }
        Poll::Ready(Ok(()))
    }
}
