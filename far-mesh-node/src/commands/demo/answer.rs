//! The answer as it comes: text in a column, what it has cost so far beside every line.

use std::time::{Duration, Instant};

use far_mesh_client::{
    Client,
    schema::{Done, Event, GenerateRequest, Token},
};
use futures::StreamExt;

use crate::commands::{CommandError, print};

/// Characters of a line of text; with the cost beside it a line fits a terminal of 100.
const WIDTH: usize = 80;

/// What came back for a question.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) done: Done,
    pub(super) time_to_first_token: Duration,
    /// From the first token to the end.
    pub(super) decode: Duration,
}

/// Asks a coordinator and hears each token.
pub(super) async fn ask(
    http: &str,
    question: &str,
    max_tokens: u32,
    hear: &mut (dyn FnMut(&Token) -> Result<(), CommandError> + Send),
) -> Result<Answer, CommandError> {
    let request = GenerateRequest {
        prompt: Some(question.to_owned()),
        max_tokens: Some(max_tokens.into()),
        temperature: Some(0.0),
        ..GenerateRequest::default()
    };
    let started = Instant::now();
    let mut events = Client::new(http)?.chat(&request).await?;
    let mut text = String::new();
    let mut first = None;
    while let Some(event) = events.next().await {
        match event? {
            Event::Token(token) => {
                first.get_or_insert_with(Instant::now);
                text.push_str(&token.token);
                hear(&token)?;
            }
            Event::Done(done) => {
                let first = first.unwrap_or_else(Instant::now);
                return Ok(Answer { text, done, time_to_first_token: first - started, decode: first.elapsed() });
            }
        }
    }
    Err(far_mesh_client::Error::Truncated.into())
}

/// Wraps text at words and ends each line with the running cost.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// Characters on the line so far.
    used: usize,
    /// The end of a word may be still to come.
    word: String,
    cost: String,
}

impl Column {
    pub(super) fn token(&mut self, token: &Token) -> Result<(), CommandError> {
        let line = self.push(&token.token);
        self.cost.clone_from(&token.cost_far);
        print(&line)
    }

    pub(super) fn end(&mut self) -> Result<(), CommandError> {
        let mut line = self.flush_word();
        line.push_str(&self.end_line());
        print(&line)
    }

    fn push(&mut self, text: &str) -> String {
        let mut out = String::new();
        for character in text.chars() {
            if character == '\n' {
                out.push_str(&self.flush_word());
                out.push_str(&self.end_line());
            } else if character == ' ' {
                out.push_str(&self.flush_word());
                if self.used > 0 {
                    self.word.push(' ');
                }
            } else {
                self.word.push(character);
            }
        }
        out
    }

    /// What is to be written of the word that is complete now.
    fn flush_word(&mut self) -> String {
        let word = std::mem::take(&mut self.word);
        let length = word.chars().count();
        if self.used > 0 && self.used + length > WIDTH {
            let mut out = self.end_line();
            let word = word.trim_start();
            self.used = word.chars().count();
            out.push_str(word);
            return out;
        }
        self.used += length;
        word
    }

    fn end_line(&mut self) -> String {
        let gap = (WIDTH + 2).saturating_sub(self.used);
        self.used = 0;
        match self.cost.is_empty() {
            true => "\n".to_owned(),
            false => format!("{:gap$}{} FAR\n", "", self.cost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_its_words_and_every_line_its_cost() {
        let mut column = Column { cost: "0.1".into(), ..Column::default() };
        let words = ["Qu", "antum", " computing", " is", " fun", ".\n\n", "It", " ", "works"];
        let mut out: String = words.iter().map(|word| column.push(word)).collect();
        out.push_str(&column.flush_word());
        out.push_str(&column.end_line());
        let lines: Vec<_> = out.lines().map(|line| line.split("  ").next().unwrap_or_default()).collect();
        assert_eq!(lines, ["Quantum computing is fun.", "", "It works"]);
        assert!(out.lines().all(|line| line.ends_with("0.1 FAR") && line.len() == WIDTH + 2 + "0.1 FAR".len()));
    }

    #[test]
    fn long_text_is_wrapped_at_words() {
        let mut column = Column { cost: "1".into(), ..Column::default() };
        let mut out = column.push(&"word ".repeat(100));
        out.push_str(&column.flush_word());
        out.push_str(&column.end_line());
        assert_eq!(out.matches("word").count(), 100);
        assert!(out.lines().count() > 5 && out.lines().all(|line| line.len() <= WIDTH + 2 + "1 FAR".len()));
    }
}
