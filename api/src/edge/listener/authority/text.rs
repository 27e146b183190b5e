//! The characters of an authority, and what takes the place of those that the library refuses.
//!
//! Owns: [`Text`] and HPACK's short codes. Called by: [`super::block`]. Source: RFC 7541 appendix B.

/// The characters of an authority, one byte of its code at a time.
#[derive(Debug)]
pub(super) struct Text {
    huffman: bool,
    /// Bits of a code that is not complete.
    code: u32,
    bits: u32,
    /// A code longer than any character of an ordinary authority came: the rest is left alone.
    lost: bool,
    /// The first characters, to recognise a scheme.
    head: [u8; SCHEME_BYTES_MAX],
    len: usize,
}

/// Schemes that clients of etcd put before an address.
const SCHEMES: [&[u8]; 4] = [b"http", b"https", b"unix", b"unixs"];
const SCHEME_BYTES_MAX: usize = 5;

/// HPACK's codes of up to eight bits: length, first code, and the characters in the order of their codes.
pub(super) const CODES: [(u32, u32, &[u8]); 4] = [
    (5, 0x00, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
];
const CODE_BITS_MAX: u32 = 8;

impl Text {
    pub(super) fn new(huffman: bool) -> Self {
        Text { huffman, code: 0, bits: 0, lost: false, head: [0; SCHEME_BYTES_MAX], len: 0 }
    }

    /// Corrects the byte if a character to be replaced ends in it; returns whether it did.
    pub(super) fn feed(&mut self, byte: &mut u8) -> bool {
        if !self.huffman {
            let replaced = self.replacement(*byte);
            *byte = replaced.unwrap_or(*byte);
            return replaced.is_some();
        }
        let mut touched = false;
        for bit in (0..u8::BITS).rev() {
            if self.lost {
                break;
            }
            self.code = self.code << 1 | u32::from(*byte >> bit & 1);
            self.bits += 1;
            if let Some(character) = decode(self.code, self.bits) {
                (self.code, self.bits) = (0, 0);
                if self.replacement(character).is_some() {
                    *byte |= 1 << bit;
                    touched = true;
                }
            }
            self.lost = self.bits > CODE_BITS_MAX;
        }
        touched
    }

    /// What to put in the place of the next character. As codes, both pairs differ in their last bit only: 0 becomes 1.
    fn replacement(&mut self, character: u8) -> Option<u8> {
        let at = self.len;
        if at < SCHEME_BYTES_MAX {
            self.head[at] = character;
        }
        self.len += 1;
        match character {
            b'/' => Some(b'3'),
            b':' if at <= SCHEME_BYTES_MAX && SCHEMES.contains(&&self.head[..at]) => Some(b'B'),
            // C-core percent-encodes the path of a Unix socket, and does not use Huffman codes.
            b'%' if !self.huffman => Some(b'.'),
            _ => None,
        }
    }
}

/// The character with this code, if it is complete.
pub(super) fn decode(code: u32, bits: u32) -> Option<u8> {
    let (_, first, characters) = CODES.iter().find(|(length, ..)| *length == bits)?;
    characters.get(usize::try_from(code.checked_sub(*first)?).ok()?).copied()
}
