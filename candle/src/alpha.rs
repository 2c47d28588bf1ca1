//! Where alpha of DyT and Derf begins.

/// Alpha's initial value in vision, speech and DNA models.
pub const DEFAULT_ALPHA: f64 = 0.5;

/// Where in a language model's block the layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Position {
    /// In front of attention.
    Attention,
    /// In front of the feed-forward network, and at the end of the model.
    Other,
}

/// Width, and alpha in front of attention and elsewhere, as found for language models of the LLaMA kind: the wider the
/// model, the smaller.
const LLAMA: [(usize, f64, f64); 5] =
    [(1024, 1.0, 1.0), (2048, 1.0, 0.5), (4096, 0.8, 0.2), (5120, 0.6, 0.15), (8192, 0.2, 0.05)];

/// Alpha's initial value in a language model of that width: the value of the nearest width that was tried, by ratio.
///
/// ```
/// use dyt_candle::{Position, llama_alpha};
/// assert_eq!(llama_alpha(4096, Position::Attention), 0.8);
/// assert_eq!(llama_alpha(4096, Position::Other), 0.2);
/// ```
#[must_use]
pub fn llama_alpha(width: usize, position: Position) -> f64 {
    let distance = |tried: usize| (width.max(1) as f64 / tried as f64).ln().abs();
    let (mut nearest, mut best) = (LLAMA[0], f64::INFINITY);
    for row in LLAMA {
        if distance(row.0) < best {
            (nearest, best) = (row, distance(row.0));
        }
    }
    match position {
        Position::Attention => nearest.1,
        Position::Other => nearest.2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_width_by_ratio_decides() {
        assert_eq!(llama_alpha(1, Position::Attention), 1.0);
        assert_eq!(llama_alpha(1400, Position::Other), 1.0);
        assert_eq!(llama_alpha(1500, Position::Other), 0.5);
        assert_eq!(llama_alpha(5000, Position::Other), 0.15);
        assert_eq!(llama_alpha(8192, Position::Attention), 0.2);
        assert_eq!(llama_alpha(1 << 40, Position::Other), 0.05);
    }
}
