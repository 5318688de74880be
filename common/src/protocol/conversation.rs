//! What one client has told about itself.

use super::argument::Argument;
use super::reply::Version;

/// All that a client's requests leave behind.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    /// What CLIENT ID and HELLO report.
    pub(crate) id: u64,
    pub(crate) version: Version,
    /// False from the last reply on.
    pub(crate) open: bool,
    pub(crate) name: ClientName,
}

impl Conversation {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            version: Version::Two,
            open: true,
            name: ClientName::default(),
        }
    }
}

/// The name that a client gave itself, cut to what fits beside the rest of a
/// session: one that is idle holds no other memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClientName {
    bytes: [u8; Self::MOST],
    length: u8,
}

impl ClientName {
    const MOST: usize = 21;

    /// Nothing unless all bytes can be printed and none is a blank, which
    /// would spoil Redis's own lists of clients.
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
