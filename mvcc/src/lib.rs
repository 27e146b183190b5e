#![doc = include_str!("../DESIGN.md")]

pub mod auth;
pub mod codec;
pub mod engine;
pub mod lessor;
pub mod types;

mod alarms;
mod apply;
mod compaction;
mod count_index;
mod cow_map;
mod digest;
mod error;
mod events;
mod export;
mod file_rows;
mod hash;
mod history;
mod import;
mod kv_proto;
mod layout;
mod overlay;
mod range;
mod row_cache;
mod state;
mod store;
mod txn;
mod view;

pub use apply::ApplyEntry;
pub use compaction::{CompactionJob, CompactionProgress};
#[cfg(feature = "rocks")]
pub use engine::rocks::{RocksEngine, RocksOptions};
pub use engine::{EngineError, KvEngine, memory::MemoryEngine};
pub use error::StoreError;
pub use export::{Export, Installer};
pub use file_rows::file_key;
pub use hash::KvHash;
pub use import::{Import, ImportedPut, ImportedRow, RowError};
pub use kv_proto::{KeyValueRef, encode_key_value, key_value_len};
pub use state::DIGEST_STRIDE;
pub use store::{Applied, FlushTicket, Flushed, Store, StoreOptions};
pub use types::*;
pub use view::{RangeStream, ReadView, Reader};
