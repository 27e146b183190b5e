//! The `etcd-client` crate on the store: keys, transactions, watches, leases, the lock and election services, maintenance.
//!
//! `keelson-rust-client URL[,URL...] [locks]` on an empty server, without the services if it lacks them; each part prints "ok <name>", the first failed expectation panics.

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, EventType, GetOptions, LockOptions, ProclaimOptions,
    PutOptions, ResignOptions, SortOrder, SortTarget, Txn, TxnOp, WatchOptions,
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let endpoints: Vec<String> =
        std::env::args().nth(1).expect("endpoints").split(',').map(str::to_owned).collect();
    let mut client = Client::connect(&endpoints, None).await.expect("a connection");
    keys(&mut client).await;
    watches(&mut client).await;
    leases(&mut client).await;
    if !std::env::args().nth(2).unwrap_or_default().contains("locks") {
        services(&mut client).await;
    }
    maintenance(&mut client, endpoints.len()).await;
}

async fn keys(client: &mut Client) {
    client.put("rs/a", "1", None).await.unwrap();
    let put = client.put("rs/a", "2", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(put.prev_key().expect("the previous value").value(), b"1");
    for number in 0..10 {
        client.put(format!("rs/n{number}"), format!("{}", 9 - number), None).await.unwrap();
    }
    let options =
        GetOptions::new().with_prefix().with_limit(3).with_sort(SortTarget::Value, SortOrder::Ascend);
    let page = client.get("rs/n", Some(options)).await.unwrap();
    assert_eq!(
        (page.kvs().len(), page.more(), page.count(), page.kvs()[0].key()),
        (3, true, 10, &b"rs/n9"[..])
    );
    let txn = Txn::new()
        .when([Compare::value("rs/a", CompareOp::Equal, "2"), Compare::version("rs/t", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("rs/t", "x", None), TxnOp::get("rs/t", None)])
        .or_else([TxnOp::delete("rs/a", None)]);
    let done = client.txn(txn).await.unwrap();
    assert!(done.succeeded() && done.op_responses().len() == 2);
    let deleted = client.delete("rs/", Some(DeleteOptions::new().with_prefix())).await.unwrap();
    assert_eq!(deleted.deleted(), 12);
    println!("ok keys");
}

async fn watches(client: &mut Client) {
    let options = WatchOptions::new().with_prefix().with_prev_key().with_start_revision(2);
    let mut watch = client.watch("rw/", Some(options)).await.unwrap();
    client.put("rw/1", "1", None).await.unwrap();
    client.delete("rw/1", None).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let response = watch.message().await.unwrap().expect("an open watch");
        kinds.extend(response.events().iter().map(|event| event.event_type()));
    }
    assert_eq!(kinds, [EventType::Put, EventType::Delete]);
    println!("ok watches");
}

async fn leases(client: &mut Client) {
    let lease = client.lease_grant(100, None).await.unwrap().id();
    client.put("rl/leased", "x", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().expect("an answer").ttl(), 100);
    client.lease_revoke(lease).await.unwrap();
    assert_eq!(client.get("rl/leased", None).await.unwrap().count(), 0);
    println!("ok leases");
}

/// The lock and election services of the server, not recipes of the client.
async fn services(client: &mut Client) {
    let held = client.lock("rs/lock", None).await.unwrap();
    let session = client.lease_grant(30, None).await.unwrap().id();
    let waiting = {
        let mut client = client.clone();
        tokio::spawn(
            async move { client.lock("rs/lock", Some(LockOptions::new().with_lease(session))).await },
        )
    };
    client.unlock(held.key()).await.unwrap();
    let second = waiting.await.expect("no panic").unwrap();
    client.unlock(second.key()).await.unwrap();
    let won = client.campaign("rs/election", "one", session).await.unwrap();
    let key = won.leader().expect("a leader").clone();
    client.proclaim("two", Some(ProclaimOptions::new().with_leader(key.clone()))).await.unwrap();
    let leader = client.leader("rs/election").await.unwrap();
    assert_eq!(leader.kv().expect("a leader").value(), b"two");
    client.resign(Some(ResignOptions::new().with_leader(key))).await.unwrap();
    println!("ok services");
}

async fn maintenance(client: &mut Client, members: usize) {
    assert_eq!(client.member_list().await.unwrap().members().len(), members);
    assert!(client.status().await.unwrap().version().starts_with("3."));
    assert!(client.hash_kv(0).await.is_ok());
    println!("ok maintenance");
}
