//! Opens a log: finds the chain, replays it, cuts a torn tail, refuses damage.
//!
//! Owns: `Wal::open` and `Recovered`. Invariants: the chain is read to its end before anything is changed;
//! whatever is returned is durable when `open` returns, also if the process that wrote it was killed between
//! its write and its sync, or had a sync fail. Called by: raftstore at start.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::block::{BlockBuffer, FLAG_OPENS, Place, sectors};
use crate::chain::{CutTail, End, Segments, cut_tail, read_chain, rewrite_last_block};
use crate::disk::{Disk, DiskFile};
use crate::error::{OpenError, WalError};
use crate::header::{BODY_OFFSET, Header};
use crate::index::{Edit, LogIndex, lock};
use crate::meta::Meta;
use crate::options::{Identity, Options};
use crate::record::{self, EntryRecord, KIND_STATE};
use crate::replay::Replay;
use crate::sector::SECTOR_BYTES;
use crate::segment::{
    Name, RESERVE, Segment, SegmentPlan, Spare, parse_name, segment_path, spare_path, sync_dir,
};
use crate::wal::{Parts, Wal};

/// What a log held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The directory held no log; a new one was made.
    pub fresh: bool,
    /// The last vote written.
    pub vote: Option<Bytes>,
    /// A commit mark; never newer than the last one given, possibly older.
    pub committed: Option<Bytes>,
    /// Last purged index and its position.
    pub purged: Option<(u64, Bytes)>,
    /// The first entry kept, if there is one.
    pub first_index: Option<u64>,
    /// The last entry, if there is one.
    pub last_index: Option<u64>,
    /// The newest entries, oldest first, ending with the last one; `Options::tail_bytes_max` bounds it. Older
    /// ones are there for `Wal::read`.
    pub tail: Vec<EntryRecord>,
    /// The write that a crash cut off. It was never acknowledged.
    pub cut: Option<CutTail>,
    /// Blocks read.
    pub blocks: u64,
}

impl<D: Disk> Wal<D> {
    /// Opens the log in `dir`, making directory and log if there is none.
    ///
    /// # Errors
    /// See `OpenError`. Damage is never repaired here: other members may have counted on what is lost.
    pub fn open(disk: D, dir: &Path, mut options: Options) -> Result<(Wal<D>, Recovered), OpenError> {
        options.validate()?;
        let failed = |operation| move |error| OpenError::Wal(WalError::io(operation, dir, error));
        disk.create_dir_all(dir).map_err(failed("create directory"))?;
        let dir_lock = lock_dir(&disk, dir)?;
        // Names found now may be known to the page cache only.
        sync_dir(&disk, dir)?;
        let names = disk.list(dir).map_err(failed("list directory"))?;
        let Some(found) = find(&disk, dir, &names, Some(options.identity), options.tail_bytes_max)? else {
            clear(&disk, dir, &names)?;
            return create(disk, dir, options, dir_lock);
        };
        let Found { mut segments, left_over, end, blocks, meta, locations, tail } = found;

        // From here on the log is known to be sound, and the directory may be changed.
        let cut = cut_tail(&segments, &end)?;
        rewrite_last_block(&segments, &end)?;
        let index = Arc::new(Mutex::new(LogIndex::new()));
        let next = {
            let mut index = lock(&index);
            for segment in &segments[..=end.active] {
                index.push_segment(segment.clone());
            }
            locations.into_iter().for_each(|edit| index.apply(edit));
            drop(index);
            let mut rest = segments.split_off(end.active + 1).into_iter();
            let next = rest.next().map(|next| Arc::into_inner(next).expect("nobody else holds it"));
            for extra in rest {
                remove(&disk, &extra.path)?;
            }
            next
        };
        for sequence in left_over {
            remove(&disk, &segment_path(dir, sequence))?;
        }
        let (spares, reserve) = adopt(&disk, dir, &names, &mut options)?;
        sync_dir(&disk, dir)?;

        let active = segments.pop().expect("the active segment is the last one left");
        drop(segments);
        let wal = Wal::from_parts(Parts {
            disk,
            dir: dir.to_path_buf(),
            options,
            index,
            active,
            offset: end.offset,
            number: end.number,
            link: end.link,
            meta: meta.clone(),
            next,
            spares,
            reserve,
            sealed: end.sealed,
            lock: dir_lock,
        });
        let recovered = recovered(meta, tail, cut, blocks, &wal)?;
        Ok((wal, recovered))
    }
}

/// A log as it was found, before anything is changed.
struct Found<F> {
    segments: Segments<F>,
    /// Segments below a gap, which the chain does without.
    left_over: Vec<u64>,
    end: End,
    blocks: u64,
    meta: Meta,
    locations: Vec<Edit>,
    tail: Vec<EntryRecord>,
}

