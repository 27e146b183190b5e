//! Three members over real connections.
#![cfg(feature = "grpc")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::*;
use keelson_raftstore::net::grpc::{GrpcTransport, PeerGrpc, TcpDial};
use keelson_raftstore::{Begin, MemberId, NewMember, NodeOptions};
use openraft_rt_tokio::TokioRuntime;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;

struct Member {
    node: Node,
    server: JoinHandle<()>,
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(test)
}

async fn listen() -> (TcpListener, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, vec![url])
}

async fn member(machine: &Machine, options: NodeOptions, listener: TcpListener, begin: Begin) -> Member {
    let transport = Arc::new(GrpcTransport::new(Arc::new(TcpDial)));
    let node = start_on::<TokioRuntime>(machine, options, transport, begin, |cause| panic!("{cause}"))
        .await
        .expect("starts");
    let service = PeerGrpc::new(node.peer_service());
    let serve = tonic::transport::Server::builder().add_service(service);
    let incoming = TcpListenerStream::new(listener);
    let server = tokio::spawn(async move { serve.serve_with_incoming(incoming).await.expect("serves") });
    Member { node, server }
}

fn short_log(mut options: NodeOptions) -> NodeOptions {
    options.keeping.flush_bytes = 64 << 10;
    options.keeping.log_bytes_kept = 0;
    options.keeping.log_bytes_max = 256 << 10;
    options
}

#[test]
fn members_replicate_forward_read_and_send_snapshots_over_grpc() {
    run(async {
        let (mut listeners, mut first) = (Vec::new(), BTreeMap::new());
        for id in 1..=3 {
            let (listener, urls) = listen().await;
            listeners.push((id, listener));
            first.insert(id, urls);
        }
        let mut members: BTreeMap<MemberId, Member> = BTreeMap::new();
        for (id, listener) in listeners {
            let begin = Begin::Bootstrap(first.clone());
            members.insert(id, member(&Machine::new(id), short_log(options(id)), listener, begin).await);
        }
        wait::<TokioRuntime, _>("a leader", || {
            let leader = members[&1].node.status().leader?;
            members.values().all(|member| member.node.status().leader == Some(leader)).then_some(())
        })
        .await;

        let puts = (0..300u64).map(|n| {
            let node = members[&(1 + n % 3)].node.clone();
            async move {
                put(&node, &format!("k{n}"), Bytes::from(vec![7; 16 << 10])).await.expect("applied").revision
            }
        });
        let mut revisions = futures::future::join_all(puts).await;
        revisions.sort_unstable();
        assert_eq!(revisions, (2..302).collect::<Vec<i64>>());
        for member in members.values() {
            member.node.read_index(TIMEOUT).await.expect("confirmed");
            assert_eq!(member.node.reader().view().revision(), 301);
        }

        // The log is cut by now, so a new member gets a snapshot.
        let (listener, urls) = listen().await;
        let asked = &members[&2].node;
        asked.add_member(NewMember { id: 4, peer_urls: urls, learner: false }, TIMEOUT).await.expect("added");
        let fourth = member(&Machine::new(4), short_log(options(4)), listener, Begin::Join).await;
        wait::<TokioRuntime, _>("the fourth vote", || {
            let member = members[&1].node.members().get(4)?.clone();
            (!member.joining).then_some(())
        })
        .await;
        fourth.node.read_index(TIMEOUT).await.expect("confirmed");
        assert_eq!(fourth.node.reader().view().revision(), 301);
        assert!(fourth.node.diagnostics().snapshots_installed > 0);
        assert_eq!(fourth.node.reader().view().digest(), members[&1].node.reader().view().digest());

        // A member that is gone: the others go on, and reach it again when it listens again.
        members.insert(4, fourth);
        let gone = members.remove(&3).expect("runs");
        gone.node.shutdown().await;
        gone.server.abort();
        wait::<TokioRuntime, _>("a leader among the rest", || {
            let leader = members[&1].node.status().leader?;
            (leader != 3 && members[&2].node.status().leader == Some(leader)).then_some(())
        })
        .await;
        put(&members[&4].node, "after", Bytes::from_static(b"v")).await.expect("applied");
        let target =
            members.keys().copied().find(|id| members[&1].node.status().leader != Some(*id)).expect("one");
        let leader = members[&1].node.status().leader.expect("one");
        members[&leader].node.transfer_leader(target, TIMEOUT).await.expect("transferred");
        for member in members.into_values() {
            member.node.shutdown().await;
            member.server.abort();
        }
    });
}
