//! Authentication and permissions.

use super::watches::{Watch, everything};
use super::*;
use keelson_proto::authpb;
use keelson_tests::clock;

struct Secured {
    client: Client,
    root: String,
    alice: String,
}

/// A server with authentication on: `alice` may read and write the key `open` and nothing else.
async fn secured(client: Client) -> Secured {
    let mut auth = client.auth();
    for (name, role) in [("root", "root"), ("alice", "some")] {
        auth.role_add(pb::AuthRoleAddRequest { name: role.to_owned() }).await.unwrap();
        let user = pb::AuthUserAddRequest {
            name: name.to_owned(),
            password: "secret".to_owned(),
            ..Default::default()
        };
        auth.user_add(user).await.unwrap();
        auth.user_grant_role(pb::AuthUserGrantRoleRequest { user: name.to_owned(), role: role.to_owned() })
            .await
            .unwrap();
    }
    let perm = authpb::Permission { perm_type: 2, key: "open".into(), range_end: Default::default() };
    let grant = pb::AuthRoleGrantPermissionRequest { name: "some".to_owned(), perm: Some(perm) };
    auth.role_grant_permission(grant).await.unwrap();
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    let root = login(&client, "root").await;
    let alice = login(&client, "alice").await;
    Secured { client, root, alice }
}

async fn login(client: &Client, name: &str) -> String {
    let request = pb::AuthenticateRequest { name: name.to_owned(), password: "secret".to_owned() };
    client.auth().authenticate(request).await.unwrap().into_inner().token
}

