//! One stream of the shard protocol with its read and write state.
//!
//! A link belongs to the one task that drives its session, which polls reading and writing side by side: there is no
//! reader or writer task and no queue between tasks, so a step costs one wake-up a hop. Both directions always make
//! progress, so two nodes that send to each other at once never wait for each other.
//!
//! Invariant: every method is cancel-safe, for all progress is kept in the link. What is queued is bounded.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use self::write::WriteState;
use super::{
    BoxedStream, Meter,
    frame::Frame,
    header::{FrameError, HEADER_BYTES, Header, LENGTH_BYTES, session_tag},
};
use crate::{
    id::SessionId,
    limits::{MAX_CONTROL_BYTES, MAX_FRAME_BYTES, MAX_STEPS_IN_FLIGHT},
    peer::quota::Verdict,
};

mod write;

/// Bytes read at once: a decode step of a small model is one read.
const READ_BYTES: usize = 16 * 1024;

/// Room made for a payload before its bytes arrive; more follows as it fills, so announcing is not enough to take memory.
const TRUST_BYTES: usize = 64 * 1024;

/// Most frames queued on a link: a full window of steps, some receipts and a few control frames.
const MAX_QUEUED_FRAMES: usize = MAX_STEPS_IN_FLIGHT + MAX_SPARE_FRAMES + 8;

/// Receipts queued behind each other: they never take the room of a step, an output or an answer.
const MAX_SPARE_FRAMES: usize = 4;

/// Frames taken in a row before a link makes way for what else its task has to do: a node that sends without pause would
/// otherwise keep the task from its deadlines, and other tasks from the thread.
const MAX_BURST: usize = 2 * MAX_QUEUED_FRAMES;

/// A stream that speaks frames.
pub struct Link {
    stream: BoxedStream,
    /// Tag of the session; `None` until the greeting of an accepted stream names it.
    session: Option<u64>,
    /// Longest payload that is read.
    max_payload_bytes: usize,
    /// Frames taken since there was none.
    burst: usize,
    /// Of who opened the stream, where this node accepted it.
    meter: Option<Arc<Meter>>,
    /// Nothing is read before its end.
    pause: Option<Pin<Box<Sleep>>>,
    read: ReadState,
    write: WriteState,
}

struct ReadState {
    buffer: Box<[u8]>,
    filled: usize,
    taken: usize,
    header: Option<Header>,
    /// Grows ahead of its bytes, of which `arrived` are there.
    payload: Vec<u8>,
    arrived: usize,
    total_bytes: u64,
}

/// A link is of no more use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The other side closed the stream between two frames.
    #[error("the stream was closed")]
    Closed,
    /// The other side closed the stream within a frame.
    #[error("the stream ended {missing_bytes} bytes before the end of a frame")]
    Truncated {
        /// Bytes that were still to come.
        missing_bytes: usize,
    },
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    /// The other side sent what is not a frame, or none that belongs here.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The other side makes more answers due than it reads.
    #[error("{MAX_QUEUED_FRAMES} frames wait to be read by the other side")]
    Backlog,
    /// The other side sends more than it may, and does not stop when it is read later.
    #[error("more frames or bytes came than a node may send, for a long time and on all its streams together")]
    TooFast,
}

impl Link {
    /// A stream this node opened for `session`.
    pub fn new(stream: BoxedStream, session: SessionId) -> Self {
        Self::with(stream, Some(session_tag(session)), MAX_FRAME_BYTES)
    }

    /// A stream this node accepted: its first frame must be a greeting, which binds the link to its session. It reads no
    /// frame longer than a control frame until [`Link::limit_payload`] says how long its steps may be.
    pub fn accepted(stream: BoxedStream) -> Self {
        Self::with(stream, None, MAX_CONTROL_BYTES)
    }

    fn with(stream: BoxedStream, session: Option<u64>, max_payload_bytes: usize) -> Self {
        let read = ReadState {
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            filled: 0,
            taken: 0,
            header: None,
            payload: Vec::new(),
            arrived: 0,
            total_bytes: 0,
        };
        let write = WriteState::new();
        Self { stream, session, max_payload_bytes, burst: 0, meter: None, pause: None, read, write }
    }

