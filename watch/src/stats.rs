//! Numbers for metrics.
//!
//! Owns: counters and their snapshot. Called by: the hub's state, `api` when it is scraped.
//! Source: etcd's `etcd_debugging_mvcc_{watcher,watch_stream,slow_watcher,pending_events,events}_total`.

use crate::state::State;
use crate::watcher::Phase;

/// Running totals.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) events_total: u64,
    pub(crate) delivered_total: u64,
    pub(crate) scans_total: u64,
    pub(crate) scans_shared_total: u64,
    pub(crate) compacted_cancels: u64,
}

/// The hub at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubStats {
    /// Open streams.
    pub streams: usize,
    /// Watchers of all streams.
    pub watchers: usize,
    /// Distinct watched ranges.
    pub ranges: usize,
    /// Watchers that read the past.
    pub slow_watchers: usize,
    /// Events in the recent log that wait for readers, counted once per watcher, before filters.
    pub pending_events: u64,
    /// Events published since the start.
    pub events_total: u64,
    /// Events put into frames since the start, counted once per watcher.
    pub delivered_total: u64,
    /// Reads of the past from the source.
    pub scans_total: u64,
    /// Reads of the past that another stream's (or the stream's own) earlier read answered.
    pub scans_shared_total: u64,
    /// Watchers cancelled because their next event was compacted.
    pub compacted_cancels_total: u64,
    /// Revisions in the recent log.
    pub log_revisions: usize,
    /// Bytes the recent log is charged with.
    pub log_bytes: usize,
}

impl State {
    pub(crate) fn stats(&self) -> HubStats {
        let mut pending_events = 0;
        // The lists of dirty watchers instead of the whole table: a scrape must not hold up a million quiet ones.
        let dirty = self.streams.iter().flat_map(|(_, stream)| &stream.dirty);
        for watcher in dirty.filter_map(|token| self.live_watcher(*token)) {
            debug_assert_eq!(watcher.phase, Phase::Dirty);
            let from = self.log.seq_at(watcher.cursor);
            pending_events += u64::from(self.subscriptions[watcher.subscription].events_from(from));
        }
        HubStats {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            ranges: self.subscriptions.len(),
            slow_watchers: self.behind,
            pending_events,
            events_total: self.counters.events_total,
            delivered_total: self.counters.delivered_total,
            scans_total: self.counters.scans_total,
            scans_shared_total: self.counters.scans_shared_total,
            compacted_cancels_total: self.counters.compacted_cancels,
            log_revisions: self.log.len(),
            log_bytes: self.log.bytes(),
        }
    }
}
