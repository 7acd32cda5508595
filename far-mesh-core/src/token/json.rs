//! JSON as Python writes it, which is what templates were written against.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
pub(super) fn python_json<T: Serialize>(value: &T, indent: Option<usize>) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced))?,
        Some(width) => {
            let indent = vec![b' '; width];
            value.serialize(&mut Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(&indent)))?;
        }
    }
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// One line with a space after commas and colons.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        CompactFormatter.begin_object_value(writer)?;
        writer.write_all(b" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_spaced_as_python_spaces_it() {
        let value = serde_json::json!({"a": [1, "\u{e9}<\n"], "b": {}});
        assert_eq!(python_json(&value, None).unwrap(), "{\"a\": [1, \"\u{e9}<\\n\"], \"b\": {}}");
        assert_eq!(python_json(&value["a"], Some(2)).unwrap(), "[\n  1,\n  \"\u{e9}<\\n\"\n]");
    }
}
