//! Leases: smallest TTL, unknown ids, expiry in one revision, forwarding by followers.

use super::watches::{Watch, WatchItem, everything};
use super::*;
use keelson_tests::clock;

async fn grant(client: &Client, id: i64, ttl: i64) -> Result<pb::LeaseGrantResponse, Status> {
    client.lease().lease_grant(pb::LeaseGrantRequest { ttl, id }).await.map(tonic::Response::into_inner)
}

async fn keep_alive(client: &Client, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let mut stream = client
        .lease()
        .lease_keep_alive(tokio_stream::once(pb::LeaseKeepAliveRequest { id }))
        .await?
        .into_inner();
    stream.message().await.map(|message| message.expect("one answer per request"))
}

/// What is left of lease `id`; its keys are sorted here, for etcd reports them in the random order of a Go map.
async fn time_to_live(client: &Client, id: i64, keys: bool) -> pb::LeaseTimeToLiveResponse {
    let request = pb::LeaseTimeToLiveRequest { id, keys };
    let mut left = client.lease().lease_time_to_live(request).await.expect("an answer").into_inner();
    left.keys.sort();
    left
}

async fn put_with(client: &Client, name: &str, lease: i64) {
    let request = pb::PutRequest { key: name.to_owned().into(), lease, ..Default::default() };
    client.kv().put(request).await.expect("a put");
}

#[tokio::test]
async fn unknown_leases_have_no_time_left_and_that_is_no_error() {
    alone(async |client| {
        let alive = keep_alive(&client, 12345).await.unwrap();
        assert_eq!((alive.id, alive.ttl), (12345, 0));
        let left = time_to_live(&client, 12345, true).await;
        assert_eq!((left.id, left.ttl, left.granted_ttl, left.keys.len()), (12345, -1, 0, 0));
        let revoke = client.lease().lease_revoke(pb::LeaseRevokeRequest { id: 12345 }).await;
        refused(revoke, Code::NotFound, "etcdserver: requested lease not found");
    })
    .await;
}

#[tokio::test]
async fn the_smallest_ttl_follows_from_the_election_timeout() {
    for kind in Kind::each(&[]) {
        // etcd's defaults: 1.5 times the election timeout, rounded up to seconds.
        let cluster =
            Cluster::start(Options::new(kind, 1).flag("--log-level=error")).await.expect("the server starts");
        let client = Client::lazy(&cluster.member(0).client_url());
        for asked in [1, 0, -10] {
            assert_eq!(grant(&client, 0, asked).await.unwrap().ttl, 2, "asked for {asked}");
        }
        assert_eq!(grant(&client, 0, 3).await.unwrap().ttl, 3);
    }
}

#[tokio::test]
async fn grants_check_id_and_ttl() {
    alone(async |client| {
        assert_eq!(grant(&client, 7, 100).await.unwrap().id, 7);
        refused(grant(&client, 7, 100).await, Code::FailedPrecondition, "etcdserver: lease already exists");
        refused(grant(&client, 8, 9_000_000_001).await, Code::OutOfRange, "etcdserver: too large lease TTL");
        assert!(grant(&client, 8, 9_000_000_000).await.is_ok());
        assert!(grant(&client, 0, 100).await.unwrap().id > 0);
        assert_eq!(grant(&client, -5, 100).await.unwrap().id, -5);
    })
    .await;
}

#[tokio::test]
async fn a_put_without_lease_detaches_the_key() {
    alone(async |client| {
        grant(&client, 7, 100).await.unwrap();
        put_with(&client, "a", 7).await;
        put_with(&client, "b", 7).await;
        assert_eq!(time_to_live(&client, 7, true).await.keys, ["a", "b"]);
        put(&client, "a", "x").await;
        assert_eq!(time_to_live(&client, 7, true).await.keys, ["b"]);
        assert_eq!(time_to_live(&client, 7, false).await.keys.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn revoking_deletes_all_keys_in_one_revision() {
    alone(async |client| {
        grant(&client, 7, 100).await.unwrap();
        for name in ["c", "a", "b"] {
            put_with(&client, name, 7).await;
        }
        let mut watch = Watch::open(&client, everything()).await;
        watch.next().await;
        let answer =
            client.lease().lease_revoke(pb::LeaseRevokeRequest { id: 7 }).await.unwrap().into_inner();
        assert_eq!(revision(&answer.header), 5);
        let WatchItem::Events(response) = watch.next().await else { panic!("events") };
        let keys: Vec<&[u8]> =
            response.events.iter().map(|event| &event.kv.as_ref().unwrap().key[..]).collect();
        assert_eq!(keys, [b"a", b"b", b"c"]);
        assert!(
            response
                .events
                .iter()
                .all(|event| event.r#type == 1 && event.kv.as_ref().unwrap().mod_revision == 5)
        );
        // A lease without keys uses no revision.
        grant(&client, 8, 100).await.unwrap();
        let answer =
            client.lease().lease_revoke(pb::LeaseRevokeRequest { id: 8 }).await.unwrap().into_inner();
        assert_eq!(revision(&answer.header), 5);
    })
    .await;
}

#[tokio::test]
async fn a_lease_expires_not_before_its_time_and_in_one_revision() {
    alone(async |client| {
        let start = clock::now();
        let ttl = grant(&client, 7, 1).await.unwrap().ttl;
        put_with(&client, "a", 7).await;
        put_with(&client, "b", 7).await;
        let mut watch = Watch::open(&client, everything()).await;
        watch.next().await;
        let WatchItem::Events(response) = watch.next().await else { panic!("events") };
        assert!(start.elapsed() >= Duration::from_secs(ttl as u64), "expired after {:?}", start.elapsed());
        assert_eq!(response.events.len(), 2);
        assert!(response.events.iter().all(|event| event.kv.as_ref().unwrap().mod_revision == 4));
        assert_eq!(time_to_live(&client, 7, true).await.ttl, -1);
        assert_eq!(keep_alive(&client, 7).await.unwrap().ttl, 0);
    })
    .await;
}

#[tokio::test]
async fn every_member_answers_for_leases() {
    on_each(3, &[], async |cluster| {
        let clients: Vec<Client> =
            (0..3).map(|index| Client::lazy(&cluster.member(index).client_url())).collect();
        grant(&clients[0], 7, 100).await.unwrap();
        put_with(&clients[1], "a", 7).await;
        for client in &clients {
            assert_eq!(keep_alive(client, 7).await.unwrap().ttl, 100);
            let left = time_to_live(client, 7, true).await;
            assert!((90..=100).contains(&left.ttl), "{left:?}");
            assert_eq!((left.granted_ttl, left.keys.len()), (100, 1));
            assert_eq!(keep_alive(client, 8).await.unwrap().ttl, 0);
        }
        let revoke = clients[2].lease().lease_revoke(pb::LeaseRevokeRequest { id: 7 }).await;
        assert!(revoke.is_ok());
        for client in &clients {
            assert_eq!(keep_alive(client, 7).await.unwrap().ttl, 0);
        }
    })
    .await;
}
