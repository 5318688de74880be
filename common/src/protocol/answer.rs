//! From a request to its reply.

use super::argument::{Argument, Arguments, Request};
use super::command::{self, Command, Does};
use super::conversation::Conversation;
use super::help::{SHOWN_MOST, help};
use super::reply::Reply;
use super::{client, config, debug, info, introspection};
use crate::About;

/// Answers a complete request. Returns false for an empty one, which gets no
/// reply. Frequent commands are answered here; the others have functions of
/// their own, so that their code does not slow this one down.
#[inline(always)]
pub(crate) fn answer(
    request: Request<'_>,
    about: &About,
    conversation: &mut Conversation,
    reply: &mut impl Reply,
) -> bool {
    let Request { name: Some(name), arguments } = request else {
        return false;
    };
    let Some(command) = command::find(name) else {
        refuse_unknown(name, arguments, conversation, reply);
        return true;
    };
    match command.does {
        _ if !command.takes(1 + arguments.left()) => {
            refuse_arity(command, reply);
        }
        Does::Ping => ping(command, arguments, reply),
        Does::Echo => arguments.for_each(|message| reply.argument(message)),
        _ => answer_rare(command, arguments, about, conversation, reply),
    }
    true
}

/// Answers the less frequent commands and subcommands.
#[inline(never)]
fn answer_rare(
    outer: &Command,
    mut arguments: Arguments<'_>,
    about: &About,
    conversation: &mut Conversation,
    reply: &mut impl Reply,
) {
    let mut command = outer;
    if outer.contains()
        && let Some(inner) = arguments.next()
    {
        let Some(found) = command::find_within(outer, inner) else {
            return refuse_unknown_within(outer, inner, reply);
        };
        if !found.takes(2 + arguments.left()) {
            return refuse_arity(found, reply);
        }
        command = found;
    }
    run(command, &mut arguments, about, conversation, reply);
}

/// Takes the arguments behind the command's name, of the right number.
fn run(
    command: &Command,
    arguments: &mut Arguments<'_>,
    about: &About,
    conversation: &mut Conversation,
    reply: &mut impl Reply,
) {
    let version = conversation.version;
    match command.does {
        Does::Quit => {
            conversation.open = false;
            reply.status("OK");
        }
        Does::Hello => client::hello(arguments, conversation, reply),
        Does::Info => info::info(arguments, about, version, reply),
        Does::ClientGetName => client::name(conversation, reply),
        Does::ClientHelp => help("CLIENT", &client::HELP, reply),
        Does::ClientId => reply.head(b':', conversation.id),
        Does::ClientOnOff => client::on_or_off(arguments, reply),
        Does::ClientSetInfo => client::set_info(arguments, reply),
        Does::ClientSetName => {
            client::set_name(arguments, conversation, reply);
        }
        Does::Command => introspection::details(arguments, version, reply),
        Does::CommandCount => introspection::count(reply),
        Does::CommandDocs => reply.map(0, version),
        Does::CommandGetKeys => introspection::keys(arguments, reply),
        Does::CommandHelp => help("COMMAND", &introspection::HELP, reply),
        Does::CommandList => introspection::list(arguments, reply),
        Does::ConfigGet => config::settings(arguments, version, reply),
        Does::ConfigHelp => help("CONFIG", &config::HELP, reply),
        Does::Debug => debug::debug(arguments, conversation, reply),
        // The first two have been answered, the last one has only a part.
        Does::Ping | Does::Echo | Does::Contain => {
            refuse_arity(command, reply);
        }
    }
}

#[inline(always)]
fn ping(
    command: &Command,
    mut arguments: Arguments<'_>,
    reply: &mut impl Reply,
) {
    match (arguments.next(), arguments.next()) {
        (None, _) => reply.put(b"+PONG\r\n"),
        (Some(message), None) => reply.argument(message),
        _ => refuse_arity(command, reply),
    }
}

#[inline(never)]
fn refuse_arity(command: &Command, reply: &mut impl Reply) {
    reply.put(b"-ERR wrong number of arguments for '");
    reply.put(command.name.as_bytes());
    reply.put(b"' command\r\n");
}

#[inline(never)]
fn refuse_unknown(
    name: Argument<'_>,
    arguments: Arguments<'_>,
    conversation: &mut Conversation,
    reply: &mut impl Reply,
) {
    // A web page can make a browser connect to a port of the user's machine.
    // The browser's request begins like HTTP, so the conversation ends here,
    // before the body is parsed.
    if name.is_up_to_nul("post") || name.is_up_to_nul("host:") {
        conversation.open = false;
        return;
    }
    reply.put(b"-ERR unknown command '");
    reply.shown(name.text().take(SHOWN_MOST));
    reply.put(b"', with args beginning with: ");
    let mut shown = 0;
    for argument in arguments {
        // Redis counts the quotes and the space, but cuts only what is quoted.
        let text = argument.text().take(SHOWN_MOST - shown);
        shown += text.clone().count() + "'' ".len();
        reply.put(b"'");
        reply.shown(text);
        reply.put(b"' ");
        if shown >= SHOWN_MOST {
            break;
        }
    }
    reply.put(b"\r\n");
}

fn refuse_unknown_within(
    outer: &Command,
    name: Argument<'_>,
    reply: &mut impl Reply,
) {
    reply.put(b"-ERR unknown subcommand '");
    reply.shown(name.text().take(SHOWN_MOST));
    reply.put(b"'. Try ");
    reply.put_each(outer.name.bytes().map(|byte| byte.to_ascii_uppercase()));
    reply.put(b" HELP.\r\n");
}
