//! Which layers somebody serves.

use crate::{id::Span, limits::MAX_LAYERS};

/// For each layer of a model, by how many it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    counts: Vec<u32>,
}

impl Coverage {
    /// Counts the spans over each of `layers` layers; what lies beyond the model is left out, and a model has at most
    /// [`MAX_LAYERS`] layers.
    pub fn of(layers: u32, spans: impl IntoIterator<Item = Span>) -> Self {
        let layers = layers.min(MAX_LAYERS);
        // By how many more than the layer before, then by how many.
        let mut counts = vec![0u32; layers as usize + 1];
        for span in spans {
            let (start, end) = (span.start().min(layers) as usize, span.end().min(layers) as usize);
            counts[start] = counts[start].wrapping_add(1);
            counts[end] = counts[end].wrapping_sub(1);
        }
        let mut sum = 0u32;
        for count in &mut counts {
            sum = sum.wrapping_add(*count);
            *count = sum;
        }
        counts.truncate(layers as usize);
        Self { counts }
    }

    /// By how many each layer is served.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Whether every layer is served.
    pub fn is_complete(&self) -> bool {
        self.counts.iter().all(|count| *count > 0)
    }

    /// The layers of `span` that nobody serves, neighbours merged.
    pub fn missing_of(&self, span: Span) -> Vec<Span> {
        let within = |gap: &Span| Span::new(gap.start().max(span.start()), gap.end().min(span.end())).ok();
        self.missing().iter().filter_map(within).collect()
    }

    /// The layers nobody serves, neighbours merged.
    pub fn missing(&self) -> Vec<Span> {
        let mut missing = Vec::new();
        let mut layer = 0;
        for run in self.counts.chunk_by(|a, b| (*a == 0) == (*b == 0)) {
            let end = layer + run.len() as u32;
            if run[0] == 0 {
                missing.extend(Span::new(layer, end));
            }
            layer = end;
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_merged_and_named() {
        let check = |spans: &[(u32, u32)], expect: &[(u32, u32)]| {
            let span = |(start, end): &(u32, u32)| Span::new(*start, *end).unwrap();
            let missing = Coverage::of(30, spans.iter().map(span)).missing();
            assert_eq!(missing, expect.iter().map(span).collect::<Vec<_>>());
        };
        check(&[], &[(0, 30)]);
        check(&[(0, 10), (20, 30)], &[(10, 20)]);
        check(&[(1, 2), (3, 29)], &[(0, 1), (2, 3), (29, 30)]);
        check(&[(0, 20), (10, 30)], &[]);
        check(&[(0, 900)], &[]);
        let half = Coverage::of(30, [Span::new(5, 10).unwrap()]);
        let part = half.missing_of(Span::new(3, 12).unwrap());
        assert_eq!(part, [Span::new(3, 5).unwrap(), Span::new(10, 12).unwrap()]);
        assert!(half.missing_of(Span::new(6, 10).unwrap()).is_empty());
        assert_eq!(Coverage::of(3, [Span::new(0, 2).unwrap(), Span::new(1, 9).unwrap()]).counts(), [1, 2, 1]);
        assert!(Coverage::of(u32::MAX, []).counts().len() == MAX_LAYERS as usize);
    }
}
