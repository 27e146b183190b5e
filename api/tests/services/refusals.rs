//! What is decided before a handler looks: learners, leaders, versions, sizes, noise; and the small services.

use keelson_api::errors;
use keelson_proto::{authpb, etcdserverpb as pb};
use prost::Message;
use tokio_stream::StreamExt;
use tonic::{Code, Request, codec::Codec};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::kit::*;

#[tokio::test]
async fn a_learner_answers_little() {
    let member = Member::alone().await;
    member.put("a", "1").await;
    member.control().members.members[0].is_learner = true;
    let refused = errors::NOT_SUPPORTED_FOR_LEARNER;
    let put = pb::PutRequest { key: "a".into(), ..Default::default() };
    assert_error(member.kv().put(put).await, refused);
    assert_error(member.kv().range(range("a", "")).await, refused);
    // Even a request that is wrong in itself hears of the learner first.
    assert_error(member.kv().range(range("", "")).await, refused);
    let local = pb::RangeRequest { serializable: true, ..range("a", "") };
    assert_eq!(member.kv().range(local.clone()).await.unwrap().into_inner().count, 1);
    assert_error(member.kv().range_stream(local).await.map(drop), refused);
    assert!(member.maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner().is_learner);
    assert_error(member.maintenance().alarm(pb::AlarmRequest::default()).await, refused);
    let list = pb::MemberListRequest { linearizable: false };
    assert_error(member.cluster_client().member_list(list).await, refused);
    assert_error(member.watch().watch(tokio_stream::pending()).await.map(drop), refused);
    assert_error(member.lease().lease_keep_alive(tokio_stream::pending()).await.map(drop), refused);
    member.maintenance().snapshot(pb::SnapshotRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_client_may_insist_on_a_leader_and_name_its_version() {
    let member = Member::alone().await;
    member.control().leader = None;
    let local = || pb::RangeRequest { serializable: true, ..range("a", "") };
    member.kv().range(local()).await.unwrap();
    let mut insisting = Request::new(local());
    insisting.metadata_mut().insert("hasleader", "true".parse().unwrap());
    assert_error(member.kv().range(insisting).await, errors::NO_LEADER);
    let mut other = Request::new(local());
    other.metadata_mut().insert("hasleader", "yes".parse().unwrap());
    other.metadata_mut().insert("client-api-version", "3.7.3".parse().unwrap());
    member.kv().range(other).await.unwrap();
}

#[tokio::test]
async fn sizes_are_limited_twice() {
    let member = Member::alone_with(|options| options.request_bytes_max = 10_000).await;
    let limit = member.state.options.message_bytes_max();
    let put = |bytes: usize| pb::PutRequest {
        key: "a".into(),
        value: vec![b'v'; bytes].into(),
        ..Default::default()
    };
    member.kv().put(put(9_900)).await.unwrap();
    assert_error(member.kv().put(put(10_000)).await, errors::REQUEST_TOO_LARGE);
    let request = put(limit);
    let text = format!("grpc: received message larger than max ({} vs. {limit})", request.encoded_len());
    assert_status(member.kv().put(request).await, Code::ResourceExhausted, &text);
    // Reading is bounded by the transport alone.
    assert_eq!(
        member
            .kv()
            .range(pb::RangeRequest { range_end: vec![b'z'; 20_000].into(), ..range("a", "") })
            .await
            .unwrap()
            .into_inner()
            .count,
        1
    );
}

/// Sends bytes as they are.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put_slice(out, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, tonic::Status> {
        let mut bytes = vec![0; bytes::Buf::remaining(from)];
        bytes::Buf::copy_to_slice(from, &mut bytes);
        Ok(Some(bytes))
    }
}

async fn call(member: &Member, path: &'static str, body: &[u8]) -> Result<Vec<u8>, tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(member.channel.clone());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    grpc.unary(Request::new(body.to_vec()), path, Raw).await.map(|response| response.into_inner())
}

#[tokio::test]
async fn noise_is_refused_and_unknown_fields_are_not() {
    let member = Member::alone().await;
    let put = "/etcdserverpb.KV/Put";
    for noise in [&b"\x0a\xff"[..], b"\xff\xff\xff\xff", b"\x0a\x05abc"] {
        let status = call(&member, put, noise).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{noise:?}");
        assert!(status.message().starts_with("grpc: error unmarshalling request: "), "{}", status.message());
    }
    // Field 1 "a", then field 99 that no version knows.
    call(&member, put, b"\x0a\x01a\x98\x06\x01").await.unwrap();
    assert_error(call(&member, put, b"").await, errors::EMPTY_KEY);
    // An order no version knows.
    assert_error(
        call(&member, "/etcdserverpb.KV/Range", b"\x0a\x01a\x28\x09").await,
        errors::INVALID_SORT_OPTION,
    );
}

#[tokio::test]
async fn unknown_services_and_methods_are_unimplemented() {
    let member = Member::alone().await;
    let status = call(&member, "/etcdserverpb.Nope/Range", b"").await;
    assert_status(status, Code::Unimplemented, "unknown service etcdserverpb.Nope");
    let status = call(&member, "/etcdserverpb.KV/Nope", b"").await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let status = call(&member, "/etcdserverpb.Watch/Nope", b"").await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn the_server_as_a_whole_is_serving() {
    let member = Member::alone().await;
    let mut health = HealthClient::new(member.channel.clone());
    let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(answer.status, ServingStatus::Serving as i32);
    let unknown = health.check(HealthCheckRequest { service: "nobody".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let member = Member::alone().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(member.channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!() };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["etcdserverpb.KV", "etcdserverpb.Watch", "v3lockpb.Lock", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}

#[tokio::test]
async fn authentication_is_off_and_says_so() {
    let member = Member::alone().await;
    let mut auth = pb::auth_client::AuthClient::new(member.channel.clone());
    let status = auth.auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status, pb::AuthStatusResponse { header: member.header(1), enabled: false, auth_revision: 1 });
    let credentials = pb::AuthenticateRequest { name: "root".into(), password: "x".into() };
    assert_error(auth.authenticate(credentials).await, errors::AUTH_NOT_ENABLED);
    assert_error(auth.auth_enable(pb::AuthEnableRequest {}).await, errors::ROOT_USER_NOT_EXIST);
    auth.auth_disable(pb::AuthDisableRequest {}).await.unwrap();
    assert!(auth.user_list(pb::AuthUserListRequest {}).await.unwrap().into_inner().users.is_empty());
    assert!(auth.role_list(pb::AuthRoleListRequest {}).await.unwrap().into_inner().roles.is_empty());
    assert_error(auth.user_get(pb::AuthUserGetRequest { name: "u".into() }).await, errors::USER_NOT_FOUND);
    assert_error(auth.role_get(pb::AuthRoleGetRequest { role: "r".into() }).await, errors::ROLE_NOT_FOUND);
    assert_error(auth.user_add(pb::AuthUserAddRequest::default()).await, errors::USER_EMPTY);
    assert_error(auth.role_add(pb::AuthRoleAddRequest::default()).await, errors::ROLE_EMPTY);
    let mut grant = pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: None };
    assert_error(auth.role_grant_permission(grant.clone()).await, errors::PERMISSION_NOT_GIVEN);
    grant.perm = Some(authpb::Permission { key: "b".into(), range_end: "a".into(), ..Default::default() });
    assert_error(auth.role_grant_permission(grant.clone()).await, errors::INVALID_AUTH_MGMT);
    grant.perm = Some(authpb::Permission { key: "a".into(), ..Default::default() });
    assert_error(auth.role_grant_permission(grant).await, errors::ROLE_NOT_FOUND);
}
