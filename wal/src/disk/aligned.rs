//! Memory at an address the disk can take bytes from.
//!
//! Owns: `Aligned`, a growable buffer of zeros. Invariant: its first byte stands at a multiple of `ALIGN`, so that
//! writes that pass by the page cache need no copy. Called by: `block` (the buffer of groups), `direct`.

use std::ops::{Deref, DerefMut};

/// Address, offset and length of a direct read or write are multiples of this.
pub(crate) const ALIGN: usize = 512;

/// Bytes that begin at a multiple of `ALIGN`.
#[derive(Default)]
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// A buffer of `length` zeros.
    pub(crate) fn zeroed(length: usize) -> Self {
        let bytes = vec![0u8; length + ALIGN - 1];
        let start = bytes.as_ptr().align_offset(ALIGN);
        assert!(start < ALIGN, "an address of bytes can always be aligned");
        Aligned { bytes, start, length }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}
