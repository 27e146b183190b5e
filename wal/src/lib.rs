#![doc = include_str!("../DESIGN.md")]
#![forbid(unsafe_code)]

mod error;
mod options;
mod record;

mod stage;
mod wal;

mod chain;
mod recovery;
mod replay;
mod scan;

pub mod writer;

mod index;
mod prepare;
mod reader;
mod segment;

mod block;
mod header;
mod meta;
mod sector;

pub mod disk;

#[cfg(feature = "planted")]
pub mod planted;

pub use bytes::Bytes;
pub use chain::CutTail;
pub use disk::{Disk, DiskFile, RealDisk, SimDisk};
pub use error::{OpenError, REMEDY, ReadError, WalError};
pub use header::FORMAT_VERSION;
pub use options::{Identity, Options, SaltSource};
pub use prepare::{PrepareDone, PrepareJob};
pub use reader::WalReader;
pub use record::{EntryRecord, Op};
pub use recovery::{Recovered, Verified, verify};
pub use sector::SECTOR_BYTES;
pub use wal::{Space, Stage, Synced, Wal};
pub use writer::{Completion, WriterHandle, WriterOptions, spawn_writer};
