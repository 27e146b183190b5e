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

/// A key for signed tokens in a folder of its own.
fn signing_key() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    std::fs::write(folder.path().join("private.pem"), pair.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("public.pem"), pair.public_key_pem()).unwrap();
    let path = folder.path().display().to_string();
    let flag = format!(
        "--auth-token=jwt,sign-method=ES256,pub-key={path}/public.pem,priv-key={path}/private.pem,ttl=5m"
    );
    (folder, flag)
}

#[tokio::test]
async fn signed_tokens_count_until_users_change_and_survive_restarts() {
    const OLD: &str = "etcdserver: revision of auth store is old";
    let (_folder, flag) = signing_key();
    let mut of_others: Vec<String> = Vec::new();
    for kind in Kind::each(&[]) {
        let options =
            Options::new(kind, 1).quick().flag("--log-level=error").flag(&flag).flag("--bcrypt-cost=4");
        let mut cluster = Cluster::start(options).await.expect("the server starts");
        let client = Client::lazy(&cluster.member(0).client_url());
        let Secured { client, root, alice } = secured(client).await;
        assert_eq!(alice.split('.').count(), 3, "{alice}");
        assert!(client.kv().range(with(&alice, key("open"))).await.is_ok());
        refused(client.kv().range(with(&alice, key("other"))).await, Code::PermissionDenied, DENIED);
        // The same steps with the same key: what the other server signed counts here too.
        for token in of_others.drain(..) {
            assert!(client.kv().range(with(&token, key("open"))).await.is_ok(), "{kind:?}: {token}");
        }
        of_others.push(alice.clone());
        cluster.member_mut(0).kill();
        cluster.member_mut(0).start().unwrap();
        let answered = clock::until(Duration::from_secs(30), || async {
            client.kv().range(with(&alice, key("open"))).await.map(drop)
        });
        answered.await.expect("the token outlives the process");
        let add = pb::AuthRoleAddRequest { name: "later".to_owned() };
        client.auth().role_add(with(&root, add)).await.unwrap();
        refused(client.kv().range(with(&alice, key("open"))).await, Code::InvalidArgument, OLD);
        let write = pb::PutRequest { key: "open".into(), ..Default::default() };
        refused(client.kv().put(with(&alice, write)).await, Code::InvalidArgument, OLD);
        let again = login(&client, "alice").await;
        assert!(client.kv().range(with(&again, key("open"))).await.is_ok());
    }
}

#[tokio::test]
async fn a_simple_token_counts_on_every_member_at_once_and_ends_with_the_password() {
    on_each(3, &["--bcrypt-cost=4"], async |cluster| {
        let one = Client::lazy(&cluster.member(0).client_url());
        let Secured { client, root, alice } = secured(one).await;
        let others = [1, 2].map(|member| Client::lazy(&cluster.member(member).client_url()));
        for other in &others {
            let fresh = login(&client, "alice").await;
            if cluster.options().kind == Kind::Etcd {
                // There a member that has not applied the login yet may call it wrong.
                let known = clock::until(Duration::from_secs(10), || async {
                    let (new, old) = (with(&fresh, key("open")), with(&alice, key("open")));
                    other.kv().range(new).await?;
                    other.kv().range(old).await.map(drop)
                });
                known.await.expect("the tokens count");
            }
            let write = pb::PutRequest { key: "open".into(), ..Default::default() };
            other.kv().put(with(&fresh, write)).await.unwrap();
            other.kv().range(with(&fresh, key("open"))).await.unwrap();
            other.kv().range(with(&alice, key("open"))).await.unwrap();
        }
        let change = pb::AuthUserChangePasswordRequest {
            name: "alice".to_owned(),
            password: "other".to_owned(),
            ..Default::default()
        };
        client.auth().user_change_password(with(&root, change)).await.unwrap();
        for other in &others {
            let old = other.kv().range(with(&alice, key("open"))).await;
            refused(old, Code::Unauthenticated, "etcdserver: invalid auth token");
        }
        let wrong = pb::AuthenticateRequest { name: "alice".to_owned(), password: "secret".to_owned() };
        let failed = "etcdserver: authentication failed, invalid user ID or password";
        refused(client.auth().authenticate(wrong).await, Code::InvalidArgument, failed);
    })
    .await;
}

