//! The state that a client's requests leave behind.

use super::argument::Argument;
use super::reply::Version;

/// The state of one client.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    /// The number that CLIENT ID and HELLO report.
    pub(crate) id: u64,
    /// The most bytes that the arguments of one request may have.
    pub(crate) max_request: u32,
    pub(crate) version: Version,
    /// False from the last reply on.
    pub(crate) open: bool,
    /// DEBUG is allowed.
    pub(crate) debug: bool,
    pub(crate) name: ClientName,
}

impl Conversation {
    pub(crate) fn new(id: u64, max_request: u32) -> Self {
        Self {
            id,
            max_request,
            version: Version::Two,
            open: true,
            debug: false,
            name: ClientName::default(),
        }
    }
}

/// The name that a client gave itself, cut to what fits beside the rest of a
/// session in 40 bytes: one that is idle holds no other memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClientName {
    bytes: [u8; Self::MOST],
    length: u8,
}

impl ClientName {
    const MOST: usize = 16;

    /// Returns `None` unless all bytes are printable and none is a blank, as in
    /// Redis, whose list of clients has blanks between fields.
    pub(crate) fn new(argument: Argument<'_>) -> Option<Self> {
        let mut name = Self::default();
        for byte in argument.bytes() {
            if !byte.is_ascii_graphic() {
                return None;
            }
            if let Some(place) = name.bytes.get_mut(usize::from(name.length)) {
                *place = byte;
                name.length += 1;
            }
        }
        Some(name)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}
