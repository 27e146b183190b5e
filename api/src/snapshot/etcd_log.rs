//! Reads etcd's own write-ahead log: what its database does not hold yet.
//!
//! Owns: segments, frames, the chain of checksums, and which entries count. Called by: `snapshot::directory`.
//! Invariants: a record counts only if the chain of checksums holds up to it; only the end of the last segment may be torn; an
//! entry that a later one of the same index replaces is gone; memory is bounded by [`PENDING_BYTES_MAX`], whatever a file says.
//! Source: etcd `server/storage/wal` (decoder, `ReadAll`), `raftpb`.
//!
//! Frame: `length u64, little endian` (the low 56 bits; where the highest bit is set, three more say how many bytes of padding
//! follow) and a record of protobuf: type, checksum, data. Each segment begins with the checksum of the one before.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

/// Entries that a database lags behind by are those of a tenth of a second; this is far more.
const PENDING_BYTES_MAX: usize = 256 << 20;
/// No record is larger: the largest request an etcd takes is a few megabytes.
const RECORD_BYTES_MAX: u64 = 128 << 20;
/// A torn write leaves whole sectors of zeros.
const SECTOR_BYTES: u64 = 512;
const FRAME_BYTES: u64 = 8;

const METADATA: i64 = 1;
const ENTRY: i64 = 2;
const STATE: i64 = 3;
const CHECKSUM: i64 = 4;
const SNAPSHOT: i64 = 5;

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(uint32, tag = "2")]
    crc: u32,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HardState {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    vote: u64,
    #[prost(uint64, tag = "3")]
    commit: u64,
}

/// An entry of etcd's log.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EtcdEntry {
    /// 0 for a request, 1 and 2 for a change of the membership.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Its term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Its index.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// What it says.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// Why a log is not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be read.
    #[error("read {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bytes are not what was written.
    #[error("{path} is damaged at byte {offset}: {fault}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// What is wrong with it.
        fault: String,
    },
    /// A part is missing.
    #[error("{path}: {fault}")]
    Incomplete {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        fault: String,
    },
}

/// What a log holds behind a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The entries behind the position, without a gap.
    pub entries: Vec<EtcdEntry>,
    /// Up to here the log says that they are committed.
    pub committed: u64,
}

/// Reads the log in `folder` for the entries behind index `after`.
///
/// # Errors
/// See [`LogError`].
pub fn read_tail(folder: &Path, after: u64) -> Result<Tail, LogError> {
    let mut reading = Reading { after, ..Reading::default() };
    let segments = segments(folder)?;
    let count = segments.len();
    for (number, path) in segments.iter().enumerate() {
        reading.segment(path, number + 1 == count)?;
    }
    if let Some(first) = reading.entries.front()
        && first.index != after + 1
    {
        let fault =
            format!("the database holds everything up to entry {after}, the log begins at {}", first.index);
        return Err(LogError::Incomplete { path: folder.to_owned(), fault });
    }
    if reading.entries.is_empty() && reading.committed > after {
        let fault = format!("entries {} to {} are committed but missing", after + 1, reading.committed);
        return Err(LogError::Incomplete { path: folder.to_owned(), fault });
    }
    Ok(Tail { entries: reading.entries.into(), committed: reading.committed })
}

