//! RocksDB's settings, with a reason for each that is not obvious.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, CompactionDecision as Decision, DBCompressionType,
    LogLevel, Options,
};

use super::failed;
use crate::engine::{EngineError, Family};
use crate::layout::hist_is_dead;

/// Bounds of memory and work. All grow only with use.
#[derive(Clone, Copy, Debug)]
pub struct RocksOptions {
    /// Cache of blocks, filters and indexes, shared by all families.
    pub block_cache_bytes: usize,
    /// What may wait in memory for a flush, over all families. The store flushes at a fraction of it, so RocksDB
    /// flushes by itself only if that comes late.
    pub memtable_bytes: usize,
    /// Threads for flushes and compactions.
    pub background_jobs: i32,
}

impl Default for RocksOptions {
    fn default() -> Self {
        RocksOptions { block_cache_bytes: 64 << 20, memtable_bytes: 128 << 20, background_jobs: 2 }
    }
}

/// What all databases under one root share.
#[derive(Clone)]
pub(super) struct Shared {
    options: RocksOptions,
    cache: Cache,
}

impl Shared {
    pub(super) fn new(options: RocksOptions) -> Self {
        Shared { options, cache: Cache::new_lru_cache(options.block_cache_bytes) }
    }

    pub(super) fn database(&self) -> Result<Options, EngineError> {
        // Reachable only as text. With the WAL off RocksDB would otherwise flush while closing, and a stop without a
        // flush of ours would take the flush's time anyway.
        let mut options = Options::default()
            .get_options_from_string("avoid_flush_during_shutdown=true")
            .map_err(failed("set options"))?;
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_max_background_jobs(self.options.background_jobs);
        options.set_db_write_buffer_size(self.options.memtable_bytes);
        options.set_max_open_files(512);
        // One thread writes: the machinery for several only costs.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_write_thread_adaptive_yield(false);
        // Dropping a snapshot or cursor must not delete files in the reader's thread.
        options.set_avoid_unnecessary_blocking_io(true);
        options.set_bytes_per_sync(1 << 20);
        options.set_manifest_preallocation_size(64 << 10);
        options.set_max_manifest_file_size(16 << 20);
        options.set_skip_stats_update_on_db_open(true);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        Ok(options)
    }

    /// `released`: the mark by which `hist` is filtered.
    pub(super) fn families(&self, released: &Arc<AtomicI64>) -> Vec<ColumnFamilyDescriptor> {
        let descriptor = |family: Family| {
            let mut options = self.family(family);
            if family == Family::Hist {
                let released = released.clone();
                options.set_compaction_filter("keelson.hist", move |_, key: &[u8], value: &[u8]| {
                    let dead = hist_is_dead(key, value, released.load(Ordering::SeqCst));
                    if dead { Decision::Remove } else { Decision::Keep }
                });
            }
            ColumnFamilyDescriptor::new(family.name(), options)
        };
        Family::ALL.into_iter().map(descriptor).collect()
    }

    fn family(&self, family: Family) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_block_size(16 << 10);
        table.set_format_version(6);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut options = Options::default();
        if matches!(family, Family::Latest | Family::Lease) {
            // Most point lookups ask whether a key exists before it is created.
            table.set_bloom_filter(10.0, false);
            options.set_memtable_prefix_bloom_ratio(0.01);
            options.set_memtable_whole_key_filtering(true);
        }
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(self.options.memtable_bytes / 2);
        options.set_max_write_buffer_number(4);
        // Default is an eighth of the buffer: five families would hold megabytes for a handful of rows.
        options.set_arena_block_size(128 << 10);
        // On every level: with zstd at the bottom, dense as it is, unpacking was a quarter of a long list's time, and
        // packing took the processor from whoever writes.
        options.set_compression_type(DBCompressionType::Lz4);
        if family == Family::Hist {
            // Hardly ever read: merged half as often.
            options.set_level_zero_file_num_compaction_trigger(8);
        }
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_target_file_size_base(16 << 20);
        options.set_max_bytes_for_level_base(64 << 20);
        options
    }
}
