//! The chain of blocks: reading it, judging its end, repairing what a crash left there.
//!
//! Owns: the decision between end, tear and damage over all segments. Invariant: `read_chain` changes nothing;
//! the repairs touch only what it has judged to be torn, and the last block. Called by: `recovery`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block::{FLAG_OPENS, FLAG_SEAL};
use crate::disk::DiskFile;
use crate::error::{OpenError, WalError};
use crate::header::BODY_OFFSET;
use crate::replay::Replay;
use crate::scan::{Scan, Verdict};
use crate::segment::Segment;

/// A torn tail that was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutTail {
    /// The segment.
    pub file: PathBuf,
    /// Where the block started.
    pub offset: u64,
    /// How many bytes of it were zeroed.
    pub bytes: u64,
}

/// The end of the chain.
pub(crate) struct End {
    /// Position of the active segment among the segments.
    pub(crate) active: usize,
    pub(crate) offset: u64,
    pub(crate) number: u64,
    pub(crate) link: u32,
    /// Last block: where it starts and its size.
    last_offset: u64,
    last_bytes: u64,
    pub(crate) sealed: bool,
    /// What is left of a torn write: position of the segment, first byte, end.
    pub(crate) torn: Vec<(usize, u64, u64)>,
}

pub(crate) type Segments<F> = Vec<Arc<Segment<F>>>;

/// Reads every block of the chain into `replay` and judges its end.
pub(crate) fn read_chain<F: DiskFile>(
    segments: &Segments<F>,
    dir: &Path,
    gap: bool,
    replay: &mut Replay,
) -> Result<End, OpenError> {
    let mut end = End {
        active: 0,
        offset: BODY_OFFSET,
        number: 0,
        link: 0,
        last_offset: 0,
        last_bytes: 0,
        sealed: false,
        torn: Vec::new(),
    };
    let mut expected = None;
    for (at, segment) in segments.iter().enumerate() {
        let mut scan = Scan::new(segment.clone());
        let mut offset = BODY_OFFSET;
        while let Some(block) = scan.block(offset, expected)? {
            let opens = block.header.flags & FLAG_OPENS != 0;
            if opens != (offset == BODY_OFFSET) {
                let reason =
                    "a block that opens a segment is not the first, or the first one is not".to_string();
                return Err(OpenError::Damaged { file: segment.path.clone(), offset, reason });
            }
            let (number, link) = (block.number, block.link);
            let block_bytes = block.bytes.len() as u64;
            let sealed = block.header.flags & FLAG_SEAL != 0;
            replay.block(segment, offset, &block)?;
            let next_offset = (offset + block_bytes).next_multiple_of(segment.block_align_bytes);
            end = End {
                active: at,
                offset: next_offset,
                number,
                link,
                last_offset: offset,
                last_bytes: block_bytes,
                sealed,
                torn: Vec::new(),
            };
            offset = next_offset;
            expected = Some((number + 1, link));
        }
        if offset == BODY_OFFSET {
            // This segment has no block: the chain ended in the one before, or never began.
            break;
        }
    }
    if expected.is_none() {
        return Err(chain_without_start(segments, dir, gap)?);
    }
    judge_end(segments, &mut end)?;
    Ok(end)
}

/// Why there is no first block to start from. `gap`: older segments exist, but not the one just before.
fn chain_without_start<F: DiskFile>(
    segments: &Segments<F>,
    dir: &Path,
    gap: bool,
) -> Result<OpenError, OpenError> {
    let first = &segments[0];
    // A prepared segment without the ones before it. If it was recycled, what is in it cannot be told from a
    // damaged first block, unless a gap in the names shows that a file is missing.
    let alone = segments.len() == 1 && first.sequence > 1;
    if alone && (gap || Scan::new(first.clone()).is_zero(BODY_OFFSET)?) {
        return Ok(OpenError::MissingSegment { dir: dir.to_path_buf(), sequence: first.sequence - 1 });
    }
    let cause = if alone { ", or the segments before it are missing" } else { "" };
    Ok(OpenError::Damaged {
        file: first.path.clone(),
        offset: BODY_OFFSET,
        reason: format!("the first block of the oldest segment does not check{cause}"),
    })
}

/// Decides whether the chain ends because nothing more was written, because a write was torn, or because
/// something is damaged.
fn judge_end<F: DiskFile>(segments: &Segments<F>, end: &mut End) -> Result<(), OpenError> {
    let expected = end.number + 1;
    let (mut succeeded, mut remains_at) = (None, None);
    let mut damaged = None;
    for (at, segment) in segments.iter().enumerate().skip(end.active) {
        let offset = if at == end.active { end.offset } else { BODY_OFFSET };
        match Scan::new(segment.clone()).judge(offset, expected)? {
            Verdict::Clean => {}
            Verdict::Torn { from, to } => end.torn.push((at, from, to)),
            Verdict::Damaged => damaged = damaged.or(Some((at, offset))),
            // Blame the place that holds remains of the missing block; else where it was due first.
            Verdict::Succeeded { remains } => {
                succeeded = Some((end.active, end.offset));
                if remains {
                    remains_at = remains_at.or(Some((at, offset)));
                }
            }
        }
    }
    let refuse = |(at, offset): (usize, u64), reason: &str| OpenError::Damaged {
        file: segments[at].path.clone(),
        offset,
        reason: reason.to_string(),
    };
    if let Some(place) = succeeded.map(|due| remains_at.or(damaged).unwrap_or(due)) {
        return Err(refuse(place, &format!("block {expected} does not check, but a later block follows it")));
    }
    if let Some(place) = damaged {
        return Err(refuse(
            place,
            &format!("block {expected} does not check, and no sector of it is from before its write"),
        ));
    }
    Ok(())
}

/// Zeroes what is left of the torn write, so that no later judgement can take it for part of another one.
pub(crate) fn cut_tail<F: DiskFile>(segments: &Segments<F>, end: &End) -> Result<Option<CutTail>, OpenError> {
    let mut cut = None;
    for (at, from, to) in &end.torn {
        let segment = &segments[*at];
        let zeros = vec![0u8; (to - from).min(1 << 20) as usize];
        let mut offset = *from;
        while offset < *to {
            let count = (to - offset).min(zeros.len() as u64);
            segment.write(&zeros[..count as usize], offset)?;
            offset += count;
        }
        segment.sync()?;
        cut = Some(CutTail { file: segment.path.clone(), offset: *from, bytes: to - from });
    }
    Ok(cut)
}

/// The last block may be in the page cache only: its process was killed before the sync, or the sync failed
/// and the system forgot that the pages are dirty. Writing it again and syncing makes it durable in any case.
pub(crate) fn rewrite_last_block<F: DiskFile>(segments: &Segments<F>, end: &End) -> Result<(), OpenError> {
    let segment = &segments[end.active];
    let mut bytes = vec![0; end.last_bytes as usize];
    let read = segment.file.read_at(&mut bytes, end.last_offset);
    let read = read.map_err(|error| WalError::io("read", &segment.path, error))?;
    if read != bytes.len() {
        return Err(OpenError::Damaged {
            file: segment.path.clone(),
            offset: end.last_offset,
            reason: "the file became shorter while it was read".to_string(),
        });
    }
    segment.write(&bytes, end.last_offset)?;
    segment.sync()?;
    Ok(())
}
