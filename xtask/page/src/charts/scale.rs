//! Maps values to positions.

/// The most ticks that fit on a phone.
const TICKS: usize = 6;

/// A range of values that begins and ends with a tick.
#[derive(Clone, Debug)]
pub struct Scale {
    pub ticks: Vec<f64>,
    log: bool,
}

impl Scale {
    /// Makes a scale from zero to at least the greatest value.
    pub fn linear(values: &[f64]) -> Self {
        let most = values.iter().copied().fold(0.0, f64::max);
        if most == 0.0 {
            return Self { ticks: vec![0.0, 1.0], log: false };
        }
        let step = steps(most / TICKS as f64 / 10.0)
            .find(|step| most / step <= (TICKS - 1) as f64)
            .unwrap_or(most);
        let last = (most / step).ceil() as usize;
        let ticks = (0..=last).map(|at| at as f64 * step).collect();
        Self { ticks, log: false }
    }

    /// Makes a logarithmic scale from below the least value to above the
    /// greatest.
    pub fn log(values: &[f64]) -> Self {
        let positive = || values.iter().copied().filter(|v| *v > 0.0);
        let least = positive().fold(f64::INFINITY, f64::min);
        let most = positive().fold(0.0, f64::max);
        if most == 0.0 {
            return Self { ticks: vec![1.0, 10.0], log: true };
        }
        let all: Vec<_> = steps(least / 10.0)
            .take_while(|step| *step < most * 10.0)
            .collect();
        let last_below = |v: f64| all.iter().rposition(|step| *step <= v);
        let first_above = |v: f64| all.iter().position(|step| *step > v);
        let from = last_below(least).unwrap_or(0);
        let to = first_above(most).unwrap_or(all.len() - 1);
        let mut ticks = all[from..=to].to_vec();
        if ticks.len() > TICKS {
            let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
            ticks.retain(|t| is_decade(*t) || *t == first || *t == last);
            thin(&mut ticks);
        }
        Self { ticks, log: true }
    }

    /// Returns the position of a value, from 0 to 1.
    pub fn at(&self, value: f64) -> f64 {
        let (from, to) = (self.ticks[0], self.ticks[self.ticks.len() - 1]);
        let part = if self.log {
            (value.max(from) / from).ln() / (to / from).ln()
        } else {
            (value - from) / (to - from)
        };
        part.clamp(0.0, 1.0)
    }

    /// Formats a tick. Ticks are round, so this is exact.
    pub fn label(tick: f64) -> String {
        match tick {
            _ if tick >= 1e6 => format!("{}M", tick / 1e6),
            _ if tick >= 1e3 => format!("{}k", tick / 1e3),
            _ => format!("{tick}"),
        }
    }
}

/// Returns 1, 2, 5, 10, 20, 50 and so on, from below `least`.
fn steps(least: f64) -> impl Iterator<Item = f64> {
    let exponent = least.max(1e-9).log10().floor() as i32;
    (exponent..exponent + 24).flat_map(|exponent| {
        [1, 2, 5].map(|digit| {
            // Parsed, because powers of 0.1 aren't exact.
            format!("{digit}e{exponent}").parse().unwrap_or(f64::NAN)
        })
    })
}

fn is_decade(tick: f64) -> bool {
    (tick.log10() - tick.log10().round()).abs() < 1e-6
}

/// Removes ticks within a factor of three of the ends, because their labels
/// would overlap.
fn thin(ticks: &mut Vec<f64>) {
    let count = ticks.len();
    if count > 3 && ticks[count - 1] / ticks[count - 2] < 3.0 {
        ticks.remove(count - 2);
    }
    if ticks.len() > 3 && ticks[1] / ticks[0] < 3.0 {
        ticks.remove(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let check = |scale: Scale, ticks: &str| {
            let labels: Vec<_> =
                scale.ticks.into_iter().map(Scale::label).collect();
            assert_eq!(labels.join(" "), ticks);
        };
        for (values, ticks) in [
            (&[3.0, 97.0][..], "0 20 40 60 80 100"),
            (&[9_999.0], "0 2k 4k 6k 8k 10k"),
            (&[0.07], "0 0.02 0.04 0.06 0.08"),
            (&[1_900_000.0], "0 500k 1M 1.5M 2M"),
            (&[-1.0, 0.0], "0 1"),
            (&[], "0 1"),
        ] {
            check(Scale::linear(values), ticks);
        }
        for (values, ticks) in [
            (&[3.1, 45.0][..], "2 5 10 20 50"),
            (&[0.3, 0.3], "0.2 0.5"),
            (&[5.0], "5 10"),
            (&[0.3, 300.0], "0.2 1 10 100 500"),
            (&[-1.0, 0.0], "1 10"),
            (&[], "1 10"),
        ] {
            check(Scale::log(values), ticks);
        }
    }

    #[test]
    fn places_are_within() {
        let scale = Scale::log(&[2.0, 40.0]);
        let places = [-3.0, 2.0, 10.0, 50.0, 1e9].map(|at| scale.at(at));
        assert_eq!(places, [0.0, 0.0, 0.5, 1.0, 1.0]);
        assert_eq!(Scale::linear(&[100.0]).at(25.0), 0.25);
    }
}
