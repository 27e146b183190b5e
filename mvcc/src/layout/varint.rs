//! Numbers of variable length, and the reader all rows are parsed with.

/// Appends an LEB128 number.
pub(crate) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number, zig-zag.
pub(crate) fn put_signed(number: i64, out: &mut Vec<u8>) {
    put_varint(((number << 1) ^ (number >> 63)) as u64, out);
}

/// Reads fields from the front of a row. `None` means that the row is malformed.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Consumes the format version and checks it.
    pub(crate) fn version(&mut self, known: u8) -> Option<()> {
        (self.byte()? == known).then_some(())
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for (at, &byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * at as u32);
            if byte & 0x80 == 0 {
                if at == 9 && byte > 1 {
                    return None;
                }
                self.0 = &self.0[at + 1..];
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let number = self.varint()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number that must fit a positive `i64`.
    pub(crate) fn positive(&mut self) -> Option<i64> {
        i64::try_from(self.varint()?).ok()
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    /// A byte string behind its length.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip(number in any::<u64>(), signed in any::<i64>()) {
            let mut bytes = Vec::new();
            put_varint(number, &mut bytes);
            put_signed(signed, &mut bytes);
            let mut fields = Fields(&bytes);
            prop_assert_eq!(fields.varint(), Some(number));
            prop_assert_eq!(fields.signed(), Some(signed));
            prop_assert!(fields.rest().is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            let mut fields = Fields(&bytes);
            while fields.varint().is_some() {}
        }
    }
}
