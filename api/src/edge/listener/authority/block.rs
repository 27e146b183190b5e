//! The fields of one header block, as far as their lengths.
//!
//! Owns: [`Block`]. Invariants: no table is kept, because the length of a representation never depends on one; every
//! byte belongs to exactly one part. Called by: [`super::Repair`]. Source: RFC 7541 sections 5 and 6.

use super::text::Text;

/// Walks through the representations of one header block, without any table.
#[derive(Debug, Default)]
pub(super) struct Block {
    part: Part,
    /// Whether anything was replaced.
    pub(super) touched: bool,
}

#[derive(Debug, Default)]
enum Part {
    /// Before a representation.
    #[default]
    Start,
    /// In the continuation of an integer.
    Integer { value: u64, shift: u32, then: Then },
    /// Before the length of a name, or of a value.
    Length { then: Then },
    /// In a string that does not matter.
    Skip { left: u64, then_value: bool },
    /// In the value of an authority.
    Authority { left: u64, text: Text },
}

/// What an integer means.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// It stands for itself: an index, or a table size.
    Nothing,
    /// The number of a name; 0 if the name follows.
    NameIndex,
    /// The length of a name.
    Name,
    /// The length of a value that does not matter.
    Value,
    /// The length of an authority.
    Authority { huffman: bool },
}

/// `:authority` in HPACK's static table.
const AUTHORITY_INDEX: u64 = 1;
/// Longer integers are an error of the client, for the library to find.
const SHIFT_MAX: u32 = 56;

impl Block {
    pub(super) fn feed(&mut self, byte: &mut u8) {
        match &mut self.part {
            Part::Start => {
                let (prefix, then) = match *byte {
                    0x80.. => (7, Then::Nothing),
                    0x40..=0x7f => (6, Then::NameIndex),
                    0x20..=0x3f => (5, Then::Nothing),
                    0..=0x1f => (4, Then::NameIndex),
                };
                self.integer(*byte, prefix, then);
            }
            Part::Integer { value, shift, then } => {
                let value = *value + (u64::from(*byte & 0x7f) << *shift);
                let (shift, then) = (*shift + 7, *then);
                self.part = if *byte & 0x80 != 0 && shift <= SHIFT_MAX {
                    Part::Integer { value, shift, then }
                } else {
                    Self::after(value, then)
                };
            }
            Part::Length { then } => {
                let then = match *then {
                    Then::Authority { .. } => Then::Authority { huffman: *byte & 0x80 != 0 },
                    other => other,
                };
                self.integer(*byte, 7, then);
            }
            Part::Skip { left, then_value } => {
                *left -= 1;
                if *left == 0 {
                    self.part = if *then_value { Part::Length { then: Then::Value } } else { Part::Start };
                }
            }
            Part::Authority { left, text } => {
                self.touched |= text.feed(byte);
                *left -= 1;
                if *left == 0 {
                    self.part = Part::Start;
                }
            }
        }
    }

    /// Begins an integer with the given number of bits in its first byte.
    fn integer(&mut self, byte: u8, prefix: u32, then: Then) {
        let full = (1u8 << prefix) - 1;
        let value = u64::from(byte & full);
        self.part = if value == u64::from(full) {
            Part::Integer { value, shift: 0, then }
        } else {
            Self::after(value, then)
        };
    }

    fn after(value: u64, then: Then) -> Part {
        match (then, value) {
            (Then::Nothing, _) => Part::Start,
            (Then::NameIndex, 0) => Part::Length { then: Then::Name },
            (Then::NameIndex, AUTHORITY_INDEX) => Part::Length { then: Then::Authority { huffman: false } },
            (Then::NameIndex, _) => Part::Length { then: Then::Value },
            (Then::Name, 0) => Part::Length { then: Then::Value },
            (Then::Name, left) => Part::Skip { left, then_value: true },
            (Then::Value | Then::Authority { .. }, 0) => Part::Start,
            (Then::Value, left) => Part::Skip { left, then_value: false },
            (Then::Authority { huffman }, left) => Part::Authority { left, text: Text::new(huffman) },
        }
    }
}
