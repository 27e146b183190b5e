//! Reading and writing the fixed-width little-endian fields of our own formats.
//!
//! Owns: the primitive fields. Called by: `batch`, `codec`, `net::message`.
//! Invariants: reading never panics, whatever the bytes: each read is bounds-checked, counts are checked against the
//! bytes that are left before anything is allocated. Fixed width because the heads are small beside what follows.

use bytes::{Buf, BufMut, Bytes};

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("truncated {0}")]
    Truncated(&'static str),
    /// Bytes are left after the last field.
    #[error("{0} trailing bytes")]
    Trailing(usize),
    /// A tag no version of the format we know has.
    #[error("unknown {what} {tag}")]
    Unknown {
        /// Which tag.
        what: &'static str,
        /// Its value.
        tag: u64,
    },
    /// A field that breaks a rule of the format.
    #[error("invalid {0}")]
    Invalid(&'static str),
}

/// A cursor over bytes; slices share memory with the input.
pub struct Reader(Bytes);

impl Reader {
    /// Starts at the first byte.
    pub fn new(bytes: Bytes) -> Self {
        Reader(bytes)
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    fn need(&self, bytes: usize, what: &'static str) -> Result<(), WireError> {
        if self.0.len() < bytes { Err(WireError::Truncated(what)) } else { Ok(()) }
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.need(1, what)?;
        Ok(self.0.get_u8())
    }

    /// Four bytes.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.need(4, what)?;
        Ok(self.0.get_u32_le())
    }

    /// Eight bytes.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.need(8, what)?;
        Ok(self.0.get_u64_le())
    }

    /// One byte that is 0 or 1.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Invalid(what)),
        }
    }

    /// A count of items of at least `item_bytes_min` bytes each, refused if that many cannot follow.
    pub fn count(&mut self, item_bytes_min: usize, what: &'static str) -> Result<usize, WireError> {
        let count = self.u32(what)? as usize;
        if count.checked_mul(item_bytes_min).is_none_or(|bytes| bytes > self.left()) {
            return Err(WireError::Truncated(what));
        }
        Ok(count)
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self, what: &'static str) -> Result<Bytes, WireError> {
        let len = self.count(1, what)?;
        Ok(self.0.split_to(len))
    }

    /// A length and that many bytes of UTF-8.
    pub fn string(&mut self, what: &'static str) -> Result<String, WireError> {
        let bytes = self.bytes(what)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| WireError::Invalid(what))
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    /// The end of the format: nothing may be left.
    pub fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.0.len())) }
    }
}

/// Writes a length and the bytes.
pub fn put_bytes(out: &mut impl BufMut, bytes: &[u8]) {
    out.put_u32_le(len_u32(bytes.len()));
    out.put_slice(bytes);
}

/// A length as the formats carry it.
pub fn len_u32(len: usize) -> u32 {
    assert!(len <= u32::MAX as usize, "a field of {len} bytes does not fit the format");
    len as u32
}
