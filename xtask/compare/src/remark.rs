//! Remarks on a run, as values, and their texts.

use std::fmt;

use serde::Serializer;

/// A condition that affects the figures of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Remark {
    /// The load generator used all its processor time and the server didn't, so
    /// the generator limited the throughput.
    Saturated,
    /// This fraction of the requests was sent over a millisecond late, so
    /// latencies include the generator's delays.
    Late { part: f64 },
    /// The server answered fewer requests per second than were due.
    Behind { rate: f64, due: u32 },
    /// Unanswered datagrams.
    Lost { datagrams: u64 },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Saturated => f.write_str("load generator saturated"),
            Self::Late { part } => {
                let percent = part * 100.0;
                write!(f, "{percent:.1} % sent over a millisecond late")
            }
            Self::Behind { rate, due } => {
                write!(f, "only {rate:.0} of {due} per second")
            }
            Self::Lost { datagrams: 1 } => f.write_str("1 datagram lost"),
            Self::Lost { datagrams } => write!(f, "{datagrams} datagrams lost"),
        }
    }
}

/// Joins the remarks of a run.
pub fn joined(remarks: &[Remark]) -> String {
    let texts: Vec<_> = remarks.iter().map(Remark::to_string).collect();
    texts.join("; ")
}

/// Joins the remarks of several runs, each text once.
pub fn of_row<'a>(runs: impl Iterator<Item = &'a [Remark]>) -> String {
    let mut texts: Vec<String> = Vec::new();
    for remarks in runs.filter(|remarks| !remarks.is_empty()) {
        let text = joined(remarks);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join("; ")
}

/// Writes the remarks into one cell.
pub fn serialize<S: Serializer>(
    remarks: &[Remark],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&joined(remarks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_read_well() {
        let behind = Remark::Behind { rate: 18_200.4, due: 20_000 };
        let late = Remark::Late { part: 0.0104 };
        for (remarks, text) in [
            (&[][..], ""),
            (&[Remark::Saturated], "load generator saturated"),
            (
                &[late, behind],
                "1.0 % sent over a millisecond late; only 18200 of 20000 per \
                 second",
            ),
            (&[Remark::Lost { datagrams: 1 }], "1 datagram lost"),
            (&[Remark::Lost { datagrams: 2 }], "2 datagrams lost"),
        ] {
            assert_eq!(joined(remarks), text);
        }
    }

    #[test]
    fn a_row_has_each_remark_once() {
        let (none, one) = (&[][..], &[Remark::Saturated][..]);
        let lost = &[Remark::Lost { datagrams: 1 }][..];
        assert_eq!(
            of_row([one, none, lost, one].into_iter()),
            "load generator saturated; 1 datagram lost"
        );
        assert_eq!(of_row([none].into_iter()), "");
    }
}
