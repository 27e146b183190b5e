//! The messages and service stubs of the etcd v3 API (3.7), generated from the `.proto` files of this folder.
//!
//! Owns: the wire types, `bytes` fields as [`bytes::Bytes`]. Called by: `api` (server stubs), tests and bench
//! (client stubs). Invariants: field numbers and names are those of etcd 3.7, so that any client and the JSON
//! names agree; nothing else of the store depends on these types. Source: the tables in the etcd 3.7 API.
//!
//! Field names are prost's snake case of the wire names: `peerURLs` is `peer_ur_ls`, `clientURLs` `client_ur_ls`.
//! A `bytes` field of a decoded message is a slice of the request buffer and keeps that whole buffer alive: copy
//! what outlives the request.

// Generated code: documented by the `.proto` files, and not ours to lint.
#![allow(missing_docs, unreachable_pub, clippy::all)]

mod code;
#[cfg(feature = "dynamic")]
pub mod dynamic;

pub use code::code_name;

/// Key-values and events.
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Users, roles and permissions.
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// KV, Watch, Lease, Cluster, Maintenance and Auth.
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// The lock service.
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// The election service.
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// The encoded `FileDescriptorSet` of everything above, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
