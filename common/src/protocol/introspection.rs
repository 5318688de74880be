//! COMMAND: the list of commands.

use super::argument::Arguments;
use super::command::{self, COMMANDS, Command};
use super::reply::{Reply, Version};

pub(crate) const HELP: [&str; 12] = [
    "(no subcommand)",
    "    Show details of all commands.",
    "COUNT",
    "    Show how many commands there are.",
    "DOCS [<name> ...]",
    "    Answered with nothing.",
    "GETKEYS <command>",
    "    Refused: no command has keys.",
    "INFO [<name> ...]",
    "    Show details of some commands.",
    "LIST",
    "    Show the names of all commands.",
];

/// The commands that aren't within another.
fn outer() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| !command.name.contains('|'))
}

/// COMMAND, and COMMAND INFO [name ...].
pub(crate) fn details(
    names: &mut Arguments<'_>,
    version: Version,
    reply: &mut impl Reply,
) {
    let wanted = names.left();
    if wanted == 0 {
        reply.array(outer().count());
        return outer().for_each(|command| detail(command, version, reply));
    }
    reply.array(wanted);
    for name in names {
        match command::find(name) {
            Some(command) => detail(command, version, reply),
            None => reply.null(version),
        }
    }
}

/// The ten fields of COMMAND INFO. Most of them describe keys, which no command
/// here has, or access rights, which are the same for all.
fn detail(command: &Command, version: Version, reply: &mut impl Reply) {
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.number(command.arity);
    let flags = command.flags.split_ascii_whitespace();
    reply.set(flags.clone().count(), version);
    flags.for_each(|flag| reply.status(flag));
    for _ in ["first key", "last key", "step between"] {
        reply.number(0);
    }
    reply.set(0, version);
    for _ in ["tips", "key specifications", "commands within"] {
        reply.array(0);
    }
}

/// COMMAND COUNT.
pub(crate) fn count(reply: &mut impl Reply) {
    reply.head(b':', outer().count() as u64);
}

/// COMMAND LIST. Filters get the error that Redis has for unknown ones.
pub(crate) fn list(options: &mut Arguments<'_>, reply: &mut impl Reply) {
    if options.next().is_some() {
        return reply.error("ERR syntax error");
    }
    reply.array(COMMANDS.len());
    COMMANDS.iter().for_each(|command| reply.bulk(command.name.as_bytes()));
}

/// COMMAND GETKEYS command argument ...: no command has keys.
pub(crate) fn keys(arguments: &mut Arguments<'_>, reply: &mut impl Reply) {
    reply.error(match arguments.next().and_then(command::find) {
        Some(_) => "ERR The command has no key arguments",
        None => "ERR Invalid command specified",
    });
}
