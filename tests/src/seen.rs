//! A history with everything in it, and all that clients can see of a store that has it.
//!
//! Owns: what is written, and [`Seen`], which is compared. Called by: the suites that move data between servers.
//! Invariant: two servers on which [`look`] sees the same hold the same, as far as any client can tell.

use keelson_proto::{authpb, etcdserverpb as pb};

use crate::client::Client;

/// Leases that [`write`] grants; the second is revoked in the end.
pub const LEASES: [i64; 3] = [7, 1 << 40, -5];

/// What clients can see of a store.
#[derive(Debug, PartialEq)]
pub struct Seen {
    /// Of the store.
    pub revision: i64,
    /// HashKV at several revisions: hash, compacted, revision.
    pub hashes: Vec<(u32, i64, i64)>,
    /// Everything at several revisions; `None` where it is compacted.
    pub ranges: Vec<Option<pb::RangeResponse>>,
    /// Id, granted time to live, keys.
    pub leases: Vec<(i64, i64, Vec<Vec<u8>>)>,
    /// Raised alarms.
    pub alarms: Vec<pb::AlarmMember>,
    /// Users with their roles, roles with their permissions, and the auth revision.
    pub auth: Vec<String>,
    /// From the compaction mark on.
    pub events: Vec<String>,
}

fn everything(revision: i64) -> pb::RangeRequest {
    pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..Default::default() }
}

/// A history with everything in it: leases, transactions that change several keys, deletions, keys created again,
/// values larger than a page, and a compaction at the revision of a deletion. Gives the mark.
pub async fn write(client: &Client) -> i64 {
    for id in LEASES {
        client.lease().lease_grant(pb::LeaseGrantRequest { id, ttl: 3600 }).await.unwrap();
    }
    let put = |key: String, value: usize, lease: i64| pb::PutRequest {
        key: key.into(),
        value: vec![b'v'; value].into(),
        lease,
        ..Default::default()
    };
    let mut mark = 0;
    for number in 0..300usize {
        let lease = LEASES.get(number % 10).copied().unwrap_or(0);
        let value = if number % 50 == 0 { 9000 } else { number };
        client.kv().put(put(format!("k{}", number % 37), value, lease)).await.unwrap();
        if number % 20 == 0 {
            let ops = (0..5).map(|op| pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(put(format!("t{op}"), number, 0))),
            });
            let txn = pb::TxnRequest { success: ops.collect(), ..Default::default() };
            client.kv().txn(txn).await.unwrap();
        }
        if number % 30 == 7 {
            let delete =
                pb::DeleteRangeRequest { key: "k1".into(), range_end: "k2".into(), ..Default::default() };
            let deleted = client.kv().delete_range(delete).await.unwrap().into_inner();
            if number < 150 {
                mark = deleted.header.unwrap().revision;
            }
        }
    }
    for (user, role) in [("root", "root"), ("alice", "reader")] {
        let mut auth = client.auth();
        auth.role_add(pb::AuthRoleAddRequest { name: role.to_owned() }).await.unwrap();
        let perm = authpb::Permission { perm_type: 0, key: "k".into(), range_end: "l".into() };
        let grant = pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm: Some(perm) };
        auth.role_grant_permission(grant).await.unwrap();
        let add = pb::AuthUserAddRequest {
            name: user.to_owned(),
            password: "secret".to_owned(),
            ..Default::default()
        };
        auth.user_add(add).await.unwrap();
        let grant = pb::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() };
        auth.user_grant_role(grant).await.unwrap();
    }
    let request = pb::CompactionRequest { revision: mark, physical: false };
    client.kv().compact(request).await.unwrap();
    client.lease().lease_revoke(pb::LeaseRevokeRequest { id: LEASES[1] }).await.unwrap();
    let alarm = pb::AlarmRequest { action: 1, member_id: 99, alarm: 1 };
    client.maintenance().alarm(alarm).await.unwrap();
    mark
}

/// Looks at everything.
pub async fn look(client: &Client, mark: i64) -> Seen {
    let hash_at = async |revision| {
        client.maintenance().hash_kv(pb::HashKvRequest { revision }).await.unwrap().into_inner()
    };
    let revision = hash_at(0).await.header.unwrap().revision;
    let mut hashes = Vec::new();
    // Not at the mark itself: there an etcd that has just compacted gives the hash of before.
    for at in [revision, revision - 1, (mark + revision) / 2, mark + 1] {
        let hash = hash_at(at).await;
        hashes.push((hash.hash, hash.compact_revision, hash.hash_revision));
    }
    let mut ranges = Vec::new();
    for at in [0, revision - 1, (mark + revision) / 2, mark + 1, mark, mark - 1, 1] {
        let answer = client.kv().range(everything(at)).await;
        ranges.push(answer.ok().map(|answer| pb::RangeResponse { header: None, ..answer.into_inner() }));
    }
    let mut leases = Vec::new();
    for id in LEASES {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let found = client.lease().lease_time_to_live(request).await.unwrap().into_inner();
        let mut keys: Vec<_> = found.keys.iter().map(|key| key.to_vec()).collect();
        keys.sort();
        leases.push((id, found.granted_ttl, keys));
    }
    let alarms = client.maintenance().alarm(pb::AlarmRequest::default()).await.unwrap().into_inner().alarms;
    Seen {
        revision,
        hashes,
        ranges,
        leases,
        alarms,
        auth: auth(client).await,
        events: events(client, mark, revision).await,
    }
}

async fn auth(client: &Client) -> Vec<String> {
    let mut auth = client.auth();
    let status = auth.auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
    let mut seen = vec![format!("{} at {}", status.enabled, status.auth_revision)];
    for name in auth.user_list(pb::AuthUserListRequest {}).await.unwrap().into_inner().users {
        let user = auth.user_get(pb::AuthUserGetRequest { name: name.clone() }).await.unwrap().into_inner();
        seen.push(format!("{name}: {:?}", user.roles));
    }
    for name in auth.role_list(pb::AuthRoleListRequest {}).await.unwrap().into_inner().roles {
        let role = auth.role_get(pb::AuthRoleGetRequest { role: name.clone() }).await.unwrap().into_inner();
        seen.push(format!("{name}: {:?}", role.perm));
    }
    seen
}

async fn events(client: &Client, from: i64, upto: i64) -> Vec<String> {
    let create = pb::WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: from,
        prev_kv: true,
        ..Default::default()
    };
    let request =
        pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
    let mut stream = client.watch().watch(requests).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let mut last = 0;
    while last < upto {
        let response = stream.message().await.unwrap().unwrap();
        for event in response.events {
            last = event.kv.as_ref().unwrap().mod_revision;
            seen.push(format!("{event:?}"));
        }
    }
    seen
}
