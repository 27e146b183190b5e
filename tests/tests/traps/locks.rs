//! The lock and election services.

use super::*;
use keelson_proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
    election_client::ElectionClient,
};
use keelson_proto::v3lockpb::{LockRequest, UnlockRequest, lock_client::LockClient};
use keelson_tests::clock;

async fn lease(client: &Client) -> i64 {
    let grant = pb::LeaseGrantRequest { id: 0, ttl: 600 };
    client.lease().lease_grant(grant).await.unwrap().into_inner().id
}

fn everything_below(prefix: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { range_end: end.to_owned().into(), ..key(prefix) }
}

/// Waits until so many sessions stand in line.
async fn in_line(client: &Client, sessions: i64) {
    let reached = clock::until(Duration::from_secs(10), || async {
        let count = range(client, everything_below("n/", "n0")).await.unwrap().count;
        if count == sessions { Ok(()) } else { Err(count) }
    });
    reached.await.expect("the sessions stand in line");
}

#[tokio::test]
async fn a_lock_goes_to_whoever_came_first_and_then_to_the_next() {
    alone_with(Feature::Locks, async |client| {
        let mut lock = LockClient::new(client.channel());
        let (one, two) = (lease(&client).await, lease(&client).await);
        let request = |lease| LockRequest { name: "n".into(), lease };
        let held = lock.lock(request(one)).await.unwrap().into_inner();
        assert_eq!(held.key, format!("n/{one:x}").into_bytes());
        assert_eq!(held.header.unwrap().revision, 2);
        let again = lock.lock(request(one)).await.unwrap().into_inner();
        assert_eq!(again.key, held.key, "who holds it gets it again");
        let mut waiting = lock.clone();
        let waiting = tokio::spawn(async move { waiting.lock(request(two)).await });
        in_line(&client, 2).await;
        let unlocked = lock.unlock(UnlockRequest { key: held.key }).await.unwrap().into_inner();
        let next = waiting.await.unwrap().unwrap().into_inner();
        assert_eq!(next.key, format!("n/{two:x}").into_bytes());
        assert!(next.header.unwrap().revision >= unlocked.header.unwrap().revision);
    })
    .await;
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_the_line() {
    alone_with(Feature::Locks, async |client| {
        let mut lock = LockClient::new(client.channel());
        let one = lease(&client).await;
        let held = lock.lock(LockRequest { name: "n".into(), lease: one }).await.unwrap().into_inner();
        let two = lease(&client).await;
        let mut waiting = lock.clone();
        let waiting =
            tokio::spawn(async move { waiting.lock(LockRequest { name: "n".into(), lease: two }).await });
        in_line(&client, 2).await;
        waiting.abort();
        in_line(&client, 1).await;
        lock.unlock(UnlockRequest { key: held.key }).await.unwrap();
        in_line(&client, 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_of_the_servers_own_lives_for_a_minute() {
    alone_with(Feature::Locks, async |client| {
        let mut lock = LockClient::new(client.channel());
        lock.lock(LockRequest { name: "n".into(), lease: 0 }).await.unwrap();
        let kv = range(&client, everything_below("n/", "n0")).await.unwrap().kvs.pop().unwrap();
        assert_eq!(kv.key, format!("n/{:x}", kv.lease).into_bytes());
        let request = pb::LeaseTimeToLiveRequest { id: kv.lease, keys: false };
        let left = client.lease().lease_time_to_live(request).await.unwrap().into_inner();
        assert_eq!(left.granted_ttl, 60);
        let gone = lock.lock(LockRequest { name: "n".into(), lease: 99 }).await;
        refused(gone, Code::Unknown, "etcdserver: requested lease not found");
        refused(
            lock.unlock(UnlockRequest { key: Default::default() }).await,
            Code::Unknown,
            "etcdserver: key is not provided",
        );
        assert!(lock.unlock(UnlockRequest { key: "nothing".into() }).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_revoked_session_loses_its_place() {
    alone_with(Feature::Locks, async |client| {
        let mut lock = LockClient::new(client.channel());
        let (one, two) = (lease(&client).await, lease(&client).await);
        let held = lock.lock(LockRequest { name: "n".into(), lease: one }).await.unwrap().into_inner();
        let mut waiting = lock.clone();
        let waiting =
            tokio::spawn(async move { waiting.lock(LockRequest { name: "n".into(), lease: two }).await });
        in_line(&client, 2).await;
        client.lease().lease_revoke(pb::LeaseRevokeRequest { id: two }).await.unwrap();
        lock.unlock(UnlockRequest { key: held.key }).await.unwrap();
        refused(waiting.await.unwrap(), Code::Unknown, "mutex: session is expired");
    })
    .await;
}

#[tokio::test]
async fn a_leader_is_followed_by_the_next_and_observers_see_it() {
    alone_with(Feature::Locks, async |client| {
        let mut election = ElectionClient::new(client.channel());
        let name = || LeaderRequest { name: "n".into() };
        refused(election.leader(name()).await, Code::Unknown, "election: no leader");
        // Before there is a leader: what comes first is the first proclamation.
        // etcd sends no headers before that, so the call itself waits.
        let (proclaimed, mut observed) = tokio::sync::mpsc::unbounded_channel();
        let mut observer = election.clone();
        tokio::spawn(async move {
            let mut answers =
                observer.observe(LeaderRequest { name: "n".into() }).await.unwrap().into_inner();
            while let Ok(Some(answer)) = answers.message().await {
                let _ = proclaimed.send(answer.kv.unwrap().value);
            }
        });
        let (one, two) = (lease(&client).await, lease(&client).await);
        let campaign =
            |lease, value: &str| CampaignRequest { name: "n".into(), lease, value: value.to_owned().into() };
        let first = election.campaign(campaign(one, "a")).await.unwrap().into_inner();
        let leader = first.leader.unwrap();
        assert_eq!(leader.key, format!("n/{one:x}").into_bytes());
        assert_eq!((leader.rev, leader.lease), (first.header.unwrap().revision, one));
        let mut next = async || observed.recv().await.unwrap();
        assert_eq!(next().await, "a");
        // A campaign of the leader itself with another value proclaims it.
        election.campaign(campaign(one, "b")).await.unwrap();
        assert_eq!(next().await, "b");
        let proclaim = ProclaimRequest { leader: Some(leader.clone()), value: "c".into() };
        election.proclaim(proclaim.clone()).await.unwrap();
        assert_eq!(next().await, "c");
        let kv = election.leader(name()).await.unwrap().into_inner().kv.unwrap();
        assert_eq!((kv.value.as_ref(), kv.create_revision), (&b"c"[..], leader.rev));
        let mut waiting = election.clone();
        let waiting = tokio::spawn(async move { waiting.campaign(campaign(two, "d")).await });
        in_line(&client, 2).await;
        election.resign(ResignRequest { leader: Some(leader) }).await.unwrap();
        let second = waiting.await.unwrap().unwrap().into_inner();
        assert_eq!(second.leader.unwrap().lease, two);
        assert_eq!(next().await, "d");
        refused(election.proclaim(proclaim).await, Code::Unknown, "election: not leader");
    })
    .await;
}

#[tokio::test]
async fn a_leader_has_to_be_named_to_proclaim_and_to_resign() {
    alone_with(Feature::Locks, async |client| {
        let mut election = ElectionClient::new(client.channel());
        let missing = "\"leader\" field must be provided";
        refused(election.proclaim(ProclaimRequest::default()).await, Code::Unknown, missing);
        refused(election.resign(ResignRequest::default()).await, Code::Unknown, missing);
        let stranger = LeaderKey { name: "n".into(), key: "n/1".into(), rev: 5, lease: 1 };
        assert!(election.resign(ResignRequest { leader: Some(stranger) }).await.is_ok());
    })
    .await;
}
