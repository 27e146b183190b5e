//! One service for all methods of the client port.
//!
//! Owns: [`GrpcService`]: which service a path belongs to, and the words of transport errors. Called by: the edge, one
//! per serving runtime. Invariants: a request of a known service is dispatched by one comparison of its path, without
//! boxing its body; the small services behind the common ones go through a general router.
//! Source: etcd `server/etcdserver/api/v3rpc/grpc.go` (which services there are).

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use keelson_proto::etcdserverpb::{
    auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
    maintenance_server::MaintenanceServer,
};
use keelson_proto::v3electionpb::election_server::ElectionServer;
use keelson_proto::v3lockpb::lock_server::LockServer;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{body::Body, service::Routes};
use tower::Service;

use super::{
    auth::AuthService, cluster::ClusterService, election::ElectionService, keep_alive, kv::KvService,
    lease::LeaseService, lock::LockService, maintenance::MaintenanceService, range, watch,
};
use crate::{
    state::AppState,
    transport::{translate, unknown_service},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// See the module.
#[derive(Clone)]
pub struct GrpcService {
    state: AppState,
    kv: KvServer<KvService>,
    lease: LeaseServer<LeaseService>,
    cluster: ClusterServer<ClusterService>,
    maintenance: MaintenanceServer<MaintenanceService>,
    auth: AuthServer<AuthService>,
    lock: LockServer<LockService>,
    election: ElectionServer<ElectionService>,
    /// Health and reflection.
    others: axum::Router,
}

/// Every service of the client port, for gRPC calls only: the edge keeps other requests away from it.
///
/// One is built for each serving runtime, from a copy of the state with a lane of its own ([`AppState::with_lane`]).
/// Serve only once [`keelson_raftstore::consensus::Consensus::ready`] has completed: before that a local read could go
/// back in time.
///
/// # Errors
/// Only if the descriptor set inside this binary cannot be decoded.
pub fn routes(state: AppState) -> Result<GrpcService, tonic_reflection::server::Error> {
    let bytes_max = state.options.message_bytes_max();
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            $server::new($service)
                .max_decoding_message_size(bytes_max)
                .max_encoding_message_size(i32::MAX as usize)
        };
    }
    Ok(GrpcService {
        kv: limited!(KvServer, KvService(state.clone())),
        lease: limited!(LeaseServer, LeaseService(state.clone())),
        cluster: limited!(ClusterServer, ClusterService(state.clone())),
        maintenance: limited!(MaintenanceServer, MaintenanceService(state.clone())),
        auth: limited!(AuthServer, AuthService(state.clone())),
        lock: limited!(LockServer, LockService(state.clone())),
        election: limited!(ElectionServer, ElectionService(state.clone())),
        others: others()?,
        state,
    })
}

fn others() -> Result<axum::Router, tonic_reflection::server::Error> {
    // The empty name, "the server as a whole", is SERVING from the start; the reporter is not needed again.
    let (_, health) = tonic_health::server::health_reporter();
    let schema = FileDescriptorSet::decode(keelson_proto::FILE_DESCRIPTOR_SET)?;
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_file_descriptor_set(schema.clone())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(health)
        .add_service(descriptors().build_v1()?)
        .add_service(descriptors().build_v1alpha()?);
    Ok(routes.prepare().into_axum_router().fallback(unknown_service))
}

impl<B> Service<Request<B>> for GrpcService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        ResponseFuture(match service {
            "etcdserverpb.KV" if request.uri().path() == range::PATH => {
                Box::pin(range::call(self.state.clone(), request))
            }
            "etcdserverpb.KV" => self.kv.call(request),
            "etcdserverpb.Watch" => {
                let state = self.state.clone();
                Box::pin(async move { Ok(watch::call(state, request).await) })
            }
            "etcdserverpb.Lease" if request.uri().path() == keep_alive::PATH => {
                let state = self.state.clone();
                Box::pin(async move { Ok(keep_alive::call(state, request).await) })
            }
            "etcdserverpb.Lease" => self.lease.call(request),
            "etcdserverpb.Cluster" => self.cluster.call(request),
            "etcdserverpb.Maintenance" => self.maintenance.call(request),
            "etcdserverpb.Auth" => self.auth.call(request),
            "v3lockpb.Lock" => self.lock.call(request),
            "v3electionpb.Election" => self.election.call(request),
            _ => {
                let answer = self.others.call(request.map(Body::new));
                Box::pin(async move { answer.await.map(|response| response.map(Body::new)) })
            }
        })
    }
}

/// Completes with the response headers.
pub struct ResponseFuture(BoxFuture);

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(mut response) = ready!(self.0.as_mut().poll(context));
        translate(response.headers_mut());
        Poll::Ready(Ok(response))
    }
}