    /// Reads no faster than the meter of who opened the stream allows.
    #[must_use]
    pub(crate) fn metered(mut self, meter: Arc<Meter>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Refuses frames with a longer payload as soon as their header is there; control frames always fit.
    pub fn limit_payload(&mut self, bytes: usize) {
        self.max_payload_bytes = bytes.max(MAX_CONTROL_BYTES);
    }

    /// Bytes that arrived so far.
    pub fn received_bytes(&self) -> u64 {
        self.read.total_bytes
    }

    /// Bytes that moved so far, both ways: while they grow, the stream lives.
    pub fn moved_bytes(&self) -> u64 {
        self.read.total_bytes + self.write.total_bytes
    }

    /// Whether another frame may be queued.
    pub fn has_room(&self) -> bool {
        self.write.queue.len() < MAX_QUEUED_FRAMES
    }

    /// Whether what can wait may be queued: it leaves room for a full window of steps and for answers.
    pub fn has_room_to_spare(&self) -> bool {
        self.write.queue.len() < MAX_SPARE_FRAMES
    }

    /// Whether all that was queued is with the stream.
    pub fn is_drained(&self) -> bool {
        self.write.queue.is_empty() && self.write.unsent().is_empty()
    }

    /// Queues a frame; [`Link::poll_drain`] sends it.
    ///
    /// # Errors
    /// [`LinkError::Backlog`] when too many wait already, [`LinkError::Frame`] when the frame is beyond a limit.
    pub fn queue(&mut self, frame: Frame) -> Result<(), LinkError> {
        if !self.has_room() {
            return Err(LinkError::Backlog);
        }
        let encoded = frame.encode(self.session.unwrap_or_default())?;
        self.write.queue.push_back(encoded);
        Ok(())
    }

    /// Sends what is queued and flushes it.
    ///
    /// # Errors
    /// [`LinkError::Io`] when the stream fails.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let Self { stream, write, .. } = self;
        loop {
            write.fill();
            let unsent = write.unsent();
            if unsent.is_empty() {
                if !write.flushed {
                    ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                    write.flushed = true;
                }
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut *stream).poll_write(cx, unsent))? {
                0 => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                sent => write.advance(sent),
            }
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`LinkError::Closed`] at the end, [`LinkError::Frame`] when what came is not a frame of this session,
    /// [`LinkError::TooFast`] when too much came.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, LinkError>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let header = match self.read.header {
            Some(header) => header,
            None => {
                let bytes = ready!(self.poll_header(cx))?;
                let header = Header::parse(&bytes)?;
                match self.session {
                    Some(want) if want != header.session => {
                        return Poll::Ready(Err(FrameError::Session { got: header.session, want }.into()));
                    }
                    None if !header.is_greeting() => {
                        return Poll::Ready(Err(unexpected(&header, "Open, Attach or Resume")));
                    }
                    _ => {}
                }
                self.check_length(&header)?;
                self.read.header = Some(header);
                header
            }
        };
        ready!(self.poll_payload(cx, header.payload_bytes))?;
        self.read.header = None;
        self.count(HEADER_BYTES + header.payload_bytes)?;
        let frame = Frame::decode(&header, std::mem::take(&mut self.read.payload).into())?;
        if let Frame::Open(_) | Frame::Attach(_) | Frame::Resume(_) = frame {
            self.bind(&frame, &header)?;
        }
        Poll::Ready(Ok(frame))
    }

    /// Sends what is queued, then reads the next frame: call it until it is pending and both directions progress.
    ///
    /// While a full queue waits to be sent nothing is read, so a node that asks without reading answers stops itself.
    /// After many frames in a row it is pending once although more have come, and wakes its task at once.
    ///
    /// # Errors
    /// As [`Link::poll_frame`] and [`Link::poll_drain`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, LinkError>> {
        if self.burst >= MAX_BURST {
            self.burst = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if !self.has_room() => Poll::Pending,
            _ => self.poll_frame(cx),
        };
        self.burst = if next.is_ready() { self.burst + 1 } else { 0 };
        next
    }

    /// Queues a frame and sends it.
    ///
    /// # Errors
    /// As [`Link::queue`] and [`Link::poll_drain`].
    pub async fn send(&mut self, frame: Frame) -> Result<(), LinkError> {
        self.queue(frame)?;
        poll_fn(|cx| self.poll_drain(cx)).await
    }

    /// Waits for the next frame, sending meanwhile what is queued.
    ///
    /// # Errors
    /// As [`Link::poll_next`].
    pub async fn recv(&mut self) -> Result<Frame, LinkError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// A frame has arrived: the next may have to wait.
    fn count(&mut self, bytes: usize) -> Result<(), LinkError> {
        let Some(meter) = &self.meter else { return Ok(()) };
        match meter.count(bytes, Instant::now().into_std()) {
            Verdict::Now => Ok(()),
            Verdict::After(pause) => {
                self.pause = Some(Box::pin(sleep(pause)));
                Ok(())
            }
            Verdict::TooFast => Err(LinkError::TooFast),
        }
    }

    /// A greeting names its session twice, in the header and whole in the body: both must agree, and only once.
    fn bind(&mut self, frame: &Frame, header: &Header) -> Result<(), LinkError> {
        let named = match frame {
            Frame::Open(open) => session_tag(open.session),
            Frame::Attach(attach) | Frame::Resume(attach) => session_tag(attach.session),
            _ => return Ok(()),
        };
        if named != header.session {
            return Err(FrameError::Session { got: header.session, want: named }.into());
        }
        if self.session.replace(named).is_some() {
            return Err(unexpected(header, "any other frame"));
        }
        Ok(())
    }

    /// What the shape allows may still be more than this stream has a use for.
    fn check_length(&self, header: &Header) -> Result<(), FrameError> {
        if header.payload_bytes <= self.max_payload_bytes {
            return Ok(());
        }
        let of = |payload_bytes| HEADER_BYTES - LENGTH_BYTES + payload_bytes;
        Err(FrameError::Length { got: of(header.payload_bytes), min: of(0), max: of(self.max_payload_bytes) })
    }

    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<Result<[u8; HEADER_BYTES], LinkError>> {
        let read = &mut self.read;
        while read.filled - read.taken < HEADER_BYTES {
            read.buffer.copy_within(read.taken..read.filled, 0);
            (read.filled, read.taken) = (read.filled - read.taken, 0);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read.buffer[read.filled..]))? {
                0 if read.filled == 0 => return Poll::Ready(Err(LinkError::Closed)),
                0 => return Poll::Ready(Err(LinkError::Truncated { missing_bytes: HEADER_BYTES - read.filled })),
                got => {
                    read.filled += got;
                    read.total_bytes += got as u64;
                }
            }
        }
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&read.buffer[read.taken..read.taken + HEADER_BYTES]);
        read.taken += HEADER_BYTES;
        Poll::Ready(Ok(bytes))
    }

    /// Fills `payload` to `bytes`: from the buffer first, then straight from the stream.
    fn poll_payload(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), LinkError>> {
        let read = &mut self.read;
        if read.payload.is_empty() {
            read.payload.reserve_exact(bytes.min(TRUST_BYTES));
            let buffered = (read.filled - read.taken).min(bytes);
            read.payload.extend_from_slice(&read.buffer[read.taken..read.taken + buffered]);
            read.taken += buffered;
            read.arrived = buffered;
        }
        while read.arrived < bytes {
            if read.arrived == read.payload.len() {
                let room = bytes.min((read.arrived * 2).max(TRUST_BYTES));
                read.payload.reserve_exact(room - read.arrived);
                read.payload.resize(room, 0);
            }
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read.payload[read.arrived..]))? {
                0 => return Poll::Ready(Err(LinkError::Truncated { missing_bytes: bytes - read.arrived })),
                got => {
                    read.arrived += got;
                    read.total_bytes += got as u64;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("session", &self.session)
            .field("received_bytes", &self.read.total_bytes)
            .field("queued", &self.write.queue.len())
            .finish_non_exhaustive()
    }
}

fn unexpected(header: &Header, want: &'static str) -> LinkError {
    FrameError::Unexpected { got: header.kind, want }.into()
}

#[cfg(test)]
mod tests;
