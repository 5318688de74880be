//! Answers of a criterion, and verdicts on a claim.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The past of a claim that the measurement makes false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// It was true on an earlier kernel; a source says until when.
    WasTrue,
    /// It was never true.
    NeverTrue,
}

/// The answer of a criterion to a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    True,
    False,
    /// True under one condition and false under another, both measured.
    Depends,
    /// The machine was too noisy to decide.
    Undecided,
}

impl Answer {
    /// Returns `True` or `False`, for measurements that can't be noisy.
    pub fn from_bool(is_true: bool) -> Self {
        if is_true { Self::True } else { Self::False }
    }

    /// Combines the answers under two conditions, see [`over`](Self::over).
    #[must_use]
    pub fn or_depends(self, other: Self) -> Self {
        Self::over(&[self, other])
    }

    /// Combines the answers under several conditions: `Depends` if one is true
    /// and another false, or if one depends. Otherwise `Undecided` if one is.
    pub fn over(conditions: &[Self]) -> Self {
        let has = |answer| conditions.contains(&answer);
        match (has(Self::True), has(Self::False)) {
            (true, true) => Self::Depends,
            _ if has(Self::Depends) => Self::Depends,
            _ if has(Self::Undecided) => Self::Undecided,
            (is_true, _) => Self::from_bool(is_true),
        }
    }
}

/// The verdict on a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Holds,
    NoLongerHolds,
    NeverHeld,
    Depends,
    Undecided,
}

impl Verdict {
    pub fn new(answer: Answer, if_false: History) -> Self {
        match (answer, if_false) {
            (Answer::True, _) => Self::Holds,
            (Answer::False, History::WasTrue) => Self::NoLongerHolds,
            (Answer::False, History::NeverTrue) => Self::NeverHeld,
            (Answer::Depends, _) => Self::Depends,
            (Answer::Undecided, _) => Self::Undecided,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Holds => "holds",
            Self::NoLongerHolds => "no longer holds",
            Self::NeverHeld => "never held",
            Self::Depends => "depends",
            Self::Undecided => "undecided",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_differ_make_it_depend() {
        use Answer::{Depends, False, True, Undecided};
        assert_eq!(True.or_depends(True), True);
        assert_eq!(False.or_depends(False), False);
        assert_eq!(True.or_depends(False), Depends);
        assert_eq!(False.or_depends(Undecided), Undecided);
        assert_eq!(Answer::over(&[True, Undecided, False]), Depends);
        assert_eq!(Answer::over(&[True, Undecided, True]), Undecided);
        assert_eq!(Answer::over(&[True, Depends]), Depends);
    }

    #[test]
    fn the_past_decides_how_a_false_claim_is_called() {
        use History::{NeverTrue, WasTrue};
        for (answer, past, verdict) in [
            (Answer::True, WasTrue, Verdict::Holds),
            (Answer::True, NeverTrue, Verdict::Holds),
            (Answer::False, WasTrue, Verdict::NoLongerHolds),
            (Answer::False, NeverTrue, Verdict::NeverHeld),
            (Answer::Depends, NeverTrue, Verdict::Depends),
            (Answer::Undecided, NeverTrue, Verdict::Undecided),
        ] {
            assert_eq!(Verdict::new(answer, past), verdict);
        }
    }
}
