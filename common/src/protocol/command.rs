//! The table of commands, and the search in it.

use super::argument::Argument;

/// A command, or one of the commands within a command.
#[derive(Debug)]
pub(crate) struct Command {
    /// In lower case; `client|id` is the ID within CLIENT.
    pub(crate) name: &'static str,
    /// The name's first four letters, by which it is found.
    first: u32,
    /// How many arguments it takes, names included; if negative, at least as
    /// many as its absolute value.
    pub(crate) arity: i64,
    /// The flags that COMMAND INFO reports, as in Redis.
    pub(crate) flags: &'static str,
    pub(crate) does: Does,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    Ping,
    Echo,
    Quit,
    Hello,
    Info,
    ClientGetName,
    ClientHelp,
    ClientId,
    ClientOnOff,
    ClientSetInfo,
    ClientSetName,
    Command,
    CommandCount,
    CommandDocs,
    CommandGetKeys,
    CommandHelp,
    CommandList,
    ConfigGet,
    ConfigHelp,
    Debug,
    /// It does nothing without a subcommand, which its arity requires.
    Contain,
}

const fn command(
    name: &'static str,
    arity: i64,
    flags: &'static str,
    does: Does,
) -> Command {
    let Some(first) = name.as_bytes().first_chunk() else {
        panic!("a command's name is too short")
    };
    Command { name, first: first_letters(first), arity, flags, does }
}

/// The most frequent commands come first.
#[rustfmt::skip]
pub(crate) static COMMANDS: [Command; 24] = [
    command("ping", -1, "fast", Does::Ping),
    command("echo", 2, "loading stale fast", Does::Echo),
    command("quit", -1, "noscript loading stale fast no_auth allow_busy",
            Does::Quit),
    command("hello", -1, "noscript loading stale fast no_auth allow_busy",
            Does::Hello),
    command("info", -1, "loading stale", Does::Info),
    command("client", -2, "", Does::Contain),
    command("client|getname", 2, "noscript loading stale",
            Does::ClientGetName),
    command("client|help", 2, "loading stale", Does::ClientHelp),
    command("client|id", 2, "noscript loading stale", Does::ClientId),
    command("client|no-evict", 3, "admin noscript loading stale",
            Does::ClientOnOff),
    command("client|no-touch", 3, "noscript loading stale",
            Does::ClientOnOff),
    command("client|setinfo", 4, "noscript loading stale",
            Does::ClientSetInfo),
    command("client|setname", 3, "noscript loading stale",
            Does::ClientSetName),
    command("command", -1, "loading stale", Does::Command),
    command("command|count", 2, "loading stale", Does::CommandCount),
    command("command|docs", -2, "loading stale", Does::CommandDocs),
    command("command|getkeys", -4, "loading stale", Does::CommandGetKeys),
    command("command|help", 2, "loading stale", Does::CommandHelp),
    command("command|info", -2, "loading stale", Does::Command),
    command("command|list", -2, "loading stale", Does::CommandList),
    command("config", -2, "", Does::Contain),
    command("config|get", -3, "admin noscript loading stale",
            Does::ConfigGet),
    command("config|help", 2, "loading stale", Does::ConfigHelp),
    command("debug", -2, "admin noscript loading stale", Does::Debug),
];

impl Command {
    /// Whether other commands are found within it.
    pub(crate) fn contains(&self) -> bool {
        matches!(self.does, Does::Contain | Does::Command)
    }

    pub(crate) fn takes(&self, arguments: usize) -> bool {
        let wanted = self.arity.unsigned_abs();
        let arguments = arguments as u64;
        arguments == wanted || (self.arity < 0 && arguments > wanted)
    }
}

/// The command with this full name.
#[inline(always)]
pub(crate) fn find(name: Argument<'_>) -> Option<&'static Command> {
    let Argument::Plain(name) = name else {
        return COMMANDS.iter().find(|command| name.is(command.name));
    };
    let (first, others) = name.split_first_chunk()?;
    let first = first_letters(first);
    COMMANDS.iter().find(|command| {
        let (_, rest) = command.name.as_bytes().split_at(4);
        first == command.first && others.eq_ignore_ascii_case(rest)
    })
}

/// Returns a name's first four letters as a number, with the bit set that
/// distinguishes lower case. No other byte becomes a letter by that, and each
/// command's name starts with at least four letters.
const fn first_letters(letters: &[u8; 4]) -> u32 {
    u32::from_ne_bytes(*letters) | u32::from_ne_bytes([b' '; 4])
}

/// The command that is called `name` within `outer`.
pub(crate) fn find_within(
    outer: &Command,
    name: Argument<'_>,
) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| {
        let inner = command.name.strip_prefix(outer.name);
        let inner = inner.and_then(|inner| inner.strip_prefix('|'));
        inner.is_some_and(|inner| name.is(inner))
    })
}
