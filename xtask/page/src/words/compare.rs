//! Who is least and who is most, and who can't be told from them.

use ::compare::results::Spread;
use lab::number::list;

/// One figure of one server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known<'a> {
    pub name: &'a str,
    pub spread: Spread,
}

/// The two ends of several.
#[derive(Debug, PartialEq)]
pub enum Ends<'a> {
    One(Known<'a>),
    /// They don't.
    Same {
        least: Known<'a>,
        most: Known<'a>,
    },
    /// They differ.
    Apart {
        least: Known<'a>,
        /// Those who don't differ from it.
        like_least: Vec<&'a str>,
        most: Known<'a>,
        like_most: Vec<&'a str>,
    },
}

/// How far medians must lie apart, as a part of the smaller one. Runs without
/// overlap are not enough: of the 20 orders in which three runs each of two
/// equal servers can come, 2 are such. The runs of one server lie some per
/// cent apart, and so do medians that chance has put apart.
pub const APART: f64 = 0.03;

/// Whether all runs of one lie below all runs of the other, and far enough.
pub fn differ(a: &Spread, b: &Spread) -> bool {
    let (low, high) = if a.median <= b.median { (a, b) } else { (b, a) };
    let distance = high.median - low.median;
    low.most < high.least && distance >= APART * low.median.abs()
}

/// None if there is nobody.
pub fn ends<'a>(all: &[Known<'a>]) -> Option<Ends<'a>> {
    let mut all = all.to_vec();
    all.sort_by(|a, b| a.spread.median.total_cmp(&b.spread.median));
    let (least, most) = (*all.first()?, *all.last()?);
    if all.len() == 1 {
        return Some(Ends::One(least));
    }
    if !differ(&least.spread, &most.spread) {
        return Some(Ends::Same { least, most });
    }
    let like = |end: Known<'a>| {
        let others = all.iter().filter(|other| other.name != end.name);
        let like = others.filter(|other| !differ(&other.spread, &end.spread));
        like.map(|other| other.name).collect()
    };
    let (like_least, like_most) = (like(least), like(most));
    Some(Ends::Apart { least, like_least, most, like_most })
}

impl Ends<'_> {
    /// `3 µs on a`, or from there to the other end.
    pub fn told(&self, value: impl Fn(f64) -> String) -> String {
        let on = |known: &Known<'_>| {
            format!("{} on {}", value(known.spread.median), known.name)
        };
        match self {
            Self::One(one) => on(one),
            Self::Same { least, most } => format!(
                "from {} to {}, which is no measurable difference",
                on(least),
                on(most)
            ),
            Self::Apart { least, like_least, most, like_most } => format!(
                "from {}{} to {}{}",
                on(least),
                beside(like_least),
                on(most),
                beside(like_most)
            ),
        }
    }
}

/// Those who can't be told from the one just named.
fn beside(like: &[&str]) -> String {
    if like.is_empty() {
        return String::new();
    }
    format!(" (no measurable difference to {})", names(like))
}

/// How much a figure is of what it was.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a> {
    pub name: &'a str,
    before: Spread,
    after: Spread,
}

/// For those who have both.
pub fn factors<'a>(
    before: &[Known<'a>],
    after: &[Known<'a>],
) -> Vec<Factor<'a>> {
    let factors = before.iter().filter_map(|before| {
        let mut after = after.iter();
        let after = after.find(|after| after.name == before.name)?;
        (before.spread.least > 0.0).then_some(Factor {
            name: before.name,
            before: before.spread,
            after: after.spread,
        })
    });
    factors.collect()
}

impl Factor<'_> {
    pub fn value(&self) -> f64 {
        self.after.median / self.before.median
    }

    pub fn measurable(&self) -> bool {
        differ(&self.before, &self.after)
    }

    /// With the least and the most that it may be.
    pub fn known(&self) -> Known<'_> {
        let spread = Spread {
            median: self.value(),
            least: self.after.least / self.before.most,
            most: self.after.most / self.before.least,
        };
        Known { name: self.name, spread }
    }
}

/// More names than these are counted.
const NAMES: usize = 5;

/// `a, b and 3 others`.
pub fn names(all: &[&str]) -> String {
    let mut parts: Vec<_> = all.iter().map(|name| (*name).to_owned()).collect();
    if parts.len() > NAMES {
        parts.truncate(NAMES - 1);
        parts.push(format!("{} others", all.len() - parts.len()));
    }
    list(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, least: f64, most: f64) -> Known<'_> {
        let median = f64::midpoint(least, most);
        Known { name, spread: Spread { median, least, most } }
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
            // A slope may be below zero.
            ((-1.0, -1.0), (-0.99, -0.99), false),
            ((-1.0, -1.0), (-0.9, -0.9), true),
        ] {
            let [a, b] = [a, b].map(|(l, m)| known("", l, m).spread);
            assert_eq!(differ(&a, &b), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn both_ends_and_who_is_like_them() {
        assert_eq!(ends(&[]), None);
        let (a, b) = (known("a", 1.0, 2.0), known("b", 1.5, 2.5));
        let (c, d) = (known("c", 5.0, 6.0), known("d", 5.5, 7.0));
        assert_eq!(ends(&[a]), Some(Ends::One(a)));
        let same = Ends::Same { least: a, most: b };
        assert_eq!(ends(&[b, a]), Some(same));
        let apart = Ends::Apart {
            least: a,
            like_least: vec!["b"],
            most: d,
            like_most: vec!["c"],
        };
        assert_eq!(ends(&[d, b, c, a]), Some(apart));
    }

    #[test]
    fn a_factor_needs_both() {
        let before = [known("a", 1.0, 2.0), known("b", 0.0, 0.0)];
        let after = [known("b", 1.0, 1.0), known("a", 6.0, 8.0)];
        let factors = factors(&before, &after);
        assert_eq!(factors.len(), 1);
        assert!(factors[0].measurable());
        assert_eq!(factors[0].known().spread.least, 3.0);
        assert_eq!(factors[0].known().spread.most, 8.0);
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(names(&["a", "b"]), "a and b");
        let all = ["a", "b", "c", "d", "e", "f"];
        assert_eq!(names(&all[..5]), "a, b, c, d and e");
        assert_eq!(names(&all), "a, b, c, d and 2 others");
    }
}