fn with<T>(token: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

const DENIED: &str = "etcdserver: permission denied";

#[tokio::test]
async fn every_request_needs_a_user_and_the_right() {
    alone_with(Feature::Auth, async |client| {
        let Secured { client, root, alice } = secured(client).await;
        refused(range(&client, key("open")).await, Code::InvalidArgument, "etcdserver: user name is empty");
        let bad = client.kv().range(with("nonsense.1", key("open"))).await;
        refused(bad, Code::Unauthenticated, "etcdserver: invalid auth token");
        assert!(client.kv().range(with(&alice, key("open"))).await.is_ok());
        refused(client.kv().range(with(&alice, key("other"))).await, Code::PermissionDenied, DENIED);
        refused(client.kv().range(with(&alice, all())).await, Code::PermissionDenied, DENIED);
        assert!(client.kv().range(with(&root, all())).await.is_ok());
        let compaction = pb::CompactionRequest { revision: 1, physical: false };
        refused(client.kv().compact(with(&alice, compaction)).await, Code::PermissionDenied, DENIED);
        let defragment = client.maintenance().defragment(with(&alice, pb::DefragmentRequest {})).await;
        refused(defragment, Code::PermissionDenied, DENIED);
        assert!(client.maintenance().status(with(&alice, pb::StatusRequest {})).await.is_ok());
        let status = client.maintenance().status(pb::StatusRequest {}).await;
        refused(status, Code::InvalidArgument, "etcdserver: user name is empty");
        let wrong = pb::AuthenticateRequest { name: "alice".to_owned(), password: "guess".to_owned() };
        let failed = "etcdserver: authentication failed, invalid user ID or password";
        refused(client.auth().authenticate(wrong).await, Code::InvalidArgument, failed);
    })
    .await;
}

#[tokio::test]
async fn the_right_to_one_key_is_no_right_to_watch_from_it() {
    // GHSA-xg4h-6gfc-h4m8: a range end of one zero byte was taken for a single key.
    alone_with(Feature::Auth, async |client| {
        let Secured { client, alice, .. } = secured(client).await;
        for range_end in [&b"\0"[..], b"z"] {
            let create = pb::WatchCreateRequest {
                key: "open".into(),
                range_end: range_end.into(),
                ..Default::default()
            };
            let response = watch_first(&client, &alice, create).await;
            assert!(response.created && response.canceled);
            assert_eq!(response.watch_id, -1);
            assert_eq!(
                response.cancel_reason,
                "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
            );
        }
        let single = pb::WatchCreateRequest { key: "open".into(), ..Default::default() };
        let response = watch_first(&client, &alice, single).await;
        assert!(response.created && !response.canceled);
        let read = pb::RangeRequest { range_end: b"\0".as_slice().into(), ..key("open") };
        refused(client.kv().range(with(&alice, read)).await, Code::PermissionDenied, DENIED);
    })
    .await;
}

async fn watch_first(client: &Client, token: &str, create: pb::WatchCreateRequest) -> pb::WatchResponse {
    let request =
        pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    // The stream stays open while the first answer is awaited: a half-closed one may be ended by the server first.
    let (requests, queue) = tokio::sync::mpsc::channel(1);
    requests.send(request).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(queue);
    let mut responses = client.watch().watch(with(token, stream)).await.unwrap().into_inner();
    responses.message().await.unwrap().expect("an answer")
}

#[tokio::test]
async fn a_watch_without_login_is_cancelled_with_the_reason() {
    alone_with(Feature::Auth, async |client| {
        let Secured { client, .. } = secured(client).await;
        let mut watch = Watch::open(&client, everything()).await;
        let super::watches::WatchItem::Created(response) = watch.next().await else { panic!("an answer") };
        assert!(response.canceled);
        println!("reason without a login: {}", response.cancel_reason);
        assert_eq!(
            response.cancel_reason,
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
        );
    })
    .await;
}

#[tokio::test]
async fn a_lost_permission_counts_at_once() {
    alone_with(Feature::Auth, async |client| {
        let Secured { client, root, alice } = secured(client).await;
        let revoke = pb::AuthRoleRevokePermissionRequest {
            role: "some".to_owned(),
            key: "open".into(),
            range_end: Default::default(),
        };
        client.auth().role_revoke_permission(with(&root, revoke)).await.unwrap();
        refused(client.kv().range(with(&alice, key("open"))).await, Code::PermissionDenied, DENIED);
    })
    .await;
}

#[tokio::test]
async fn turning_authentication_on_needs_root() {
    alone_with(Feature::Auth, async |client| {
        let enable = async || client.auth().auth_enable(pb::AuthEnableRequest {}).await;
        refused(enable().await, Code::FailedPrecondition, "etcdserver: root user does not exist");
        let user = pb::AuthUserAddRequest {
            name: "root".to_owned(),
            password: "secret".to_owned(),
            ..Default::default()
        };
        client.auth().user_add(user).await.unwrap();
        refused(enable().await, Code::FailedPrecondition, "etcdserver: root user does not have root role");
        let status = client.auth().auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.enabled, status.auth_revision), (false, 2));
    })
    .await;
}

#[tokio::test]
async fn a_restart_keeps_users_and_rights_and_may_forget_tokens() {
    for kind in Kind::each(&[]) {
        let options = Options::new(kind, 1).quick().flag("--log-level=error");
        let mut cluster = Cluster::start(options).await.expect("the server starts");
        if lacks(&cluster, Feature::Auth).await {
            continue;
        }
        let Secured { client, alice, .. } = secured(Client::lazy(&cluster.member(0).client_url())).await;
        cluster.member_mut(0).kill();
        cluster.member_mut(0).start().unwrap();
        // A token lives in memory, but the login is in the log: etcd knows it again if it replays that part.
        let answered = clock::until(Duration::from_secs(30), || async {
            match client.kv().range(with(&alice, key("open"))).await {
                Ok(_) => Ok(()),
                Err(status) if status.message() == "etcdserver: invalid auth token" => Ok(()),
                Err(status) => Err(status),
            }
        });
        answered.await.expect("an answer to the old token");
        let again = login(&client, "alice").await;
        assert!(client.kv().range(with(&again, key("open"))).await.is_ok());
        refused(client.kv().range(with(&again, key("other"))).await, Code::PermissionDenied, DENIED);
    }
}
