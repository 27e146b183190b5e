//! The two meta pages at the head of a bbolt file, one of which counts; and its little-endian numbers.
//!
//! Owns: what makes a meta page count. Called by: `snapshot::database`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::snapshot::bbolt::{FLAG_META, MAGIC, META_BYTES, PAGE_HEADER_BYTES, VERSION, fnv1a};

/// Sizes a page may have.
const PAGE_SIZES: std::ops::RangeInclusive<u64> = 512..=1 << 16;

/// What a meta page says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) page_bytes: u64,
    pub(super) root: u64,
    pub(super) page_end: u64,
    pub(super) transaction: u64,
}

/// The meta page at an offset, or why it does not count.
pub(super) fn read_meta(file: &File, offset: u64) -> io::Result<Result<Meta, String>> {
    let mut bytes = [0; PAGE_HEADER_BYTES + META_BYTES];
    match file.read_exact_at(&mut bytes, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(Err("the file is too short".to_owned()));
        }
        other => other?,
    }
    let meta = &bytes[PAGE_HEADER_BYTES..];
    if u32_at(meta, 0) != MAGIC {
        return Ok(Err("it does not begin as one".to_owned()));
    }
    if u32_at(meta, 4) != VERSION {
        return Ok(Err(format!("its format has version {}", u32_at(meta, 4))));
    }
    if u64_at(meta, 56) != fnv1a(&meta[..56]) || u16_at(&bytes, 8) != FLAG_META {
        return Ok(Err("its checksum is wrong".to_owned()));
    }
    let page_bytes = u64::from(u32_at(meta, 8));
    if !page_bytes.is_power_of_two() || !PAGE_SIZES.contains(&page_bytes) {
        return Ok(Err(format!("pages of {page_bytes} bytes")));
    }
    Ok(Ok(Meta {
        page_bytes,
        root: u64_at(meta, 16),
        page_end: u64_at(meta, 40),
        transaction: u64_at(meta, 48),
    }))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
