//! Formats numbers for people, in the same way for a terminal and the page.

/// Stands for a missing number.
pub const NONE: &str = "–";

/// Formats with three significant digits: `0.353`, `3.10`, `45.2`, `151,000`.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => NONE.to_owned(),
        _ if size >= 999.5 => {
            let step = 10_f64.powf(size.log10().floor() - 2.0).max(1.0);
            count((value / step).round() * step)
        }
        _ if size >= 99.95 => count(value),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.9995 => format!("{value:.2}"),
        _ if size >= 0.0005 => format!("{value:.3}"),
        _ => "0".to_owned(),
    }
}

/// Formats a whole number with all its digits: `1,018`.
pub fn count(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 && digits != "0" { format!("-{text}") } else { text }
}

/// Formats as short as possible, for narrow places: `151k`.
pub fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => NONE.to_owned(),
        size if size >= 999_500.0 => format!("{:.1}M", value / 1e6),
        size if size >= 9_999.5 => format!("{:.0}k", value / 1e3),
        _ => figure(value),
    }
}

/// Formats a fraction as a whole number of percent: `97`.
pub fn percent(part: f64) -> String {
    count(part * 100.0)
}

/// Joins the items: `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Formats a number of things: `1 model`, `14 models`.
pub fn some(number: usize, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{} {thing}s", count(number as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_significant() {
        for (value, text) in [
            (0.0, "0"),
            (0.000_1, "0"),
            (0.035, "0.035"),
            (0.353_4, "0.353"),
            (0.999_9, "1.00"),
            (3.1, "3.10"),
            (9.999, "10.0"),
            (45.23, "45.2"),
            (99.96, "100"),
            (999.7, "1,000"),
            (1_018.0, "1,020"),
            (151_234.0, "151,000"),
            (1_234_567.0, "1,230,000"),
            (-3.1, "-3.10"),
            (-0.000_1, "0"),
            (f64::NAN, NONE),
            (f64::INFINITY, NONE),
        ] {
            assert_eq!(figure(value), text, "{value}");
        }
    }

    #[test]
    fn counts_keep_every_digit() {
        for (value, text) in [
            (0.0, "0"),
            (-0.2, "0"),
            (999.0, "999"),
            (1_018.0, "1,018"),
            (1_000_000.0, "1,000,000"),
            (-1_018.0, "-1,018"),
            (f64::NAN, NONE),
        ] {
            assert_eq!(count(value), text, "{value}");
        }
    }

    #[test]
    fn short_is_short() {
        for (value, text) in
            [(950.0, "950"), (9_990.0, "9,990"), (151_234.0, "151k")]
        {
            assert_eq!(short(value), text, "{value}");
        }
        assert_eq!(short(1_234_567.0), "1.2M");
    }

    #[test]
    fn lists_and_plurals() {
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(list(&items), "a, b and c");
        assert_eq!(list(&items[..2]), "a and b");
        assert_eq!(list(&items[..1]), "a");
        assert_eq!(list(&[]), "");
        assert_eq!(some(1, "model"), "1 model");
        assert_eq!(some(1_200, "row"), "1,200 rows");
    }
}