/// The segments in order: `sequence-index.wal`, both in sixteen hexadecimal digits.
fn segments(folder: &Path) -> Result<Vec<PathBuf>, LogError> {
    let io = |source| LogError::Io { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parts = name.strip_suffix(".wal").and_then(|name| name.split_once('-'));
        let sequence = parts
            .filter(|(sequence, index)| sequence.len() == 16 && index.len() == 16)
            .and_then(|(sequence, _)| u64::from_str_radix(sequence, 16).ok());
        found.extend(sequence.map(|sequence| (sequence, path.clone())));
    }
    found.sort();
    if found.is_empty() {
        return Err(LogError::Incomplete { path: folder.to_owned(), fault: "there is no log".to_owned() });
    }
    if let Some(pair) = found.windows(2).find(|pair| pair[1].0 != pair[0].0 + 1) {
        let fault = format!("segment {:016x} is missing", pair[0].0 + 1);
        return Err(LogError::Incomplete { path: folder.to_owned(), fault });
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The state while reading.
#[derive(Default)]
struct Reading {
    after: u64,
    crc: u32,
    entries: VecDeque<EtcdEntry>,
    bytes: usize,
    committed: u64,
}

/// What follows in a segment.
enum Frame {
    Record(Record),
    End,
}

impl Reading {
    fn segment(&mut self, path: &Path, last: bool) -> Result<(), LogError> {
        let io = |source| LogError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut input = BufReader::with_capacity(256 << 10, file);
        let mut offset = 0;
        loop {
            let damaged = |fault: String| LogError::Damaged { path: path.to_owned(), offset, fault };
            let (frame, bytes) = match self.frame(&mut input, offset, size, last) {
                Ok(read) => read,
                Err(FrameFault::Io(source)) => return Err(io(source)),
                Err(FrameFault::Damaged(fault)) => return Err(damaged(fault)),
            };
            match frame {
                Frame::End => return Ok(()),
                Frame::Record(record) => self.take(&record).map_err(damaged)?,
            }
            offset += bytes;
        }
    }

    /// Reads a frame; gives it with its length.
    fn frame(
        &self,
        input: &mut impl Read,
        offset: u64,
        size: u64,
        last: bool,
    ) -> Result<(Frame, u64), FrameFault> {
        // A file ends where its frames do, or in space that was set aside.
        if size - offset < FRAME_BYTES {
            return match size == offset || last {
                true => Ok((Frame::End, 0)),
                false => Err(FrameFault::Damaged("a frame is cut off".to_owned())),
            };
        }
        let mut head = [0; FRAME_BYTES as usize];
        input.read_exact(&mut head)?;
        let head = u64::from_le_bytes(head);
        if head == 0 {
            return Ok((Frame::End, 0));
        }
        let length = head & !(0xff << 56);
        let padding = if head >> 63 == 1 { (head >> 56) & 7 } else { 0 };
        let whole = length + padding;
        if whole > size - offset - FRAME_BYTES || length > RECORD_BYTES_MAX {
            // The one write that a crash cut off.
            return match last && length <= RECORD_BYTES_MAX {
                true => Ok((Frame::End, 0)),
                false => Err(FrameFault::Damaged(format!("a record of {length} bytes does not fit"))),
            };
        }
        let mut data = vec![0; whole as usize];
        input.read_exact(&mut data)?;
        let torn = || last && is_torn(&data, offset + FRAME_BYTES);
        let bytes = Bytes::copy_from_slice(&data[..length as usize]);
        let record = match Record::decode(bytes) {
            Ok(record) => record,
            Err(_) if torn() => return Ok((Frame::End, 0)),
            Err(error) => return Err(FrameFault::Damaged(format!("not a record: {error}"))),
        };
        if record.kind != CHECKSUM && crc32c::crc32c_append(self.crc, &record.data) != record.crc {
            return match torn() {
                true => Ok((Frame::End, 0)),
                false => Err(FrameFault::Damaged("the checksum is wrong".to_owned())),
            };
        }
        Ok((Frame::Record(record), FRAME_BYTES + whole))
    }

    fn take(&mut self, record: &Record) -> Result<(), String> {
        if record.kind != CHECKSUM {
            self.crc = record.crc;
        }
        match record.kind {
            METADATA | SNAPSHOT => {}
            CHECKSUM if self.crc == 0 || self.crc == record.crc => self.crc = record.crc,
            CHECKSUM => return Err("the segment does not follow the one before".to_owned()),
            STATE => {
                let state = HardState::decode(record.data.clone()).map_err(|error| error.to_string())?;
                self.committed = state.commit;
            }
            ENTRY => {
                let entry = EtcdEntry::decode(record.data.clone()).map_err(|error| error.to_string())?;
                self.entry(entry)?;
            }
            kind => return Err(format!("a record of the unknown kind {kind}")),
        }
        Ok(())
    }

    fn entry(&mut self, entry: EtcdEntry) -> Result<(), String> {
        // An entry ends whatever stood at its index and behind.
        while let Some(last) = self.entries.back().filter(|last| last.index >= entry.index) {
            self.bytes -= last.data.len();
            self.entries.pop_back();
        }
        if entry.index <= self.after {
            return Ok(());
        }
        if let Some(last) = self.entries.back()
            && (entry.index != last.index + 1 || entry.term < last.term)
        {
            return Err(format!(
                "entry {} of term {} follows entry {} of term {}",
                entry.index, entry.term, last.index, last.term
            ));
        }
        self.bytes += entry.data.len();
        if self.bytes > PENDING_BYTES_MAX {
            return Err(format!("more than {PENDING_BYTES_MAX} bytes of entries stand behind the database"));
        }
        self.entries.push_back(entry);
        Ok(())
    }
}

enum FrameFault {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for FrameFault {
    fn from(error: io::Error) -> Self {
        FrameFault::Io(error)
    }
}

/// Whether a sector of the data, which begins at `offset` in the file, was never written.
fn is_torn(data: &[u8], offset: u64) -> bool {
    let mut rest = data;
    let mut at = offset;
    while !rest.is_empty() {
        let sector = rest.len().min((SECTOR_BYTES - at % SECTOR_BYTES) as usize);
        let (head, behind) = rest.split_at(sector);
        if head.iter().all(|byte| *byte == 0) {
            return true;
        }
        at += sector as u64;
        rest = behind;
    }
    false
}
