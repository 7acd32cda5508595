//! Stop texts: the output ends before the first of them, however tokens cut it.

use super::GenerateError;

/// Most stop texts of a request (OpenAI takes 4).
pub const MAX_STOPS: usize = 16;

/// Longest stop text. As many bytes of output may be held back.
pub const MAX_STOP_BYTES: usize = 256;

/// Lets text through until a stop text ends; holds back what may be the start of one.
///
/// The stop text that ends first wins, of those that end together the longest: so the result does not depend on how
/// the text is cut into pieces. Each is followed by the automaton of Knuth, Morris and Pratt (1977), a few steps a
/// byte.
///
/// Invariant: `held` is the longest suffix of the text so far that is a beginning of a stop text. It starts at a
/// character's first byte, since stop texts do.
#[derive(Debug)]
pub struct StopSplitter {
    stops: Vec<Stop>,
    held: String,
    stopped: bool,
}

#[derive(Debug)]
struct Stop {
    text: Box<[u8]>,
    /// For each length matched, the longest shorter match that it ends with.
    shorter: Box<[usize]>,
    matched: usize,
}

impl StopSplitter {
    /// A splitter at the start of an output.
    ///
    /// # Errors
    /// [`GenerateError::Parameter`] when there are too many stop texts, or one is empty or too long.
    pub fn new(stops: &[String]) -> Result<Self, GenerateError> {
        let refuse = |value: String| GenerateError::Parameter {
            name: "stop",
            value,
            range: "at most 16 texts of 1 to 256 bytes",
        };
        if stops.len() > MAX_STOPS {
            return Err(refuse(format!("{} texts", stops.len())));
        }
        if let Some(stop) = stops.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
            return Err(refuse(format!("a text of {} bytes", stop.len())));
        }
        Ok(Self { stops: stops.iter().map(|stop| Stop::new(stop)).collect(), held: String::new(), stopped: false })
    }

    /// Takes a piece of the output and appends to `out` what is certain. True when a stop text was found: the output
    /// has ended, what comes after is dropped.
    pub fn push(&mut self, piece: &str, out: &mut String) -> bool {
        if self.stopped {
            return true;
        }
        if self.stops.is_empty() {
            out.push_str(piece);
            return false;
        }
        let before = self.held.len();
        self.held.push_str(piece);
        for at in before..self.held.len() {
            let byte = self.held.as_bytes()[at];
            let found = self.stops.iter_mut().filter_map(|stop| stop.step(byte).then_some(stop.text.len())).max();
            if let Some(length) = found {
                out.push_str(&self.held[..at + 1 - length]);
                self.held.clear();
                self.stopped = true;
                return true;
            }
        }
        let hold = self.stops.iter().map(|stop| stop.matched).max().unwrap_or_default();
        out.extend(self.held.drain(..self.held.len() - hold));
        false
    }

    /// Appends what was held back: the output has ended without a stop text.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
        for stop in &mut self.stops {
            stop.matched = 0;
        }
    }
}

impl Stop {
    fn new(text: &str) -> Self {
        let text: Box<[u8]> = text.as_bytes().into();
        let mut shorter = vec![0; text.len() + 1];
        let mut length = 0;
        for end in 1..text.len() {
            while length > 0 && text[end] != text[length] {
                length = shorter[length];
            }
            length += usize::from(text[end] == text[length]);
            shorter[end + 1] = length;
        }
        Self { text, shorter: shorter.into(), matched: 0 }
    }

    /// Whether the stop text ends with this byte.
    fn step(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.shorter[self.matched];
        }
        self.matched += usize::from(self.text[self.matched] == byte);
        self.matched == self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(stops: &[&str], pieces: &[&str]) -> (Vec<String>, String, bool) {
        let mut splitter = StopSplitter::new(&stops.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap();
        let (mut outs, mut stopped) = (Vec::new(), false);
        for piece in pieces {
            let mut out = String::new();
            stopped |= splitter.push(piece, &mut out);
            outs.push(out);
        }
        let mut tail = String::new();
        splitter.finish(&mut tail);
        (outs, tail, stopped)
    }

    #[test]
    fn a_stop_text_across_pieces_ends_the_output() {
        let (outs, tail, stopped) = split(&["\n\nUser:"], &["Hi.\n", "\nUs", "er", ": no"]);
        assert_eq!((outs.concat().as_str(), tail.as_str(), stopped), ("Hi.", "", true));
        let (outs, tail, stopped) = split(&["\n\nUser:"], &["Hi.\n", "\nUs", "eless"]);
        assert_eq!(outs, ["Hi.", "", "\n\nUseless"]);
        assert_eq!((tail.as_str(), stopped), ("", false));
        let (outs, tail, _) = split(&["stop"], &["sto"]);
        assert_eq!((outs.concat().as_str(), tail.as_str()), ("", "sto"), "it never came");
    }

    #[test]
    fn overlaps_and_wide_characters_are_followed() {
        assert_eq!(split(&["aab"], &["a", "a", "a", "b", "c"]).0.concat(), "a");
        assert_eq!(split(&["\u{4f60}\u{597d}"], &["x\u{4f60}", "\u{4f60}", "\u{597d}"]).0, ["x", "\u{4f60}", ""]);
        assert_eq!(split(&["abcd", "c"], &["abcd"]).0.concat(), "ab", "the first to end wins");
        assert_eq!(split(&["c", "bc"], &["abc"]).0.concat(), "a", "of those that end together the longest");
    }

    #[test]
    fn stop_texts_are_bounded() {
        assert!(StopSplitter::new(&vec!["x".to_owned(); MAX_STOPS + 1]).is_err());
        assert!(StopSplitter::new(&[String::new()]).is_err());
        assert!(StopSplitter::new(&["x".repeat(MAX_STOP_BYTES + 1)]).is_err());
        assert!(StopSplitter::new(&vec!["x".repeat(MAX_STOP_BYTES); MAX_STOPS]).is_ok());
    }

    proptest! {
        #[test]
        fn no_stop_text_is_let_through_and_no_other_text_is_lost(
            stops in prop::collection::vec("[ab\u{e9}]{1,4}", 0..4),
            pieces in prop::collection::vec("[ab\u{e9}c]{0,5}", 0..12),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (outs, tail, stopped) = split(&stops, &pieces);
            let (text, emitted) = (pieces.concat(), outs.concat() + &tail);
            // The stop text that ends first, of those the longest, found by looking everywhere.
            let first = (0..=text.len())
                .find_map(|end| {
                    let ending = stops.iter().filter(|stop| text.as_bytes()[..end].ends_with(stop.as_bytes()));
                    ending.map(|stop| end - stop.len()).min()
                });
            prop_assert_eq!(stopped, first.is_some());
            prop_assert_eq!(&emitted, &text[..first.unwrap_or(text.len())]);
            prop_assert!(stops.iter().all(|stop| !emitted.contains(stop)));
            // Nothing is held that could not become a stop text.
            prop_assert!(stopped || tail.is_empty() || stops.iter().any(|stop| stop.starts_with(tail.as_str())));
        }
    }
}
