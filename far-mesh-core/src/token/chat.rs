//! A conversation to token ids, so that nothing a user writes becomes a control token.
//!
//! The template is run twice: plainly, and with unguessable marks around what every message says. The marks tell
//! markup from text. White space at the ends of a message stays outside of its marks, since many templates trim. Where
//! the marked prompt without its marks is not the plain one, the template looks into messages (it cuts them, or
//! compares their beginnings): then the plain prompt is taken whole, if no message spells a control token.

use super::{
    template::{ChatTemplate, Message, TemplateError, now},
    tokenizer::{Piece, Tokenizer},
};

impl ChatTemplate {
    /// The ids of a conversation. Control tokens come from the template alone.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; [`TemplateError::ControlText`] where a message spells a control token and the
    /// template changes messages.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, TemplateError> {
        let now = now();
        let plain = self.render_at(messages, add_generation_prompt, now)?;
        let marks = Marks::random();
        let marked_messages: Vec<Message> = messages.iter().map(|message| marks.around(message)).collect();
        if let Ok(marked) = self.render_at(&marked_messages, add_generation_prompt, now)
            && let Some(pieces) = marks.cut(&marked)
            && spells(&pieces, &plain)
        {
            return Ok(tokenizer.encode_pieces(pieces)?);
        }
        match spelled_control(tokenizer, messages) {
            Some(text) => Err(TemplateError::ControlText { text }),
            None => Ok(tokenizer.encode(&plain, true)?),
        }
    }
}

/// Texts that nobody could have written into a message.
struct Marks {
    open: String,
    close: String,
}

impl Marks {
    fn random() -> Self {
        let secret = hex::encode(rand::random::<[u8; 16]>());
        Self { open: format!("open{secret}"), close: format!("close{secret}") }
    }

    fn around(&self, message: &Message) -> Message {
        let text = message.content.trim();
        if text.is_empty() {
            return message.clone();
        }
        let start = message.content.len() - message.content.trim_start().len();
        let (before, after) = (&message.content[..start], &message.content[start + text.len()..]);
        let content = [before, &self.open, text, &self.close, after].concat();
        Message { role: message.role.clone(), content }
    }

    /// Markup and text in turn; `None` when the marks do not come in pairs.
    fn cut<'a>(&self, marked: &'a str) -> Option<Vec<Piece<'a>>> {
        let (mut pieces, mut rest) = (Vec::new(), marked);
        while let Some((markup, after)) = rest.split_once(&self.open) {
            let (text, after) = after.split_once(&self.close)?;
            pieces.extend([Piece::Markup(markup), Piece::Text(text)]);
            rest = after;
        }
        pieces.push(Piece::Markup(rest));
        let marked =
            |piece: &Piece<'_>| [&self.open, &self.close].iter().any(|mark| piece.as_str().contains(mark.as_str()));
        (!pieces.iter().any(marked)).then_some(pieces)
    }
}

/// Whether `pieces` make up `whole`.
fn spells(pieces: &[Piece<'_>], whole: &str) -> bool {
    let rest = pieces.iter().try_fold(whole, |rest, piece| rest.strip_prefix(piece.as_str()));
    rest == Some("")
}

/// A control token spelled by a message, or by messages put end to end.
fn spelled_control(tokenizer: &Tokenizer, messages: &[Message]) -> Option<String> {
    let whole: String = messages.iter().map(|message| message.content.as_str()).collect();
    let trimmed: String = messages.iter().map(|message| message.content.trim()).collect();
    [whole, trimmed].iter().find_map(|text| tokenizer.spelled_control(text).map(str::to_owned))
}
