//! The reply to HELP, and what errors repeat of a request.

use super::reply::Reply;

/// The number of the client's bytes that an error shows.
pub(crate) const SHOWN_MOST: usize = 128;

/// Lists the subcommands of a command, a line each.
pub(crate) fn help(outer: &str, lines: &[&str], reply: &mut impl Reply) {
    reply.array(lines.len() + 3);
    reply.put(b"+");
    reply.put(outer.as_bytes());
    reply.put(b" <subcommand> [<arg> [value] [opt] ...]. ");
    reply.put(b"Subcommands are:\r\n");
    for line in lines {
        reply.status(line);
    }
    reply.status("HELP");
    reply.status("    Prints this help.");
}
