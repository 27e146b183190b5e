#![doc = include_str!("../CONTRACT.md")]

mod catch_up;
mod entry;
mod frame;
mod gather;
mod hub;
mod index;
mod key_range;
mod log;
pub mod memory;
mod ports;
mod publish;
mod slab;
mod state;
mod stats;
mod stream;
mod subscription;
mod validate;
mod watcher;

pub use frame::{
    EventBatch, Frame, REASON_DUPLICATE_ID, REASON_EMPTY_RANGE, REASON_NEGATIVE_START, WATCH_ID_NONE,
    WatchId, WatchRequest,
};
pub use hub::{Hub, HubOptions};
pub use ports::{EventSource, FrameCodec, SourceError};
pub use stats::HubStats;
pub use stream::{ControlError, StreamEnd, WatchControl, WatchStream};
