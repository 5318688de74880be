//! Patterns as CONFIG GET and COMMAND LIST take them.

/// Whether `pattern` fits all of `name`, in whatever case: `*` any bytes, `?`
/// one, `[a-z]` one of these, `[^a-z]` one other, `\` the next byte itself.
///
/// The pattern may be as long as a request, so it is walked without recursion
/// and at most once for each byte of the (short) name.
pub(crate) fn matches(
    pattern: impl Iterator<Item = u8> + Clone,
    name: &str,
) -> bool {
    let mut pattern = pattern;
    let mut name = name.as_bytes();
    // Where to go on if what follows the last `*` doesn't fit here: with the
    // `*` standing for one byte more.
    let mut star = None;
    loop {
        let mut ahead = pattern.clone();
        let fits = match (ahead.next(), name.split_first()) {
            (None, None) => return true,
            (None, Some(_)) => false,
            (Some(b'*'), _) => {
                star = Some((ahead.clone(), name));
                pattern = ahead;
                continue;
            }
            (Some(_), None) => return false,
            (Some(b'?'), Some(_)) => true,
            (Some(b'['), Some((byte, _))) => one_of(&mut ahead, *byte),
            (Some(first), Some((byte, _))) => {
                let meant = match first {
                    b'\\' => ahead.next().unwrap_or(first),
                    other => other,
                };
                meant.eq_ignore_ascii_case(byte)
            }
        };
        if fits {
            pattern = ahead;
            name = &name[1..];
        } else {
            let Some((after, [_, shorter @ ..])) = star else {
                return false;
            };
            star = Some((after.clone(), shorter));
            pattern = after;
            name = shorter;
        }
    }
}

/// Whether `byte` is in the set whose `[` was just taken from `pattern`; takes
/// the rest of the set. A set that isn't closed ends with the pattern.
fn one_of(pattern: &mut (impl Iterator<Item = u8> + Clone), byte: u8) -> bool {
    let byte = byte.to_ascii_lowercase();
    let mut ahead = pattern.clone();
    let inverted = ahead.next() == Some(b'^');
    if inverted {
        *pattern = ahead;
    }
    let mut found = false;
    while let Some(first) = pattern.next() {
        let mut ahead = pattern.clone();
        let low = match (first, ahead.next()) {
            (b']', _) => break,
            (b'\\', Some(escaped)) => {
                *pattern = ahead;
                found |= escaped == byte;
                continue;
            }
            (low, Some(b'-')) => match ahead.next() {
                Some(high) => {
                    *pattern = ahead;
                    let (low, high) = (low.min(high), low.max(high));
                    let range =
                        low.to_ascii_lowercase()..=high.to_ascii_lowercase();
                    found |= range.contains(&byte);
                    continue;
                }
                None => low,
            },
            (low, _) => low,
        };
        found |= low.eq_ignore_ascii_case(&byte);
    }
    found != inverted
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_follow_redis() {
        let yes = [
            "save", "SAVE", "*", "**", "s*", "*e", "s*e", "s*v*", "?ave",
            "s??e", "[s]ave", "[a-z]ave", "[z-a]ave", "[^t]ave", "s\\ave",
            "sav[e", "[S]AVE*", "*a*e", "[\\s]ave",
        ];
        for pattern in yes {
            assert!(matches(pattern.bytes(), "save"), "{pattern}");
        }
        let no = [
            "", "sav", "saves", "?", "s?e", "[^s]ave", "[t-z]ave", "*a", "x*",
            "save?", "sav[", "s*x*e",
        ];
        for pattern in no {
            assert!(!matches(pattern.bytes(), "save"), "{pattern}");
        }
    }
}
