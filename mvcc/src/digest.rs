//! A running digest of everything applied.
//!
//! Owns: the folding. Members fold the same entries in the same order, however those were grouped, so at equal
//! applied positions the digests are equal, or some member's state is wrong. Called by: apply; compared by the
//! cluster's corruption check. A checksum, not a cryptographic hash: it guards against faults, not against malice.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) u64);

impl Digest {
    pub(crate) fn number(&mut self, number: u64) {
        // Multiply and fold: each input bit reaches every bit of the state within two steps, and order matters.
        let product = u128::from(self.0 ^ number ^ 0x9e37_79b9_7f4a_7c15) * 0xa5a3_5625_7d13_8b01;
        let product = product ^ (product >> 64);
        self.0 = (product as u64).rotate_left(23) ^ number;
    }

    pub(crate) fn signed(&mut self, number: i64) {
        self.number(number as u64);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number((bytes.len() as u64) << 32 | u64::from(crc32c::crc32c(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_boundaries_matter() {
        let fold = |parts: &[&str]| {
            let mut digest = Digest(0);
            parts.iter().for_each(|part| digest.bytes(part.as_bytes()));
            digest
        };
        assert_ne!(fold(&["a", "b"]), fold(&["b", "a"]));
        assert_ne!(fold(&["ab"]), fold(&["a", "b"]));
        assert_ne!(fold(&["", ""]), fold(&[""]));
        assert_eq!(fold(&["x", "y"]), fold(&["x", "y"]));
    }
}
