//! The same requests to a real etcd and to us: every answer and every error must agree.
//!
//! Runs where `KEELSON_TEST_ETCD` names an etcd 3.7 binary. Left out of the comparison: identities and terms, sizes,
//! and what etcd leaves open (the order of equal sort keys, the order of listed leases).

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use keelson_proto::etcdserverpb::{
    self as pb, CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, compare::TargetUnion, request_op::Request,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::kit::*;

const STEPS: usize = 4000;

/// The same on every run, unless `KEELSON_TEST_SEED` says otherwise.
fn seed() -> u64 {
    std::env::var("KEELSON_TEST_SEED").map_or(0x5eed, |seed| seed.parse().expect("a seed is a number"))
}

struct Etcd {
    process: Child,
    channel: Channel,
    _data: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Etcd {
    async fn start(binary: &str) -> Etcd {
        let data = tempfile::tempdir().unwrap();
        let (client, peer) = (free_port(), free_port());
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let process = Command::new(binary)
            .arg("--data-dir")
            .arg(data.path())
            .args(["--unsafe-no-fsync", "--log-level", "error"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let channel = Channel::from_shared(client).unwrap().connect_lazy();
        let etcd = Etcd { process, channel, _data: data };
        soon(async {
            let mut kv = pb::kv_client::KvClient::new(etcd.channel.clone());
            while kv.range(range("ready", "")).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        etcd
    }
}

/// Clients of both.
struct Pair {
    ours: Channel,
    theirs: Channel,
}

/// Sends one request to both and compares what came back, headers without identities.
macro_rules! both {
    ($pair:expr, $client:ident::$type:ident.$method:ident($request:expr), |$response:ident| $normal:expr) => {{
        let request = $request;
        let mut answers = Vec::new();
        for channel in [&$pair.ours, &$pair.theirs] {
            let mut client = pb::$client::$type::new(channel.clone());
            let answer = client.$method(request.clone()).await.map(|response| {
                let mut $response = response.into_inner();
                anonymous(&mut $response.header);
                $normal;
                format!("{:?}", $response)
            });
            answers.push(answer.map_err(|status| (status.code(), status.message().to_owned())));
        }
        assert_eq!(answers[0], answers[1], "ours and etcd's answer to {request:?}");
        answers.remove(0)
    }};
    ($pair:expr, $client:ident::$type:ident.$method:ident($request:expr)) => {
        both!($pair, $client::$type.$method($request), |response| ())
    };
}

/// Identities differ; that they are there must not.
fn anonymous(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}

struct Random(StdRng);

impl Random {
    fn one_in(&mut self, n: u32) -> bool {
        self.0.random_range(0..n) == 0
    }

    fn below(&mut self, n: i64) -> i64 {
        self.0.random_range(0..n)
    }

    fn key(&mut self) -> bytes::Bytes {
        const KEYS: [&str; 10] = ["a", "b", "ba", "c", "d", "dd", "e", "f", "\0", "\u{7f}"];
        if self.one_in(60) { bytes::Bytes::new() } else { KEYS[self.below(10) as usize].into() }
    }

    fn end(&mut self) -> bytes::Bytes {
        match self.below(4) {
            0 | 1 => bytes::Bytes::new(),
            2 => bytes::Bytes::from_static(b"\0"),
            _ => self.key(),
        }
    }

    fn value(&mut self) -> bytes::Bytes {
        format!("{}", self.below(5)).into_bytes().into()
    }

    /// Around the newest revision, sometimes far off.
    fn revision(&mut self, newest: i64) -> i64 {
        match self.below(12) {
            0 => newest + 1 + self.below(3),
            1 => self.below(newest + 1),
            2 => -self.below(4),
            3..6 => newest - self.below(20).min(newest),
            _ => 0,
        }
    }

    fn range(&mut self, newest: i64) -> RangeRequest {
        let mut request = RangeRequest {
            key: self.key(),
            range_end: self.end(),
            revision: self.revision(newest),
            serializable: self.one_in(2),
            keys_only: self.one_in(6),
            count_only: self.one_in(8),
            ..Default::default()
        };
        if self.one_in(3) {
            request.limit = self.below(6) - 1;
        }
        if self.one_in(3) {
            // Only keys and modification revisions order strictly; the rest may tie, and ties are left open.
            (request.sort_order, request.sort_target) = match self.below(6) {
                0 => (1, 0),
                1 => (2, 0),
                2 => (1, 3),
                3 => (2, 3),
                4 => (self.below(6) as i32 - 2, 0),
                _ => (0, self.below(8) as i32 - 1),
            };
            // Within one transaction modification revisions tie as well.
            if request.sort_target != 0 && (0..=4).contains(&request.sort_target) {
                request.range_end = bytes::Bytes::new();
            }
        }
        if self.one_in(4) {
            let bounds = [&mut request.min_mod_revision, &mut request.max_mod_revision];
            let picked = self.0.random_range(0..2);
            *bounds.into_iter().nth(picked).unwrap() = self.0.random_range(0..=newest);
        }
        if self.one_in(6) {
            let bounds = [&mut request.min_create_revision, &mut request.max_create_revision];
            let picked = self.0.random_range(0..2);
            *bounds.into_iter().nth(picked).unwrap() = self.0.random_range(0..=newest);
        }
        request
    }

    fn put(&mut self) -> PutRequest {
        let mut request = PutRequest {
            key: self.key(),
            value: self.value(),
            prev_kv: self.one_in(2),
            ignore_lease: self.one_in(8),
            ..Default::default()
        };
        if self.one_in(6) {
            request.ignore_value = true;
            if !self.one_in(3) {
                request.value = bytes::Bytes::new();
            }
        }
        if self.one_in(6) {
            request.lease = 1 + self.below(4);
        }
        request
    }

    /// Keeps nothing of the old version: etcd crashes when the key was deleted earlier in the same transaction.
    fn put_in_txn(&mut self) -> PutRequest {
        PutRequest { ignore_value: false, ignore_lease: false, ..self.put() }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.key(), range_end: self.end(), prev_kv: self.one_in(2) }
    }

    fn compare(&mut self, newest: i64) -> Compare {
        let number = if self.one_in(2) { self.below(4) } else { self.below(newest + 2) };
        let union = match self.below(6) {
            0 => Some(TargetUnion::Version(self.below(4))),
            1 => Some(TargetUnion::CreateRevision(number)),
            2 => Some(TargetUnion::ModRevision(number)),
            3 => Some(TargetUnion::Value(self.value())),
            4 => Some(TargetUnion::Lease(self.below(3))),
            _ => None,
        };
        let fitting = union.as_ref().map_or(0, |union| match union {
            TargetUnion::Version(_) => 0,
            TargetUnion::CreateRevision(_) => 1,
            TargetUnion::ModRevision(_) => 2,
            TargetUnion::Value(_) => 3,
            TargetUnion::Lease(_) => 4,
        });
        let target = if self.one_in(5) { self.below(7) as i32 } else { fitting };
        let range_end = if self.one_in(3) { self.end() } else { bytes::Bytes::new() };
        Compare { result: self.below(5) as i32, target, key: self.key(), range_end, target_union: union }
    }

    fn txn(&mut self, newest: i64, depth: u32) -> TxnRequest {
        let compares = self.below(3);
        let compare = (0..compares).map(|_| self.compare(newest)).collect();
        let branch = |random: &mut Self| {
            let ops = random.below(4);
            (0..ops).map(|_| random.op(newest, depth)).collect()
        };
        TxnRequest { compare, success: branch(self), failure: branch(self) }
    }

    fn op(&mut self, newest: i64, depth: u32) -> RequestOp {
        let request = match self.below(8) {
            0 | 1 => Some(Request::RequestRange(self.range(newest))),
            2..5 => Some(Request::RequestPut(self.put_in_txn())),
            5 => Some(Request::RequestDeleteRange(self.delete())),
            6 if depth > 0 => Some(Request::RequestTxn(self.txn(newest, depth - 1))),
            6 if self.one_in(20) => None,
            _ => Some(Request::RequestPut(self.put_in_txn())),
        };
        RequestOp { request }
    }
}

async fn pair() -> Option<(Member, Etcd, Pair)> {
    let Ok(binary) = std::env::var("KEELSON_TEST_ETCD") else {
        eprintln!("KEELSON_TEST_ETCD is not set: nothing was compared");
        return None;
    };
    let member = Member::alone().await;
    let etcd = Etcd::start(&binary).await;
    let pair = Pair { ours: member.channel.clone(), theirs: etcd.channel.clone() };
    Some((member, etcd, pair))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests() {
    let Some((member, _etcd, pair)) = pair().await else { return };
    let mut random = Random(StdRng::seed_from_u64(seed()));
    for id in 1..4 {
        both!(pair, lease_client::LeaseClient.lease_grant(pb::LeaseGrantRequest { ttl: 3600, id })).unwrap();
    }
    let (mut compacted, mut refused) = (Vec::new(), 0);
    for _ in 0..STEPS {
        let newest = member.cluster.revision();
        let answer = match random.below(20) {
            0..6 => both!(pair, kv_client::KvClient.range(random.range(newest))),
            6..11 => both!(pair, kv_client::KvClient.put(random.put())),
            11..13 => both!(pair, kv_client::KvClient.delete_range(random.delete())),
            13..19 => both!(pair, kv_client::KvClient.txn(random.txn(newest, 2))),
            _ if random.one_in(3) => {
                let revision = random.revision(newest);
                let answer =
                    both!(pair, kv_client::KvClient.compact(CompactionRequest { revision, physical: false }));
                compacted.extend(answer.is_ok().then_some(revision));
                answer
            }
            _ => {
                let revision = if random.one_in(2) { 0 } else { random.revision(newest).max(0) };
                // etcd keeps the hashes it took at its last compactions, with the marks of that time; we do not.
                if compacted.contains(&revision) {
                    continue;
                }
                both!(pair, maintenance_client::MaintenanceClient.hash_kv(pb::HashKvRequest { revision }))
            }
        };
        refused += usize::from(answer.is_err());
    }
    let compacted = compacted.len();
    assert!(
        compacted >= 5 && refused > 100,
        "{compacted} compactions, {refused} refusals: the mix is too tame"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streamed_ranges() {
    let Some((_member, _etcd, pair)) = pair().await else { return };
    for number in 0..300 {
        let key = format!("k{number:04}").into_bytes().into();
        both!(
            pair,
            kv_client::KvClient.put(PutRequest { key, value: vec![b'v'; 200].into(), ..Default::default() })
        )
        .unwrap();
    }
    for request in [
        range("k", "l"),
        range("k0000", ""),
        range("x", "y"),
        RangeRequest { limit: 7, ..range("k", "l") },
        RangeRequest { limit: 100, ..range("k", "l") },
        RangeRequest { limit: 300, ..range("k", "l") },
        RangeRequest { revision: 50, ..range("k", "l") },
        RangeRequest { keys_only: true, ..range("k", "l") },
        RangeRequest { count_only: true, ..range("k", "l") },
        RangeRequest { count_only: true, revision: 20, ..range("k", "l") },
        RangeRequest { limit: -3, ..range("k", "l") },
        RangeRequest { revision: 999, ..range("k", "l") },
        RangeRequest { sort_order: 1, sort_target: 2, ..range("k", "l") },
        RangeRequest { max_mod_revision: 2, ..range("k", "l") },
        range("", ""),
    ] {
        let mut answers = Vec::new();
        for channel in [&pair.ours, &pair.theirs] {
            let mut client = pb::kv_client::KvClient::new(channel.clone());
            let (mut kvs, mut tail, mut parts) = (Vec::new(), None, 0);
            let error = match client.range_stream(request.clone()).await {
                Err(status) => Some(status),
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    loop {
                        match stream.message().await {
                            Ok(Some(part)) => {
                                let mut part = part.range_response.unwrap();
                                parts += 1;
                                kvs.append(&mut part.kvs);
                                anonymous(&mut part.header);
                                tail = Some(part);
                            }
                            Ok(None) => break None,
                            Err(status) => break Some(status),
                        }
                    }
                }
            };
            let error = error.map(|status| (status.code(), status.message().to_owned()));
            answers.push((kvs, tail, error, if request.limit < 0 { 0 } else { parts }));
        }
        assert_eq!(answers[0], answers[1], "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_members_and_maintenance() {
    use pb::*;
    let Some((_member, _etcd, pair)) = pair().await else { return };
    let put = |key: &'static str, lease| PutRequest { key: key.into(), lease, ..Default::default() };
    for (id, ttl) in [(7, 100), (7, 100), (8, 0), (9, -4), (-1, 50), (10, 9_000_000_001), (11, 9_000_000_000)]
    {
        let _ = both!(pair, lease_client::LeaseClient.lease_grant(LeaseGrantRequest { ttl, id }));
    }
    for (key, lease) in [("b", 7), ("a", 7), ("c", 11), ("c", 7), ("c", 0)] {
        both!(pair, kv_client::KvClient.put(put(key, lease))).unwrap();
    }
    for (id, keys) in [(7, true), (7, false), (404, true), (0, false)] {
        both!(
            pair,
            lease_client::LeaseClient.lease_time_to_live(LeaseTimeToLiveRequest { id, keys }),
            |response| {
                // A second may pass between the two.
                response.ttl = if response.ttl > 90 { 99 } else { response.ttl };
                response.keys.sort();
            }
        )
        .unwrap();
    }
    for id in [7, 7, 404, 0] {
        let _ = both!(pair, lease_client::LeaseClient.lease_revoke(LeaseRevokeRequest { id }));
    }
    both!(pair, lease_client::LeaseClient.lease_leases(LeaseLeasesRequest {}), |response| {
        response.leases.retain(|lease| ![8, 9].contains(&lease.id));
        response.leases.sort_by_key(|lease| lease.id);
    })
    .unwrap();
    let mut keep_alive = Vec::new();
    for channel in [&pair.ours, &pair.theirs] {
        let requests = [11, 404, 0].map(|id| LeaseKeepAliveRequest { id });
        let mut client = lease_client::LeaseClient::new(channel.clone());
        let answers = client.lease_keep_alive(tokio_stream::iter(requests)).await.unwrap().into_inner();
        let answers: Vec<_> = answers
            .map(|answer| {
                answer.map(|mut answer| {
                    anonymous(&mut answer.header);
                    answer
                })
            })
            .map(|answer| answer.map_err(|status| (status.code(), status.message().to_owned())))
            .collect()
            .await;
        keep_alive.push(answers);
    }
    assert_eq!(keep_alive[0], keep_alive[1]);

    for (action, member_id, alarm) in
        [(0, 0, 0), (1, 5, 1), (1, 5, 1), (1, 5, 0), (0, 0, 1), (2, 6, 1), (2, 5, 1), (0, 0, 0)]
    {
        let request = AlarmRequest { action, member_id, alarm };
        both!(pair, maintenance_client::MaintenanceClient.alarm(request)).unwrap();
    }
    for (action, version) in [(0, "3.6.0"), (0, "3.6"), (0, "3.5"), (0, "x"), (0, ""), (2, ""), (9, "3.6")] {
        let request = DowngradeRequest { action, version: version.into() };
        let _ = both!(pair, maintenance_client::MaintenanceClient.downgrade(request));
    }
    let _ =
        both!(pair, maintenance_client::MaintenanceClient.move_leader(MoveLeaderRequest { target_id: 99 }));
    both!(pair, maintenance_client::MaintenanceClient.defragment(DefragmentRequest {})).unwrap();
    both!(pair, maintenance_client::MaintenanceClient.status(StatusRequest {}), |response| {
        response.version.clear();
        (response.db_size, response.db_size_in_use, response.leader) = (1, 1, 1);
        (response.raft_index, response.raft_applied_index, response.raft_term) = (1, 1, 1);
    })
    .unwrap();
    for urls in [vec![], vec!["nonsense"], vec!["http://a:1/path"], vec!["ftp://a:1"], vec!["http://a"]] {
        let peer_ur_ls = urls.into_iter().map(str::to_owned).collect();
        let request = MemberAddRequest { peer_ur_ls, is_learner: true };
        both!(pair, cluster_client::ClusterClient.member_add(request)).unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_roles_that_do_not_exist() {
    use pb::*;
    let Some((_member, _etcd, pair)) = pair().await else { return };
    macro_rules! ask {
        ($($method:ident($request:expr);)*) => {
            $(let _ = both!(pair, auth_client::AuthClient.$method($request));)*
        };
    }
    let permission = |key: &'static str, end: &'static str| {
        Some(keelson_proto::authpb::Permission { perm_type: 0, key: key.into(), range_end: end.into() })
    };
    let grant = |perm| AuthRoleGrantPermissionRequest { name: "r".into(), perm };
    ask! {
        auth_status(AuthStatusRequest {});
        authenticate(AuthenticateRequest { name: "u".into(), password: "p".into() });
        auth_enable(AuthEnableRequest {});
        auth_disable(AuthDisableRequest {});
        user_list(AuthUserListRequest {});
        role_list(AuthRoleListRequest {});
        user_get(AuthUserGetRequest { name: "u".into() });
        user_add(AuthUserAddRequest::default());
        user_delete(AuthUserDeleteRequest { name: "u".into() });
        user_delete(AuthUserDeleteRequest { name: "root".into() });
        user_change_password(AuthUserChangePasswordRequest { name: "u".into(), ..Default::default() });
        user_grant_role(AuthUserGrantRoleRequest { user: "u".into(), role: "r".into() });
        user_revoke_role(AuthUserRevokeRoleRequest { name: "u".into(), role: "r".into() });
        role_add(AuthRoleAddRequest::default());
        role_get(AuthRoleGetRequest { role: "root".into() });
        role_delete(AuthRoleDeleteRequest { role: "root".into() });
        role_grant_permission(grant(None));
        role_grant_permission(grant(permission("", "")));
        role_grant_permission(grant(permission("b", "a")));
        role_grant_permission(grant(permission("b", "\0")));
        role_revoke_permission(AuthRoleRevokePermissionRequest { role: "r".into(), ..Default::default() });
        auth_status(AuthStatusRequest {});
    }
}

/// What watch streams see of a history with transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches() {
    use pb::WatchCreateRequest;
    let Some((member, _etcd, pair)) = pair().await else { return };
    let mut random = Random(StdRng::seed_from_u64(seed() + 1));
    let newest = history(&member, &pair, &mut random, 0).await;
    for case in [
        watch_from("a", "", newest / 2),
        watch_from("a", "z", newest / 2),
        watch_from("a", "\0", newest - 3),
        WatchCreateRequest { prev_kv: true, ..watch_from("", "\0", newest / 2 + 1) },
        WatchCreateRequest { filters: vec![0], ..watch_from("", "\0", newest / 2) },
        WatchCreateRequest { filters: vec![1], prev_kv: true, ..watch_from("", "\0", newest / 2 + 1) },
        WatchCreateRequest { fragment: true, watch_id: 77, ..watch_from("", "\0", newest / 2) },
        watch_from("a", "", newest / 2 - 1),
        watch_from("a", "", -1),
        watch_from("b", "a", 0),
        watch_from("b", "b", 0),
        WatchCreateRequest { watch_id: -5, ..watch_from("a", "", 0) },
    ] {
        compare_watch(&pair, case, newest / 2).await;
    }
}

/// The previous value is that before the revision, and none where that is compacted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn previous_values_where_they_are_not_obvious() {
    use pb::WatchCreateRequest;
    let Some((member, _etcd, pair)) = pair().await else { return };
    let mut random = Random(StdRng::seed_from_u64(seed() + 2));
    let newest = history(&member, &pair, &mut random, 1).await;
    for start in [newest / 2 + 1, newest / 2] {
        let case = WatchCreateRequest { prev_kv: true, ..watch_from("", "\0", start) };
        compare_watch(&pair, case, newest / 2).await;
    }
}

fn watch_from(key: &'static str, end: &'static str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.into(), range_end: end.into(), start_revision, ..Default::default() }
}

/// Writes the same history to both and compacts half of it; gives the newest revision. With a `depth` of 0 no
/// transaction changes a key twice.
async fn history(member: &Member, pair: &Pair, random: &mut Random, depth: u32) -> i64 {
    for id in 1..5 {
        both!(pair, lease_client::LeaseClient.lease_grant(pb::LeaseGrantRequest { ttl: 3600, id })).unwrap();
    }
    for _ in 0..200 {
        let txn = random.txn(member.cluster.revision(), depth);
        let deletes = |ops: &[RequestOp]| {
            ops.iter().any(|op| matches!(op.request, Some(Request::RequestDeleteRange(_))))
        };
        let twice = |ops: &[RequestOp]| ops.len() > 1 && deletes(ops);
        if depth == 0 && (twice(&txn.success) || twice(&txn.failure)) {
            let _ = both!(pair, kv_client::KvClient.delete_range(random.delete()));
        } else {
            let _ = both!(pair, kv_client::KvClient.txn(txn));
        }
    }
    let newest = member.cluster.revision();
    both!(pair, kv_client::KvClient.compact(CompactionRequest { revision: newest / 2, physical: false }))
        .unwrap();
    newest
}

/// Opens one watch on each, reads everything it has to tell, cancels it, and compares.
async fn compare_watch(pair: &Pair, case: pb::WatchCreateRequest, compacted: i64) {
    use pb::{WatchCancelRequest, WatchProgressRequest, watch_request::RequestUnion};
    let mut seen = Vec::new();
    for channel in [&pair.ours, &pair.theirs] {
        let (requests, receiver) = tokio::sync::mpsc::channel(8);
        let send = async |union| {
            requests.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap();
        };
        let mut client = pb::watch_client::WatchClient::new(channel.clone());
        let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
        // etcd sends its response headers with the first message, so that must have been asked for before.
        send(RequestUnion::CreateRequest(case.clone())).await;
        let mut responses = client.watch(receiver).await.unwrap().into_inner();
        let mut next = async || {
            let mut response = soon(responses.message()).await.unwrap().unwrap();
            anonymous(&mut response.header);
            response
        };
        let created = next().await;
        let id = created.watch_id;
        let mut log = vec![format!("{created:?}")];
        if !created.canceled && (case.start_revision == 0 || case.start_revision >= compacted) {
            // Progress is told once everything before it was; asked while the past is replayed, etcd says nothing.
            let (mut events, mut progress) = (Vec::new(), None);
            while progress.is_none() {
                send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
                let answer = async {
                    loop {
                        let response = next().await;
                        if response.watch_id == -1 {
                            return response;
                        }
                        events.extend(response.events);
                    }
                };
                progress = tokio::time::timeout(Duration::from_millis(300), answer).await.ok();
            }
            log.push(format!("{progress:?} {events:?}"));
            send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id + 1 })).await;
            send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id })).await;
            let mut canceled = next().await;
            while canceled.watch_id == -1 {
                canceled = next().await;
            }
            log.push(format!("{canceled:?}"));
        } else if !created.canceled {
            log.push(format!("{:?}", next().await));
        }
        seen.push(log);
    }
    assert_eq!(seen[0], seen[1], "{case:?}");
}
