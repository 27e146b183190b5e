//! The gRPC services of the etcd API.
//!
//! Owns: one handler per method, and the router they are served by. Called by: the edge, which adds its HTTP
//! endpoints and listens. Invariants: a handler admits, checks, converts, asks, and answers; everything that decides
//! lives in the modules it calls.
//! Source: etcd `server/etcdserver/api/v3rpc/grpc.go`.

mod auth;
mod cluster;
mod kv;
mod lease;
mod maintenance;
mod range_stream;
mod watch;
mod watch_body;
mod watch_codec;

use keelson_proto::etcdserverpb::{
    auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
    maintenance_server::MaintenanceServer,
};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::service::Routes;

pub use watch_codec::WatchCodec;

use crate::{
    state::AppState,
    transport::{TransportLayer, unknown_service},
};
use {
    auth::AuthService, cluster::ClusterService, kv::KvService, lease::LeaseService, maintenance::MaintenanceService,
    watch::WatchServer,
};

/// Every service of the client port as one router, for gRPC calls only: the edge keeps other requests away from it.
///
/// One router is built for each serving runtime, from a copy of the state with a lane of its own
/// ([`AppState::with_lane`]). Serve only once [`keelson_raftstore::consensus::Consensus::ready`] has completed: before
/// that a local read could go back in time.
/// # Errors
/// Only if the descriptor set inside this binary cannot be decoded.
pub fn routes(state: AppState) -> Result<axum::Router, tonic_reflection::server::Error> {
    let bytes_max = state.options.message_bytes_max();
    let (health_reporter, health) = tonic_health::server::health_reporter();
    // The empty name, "the server as a whole", is SERVING from the start; the reporter is not needed again.
    drop(health_reporter);
    let mut schema = FileDescriptorSet::decode(keelson_proto::FILE_DESCRIPTOR_SET)?;
    schema.file.retain(|file| !["v3lockpb", "v3electionpb"].contains(&file.package()));
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_file_descriptor_set(schema.clone())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            $server::new($service).max_decoding_message_size(bytes_max).max_encoding_message_size(i32::MAX as usize)
        };
    }
    let routes = Routes::new(limited!(KvServer, KvService(state.clone())))
        .add_service(WatchServer(state.clone()))
        .add_service(limited!(LeaseServer, LeaseService(state.clone())))
        .add_service(limited!(ClusterServer, ClusterService(state.clone())))
        .add_service(limited!(MaintenanceServer, MaintenanceService(state.clone())))
        .add_service(limited!(AuthServer, AuthService(state.clone())))
        .add_service(health)
        .add_service(descriptors().build_v1()?)
        .add_service(descriptors().build_v1alpha()?);
    Ok(routes.prepare().into_axum_router().fallback(unknown_service).layer(TransportLayer))
}
