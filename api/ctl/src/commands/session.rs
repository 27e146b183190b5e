//! A lease that is kept alive while something is held, and the queue of those who want it.
//!
//! Owns: the keys of locks and elections: a name, a slash, the lease in hexadecimal digits; the oldest has it. Invariant:
//! these keys are those of etcd's own client, so that holders of both exclude each other.
//! Called by: `lock`, `elect`. Source: etcd client/v3/concurrency: session.go, key.go, mutex.go.

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;
use tokio::sync::watch;

use super::kv::range;
use super::lease::{grant_lease, renew, revoke_lease, third_of};
use super::range::prefix_end;
use super::watcher::{Spec, Watcher};
use crate::clock::pause;
use crate::failure::{ERROR, Failure};
use crate::net::client::{Client, Repeat};

/// A lease of our own.
pub(super) struct Session {
    client: Client,
    lease: i64,
    ended: watch::Receiver<bool>,
}

/// Our place in the queue.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: String,
    pub(super) revision: i64,
    /// Revision of the store when it was held.
    pub(super) held_at: i64,
}

impl Session {
    /// Makes a lease and keeps it alive.
    pub(super) async fn open(client: &Client, ttl: i64) -> Result<Self, Failure> {
        let granted = grant_lease(client, ttl).await?;
        let (end, ended) = watch::channel(false);
        let (client_of_task, lease) = (client.clone(), granted.id);
        tokio::spawn(async move {
            let mut ttl = granted.ttl;
            loop {
                pause(third_of(ttl)).await;
                match renew(&client_of_task, lease).await {
                    Ok(Some(answer)) => ttl = answer.ttl,
                    Ok(None) => break,
                    // The lease lives on at the server for a while: the next renewal may come in time.
                    Err(_) => {}
                }
            }
            // Nobody listens any more if the session is gone.
            let _ = end.send(true);
        });
        Ok(Self { client: client.clone(), lease, ended })
    }

    /// Waits for the end of the lease.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // The sender lives as long as the task that renews.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Gives the lease back, and with it every key it holds.
    pub(super) async fn close(self) -> Result<(), Failure> {
        revoke_lease(&self.client, self.lease).await.map(drop)
    }

    /// Enters the queue of `name` and waits for its head.
    pub(super) async fn acquire(&self, name: &str, value: &str) -> Result<Place, Failure> {
        let prefix = format!("{name}/");
        let key = format!("{prefix}{:x}", self.lease);
        let entered = self.enter(&key, value).await?;
        let mut held_at = entered.0;
        let revision = entered.1;
        // Only the one before us is waited for, so that the end of one wakes one.
        while let Some((before, read_at)) = self.last_before(&prefix, revision).await? {
            let mut watcher = Watcher::new(&self.client, Spec::key(&before, read_at + 1));
            held_at = watcher.until_deleted().await?;
        }
        let own =
            range(&self.client, pb::RangeRequest { key: Bytes::from(key.clone()), ..Default::default() })
                .await?;
        if own.kvs.is_empty() {
            return Err(Failure::new(ERROR, "mutex: session is expired")
                .help("the lease ran out while waiting: raise --ttl, and look whether this machine or the server was stopped"));
        }
        Ok(Place { key, revision, held_at })
    }

    /// Our key with its revision: made, or there already.
    async fn enter(&self, key: &str, value: &str) -> Result<(i64, i64), Failure> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let put = pb::PutRequest {
            key: key.clone(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease: self.lease,
            ..Default::default()
        };
        let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let answer =
            txn(&self.client, created(&key, 0), Request::RequestPut(put), Some(Request::RequestRange(get)))
                .await?;
        let now = answer.header.map_or(0, |header| header.revision);
        let old = answer.responses.into_iter().find_map(|one| match one.response {
            Some(pb::response_op::Response::ResponseRange(answer)) => {
                answer.kvs.first().map(|kv| kv.create_revision)
            }
            _ => None,
        });
        Ok((now, old.unwrap_or(now)))
    }

    /// The youngest key that is older than ours, and the revision it was read at.
    async fn last_before(&self, prefix: &str, revision: i64) -> Result<Option<(Bytes, i64)>, Failure> {
        let request = pb::RangeRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: prefix_end(prefix.as_bytes()).into(),
            limit: 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision: revision - 1,
            ..Default::default()
        };
        let answer = range(&self.client, request).await?;
        let now = answer.header.map_or(0, |header| header.revision);
        Ok(answer.kvs.first().map(|kv| (Bytes::copy_from_slice(&kv.key), now)))
    }
}

/// The oldest key of a queue.
pub(super) async fn head(client: &Client, name: &str) -> Result<pb::RangeResponse, Failure> {
    let prefix = format!("{name}/");
    let request = pb::RangeRequest {
        range_end: prefix_end(prefix.as_bytes()).into(),
        key: prefix.into(),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    };
    range(client, request).await
}

/// Leaves the queue.
pub(super) async fn release(client: &Client, place: &Place) -> Result<(), Failure> {
    let key = Bytes::copy_from_slice(place.key.as_bytes());
    let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    txn(client, created(&key, place.revision), Request::RequestDeleteRange(delete), None).await.map(drop)
}

fn created(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

async fn txn(
    client: &Client,
    compare: pb::Compare,
    success: Request,
    failure: Option<Request>,
) -> Result<pb::TxnResponse, Failure> {
    let one = |request| pb::RequestOp { request: Some(request) };
    let request = pb::TxnRequest {
        compare: vec![compare],
        success: vec![one(success)],
        failure: failure.into_iter().map(one).collect(),
    };
    let settings = &client.settings;
    client
        .call(Repeat::No, request, |channel, request| async move {
            Client::kv(channel, settings).txn(request).await
        })
        .await
}
