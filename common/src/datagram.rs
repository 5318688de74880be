//! Requests in a datagram, replies in a datagram.

use crate::About;
use crate::protocol::{Conversation, Fixed, Progress, Reply, Request, answer};

/// The largest size of an argument, as in Redis. An argument that is longer
/// than its datagram is incomplete anyway.
const ARGUMENTS_MOST: u32 = 512 * 1024 * 1024;

const INCOMPLETE: &str = "ERR incomplete request";
const MALFORMED: &str = "ERR malformed request";
const TOO_LARGE: &str = "ERR reply too large for a datagram";
const ONE_INFO: &str = "ERR INFO is answered once a datagram";

/// Answers the requests in one datagram. Returns the length of the replies in
/// `reply`, in bytes; 0 if there is no reply.
///
/// All requests must be complete. If one is not, or if the replies don't fit
/// into `reply`, one error is sent in place of all replies. The error repeats
/// nothing of the input, so that a spoofed source address can't be used to
/// reflect chosen text at a third party. INFO, whose reply is a hundred times
/// longer than the request, is answered once. QUIT ends the datagram. Each
/// datagram is a conversation of its own, with id 0.
///
/// The function allocates nothing, takes no lock and can't fail, so a signal
/// handler may call it.
pub fn answer_datagram(
    datagram: &[u8],
    about: &About,
    reply: &mut [u8],
) -> usize {
    let mut replies = Fixed::new(reply);
    let fault = match answer_all(datagram, about, &mut replies) {
        Ok(()) if replies.overflowed => Some(TOO_LARGE),
        Ok(()) => None,
        Err(fault) => Some(fault),
    };
    if let Some(fault) = fault {
        replies = Fixed::new(reply);
        replies.error(fault);
        if replies.overflowed {
            return 0;
        }
    }
    replies.written().len()
}

fn answer_all(
    datagram: &[u8],
    about: &About,
    replies: &mut Fixed<'_>,
) -> Result<(), &'static str> {
    let mut conversation = Conversation::new(0, ARGUMENTS_MOST);
    let mut informed = false;
    let mut rest = datagram;
    while conversation.open && !rest.is_empty() {
        let length = Progress::default()
            .advance(rest, ARGUMENTS_MOST as usize)
            .map_err(|_| MALFORMED)?
            .ok_or(INCOMPLETE)?;
        let (request, after) = rest.split_at(length);
        let request = Request::of(request);
        let info = request.name.is_some_and(|name| name.is("info"));
        if info && informed {
            replies.error(ONE_INFO);
        } else {
            answer(request, about, &mut conversation, replies);
        }
        informed |= info;
        rest = after;
    }
    Ok(())
}
