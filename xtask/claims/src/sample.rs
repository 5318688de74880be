//! Repeated measurements of one quantity, and what can be decided from them.

use serde::{Deserialize, Serialize};

use crate::verdict::Answer;

/// The values of one quantity, in the order in which they were measured. There
/// is at least one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn new(values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "a sample has at least one value");
        Self(values)
    }

    /// Measures `count` times.
    pub fn collect<E>(
        count: usize,
        mut measure: impl FnMut() -> Result<f64, E>,
    ) -> Result<Self, E> {
        (0..count).map(|_| measure()).collect::<Result<_, _>>().map(Self::new)
    }

    pub fn values(&self) -> &[f64] {
        &self.0
    }

    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Returns the value below which this part of the values lies, by the
    /// nearest rank.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (part * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1]
    }

    /// Returns five values with the same least and greatest value, median and
    /// quartiles, rounded to four digits.
    #[must_use]
    pub fn summary(&self) -> Self {
        let parts = [0.0, 0.25, 0.5, 0.75, 1.0];
        Self::new(parts.map(|part| round(self.quantile(part))).to_vec())
    }

    /// Divides this sample's values by the other's, pair by pair. Measured in
    /// turn, both values of a pair share the machine's mood.
    #[must_use]
    pub fn ratio(&self, other: &Self) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self::new(pairs.map(|(ours, theirs)| ours / theirs).collect())
    }

    /// Returns whether the quantity is above a bound: undecided if fewer than
    /// three quarters of the values agree.
    pub fn is_above(&self, bound: f64) -> Answer {
        if self.quantile(0.25) > bound {
            Answer::True
        } else if self.quantile(0.75) <= bound {
            Answer::False
        } else {
            Answer::Undecided
        }
    }

    /// Returns whether the quantity is below a bound, as `is_above` does.
    pub fn is_below(&self, bound: f64) -> Answer {
        if self.quantile(0.75) < bound {
            Answer::True
        } else if self.quantile(0.25) >= bound {
            Answer::False
        } else {
            Answer::Undecided
        }
    }
}

/// Rounds a fraction to four significant digits; a whole number stays.
fn round(value: f64) -> f64 {
    let digits = value.abs().log10().floor();
    if value.fract() == 0.0 || digits >= 3.0 {
        return value.round();
    }
    let scale = 10_f64.powf(3.0 - digits);
    (value * scale).round() / scale
}

/// Returns a part of a number in percent.
pub fn percent(part: usize, all: usize) -> f64 {
    100.0 * part as f64 / all as f64
}

impl From<f64> for Sample {
    fn from(value: f64) -> Self {
        Self::new(vec![value])
    }
}

impl From<usize> for Sample {
    fn from(value: usize) -> Self {
        Self::from(value as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        Sample::new(values.to_vec())
    }

    #[test]
    fn quantiles_are_values_of_the_sample() {
        let four = sample(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((four.min(), four.median(), four.max()), (1.0, 2.0, 4.0));
        assert_eq!((four.quantile(0.25), four.quantile(0.75)), (1.0, 3.0));
        assert_eq!(sample(&[7.0]).quantile(0.0), 7.0);
    }

    #[test]
    fn a_summary_has_the_same_quartiles() {
        let values: Vec<_> = (1..=99).map(|it| f64::from(it) / 7.0).collect();
        let (all, five) = (sample(&values), sample(&values).summary());
        assert_eq!(five.values().len(), 5);
        for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let ratio = all.quantile(part) / five.quantile(part);
            assert!((ratio - 1.0).abs() < 0.001, "{part}: {ratio}");
        }
        assert_eq!(sample(&[123_456.7]).summary().median(), 123_457.0);
        assert_eq!(sample(&[0.0]).summary().max(), 0.0);
    }

    #[test]
    fn a_bound_that_the_values_straddle_is_undecided() {
        let values = sample(&[1.0, 2.0, 3.0, 4.0]);
        for (bound, above, below) in [
            (0.5, Answer::True, Answer::False),
            (2.5, Answer::Undecided, Answer::Undecided),
            (4.0, Answer::False, Answer::True),
        ] {
            assert_eq!(values.is_above(bound), above, "above {bound}");
            assert_eq!(values.is_below(bound), below, "below {bound}");
        }
    }

    #[test]
    fn a_ratio_divides_pair_by_pair() {
        let ratio = sample(&[4.0, 9.0]).ratio(&sample(&[2.0, 3.0]));
        assert_eq!(ratio, sample(&[2.0, 3.0]));
    }
}
