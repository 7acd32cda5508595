//! What a link has to send: small frames go out together, large payloads as they are.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::peer::wire::HEADER_BYTES;

/// Frames up to this size are copied behind their header, and behind each other, into one write.
const COALESCE_BYTES: usize = 64 * 1024;

/// What is to be sent.
#[derive(Default)]
pub(super) struct WriteState {
    pub(super) queue: VecDeque<([u8; HEADER_BYTES], Bytes)>,
    /// Headers and small payloads in a row; `written` of them are gone.
    buffer: Vec<u8>,
    written: usize,
    /// Rest of a large payload, sent after `buffer`.
    rest: Bytes,
    pub(super) flushed: bool,
    pub(super) total_bytes: u64,
}

impl WriteState {
    pub(super) fn new() -> Self {
        Self { flushed: true, ..Self::default() }
    }

    /// Moves queued frames into the buffer until it is full or a large payload must go first.
    pub(super) fn fill(&mut self) {
        if !self.unsent().is_empty() {
            return;
        }
        self.buffer.clear();
        self.written = 0;
        while self.rest.is_empty() && self.buffer.len() < COALESCE_BYTES {
            let Some((header, mut payload)) = self.queue.pop_front() else { break };
            self.buffer.extend_from_slice(&header);
            let beside = payload.len().min(COALESCE_BYTES.saturating_sub(self.buffer.len()));
            self.buffer.extend_from_slice(&payload.split_to(beside));
            self.rest = payload;
            self.flushed = false;
        }
    }

    pub(super) fn unsent(&self) -> &[u8] {
        match &self.buffer[self.written..] {
            [] => &self.rest,
            unsent => unsent,
        }
    }

    pub(super) fn advance(&mut self, sent: usize) {
        self.total_bytes += sent as u64;
        if self.written < self.buffer.len() {
            self.written += sent;
        } else {
            self.rest.advance(sent);
        }
    }
}
