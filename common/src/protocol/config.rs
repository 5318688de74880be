//! CONFIG GET: the settings that clients and load generators ask for.

use super::argument::{Argument, Arguments};
use super::glob;
use super::reply::{Reply, Version};

pub(crate) const HELP: [&str; 2] = [
    "GET <pattern> [<pattern> ...]",
    "    Show the settings that match a pattern.",
];

/// The server stores nothing, so nothing is saved, and nothing can be set.
const SETTINGS: [(&str, &str); 3] =
    [("appendonly", "no"), ("databases", "1"), ("save", "")];

/// CONFIG GET pattern [pattern ...].
pub(crate) fn settings(
    patterns: &mut Arguments<'_>,
    version: Version,
    reply: &mut impl Reply,
) {
    let found =
        |name: &str| patterns.clone().find(|pattern| asks_for(*pattern, name));
    let settings = SETTINGS.map(|(name, value)| (found(name), name, value));
    let count = settings.iter().filter(|(found, ..)| found.is_some()).count();
    reply.map(count, version);
    for (found, name, value) in settings {
        let Some(pattern) = found else { continue };
        // A name without wildcards comes back the way it was spelled.
        if is_pattern(pattern) {
            reply.bulk(name.as_bytes());
        } else {
            reply.argument(pattern);
        }
        reply.bulk(value.as_bytes());
    }
}

fn asks_for(pattern: Argument<'_>, name: &str) -> bool {
    if is_pattern(pattern) {
        glob::matches(pattern.text(), name)
    } else {
        pattern.is(name)
    }
}

fn is_pattern(argument: Argument<'_>) -> bool {
    argument.text().any(|byte| matches!(byte, b'[' | b'*' | b'?'))
}
