//! INFO: the process and thread that answers, and its counts.

use super::argument::Arguments;
use super::output::Fixed;
use super::reply::{Reply, Version};
use crate::About;

/// The version of Redis whose protocol this is; clients check it.
pub(crate) const REDIS_VERSION: &str = "7.0.0";

/// The longest reply in bytes, header and end included. It is part of the bound
/// on a connection's memory.
const REPLY_MOST: usize = 512;

/// The names of model and variant are cut to this length, the kernel's release
/// to what uname(2) can hold.
const NAME_MOST: usize = 32;
const RELEASE_MOST: usize = 64;

/// INFO [section ...].
pub(crate) fn info(
    arguments: &mut Arguments<'_>,
    about: &About,
    version: Version,
    reply: &mut impl Reply,
) {
    let mut space = [0; REPLY_MOST];
    let mut text = Fixed::new(&mut space);
    if wanted(arguments, "server") {
        server(about, &mut text);
    }
    let counters = &about.counters;
    if wanted(arguments, "clients") {
        title("Clients", &mut text);
        count("clients", counters.clients, &mut text);
        count("accepted", counters.accepted, &mut text);
        count("rejected", counters.rejected, &mut text);
    }
    if wanted(arguments, "stats") {
        title("Stats", &mut text);
        count("requests", counters.requests, &mut text);
        count("empty_calls", counters.empty_calls, &mut text);
        count("datagrams", counters.datagrams, &mut text);
        count("datagrams_dropped", counters.datagrams_dropped, &mut text);
    }
    reply.verbatim(text.written(), version);
}

fn server(about: &About, text: &mut Fixed<'_>) {
    title("Server", text);
    line("redis_version", REDIS_VERSION, text);
    line("model", cut(about.model, NAME_MOST), text);
    line("variant", cut(about.variant, NAME_MOST), text);
    count("pid", u64::from(about.pid), text);
    count("tid", u64::from(about.tid), text);
    if let Some(number) = about.event_loop {
        count("loop", u64::from(number), text);
    }
    line("build", env!("CARGO_PKG_VERSION"), text);
    line("kernel", cut(about.kernel, RELEASE_MOST), text);
}

/// Whether a section was asked for, by name or with all others.
fn wanted(arguments: &Arguments<'_>, section: &str) -> bool {
    let names = [section, "default", "all", "everything"];
    let mut asked = arguments.clone();
    arguments.left() == 0
        || asked.any(|asked| names.iter().any(|name| asked.is_up_to_nul(name)))
}

fn title(name: &str, text: &mut Fixed<'_>) {
    if !text.written().is_empty() {
        text.put(b"\r\n");
    }
    text.put(b"# ");
    text.put(name.as_bytes());
    text.put(b"\r\n");
}

fn line(key: &str, value: &str, text: &mut Fixed<'_>) {
    text.put(key.as_bytes());
    text.put(b":");
    text.put(value.as_bytes());
    text.put(b"\r\n");
}

fn count(key: &str, value: u64, text: &mut Fixed<'_>) {
    text.put(key.as_bytes());
    text.head(b':', value);
}

/// Cuts `text` to a length in bytes.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
