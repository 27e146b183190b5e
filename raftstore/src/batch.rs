//! The payload of an entry: the proposals of one member, put together as they arrived.
//!
//! Owns: the byte format, the building (in place: a command is encoded once, straight into the buffer that becomes the
//! WAL payload, the replication payload and the input of apply) and the total decoding.
//! Called by: `proposer` (build), `state_machine` (decode).
//!
//! ```text
//! offset  width  field
//! 0       1      format: 1 = batch of proposals (0 and 2 are blank and membership entries, see `codec`)
//! 1       8      proposer: member id
//! 9       8      incarnation: drawn when the proposer starts, so that replies never go to an earlier life's waiters
//! 17      8      sequence: counts the batches of that incarnation from 1
//! 25      4      count of commands
//! 29      ...    per command: 4 bytes length, the command as `keelson_mvcc::codec` encodes it
//! ```
//! All numbers little-endian. Source: own format; the idea of finding replies by (proposer, sequence) and not by log
//! index lets every member answer its own clients from its own apply.

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::{Batch, MemberId};
use crate::wire::{Reader, WireError, len_u32};

/// First byte of a payload of this format.
pub const FORMAT_BATCH: u8 = 1;

const HEAD_BYTES: usize = 29;
const COUNT_OFFSET: usize = 25;
const SEQUENCE_OFFSET: usize = 17;

/// Which batch: unique over the life of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct BatchId {
    pub proposer: MemberId,
    pub incarnation: u64,
    pub sequence: u64,
}

/// A batch being filled.
pub struct BatchBuilder {
    buffer: BytesMut,
    count: u32,
}

impl BatchBuilder {
    /// An empty batch of this proposer, with room for `capacity_bytes`.
    pub fn new(proposer: MemberId, incarnation: u64, capacity_bytes: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(HEAD_BYTES + 4 + capacity_bytes);
        buffer.put_u8(FORMAT_BATCH);
        buffer.put_u64_le(proposer);
        buffer.put_u64_le(incarnation);
        buffer.put_u64_le(0);
        buffer.put_u32_le(0);
        debug_assert_eq!(buffer.len(), HEAD_BYTES);
        BatchBuilder { buffer, count: 0 }
    }

    /// Appends a command that `encode` writes; `len_bound` is room enough for it.
    pub fn push(&mut self, len_bound: usize, encode: impl FnOnce(&mut BytesMut)) {
        self.buffer.reserve(4 + len_bound);
        let length_at = self.buffer.len();
        self.buffer.put_u32_le(0);
        encode(&mut self.buffer);
        let len = len_u32(self.buffer.len() - length_at - 4);
        self.buffer[length_at..length_at + 4].copy_from_slice(&len.to_le_bytes());
        self.count += 1;
    }

    /// Bytes so far, head included.
    pub fn len_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Commands so far.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Fixes the sequence and gives the bytes away.
    pub fn finish(mut self, sequence: u64) -> Batch {
        assert!(self.count > 0 && sequence > 0);
        self.buffer[SEQUENCE_OFFSET..SEQUENCE_OFFSET + 8].copy_from_slice(&sequence.to_le_bytes());
        self.buffer[COUNT_OFFSET..COUNT_OFFSET + 4].copy_from_slice(&self.count.to_le_bytes());
        // Kept for long (log in memory, replication): what growing left unused is given back.
        if self.buffer.capacity() - self.buffer.len() > self.buffer.len() / 4 {
            return Batch(Bytes::copy_from_slice(&self.buffer));
        }
        Batch(self.buffer.freeze())
    }
}

/// Takes a batch apart. The commands share memory with `payload`.
///
/// # Errors
/// Bytes that this format does not produce.
pub fn decode(payload: &Bytes) -> Result<(BatchId, Vec<Bytes>), WireError> {
    let mut reader = Reader::new(payload.clone());
    match reader.u8("batch format")? {
        FORMAT_BATCH => {}
        tag => return Err(WireError::Unknown { what: "batch format", tag: tag.into() }),
    }
    let id = BatchId {
        proposer: reader.u64("proposer")?,
        incarnation: reader.u64("incarnation")?,
        sequence: reader.u64("sequence")?,
    };
    let count = reader.count(4, "command count")?;
    let mut commands = Vec::with_capacity(count);
    for _ in 0..count {
        commands.push(reader.bytes("command")?);
    }
    reader.end()?;
    Ok((id, commands))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_as_it_was_built() {
        let mut builder = BatchBuilder::new(7, 99, 16);
        builder.push(3, |out| out.put_slice(b"abc"));
        builder.push(0, |_| {});
        let batch = builder.finish(5);
        let (id, commands) = decode(&batch.0).expect("decodes");
        assert_eq!(id, BatchId { proposer: 7, incarnation: 99, sequence: 5 });
        assert_eq!(commands, vec![Bytes::from_static(b"abc"), Bytes::new()]);
    }

    proptest::proptest! {
        #[test]
        fn decoding_garbage_gives_an_error_and_no_panic(bytes: Vec<u8>, cut in 0usize..40) {
            let _ = decode(&Bytes::from(bytes.clone()));
            let mut builder = BatchBuilder::new(1, 2, 0);
            builder.push(bytes.len(), |out| out.put_slice(&bytes));
            let whole = builder.finish(1).0;
            let cut = cut.min(whole.len() - 1);
            // Every strict prefix is refused.
            proptest::prop_assert!(decode(&whole.slice(..whole.len() - 1 - cut)).is_err());
            proptest::prop_assert!(decode(&whole).is_ok());
        }
    }
}
