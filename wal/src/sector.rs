//! The smallest unit the disk writes wholly or not at all, and the stamp each one carries.
//!
//! Owns: the layout of a sector, its checksum, and the question "what is in this sector now?".
//! Invariants: a sector verifies only in the file and at the position it was written for; the block number in
//! it only grows with time at one position, so whatever is below the expected number is from before.
//! Called by: `block` (building and checking), `scan` (telling a tear from damage), `reader`.
//!
//! Layout, little endian: `crc u32 | block number u64 | payload 500 bytes`.

/// Unit of atomic writes; also the granularity of stamps.
pub const SECTOR_BYTES: usize = 512;
/// Bytes of a sector before its payload.
pub(crate) const STAMP_BYTES: usize = 12;
/// Payload bytes in one sector.
pub(crate) const PAYLOAD_BYTES: usize = SECTOR_BYTES - STAMP_BYTES;

const CRC_BYTES: usize = 4;

/// What a sector shows, relative to the number of the block expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectorState {
    /// Content from before the expected block: pre-written zeros, or a valid sector of an older block.
    /// Since sectors are written wholly or not at all, the expected block's write never reached it.
    Before,
    /// A valid sector of the expected block.
    Expected,
    /// A valid sector of a later block, which is only ever written after the expected one was synced.
    After,
    /// None of these: its content changed behind our back.
    Garbage,
}

/// The checksum of a sector depends on the file and the position: a sector that is moved, or copied from
/// another file, does not verify. Distinct positions in one file give distinct starting values, and a CRC maps
/// distinct starting values over equal bytes to distinct results.
fn initial(file_salt: u64, sector: u64) -> u32 {
    (file_salt as u32) ^ ((file_salt >> 32) as u32) ^ (sector as u32).wrapping_mul(0x9E37_79B1)
}

fn checksum(bytes: &[u8], file_salt: u64, offset: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(initial(file_salt, offset / SECTOR_BYTES as u64));
    hasher.update(&bytes[CRC_BYTES..SECTOR_BYTES]);
    hasher.finalize()
}

/// Stamps a sector whose payload is complete; returns its checksum.
pub(crate) fn seal(sector: &mut [u8], file_salt: u64, offset: u64, block: u64) -> u32 {
    assert!(sector.len() == SECTOR_BYTES && offset.is_multiple_of(SECTOR_BYTES as u64));
    sector[CRC_BYTES..STAMP_BYTES].copy_from_slice(&block.to_le_bytes());
    let crc = checksum(sector, file_salt, offset);
    sector[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// The block number a sector claims. Meaningful only after `is_valid`.
pub(crate) fn block_number(sector: &[u8]) -> u64 {
    u64::from_le_bytes(sector[CRC_BYTES..STAMP_BYTES].try_into().expect("eight bytes"))
}

/// The checksum a sector claims.
pub(crate) fn crc(sector: &[u8]) -> u32 {
    u32::from_le_bytes(sector[..CRC_BYTES].try_into().expect("four bytes"))
}

/// Whether the sector is what was once written at this position of this file.
pub(crate) fn is_valid(sector: &[u8], file_salt: u64, offset: u64) -> bool {
    crc(sector) == checksum(sector, file_salt, offset)
}

pub(crate) fn is_zero(sector: &[u8]) -> bool {
    sector.iter().all(|byte| *byte == 0)
}

/// Tells what is in a sector where block `expected` is looked for.
pub(crate) fn classify(sector: &[u8], file_salt: u64, offset: u64, expected: u64) -> SectorState {
    if is_zero(sector) {
        return SectorState::Before;
    }
    if !is_valid(sector, file_salt, offset) {
        return SectorState::Garbage;
    }
    match block_number(sector).cmp(&expected) {
        std::cmp::Ordering::Less => SectorState::Before,
        std::cmp::Ordering::Equal => SectorState::Expected,
        std::cmp::Ordering::Greater => SectorState::After,
    }
}

/// File offset just past `bytes` payload bytes that start at file offset `start`.
pub(crate) fn advance(start: u64, bytes: u64) -> u64 {
    let within = start % SECTOR_BYTES as u64;
    debug_assert!(within >= STAMP_BYTES as u64);
    let room = SECTOR_BYTES as u64 - within;
    if bytes <= room {
        return start + bytes;
    }
    let rest = bytes - room;
    let whole = (rest - 1) / PAYLOAD_BYTES as u64;
    let last = rest - whole * PAYLOAD_BYTES as u64;
    start + room + whole * SECTOR_BYTES as u64 + STAMP_BYTES as u64 + last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_verifies_only_where_it_was_written() {
        let mut sector = [7u8; SECTOR_BYTES];
        seal(&mut sector, 11, 4096, 5);
        assert_eq!(classify(&sector, 11, 4096, 5), SectorState::Expected);
        assert_eq!(classify(&sector, 11, 4096, 6), SectorState::Before);
        assert_eq!(classify(&sector, 11, 4096, 4), SectorState::After);
        assert_eq!(classify(&sector, 11, 4608, 5), SectorState::Garbage);
        assert_eq!(classify(&sector, 12, 4096, 5), SectorState::Garbage);
        for bit in 0..SECTOR_BYTES * 8 {
            let mut flipped = sector;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(classify(&flipped, 11, 4096, 5), SectorState::Garbage, "bit {bit}");
        }
        assert_eq!(classify(&[0; SECTOR_BYTES], 11, 4096, 5), SectorState::Before);
    }

    #[test]
    fn advance_skips_stamps() {
        assert_eq!(advance(12, 500), 512);
        assert_eq!(advance(12, 501), 525);
        assert_eq!(advance(12, 1000), 1024);
        assert_eq!(advance(12, 1001), 1037);
        assert_eq!(advance(600, 0), 600);
    }
}
