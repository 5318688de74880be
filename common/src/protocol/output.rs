//! Output buffers for replies.

use super::fault::Fault;
use super::reply::Reply;

/// A reply in a buffer that grows.
pub(crate) struct Growing<'a> {
    output: &'a mut Vec<u8>,
    /// Where the reply starts, behind earlier ones.
    start: usize,
    /// An allocation has failed.
    out_of_memory: bool,
}

impl<'a> Growing<'a> {
    pub(crate) fn new(output: &'a mut Vec<u8>) -> Self {
        let start = output.len();
        Self { output, start, out_of_memory: false }
    }

    /// Ends the reply; removes all of it if there was no memory for it.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), Fault> {
        if self.out_of_memory {
            self.output.truncate(self.start);
            return Err(Fault::NoMemory);
        }
        Ok(())
    }
}

impl Reply for Growing<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if self.out_of_memory || self.output.try_reserve(bytes.len()).is_err() {
            self.out_of_memory = true;
            return;
        }
        self.output.extend_from_slice(bytes);
    }

    fn expect(&mut self, bytes: usize) {
        self.out_of_memory |= self.output.try_reserve(bytes).is_err();
    }
}

/// Replies in a buffer of fixed size.
pub(crate) struct Fixed<'a> {
    space: &'a mut [u8],
    length: usize,
    /// Something did not fit.
    pub(crate) overflowed: bool,
}

impl<'a> Fixed<'a> {
    pub(crate) fn new(space: &'a mut [u8]) -> Self {
        Self { space, length: 0, overflowed: false }
    }

    pub(crate) fn written(&self) -> &[u8] {
        &self.space[..self.length]
    }
}

impl Reply for Fixed<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        match self.space.get_mut(self.length..end) {
            Some(place) if !self.overflowed => {
                place.copy_from_slice(bytes);
                self.length = end;
            }
            _ => self.overflowed = true,
        }
    }

    fn expect(&mut self, _: usize) {}
}
