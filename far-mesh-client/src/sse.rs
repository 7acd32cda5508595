//! Incremental parser of server-sent events (WHATWG HTML, section 9.2.6).
//!
//! Bytes come in pieces cut anywhere, also inside a character or between CR and LF; what comes out does not depend on
//! the cuts. Invariant: it never holds more than [`Parser::new`]'s bound of an unfinished event, and finished events
//! only until the caller has taken them.

use std::{collections::VecDeque, mem};

/// Longest event by default: far above any event of a coordinator, whose largest is the final account.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its type; empty for the usual `message`.
    pub event: String,
    /// Its `data` lines, joined by line feeds.
    pub data: String,
}

/// An event passed the bound; the stream is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream passes {limit} bytes, which no coordinator sends: check the address")]
pub struct TooLong {
    /// The bound.
    pub limit: usize,
}

/// Turns bytes into events.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    /// The line being received.
    line: Vec<u8>,
    /// The last byte was CR: a LF that follows belongs to the same line end.
    after_cr: bool,
    /// Nothing but a byte order mark can have come yet.
    first_line: bool,
    event: String,
    data: String,
    has_data: bool,
    ready: VecDeque<Message>,
}

impl Parser {
    /// A parser that refuses events of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_cr: false,
            first_line: true,
            event: String::new(),
            data: String::new(),
            has_data: false,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// [`TooLong`] when an event passes the bound.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let Some(&first) = bytes.first() {
            if mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
                return self.extend(bytes);
            };
            self.extend(&bytes[..end])?;
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line();
        }
        Ok(())
    }

    /// The oldest finished event.
    pub fn take(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let held = self.line.len().saturating_add(self.data.len()).saturating_add(self.event.len());
        if held.saturating_add(bytes.len()) > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) {
        let line = mem::take(&mut self.line);
        let mut line = line.as_slice();
        if mem::take(&mut self.first_line) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        match field {
            b"data" => {
                if mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(&String::from_utf8_lossy(value));
            }
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            // A comment (empty field), `id` and `retry` (a generation cannot be resumed), or unknown.
            _ => {}
        }
    }

    /// An event without data is no event: its type is forgotten.
    fn dispatch(&mut self) {
        let message = Message { event: mem::take(&mut self.event), data: mem::take(&mut self.data) };
        if mem::take(&mut self.has_data) {
            self.ready.push_back(message);
        }
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new(MAX_EVENT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<String> {
        let mut parser = Parser::default();
        for piece in pieces {
            parser.push(piece).unwrap();
        }
        std::iter::from_fn(|| parser.take()).map(|message| message.data).collect()
    }

    #[test]
    fn line_ends_comments_and_fields_are_those_of_the_standard() {
        assert_eq!(parse(&[b"data: a\n\ndata: b\r\n\r\ndata: c\r\r"]), ["a", "b", "c"]);
        assert_eq!(parse(&[b": keep-alive\n\n:\n\ndata:x\ndata: y\ndata\n\n"]), ["x\ny\n"]);
        assert_eq!(parse(&[b"\xef\xbb\xbfdata: bom\n\nid: 7\nretry: 1\nevent: e\n\n"]), ["bom"]);
        assert_eq!(parse(&[b"data:  two spaces\n\ndata\n\n"]), [" two spaces", ""]);
        assert!(parse(&[b"data: without its end\n"]).is_empty());
    }

    #[test]
    fn the_type_of_an_event_is_kept_and_then_forgotten() {
        let mut parser = Parser::default();
        parser.push(b"event: error\ndata: 1\n\ndata: 2\n\n").unwrap();
        assert_eq!(parser.take(), Some(Message { event: "error".into(), data: "1".into() }));
        assert_eq!(parser.take(), Some(Message { event: String::new(), data: "2".into() }));
        assert_eq!(parser.take(), None);
    }

    #[test]
    fn an_event_over_the_bound_is_refused_in_one_line_or_many() {
        let mut one = Parser::new(16);
        assert_eq!(one.push(b"data: 0123456789abcdef"), Err(TooLong { limit: 16 }));
        let mut many = Parser::new(16);
        assert_eq!((0..9).try_for_each(|_| many.push(b"data: 123\n")), Err(TooLong { limit: 16 }));
        let mut fine = Parser::new(16);
        (0..99).try_for_each(|_| fine.push(b"data: 123\n\n")).unwrap();
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            texts in prop::collection::vec("[^\r\n\u{0}]{0,20}", 0..8),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\r"]), 8),
            cuts in prop::collection::vec(1usize..7, 1..40),
        ) {
            let mut bytes = Vec::new();
            for (text, end) in texts.iter().zip(&ends) {
                bytes.extend_from_slice(format!(": c{end}data: {text}{end}{end}").as_bytes());
            }
            let mut parser = Parser::default();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                parser.push(piece).unwrap();
                rest = tail;
                if rest.is_empty() { break; }
            }
            let got: Vec<_> = std::iter::from_fn(|| parser.take()).map(|message| message.data).collect();
            prop_assert_eq!(got, texts);
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic_and_within_the_bound(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16),
        ) {
            let mut parser = Parser::new(100);
            for piece in &pieces {
                if parser.push(piece).is_err() { break; }
                while let Some(message) = parser.take() {
                    // A byte that is no UTF-8 becomes a replacement character of three bytes.
                    prop_assert!(message.data.len() <= 300);
                }
            }
        }
    }
}
