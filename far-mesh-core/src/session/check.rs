//! Ranges of what a caller may ask, checked before any hop hears of it.

use super::{GenerateError, Request, Sampling};

/// Most alternatives of a token that are reported (as OpenAI).
pub const MAX_LOGPROBS: u8 = 20;

impl Sampling {
    /// Checks every parameter against its range.
    ///
    /// # Errors
    /// [`GenerateError::Parameter`] names the first that is outside.
    pub fn check(&self) -> Result<(), GenerateError> {
        let within = |name, value: f32, holds: bool, range| {
            // A comparison with what is not a number does not hold, so NaN is refused too.
            if holds { Ok(()) } else { Err(GenerateError::Parameter { name, value: value.to_string(), range }) }
        };
        let Self { temperature, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty, .. } = *self;
        within("temperature", temperature, (0.0..=2.0).contains(&temperature), "0 to 2")?;
        within("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "more than 0 and at most 1")?;
        within("min_p", min_p, (0.0..1.0).contains(&min_p), "at least 0 and less than 1")?;
        // Wider than anyone uses, narrow enough that a logit stays finite.
        let repetition = (0.01..=100.0).contains(&repetition_penalty);
        within("repetition_penalty", repetition_penalty, repetition, "0.01 to 100")?;
        let frequency = (-2.0..=2.0).contains(&frequency_penalty);
        within("frequency_penalty", frequency_penalty, frequency, "-2 to 2")?;
        let presence = (-2.0..=2.0).contains(&presence_penalty);
        within("presence_penalty", presence_penalty, presence, "-2 to 2")
    }

    /// Whether what was said before changes the logits.
    pub(super) fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

impl Request {
    /// Checks everything but the stop texts, for a model with this vocabulary and context, and gives the positions that
    /// the session may reach.
    ///
    /// # Errors
    /// [`GenerateError`] says which value is out of which range.
    pub(super) fn check(&self, vocabulary: usize, context_tokens: u32) -> Result<u32, GenerateError> {
        let parameter = |name, value: String, range| Err(GenerateError::Parameter { name, value, range });
        if self.prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if self.max_tokens == 0 {
            return parameter("max_tokens", "0".to_owned(), "at least 1");
        }
        if let Some(best) = self.logprobs.filter(|best| *best > MAX_LOGPROBS) {
            return parameter("logprobs", best.to_string(), "0 to 20");
        }
        if let Some(id) = self.prompt.iter().find(|id| **id as usize >= vocabulary) {
            return parameter("prompt", format!("token {id}"), "tokens of the model's vocabulary");
        }
        let reach = u32::try_from(self.prompt.len()).ok().and_then(|prompt| prompt.checked_add(self.max_tokens));
        reach.filter(|reach| *reach <= context_tokens).ok_or(GenerateError::TooLong {
            prompt_tokens: self.prompt.len(),
            max_tokens: self.max_tokens,
            context_tokens,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_is_held_to_its_range() {
        let refused = |change: fn(&mut Sampling)| {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            match sampling.check() {
                Err(GenerateError::Parameter { name, .. }) => name,
                other => panic!("{other:?}"),
            }
        };
        assert!(Sampling::default().check().is_ok() && Sampling::greedy().check().is_ok());
        assert_eq!(refused(|s| s.temperature = 2.1), "temperature");
        assert_eq!(refused(|s| s.temperature = -0.1), "temperature");
        assert_eq!(refused(|s| s.temperature = f32::NAN), "temperature");
        assert_eq!(refused(|s| s.top_p = 0.0), "top_p");
        assert_eq!(refused(|s| s.min_p = 1.0), "min_p");
        assert_eq!(refused(|s| s.repetition_penalty = 0.0), "repetition_penalty");
        assert_eq!(refused(|s| s.repetition_penalty = f32::INFINITY), "repetition_penalty");
        assert_eq!(refused(|s| s.frequency_penalty = -2.5), "frequency_penalty");
        assert_eq!(refused(|s| s.presence_penalty = f32::NAN), "presence_penalty");
    }

    #[test]
    fn prompt_and_output_fit_the_context() {
        let request = |prompt: usize, max_tokens| Request {
            prompt: vec![3; prompt],
            max_tokens,
            sampling: Sampling::greedy(),
            stop: Vec::new(),
            logprobs: None,
        };
        assert_eq!(request(6, 2).check(4, 8).unwrap(), 8);
        assert!(matches!(request(6, 3).check(4, 8), Err(GenerateError::TooLong { .. })));
        assert!(matches!(request(6, u32::MAX).check(4, u32::MAX), Err(GenerateError::TooLong { .. })));
        assert!(matches!(request(0, 3).check(4, 8), Err(GenerateError::EmptyPrompt)));
        assert!(matches!(request(1, 0).check(4, 8), Err(GenerateError::Parameter { name: "max_tokens", .. })));
        assert!(matches!(request(1, 1).check(3, 8), Err(GenerateError::Parameter { name: "prompt", .. })));
        let many = Request { logprobs: Some(21), ..request(1, 1) };
        assert!(matches!(many.check(4, 8), Err(GenerateError::Parameter { name: "logprobs", .. })));
    }
}
