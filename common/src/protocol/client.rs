//! HELLO and CLIENT: how a client describes itself at its start.

use super::argument::{Argument, Arguments};
use super::conversation::{ClientName, Conversation};
use super::info::REDIS_VERSION;
use super::number::integer;
use super::reply::{Reply, Version};

pub(crate) const HELP: [&str; 12] = [
    "GETNAME",
    "    Show this connection's name.",
    "ID",
    "    Show this connection's number.",
    "NO-EVICT (ON|OFF)",
    "    Accepted: no client is evicted.",
    "NO-TOUCH (ON|OFF)",
    "    Accepted: there are no keys.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Accepted and forgotten.",
    "SETNAME <name>",
    "    Name this connection.",
];

const BAD_NAME: &str = "ERR Client names cannot contain spaces, \
                        newlines or special characters.";
const BAD_USER: &str = "WRONGPASS invalid username-password pair \
                        or user is disabled.";

/// HELLO [version [AUTH user password] [SETNAME name]].
pub(crate) fn hello(
    arguments: &mut Arguments<'_>,
    conversation: &mut Conversation,
    reply: &mut impl Reply,
) {
    let mut version = conversation.version;
    if let Some(argument) = arguments.next() {
        version = match integer(argument.bytes()) {
            Some(2) => Version::Two,
            Some(3) => Version::Three,
            Some(_) => {
                return reply.error("NOPROTO unsupported protocol version");
            }
            None => {
                return reply.error(
                    "ERR Protocol version is not an integer or out of range",
                );
            }
        };
    }
    while let Some(option) = arguments.next() {
        if option.is_up_to_nul("auth") && arguments.clone().nth(1).is_some() {
            let user = arguments.next();
            arguments.next();
            // As in a Redis without configuration, the default user may have
            // any password.
            if !user.is_some_and(|user| user.bytes().eq(*b"default")) {
                return reply.error(BAD_USER);
            }
        } else if option.is_up_to_nul("setname")
            && let Some(name) = arguments.next()
        {
            let Some(name) = ClientName::new(name) else {
                return reply.error(BAD_NAME);
            };
            conversation.name = name;
        } else {
            reply.put(b"-ERR Syntax error in HELLO option '");
            reply.shown(option.text());
            return reply.put(b"'\r\n");
        }
    }
    conversation.version = version;
    greet(conversation, reply);
}

fn greet(conversation: &Conversation, reply: &mut impl Reply) {
    reply.map(7, conversation.version);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.head(b':', conversation.version as u64);
    reply.bulk(b"id");
    reply.head(b':', conversation.id);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}

/// CLIENT SETNAME name; an empty name removes it.
pub(crate) fn set_name(
    arguments: &mut Arguments<'_>,
    conversation: &mut Conversation,
    reply: &mut impl Reply,
) {
    match arguments.next().and_then(ClientName::new) {
        Some(name) => {
            conversation.name = name;
            reply.status("OK");
        }
        None => reply.error(BAD_NAME),
    }
}

/// CLIENT GETNAME.
pub(crate) fn name(conversation: &Conversation, reply: &mut impl Reply) {
    match conversation.name.bytes() {
        [] => reply.null(conversation.version),
        name => reply.bulk(name),
    }
}

/// CLIENT NO-EVICT and NO-TOUCH: ON or OFF, which makes no difference here.
pub(crate) fn on_or_off(arguments: &mut Arguments<'_>, reply: &mut impl Reply) {
    let known = |argument: Argument<'_>| {
        argument.is_up_to_nul("on") || argument.is_up_to_nul("off")
    };
    if arguments.next().is_some_and(known) {
        reply.status("OK");
    } else {
        reply.error("ERR syntax error");
    }
}

/// CLIENT SETINFO attribute value: new in Redis 7.2, and what client libraries
/// begin with. Its errors are those of 7.2.
pub(crate) fn set_info(arguments: &mut Arguments<'_>, reply: &mut impl Reply) {
    let (Some(attribute), Some(value)) = (arguments.next(), arguments.next())
    else {
        return;
    };
    let known = ["lib-name", "lib-ver"];
    let Some(known) = known.iter().find(|name| attribute.is_up_to_nul(name))
    else {
        reply.put(b"-ERR Unrecognized option '");
        reply.shown(attribute.text());
        return reply.put(b"'\r\n");
    };
    if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        reply.status("OK");
    } else {
        reply.put(b"-ERR ");
        reply.put(known.as_bytes());
        reply.put(
            b" cannot contain spaces, newlines or special characters.\r\n",
        );
    }
}
