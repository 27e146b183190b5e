//! The log as it is found at start.
//!
//! Owns: turning what the WAL recovered into the log's state. Called by: `node`.
//! Invariant: everything recovered is durable, so the log starts with durable = last.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keelson_wal::Recovered;
use parking_lot::Mutex;

use super::device::LogDevice;
use super::in_flight::InFlight;
use super::sizes::Sizes;
use super::tail::Tail;
use super::{Log, LogOptions, State};
use crate::clock::Clock;
use crate::codec;
use crate::progress::Progress;
use crate::types::LogId;

impl Log {
    /// The log on `device`, as `recovered` from it.
    ///
    /// # Errors
    /// A recovered value this version does not understand.
    pub fn open(
        device: Arc<dyn LogDevice>,
        recovered: Recovered,
        options: LogOptions,
        clock: Clock,
    ) -> io::Result<Arc<Self>> {
        let vote =
            recovered.vote.map(|bytes| codec::decode_vote(&bytes)).transpose().map_err(io::Error::other)?;
        let committed = recovered
            .committed
            .map(|bytes| codec::decode_log_id(&bytes))
            .transpose()
            .map_err(io::Error::other)?;
        let purged = recovered
            .purged
            .map(|(_, bytes)| codec::decode_log_id(&bytes))
            .transpose()
            .map_err(io::Error::other)?;

        let first = recovered.tail.first().map(|record| record.index);
        let after_purge = purged.map_or(0, |purged| purged.index + 1);
        let mut tail = Tail::empty(first.unwrap_or(after_purge));
        let mut sizes = Sizes::new(options.mark_bytes);
        let mut last = purged;
        for record in recovered.tail {
            sizes.push(record.index, record.payload.len());
            let entry = codec::entry(record.term, record.index, &record.payload).map_err(io::Error::other)?;
            last = Some(entry.log_id);
            tail.push(entry);
        }
        let next = last.map_or(0, |last| last.index + 1);
        assert_eq!(
            recovered.last_index.map_or(after_purge, |last| last + 1),
            next,
            "the tail ends with the last entry"
        );
        tail.shrink(next, options.tail_bytes_max);

        // The mark is noted with later blocks, so it may name an entry that was cut with a torn tail.
        let committed = committed.filter(|committed| committed.index < next);
        Ok(Arc::new(Log {
            device,
            options,
            clock,
            durable: Progress::starting_at(next),
            committed_next: AtomicU64::new(committed.map_or(0, |committed| committed.index + 1)),
            sole_voter: AtomicBool::new(false),
            recovered_next: AtomicU64::new(next),
            state: Mutex::new(State {
                tail,
                first: recovered.first_index.unwrap_or(after_purge),
                purged,
                last,
                vote,
                promised: vote,
                committed_at_open: committed,
                committed_unnoted: None,
                in_flight: InFlight::default(),
                membership_next: next,
                sizes,
            }),
        }))
    }

    /// Drops entries that contradict what is applied. To be called once, before the log is used.
    ///
    /// A snapshot is durable in the engine when its installation returns, but the cut of conflicting entries that came
    /// before it is only noted in the WAL. A crash in between brings those entries back; they were never committed,
    /// because what is applied at their place is something else.
    ///
    /// ```text
    /// log 41 42 43' .. 52' | cut after 42 (noted) | snapshot to 43 durable | crash | log 41 42 43' .. 52', applied 43
    /// ```
    ///
    /// # Errors
    /// An entry that cannot be read back.
    pub async fn drop_contradicting(&self, applied: LogId) -> io::Result<()> {
        let Some(entry) = self.read(applied.index, applied.index + 1, 0).await?.into_iter().next() else {
            return Ok(());
        };
        if entry.log_id == applied {
            return Ok(());
        }
        tracing::warn!(
            "entries from {} on contradict what is applied up to {applied}: dropped",
            entry.log_id
        );
        let before = match applied.index.checked_sub(1) {
            None => None,
            Some(before) => {
                let entry = self.read(before, before + 1, 0).await?.into_iter().next();
                entry.map(|entry| entry.log_id).or(self.purged())
            }
        };
        self.committed_next.store(0, Ordering::Release);
        self.truncate(before);
        self.purge(applied);
        self.committed_next.store(applied.index + 1, Ordering::Release);
        Ok(())
    }
}
