//! The steps of a session so far: what a new first hop is sent again.

use crate::{
    activation::Activation,
    hop::{Input, Rows, Step},
};

/// Steps in their order; token ids take four bytes each.
#[derive(Debug, Default)]
pub(super) struct History {
    steps: Vec<Past>,
    ids: Vec<u32>,
    /// Inputs of a route that begins within the model; their bytes are shared.
    rows: Vec<Activation>,
}

#[derive(Clone, Copy, Debug)]
struct Past {
    position: u32,
    tokens: u32,
    output: Rows,
    /// Where its input begins.
    at: usize,
}

impl History {
    /// Adds the next step.
    pub(super) fn push(&mut self, step: Step) {
        let tokens = step.input.tokens() as u32;
        let at = match step.input {
            Input::Tokens(ids) => {
                self.ids.extend_from_slice(&ids);
                self.ids.len() - ids.len()
            }
            Input::Activation(activation) => {
                self.rows.push(activation);
                self.rows.len() - 1
            }
        };
        self.steps.push(Past { position: step.position, tokens, output: step.output, at });
    }

    /// A step by its number.
    pub(super) fn step(&self, seq: u64) -> Option<Step> {
        let Past { position, tokens, output, at } = *self.steps.get(usize::try_from(seq).ok()?)?;
        let input = match self.rows.get(at) {
            Some(rows) => Input::Activation(rows.clone()),
            None => Input::Tokens(self.ids.get(at..at + tokens as usize)?.to_vec()),
        };
        Some(Step { seq, position, input, output })
    }

    /// Number of steps.
    pub(super) fn len(&self) -> u64 {
        self.steps.len() as u64
    }

    /// Positions of all steps.
    pub(super) fn positions(&self) -> usize {
        self.steps.last().map_or(0, |last| last.position as usize + last.tokens as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_given_back_as_they_were() {
        let step =
            |seq, position, ids: &[u32]| Step { seq, position, input: Input::Tokens(ids.to_vec()), output: Rows::Last };
        let mut history = History::default();
        for (seq, position, ids) in [(0, 0, &[7, 8, 9][..]), (1, 3, &[10])] {
            history.push(step(seq, position, ids));
        }
        assert_eq!((history.len(), history.positions()), (2, 4));
        for (seq, ids) in [(0, vec![7, 8, 9]), (1, vec![10])] {
            assert_eq!(history.step(seq).unwrap().input, Input::Tokens(ids));
        }
        assert!(history.step(2).is_none());
        let rows = Activation::from_f32(2, 1, vec![1.0, 2.0]).unwrap();
        let mut later = History::default();
        later.push(Step { seq: 0, position: 0, input: Input::Activation(rows.clone()), output: Rows::All });
        assert_eq!(later.step(0).unwrap().input, Input::Activation(rows));
    }
}