/// Reads the whole log; `None` if there is none. Without `identity`, any is accepted.
fn find<D: Disk>(
    disk: &D,
    dir: &Path,
    names: &[String],
    identity: Option<Identity>,
    tail_bytes_max: u64,
) -> Result<Option<Found<D::File>>, OpenError> {
    let mut sequences = Vec::new();
    for name in names {
        if let Name::Segment(sequence) = parse_name(name) {
            sequences.push(sequence);
        }
    }
    let Some(newest) = sequences.last().copied() else { return Ok(None) };
    // Removals that a crash undid may leave older segments behind a gap. Whether the chain can do without
    // them shows when it has been read.
    let mut oldest = newest;
    while oldest > 0 && sequences.binary_search(&(oldest - 1)).is_ok() {
        oldest -= 1;
    }
    let mut segments: Segments<D::File> = Vec::new();
    for sequence in oldest..=newest {
        segments.push(Arc::new(open_segment(disk, dir, sequence, identity)?));
    }
    sequences.retain(|sequence| *sequence < oldest);
    let left_over = sequences;
    let mut replay = Replay::new(tail_bytes_max);
    let end = read_chain(&segments, dir, !left_over.is_empty(), &mut replay)?;
    let blocks = replay.blocks;
    let (meta, locations, tail) = replay.finish(dir, oldest)?;
    Ok(Some(Found { segments, left_over, end, blocks, meta, locations, tail }))
}

fn lock_dir<D: Disk>(disk: &D, dir: &Path) -> Result<D::Lock, OpenError> {
    match disk.lock_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::Locked { dir: dir.to_path_buf() })
        }
        other => Ok(other.map_err(|error| WalError::io("lock directory", dir, error))?),
    }
}

/// What `verify` found in a sound log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Segments of the chain, the prepared one included.
    pub segments: usize,
    /// Blocks, every one of them checked.
    pub blocks: u64,
    /// The first entry kept, if there is one.
    pub first_index: Option<u64>,
    /// The last entry, if there is one.
    pub last_index: Option<u64>,
    /// Bytes of a torn write that the next open will cut.
    pub torn_bytes: u64,
}

/// Reads and checks a whole log without changing anything; `None` if `dir` holds none. For inspection of a
/// stopped member; `identity` may be left open.
///
/// # Errors
/// What `Wal::open` would refuse, and `Locked` while the log is in use.
pub fn verify<D: Disk>(
    disk: &D,
    dir: &Path,
    identity: Option<Identity>,
) -> Result<Option<Verified>, OpenError> {
    let _lock = lock_dir(disk, dir)?;
    let names = disk.list(dir).map_err(|error| WalError::io("list directory", dir, error))?;
    let found = find(disk, dir, &names, identity, 0)?;
    Ok(found.map(|found| Verified {
        segments: found.segments.len(),
        blocks: found.blocks,
        first_index: (!found.meta.is_empty()).then_some(found.meta.first),
        last_index: (!found.meta.is_empty()).then(|| found.meta.next - 1),
        torn_bytes: found.end.torn.iter().map(|(_, from, to)| to - from).sum(),
    }))
}

fn recovered<D: Disk>(
    meta: Meta,
    mut tail: Vec<EntryRecord>,
    cut: Option<CutTail>,
    blocks: u64,
    wal: &Wal<D>,
) -> Result<Recovered, OpenError> {
    let last_index = (!meta.is_empty()).then(|| meta.next - 1);
    if let (Some(last), true) = (last_index, tail.is_empty()) {
        // A truncation took everything that was remembered of the newest entries.
        tail = wal.read(last..last + 1, u64::MAX).map_err(|error| OpenError::Damaged {
            file: wal.active.path.clone(),
            offset: 0,
            reason: error.to_string(),
        })?;
    }
    assert_eq!(tail.last().map(|entry| entry.index), last_index, "the tail ends with the last entry");
    Ok(Recovered {
        fresh: false,
        first_index: (!meta.is_empty()).then_some(meta.first),
        last_index,
        vote: meta.vote,
        committed: meta.committed,
        purged: meta.purged,
        tail,
        cut,
        blocks,
    })
}

