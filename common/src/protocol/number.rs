//! Decimal numbers, in and out.

use std::iter;

/// The number that `text` spells the way Redis wants it: no sign but a minus,
/// no leading zero, no blank, nothing after it, within 64 bits.
pub(crate) fn integer(text: impl IntoIterator<Item = u8>) -> Option<i64> {
    let mut text = text.into_iter();
    let mut first = text.next()?;
    let negative = first == b'-';
    if negative {
        first = text.next()?;
    }
    if first == b'0' {
        return (!negative && text.next().is_none()).then_some(0);
    }
    // Counted downwards: the smallest number has no positive counterpart.
    let mut value = 0_i64;
    for byte in iter::once(first).chain(text) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// The digits of a number, at the end of a buffer on the stack.
pub(crate) struct Decimal {
    digits: [u8; Self::MOST],
    start: usize,
}

impl Decimal {
    /// As many digits as 2^64 - 1 has.
    pub(crate) const MOST: usize = 20;

    pub(crate) fn new(number: u64) -> Self {
        let mut digits = [0; Self::MOST];
        let mut start = Self::MOST;
        let mut left = number;
        loop {
            start -= 1;
            digits[start] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                return Self { digits, start };
            }
        }
    }

    pub(crate) fn digits(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_spelled_one_way() {
        let good = [
            ("0", 0),
            ("7", 7),
            ("-1", -1),
            ("10", 10),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, number) in good {
            assert_eq!(integer(text.bytes()), Some(number), "{text}");
        }
        let bad = [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1a",
            "a",
            "9223372036854775808",
            "-9223372036854775809",
            "100000000000000000000000",
        ];
        for text in bad {
            assert_eq!(integer(text.bytes()), None, "{text}");
        }
    }

    #[test]
    fn decimals_have_no_leading_zero() {
        for number in [0, 9, 10, 512, u64::MAX] {
            let decimal = Decimal::new(number);
            assert_eq!(decimal.digits(), number.to_string().as_bytes());
        }
    }
}
