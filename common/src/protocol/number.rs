//! Decimal numbers, in and out.

use std::iter;

/// Parses a number as Redis does: no sign but a minus, no leading zero, no
/// blank, nothing behind it, within 64 bits.
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

/// The number on the header that `bytes` begin with, and the header's length,
/// its end included: `mark`, digits, `\r` and any byte.
///
/// Nothing unless all of it is there and the number is spelled as `integer`
/// wants it, without a sign and in 18 digits at most: the header of every
/// request that can ever be complete, found without looking for its end first.
#[inline(always)]
pub(crate) fn header(bytes: &[u8], mark: u8) -> Option<(i64, usize)> {
    // Most headers have one digit, because arguments are few and short.
    if let [first, digit @ b'0'..=b'9', b'\r', _, ..] = *bytes
        && first == mark
    {
        return Some((i64::from(digit - b'0'), 4));
    }
    long_header(bytes, mark)
}

/// Parses a header with any number of digits.
fn long_header(bytes: &[u8], mark: u8) -> Option<(i64, usize)> {
    let (first, rest) = bytes.split_first()?;
    if *first != mark {
        return None;
    }
    let mut number = 0;
    let mut digits = 0;
    while let Some(byte @ b'0'..=b'9') = rest.get(digits) {
        if digits == 18 {
            return None;
        }
        number = number * 10 + i64::from(byte - b'0');
        digits += 1;
    }
    let spelled = digits == 1 || (digits > 1 && rest[0] != b'0');
    let ended = rest.get(digits) == Some(&b'\r') && rest.len() > digits + 1;
    (spelled && ended).then_some((number, 1 + digits + 2))
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
    fn headers_are_whole_or_nothing() {
        let good = [
            ("$0\r\n", 0, 4),
            ("$5\rxhello", 5, 4),
            ("$123456789012345678\r\n", 123_456_789_012_345_678, 21),
        ];
        for (text, number, length) in good {
            assert_eq!(header(text.as_bytes(), b'$'), Some((number, length)));
        }
        let bad = [
            "",
            "$",
            "$1",
            "$1\r",
            "$\r\n",
            "$01\r\n",
            "$-1\r\n",
            "*1\r\n",
            "$1\n\n",
            "$x\r\n",
            "$1234567890123456789\r\n",
        ];
        for text in bad {
            assert_eq!(header(text.as_bytes(), b'$'), None, "{text}");
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