/// A log that starts: one segment with one block that says so.
fn create<D: Disk>(
    disk: D,
    dir: &Path,
    mut options: Options,
    dir_lock: D::Lock,
) -> Result<(Wal<D>, Recovered), OpenError> {
    let plan = SegmentPlan {
        identity: options.identity,
        sequence: 1,
        bytes: options.first_segment_bytes,
        segment_salt: (options.salt)(),
        file_salt: (options.salt)(),
        block_align_bytes: options.block_align_bytes,
    };
    let place = Place {
        offset: BODY_OFFSET,
        file_salt: plan.file_salt,
        segment_salt: plan.segment_salt,
        number: 1,
        previous: 0,
    };
    let state = Meta::default().encode();
    let body_bytes = (record::BLOB_HEAD + state.len()) as u64;
    let mut link = 0;
    let segment = plan.create(&disk, dir, |segment| {
        let mut buffer = BlockBuffer::default();
        buffer.begin(body_bytes);
        buffer.record(&record::blob_head(KIND_STATE, &state), &state);
        let built = buffer.finish(place, body_bytes, FLAG_OPENS, segment.within());
        link = built.link;
        segment.write(built.bytes, place.offset)
    })?;
    let active = Arc::new(segment);
    let index = Arc::new(Mutex::new(LogIndex::new()));
    lock(&index).push_segment(active.clone());
    let block_bytes = sectors(body_bytes) * SECTOR_BYTES as u64;
    let wal = Wal::from_parts(Parts {
        disk,
        dir: dir.to_path_buf(),
        offset: BODY_OFFSET + block_bytes.next_multiple_of(options.block_align_bytes),
        options,
        index,
        active,
        number: 1,
        link,
        meta: Meta::default(),
        next: None,
        spares: Vec::new(),
        reserve: None,
        sealed: false,
        lock: dir_lock,
    });
    Ok((wal, Recovered { fresh: true, ..Recovered::default() }))
}

fn open_segment<D: Disk>(
    disk: &D,
    dir: &Path,
    sequence: u64,
    identity: Option<Identity>,
) -> Result<Segment<D::File>, OpenError> {
    let path = segment_path(dir, sequence);
    let failed = |operation| {
        let path = path.clone();
        move |error| OpenError::Wal(WalError::io(operation, path, error))
    };
    let file = disk.open(&path).map_err(failed("open"))?;
    let mut sector = [0; SECTOR_BYTES];
    let read = file.read_at(&mut sector, 0).map_err(failed("read"))?;
    let header = Header::decode(&sector[..read], &path)?;
    let damaged = |reason: String| OpenError::Damaged { file: path.clone(), offset: 0, reason };
    if let Some(expected) = identity
        && header.identity != expected
    {
        return Err(OpenError::IdentityMismatch { file: path.clone(), expected, found: header.identity });
    }
    if header.sequence != sequence {
        return Err(damaged(format!("its header says segment {:#018x}", header.sequence)));
    }
    let length = file.len().map_err(failed("stat"))?;
    if length < header.bytes {
        return Err(damaged(format!("the file has {length} of {} bytes", header.bytes)));
    }
    Ok(Segment::new(path.clone(), file, header, length))
}

type Adopted<F> = (Vec<Spare<F>>, Option<Spare<F>>);

/// Takes over files of earlier runs that are worth keeping, and removes the others of ours.
fn adopt<D: Disk>(
    disk: &D,
    dir: &Path,
    names: &[String],
    options: &mut Options,
) -> Result<Adopted<D::File>, OpenError> {
    let (mut spares, mut reserve) = (Vec::new(), None);
    for name in names {
        let path = dir.join(name);
        let open = || -> Result<(D::File, u64), WalError> {
            let file = disk.open(&path).map_err(|error| WalError::io("open", &path, error))?;
            let bytes = file.len().map_err(|error| WalError::io("stat", &path, error))?;
            Ok((file, bytes))
        };
        match parse_name(name) {
            Name::Unfinished => remove(disk, &path)?,
            Name::Reserve => {
                let (file, bytes) = open()?;
                if bytes == options.reserve_bytes {
                    reserve = Some(Spare { path, file, file_salt: (options.salt)(), bytes });
                } else {
                    remove(disk, &path)?;
                }
            }
            Name::Spare(sequence) => {
                debug_assert_eq!(path, spare_path(dir, sequence));
                let (file, bytes) = open()?;
                let mut sector = [0; SECTOR_BYTES];
                let read =
                    file.read_at(&mut sector, 0).map_err(|error| WalError::io("read", &path, error))?;
                match Header::decode(&sector[..read], &path) {
                    Ok(header) if bytes == options.segment_bytes => {
                        spares.push(Spare { path, file, file_salt: header.file_salt, bytes });
                    }
                    // Without its salt, what is in it could not be told from damage later.
                    _ => remove(disk, &path)?,
                }
            }
            Name::Segment(_) | Name::Other => {}
        }
    }
    Ok((spares, reserve))
}

/// Removes what a first start that never finished left behind.
fn clear<D: Disk>(disk: &D, dir: &Path, names: &[String]) -> Result<(), OpenError> {
    for name in names {
        if matches!(parse_name(name), Name::Unfinished | Name::Spare(_)) || name == RESERVE {
            remove(disk, &dir.join(name))?;
        }
    }
    // Names are used again: were a removal undone and a later renaming kept, the old file would come up.
    sync_dir(disk, dir)?;
    Ok(())
}

fn remove<D: Disk>(disk: &D, path: &Path) -> Result<(), WalError> {
    disk.remove(path).map_err(|error| WalError::io("remove", path, error))
}
