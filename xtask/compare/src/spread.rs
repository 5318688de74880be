//! Statistics of several runs: the median, the range, and whether two servers
//! differ.

use lab::number;

/// The median and the range of several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// The least difference between medians that counts, as a fraction of the
/// smaller one. Runs without overlap don't suffice: of the 20 orders of three
/// runs each of two equal servers, 2 have no overlap. The runs of one server
/// differ by some percent, so medians may differ as much by chance.
pub const APART: f64 = 0.03;

impl Spread {
    /// Computes the spread of the finite values. Returns None if there are
    /// none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, least, most })
    }

    /// Formats the range, `3.05–3.22`. Returns None if both ends look the same.
    pub fn range(&self) -> Option<String> {
        let [least, most] = [self.least, self.most].map(number::figure);
        (least != most).then(|| format!("{least}–{most}"))
    }

    /// Returns whether the runs don't overlap and the medians differ by at
    /// least [`APART`].
    pub fn differs(&self, other: &Self) -> bool {
        let in_order = self.median <= other.median;
        let (low, high) = if in_order { (self, other) } else { (other, self) };
        let distance = high.median - low.median;
        low.most < high.least && distance >= APART * low.median.abs()
    }

    /// Divides by the runs of another server. Returns the ratio of the medians,
    /// and the least and greatest ratio of any two runs. None if the other's
    /// least value isn't positive.
    pub fn over(&self, base: &Self) -> Option<Self> {
        (base.least > 0.0).then(|| Self {
            median: self.median / base.median,
            least: self.least / base.most,
            most: self.most / base.least,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(least: f64, most: f64) -> Spread {
        Spread { median: f64::midpoint(least, most), least, most }
    }

    #[test]
    fn the_middle_of_several() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![f64::NAN, f64::INFINITY]), None);
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of(vec![1.0, 2.0]).unwrap().median, 1.5);
    }

    #[test]
    fn a_difference_is_without_overlap_and_not_small() {
        for (a, b, expected) in [
            ((1.0, 2.0), (3.0, 4.0), true),
            ((3.0, 4.0), (1.0, 2.0), true),
            ((1.0, 3.0), (2.0, 4.0), false),
            ((1.0, 2.0), (2.0, 3.0), false),
            ((1.0, 4.0), (2.0, 3.0), false),
            ((100.0, 100.0), (102.9, 102.9), false),
            ((102.9, 102.9), (100.0, 100.0), false),
            ((100.0, 100.0), (103.0, 103.0), true),
            ((103.0, 103.0), (100.0, 100.0), true),
            // 3 % of the smaller, but not of the larger.
            ((97.0, 97.0), (99.95, 99.95), true),
            ((99.0, 101.0), (101.5, 104.5), true),
            ((99.0, 101.0), (101.0, 105.0), false),
            ((0.0, 0.0), (0.1, 0.1), true),
            ((0.0, 0.0), (0.0, 0.0), false),
            // A slope may be negative.
            ((-1.0, -1.0), (-0.99, -0.99), false),
            ((-1.0, -1.0), (-0.9, -0.9), true),
        ] {
            let (a, b) = (spread(a.0, a.1), spread(b.0, b.1));
            assert_eq!(a.differs(&b), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_ratio_has_the_range_of_all_pairs_of_runs() {
        let (one, two) = (spread(2.0, 4.0), spread(6.0, 12.0));
        let ratio = two.over(&one).unwrap();
        assert_eq!(ratio, Spread { median: 3.0, least: 1.5, most: 6.0 });
        let back = one.over(&two).unwrap();
        assert_eq!((back.least, back.most), (1.0 / 6.0, 4.0 / 6.0));
        assert_eq!(one.over(&spread(0.0, 1.0)), None);
        assert_eq!(one.over(&spread(-1.0, 1.0)), None);
    }
}