#[tokio::test]
async fn the_lease_of_others_cannot_be_kept_revoked_or_looked_into() {
    alone_with(Feature::Auth, async |client| {
        let Secured { client, root, alice } = secured(client).await;
        client.lease().lease_grant(with(&root, pb::LeaseGrantRequest { id: 7, ttl: 600 })).await.unwrap();
        let attach = pb::PutRequest { key: "other".into(), lease: 7, ..Default::default() };
        client.kv().put(with(&root, attach)).await.unwrap();
        let revoke = pb::LeaseRevokeRequest { id: 7 };
        refused(client.lease().lease_revoke(with(&alice, revoke)).await, Code::PermissionDenied, DENIED);
        let look = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
        refused(client.lease().lease_time_to_live(with(&alice, look)).await, Code::PermissionDenied, DENIED);
        let attach = pb::PutRequest { key: "open".into(), lease: 7, ..Default::default() };
        refused(client.kv().put(with(&alice, attach)).await, Code::PermissionDenied, DENIED);
        // A lease that runs out is nobody's to be asked about.
        client.lease().lease_grant(with(&root, pb::LeaseGrantRequest { id: 8, ttl: 1 })).await.unwrap();
        let attach = pb::PutRequest { key: "other2".into(), lease: 8, ..Default::default() };
        client.kv().put(with(&root, attach)).await.unwrap();
        let gone = clock::until(Duration::from_secs(20), || async {
            let found = client.kv().range(with(&root, key("other2"))).await.unwrap().into_inner();
            if found.count == 0 { Ok(()) } else { Err(found.count) }
        });
        gone.await.expect("the key goes with its lease");
    })
    .await;
}

/// etcd answers some of these writes with `revision of auth store is old`, and its client repeats them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_overtaken_by_a_change_of_roles_is_judged_anew() {
    let Some(kind) = Kind::keelson_only(&[]) else { return };
    let options = Options::new(kind, 1).quick().flag("--log-level=error").flag("--bcrypt-cost=4");
    let cluster = Cluster::start(options).await.expect("the server starts");
    let Secured { client, root, alice } = secured(Client::lazy(&cluster.member(0).client_url())).await;
    let changing = {
        let client = client.reconnected();
        tokio::spawn(async move {
            for number in 0..300 {
                let add = pb::AuthRoleAddRequest { name: format!("r{number}") };
                client.auth().role_add(with(&root, add)).await.unwrap();
            }
        })
    };
    let mut written = 0;
    while !changing.is_finished() {
        let writes = (0..8).map(|_| {
            let write = pb::PutRequest { key: "open".into(), ..Default::default() };
            let mut kv = client.kv();
            let request = with(&alice, write);
            async move { kv.put(request).await }
        });
        for answer in futures::future::join_all(writes).await {
            answer.expect("alice may write");
            written += 1;
        }
    }
    changing.await.unwrap();
    assert!(written > 300, "only {written} writes met 300 changes");
}

#[tokio::test]
async fn of_several_permissions_of_one_key_the_first_is_changed() {
    alone_with(Feature::Auth, async |client| {
        let mut auth = client.auth();
        auth.role_add(pb::AuthRoleAddRequest { name: "r".to_owned() }).await.unwrap();
        for (end, perm_type) in [("", 0), ("b", 0), ("c", 0), ("b", 1), ("", 2)] {
            let perm = authpb::Permission { perm_type, key: "a".into(), range_end: end.into() };
            let grant = pb::AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm: Some(perm) };
            auth.role_grant_permission(grant).await.unwrap();
        }
        let role = auth.role_get(pb::AuthRoleGetRequest { role: "r".to_owned() }).await.unwrap().into_inner();
        let found: Vec<_> = role.perm.iter().map(|perm| (perm.range_end.as_ref(), perm.perm_type)).collect();
        // The second grant up to "b" is another permission, because it is not the first of its key.
        assert_eq!(found, [(&b""[..], 2), (b"b", 0), (b"c", 0), (b"b", 1)]);
        let revoke = pb::AuthRoleRevokePermissionRequest {
            role: "r".to_owned(),
            key: "a".into(),
            range_end: "b".into(),
        };
        auth.role_revoke_permission(revoke).await.unwrap();
        let role = auth.role_get(pb::AuthRoleGetRequest { role: "r".to_owned() }).await.unwrap().into_inner();
        assert_eq!(role.perm.len(), 2, "both are gone");
    })
    .await;
}
