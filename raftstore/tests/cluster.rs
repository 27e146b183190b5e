//! Members in one process, on tokio, over the network in memory. Crashes leave what the disk and the engine had flushed.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use futures::FutureExt;
use futures::future::BoxFuture;
use keelson_raftstore::{
    Begin, CallError, CallHandler, MemberError, MemberId, NewMember, ProposeError, TimeoutCause,
    TransferError,
};
use keelson_wal::disk::Crash;
use openraft_rt_tokio::TokioRuntime;

type Tokio = Cluster<TokioRuntime>;

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(test)
}

fn new_member(id: MemberId, learner: bool) -> NewMember {
    NewMember { id, peer_urls: urls(id), learner }
}

fn ids(members: &keelson_raftstore::Members) -> Vec<MemberId> {
    members.members.iter().map(|member| member.id).collect()
}

/// Found by the simulation: a leader that had removed itself took another change before it stepped down, and ended.
#[test]
fn a_leader_that_was_removed_changes_the_membership_no_more() {
    run(async {
        let cluster = Tokio::started(3).await;
        let leader = cluster.leader().await;
        cluster.node(leader).remove_member(leader, TIMEOUT).await.expect("removed");
        let late = cluster.node(leader).add_member(new_member(9, true), Duration::from_millis(100)).await;
        assert!(late.is_err(), "it is no member any more: {late:?}");
        assert!(cluster.fatal.lock().is_empty(), "{:?}", cluster.fatal.lock());
        let other = 1 + leader % 3;
        let members = cluster.node(other).add_member(new_member(8, true), TIMEOUT).await.expect("added");
        assert!(ids(&members).contains(&8) && !ids(&members).contains(&leader));
    });
}
#[test]
fn a_sole_member_leads_at_once_and_answers() {
    run(async {
        let cluster = Tokio::started(1).await;
        assert_eq!(cluster.leader().await, 1);
        let reply = cluster.put(1, "k", "v").await.expect("applied");
        assert_eq!(reply.revision, 2);
        cluster.node(1).read_index(TIMEOUT).await.expect("a sole voter confirms itself");
        assert_eq!(cluster.get(1, "k").expect("there"), "v");
        cluster.node(1).ready().await.expect("ready");
        assert!(cluster.node(1).status().healthy());
    });
}

/// Rule 3, first half: the reply comes from the own apply of whoever was asked.
#[test]
fn rule_3_any_member_takes_a_put_and_reads_its_own_write() {
    run(async {
        let cluster = Tokio::started(3).await;
        cluster.leader().await;
        for id in 1..=3 {
            let key = format!("from-{id}");
            cluster.put(id, &key, "v").await.expect("applied");
            assert_eq!(cluster.get(id, &key).expect("without any waiting"), "v");
        }
    });
}

#[test]
fn a_linearizable_read_on_any_member_sees_every_acknowledged_write() {
    run(async {
        let cluster = Tokio::started(3).await;
        cluster.network.set_delay_max(Duration::from_millis(5));
        cluster.leader().await;
        for round in 0..20 {
            let (writer, reader) = (1 + round % 3, 1 + (round + 1) % 3);
            let value = format!("{round}");
            cluster.put(writer, "k", &value).await.expect("applied");
            cluster.node(reader).read_index(TIMEOUT).await.expect("confirmed");
            assert_eq!(cluster.get(reader, "k").expect("there"), value);
        }
    });
}

#[test]
fn many_concurrent_puts_on_all_members_are_all_applied_once() {
    run(async {
        let cluster = Tokio::started(3).await;
        cluster.leader().await;
        let puts =
            (0..600u64).map(|n| {
                let node = cluster.node(1 + n % 3).clone();
                async move {
                    put(&node, &format!("k{n}"), Bytes::from_static(b"v")).await.expect("applied").revision
                }
            });
        let mut revisions = futures::future::join_all(puts).await;
        revisions.sort_unstable();
        assert_eq!(revisions, (2..602).collect::<Vec<i64>>(), "each put its own revision, none twice");
        for id in 1..=3 {
            cluster.node(id).read_index(TIMEOUT).await.expect("confirmed");
            assert_eq!(cluster.node(id).reader().view().revision(), 601);
            assert_eq!(cluster.node(id).reader().view().digest(), cluster.node(1).reader().view().digest());
        }
    });
}

#[test]
fn another_member_takes_over_when_the_leader_dies_and_nothing_acknowledged_is_lost() {
    run(async {
        let mut cluster = Tokio::started(3).await;
        let first = cluster.leader().await;
        for n in 0..20 {
            cluster.put(1 + n % 3, &format!("k{n}"), "v").await.expect("applied");
        }
        cluster.crash(first, Crash::LoseAll);
        let second = cluster.leader().await;
        assert_ne!(second, first);
        cluster.put(second, "after", "v").await.expect("two of three are a quorum");
        cluster.start(first, Begin::Join).await.expect("starts again");
        cluster.node(first).read_index(TIMEOUT).await.expect("confirmed");
        for n in 0..20 {
            assert_eq!(cluster.get(first, &format!("k{n}")).expect("not lost"), "v");
        }
        assert_eq!(cluster.get(first, "after").expect("caught up"), "v");
        assert_eq!(cluster.fatal.lock().len(), 0);
    });
}

#[test]
fn the_whole_cluster_comes_back_from_power_loss_with_everything_acknowledged() {
    run(async {
        let mut cluster = Tokio::started(3).await;
        cluster.leader().await;
        for n in 0..50 {
            cluster.put(1 + n % 3, &format!("k{n}"), "v").await.expect("applied");
        }
        for id in 1..=3 {
            cluster.crash(id, Crash::LoseAll);
        }
        for id in 1..=3 {
            cluster.start(id, Begin::Join).await.expect("starts again");
        }
        for id in 1..=3 {
            cluster.node(id).read_index(TIMEOUT).await.expect("confirmed");
            for n in 0..50 {
                assert_eq!(cluster.get(id, &format!("k{n}")).expect("not lost"), "v");
            }
        }
    });
}

/// Rule 1: a leader that has replicated entries its own disk never got, and starts again first, must not go on in its
/// old term, where it would put other entries at the same log ids.
#[test]
fn rule_1_a_leader_that_lost_its_own_unsynced_entries_starts_a_new_term() {
    run(async {
        let mut cluster = Tokio::started(3).await;
        let leader = cluster.leader().await;
        cluster.put(leader, "before", "v").await.expect("applied");
        let term = cluster.node(leader).status().term;
        let committed = cluster.node(leader).status().committed_index;

        // Its disk takes for ever; the followers' disks make the entry durable and so commit it.
        cluster.machines[&leader].sync_us.store(3_600_000_000, Ordering::Relaxed);
        let unanswered = cluster.put(leader, "replicated", "v");
        let committed_later = cluster.wait("the commit without the leader's disk", || {
            let now = cluster.node(leader).status().committed_index;
            (now > committed).then_some(now)
        });
        let mut unanswered = Box::pin(unanswered.fuse());
        futures::select_biased! {
            reply = unanswered => panic!("answered before its own log was durable: {reply:?}"),
            _ = Box::pin(committed_later.fuse()) => {}
        }
        drop(unanswered);

        cluster.crash(leader, Crash::LoseAll);
        cluster.start(leader, Begin::Join).await.expect("starts again");
        assert!(!cluster.node(leader).status().is_leader, "not before a new election");
        cluster.leader().await;
        for id in 1..=3 {
            cluster.node(id).read_index(TIMEOUT).await.expect("confirmed");
            assert!(cluster.node(id).status().term > term);
            assert_eq!(cluster.get(id, "replicated").expect("committed by the others"), "v");
        }
        let digests: Vec<_> = (1..=3).map(|id| cluster.node(id).reader().view().digest()).collect();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "members diverged: {digests:?}");
    });
}

/// Rule 3, second half: a member that starts again is not ready before it has applied what its own log held, so what
/// it shows never goes back.
#[test]
fn rule_3_a_restarted_member_is_ready_only_when_its_revision_has_come_back() {
    run(async {
        let mut cluster = Tokio::started(3).await;
        cluster.leader().await;
        for n in 0..30 {
            cluster.put(1, &format!("k{n}"), "v").await.expect("applied");
        }
        let before = cluster.node(1).reader().view().revision();
        for id in 1..=3 {
            cluster.crash(id, Crash::LoseAll);
        }
        // Alone it can learn nothing: its engine is in the past, and stays unready.
        let alone = cluster.start(1, Begin::Join).await.expect("starts again");
        let mut ready = Box::pin(alone.ready());
        for _ in 0..50 {
            assert!((&mut ready).now_or_never().is_none() || alone.reader().view().revision() >= before);
            tokio::task::yield_now().await;
        }
        for id in 2..=3 {
            cluster.start(id, Begin::Join).await.expect("starts again");
        }
        ready.await.expect("ready");
        assert!(alone.reader().view().revision() >= before);
    });
}

/// Rule 4: who leads is what a recent acknowledgement proves, not what the role says.
#[test]
fn rule_4_a_cut_off_leader_stops_claiming_leadership_and_so_do_its_followers() {
    run(async {
        let cluster = Tokio::started(3).await;
        let old = cluster.leader().await;
        cluster.network.isolate(old, 1..=3);
        cluster
            .wait("the old leader to give up its claim", || {
                let status = cluster.node(old).status();
                (status.leader.is_none() && !status.is_leader && !status.healthy()).then_some(())
            })
            .await;
        let others: Vec<_> = (1..=3).filter(|id| *id != old).collect();
        let new = cluster
            .wait("a new leader", || {
                let leader = cluster.node(others[0]).status().leader?;
                (leader != old && cluster.node(others[1]).status().leader == Some(leader)).then_some(leader)
            })
            .await;
        cluster.put(new, "k", "new").await.expect("a quorum is there");
        // The old one cannot confirm a read, however long it believes in its role.
        let read = cluster.node(old).read_index(Duration::from_millis(300)).await;
        assert!(read.is_err(), "a stale read was confirmed");
        cluster.network.heal();
        cluster.node(old).read_index(TIMEOUT).await.expect("confirmed after the partition");
        assert_eq!(cluster.get(old, "k").expect("there"), "new");
    });
}

#[test]
fn a_put_without_quorum_times_out_and_says_why() {
    run(async {
        let mut cluster = Tokio::started(3).await;
        let leader = cluster.leader().await;
        for id in (1..=3).filter(|id| *id != leader) {
            cluster.crash(id, Crash::LoseAll);
        }
        let put = keelson_mvcc::types::Put { key: Bytes::from_static(b"k"), ..Default::default() };
        let command = keelson_mvcc::types::Command::Put(put);
        let result = cluster.node(leader).propose(&command, Duration::from_secs(2), None).await;
        assert_eq!(result, Err(ProposeError::Timeout(TimeoutCause::LeaderFailed)));
    });
}

#[test]
fn a_stalled_disk_fails_health_and_hands_leadership_over() {
    run(async {
        let mut cluster = Tokio::new();
        cluster.tune = |options| {
            options.timing.stall_ms = 200;
            options.timing.stall_transfer_ms = 400;
            options.timing.stall_fatal_ms = 1500;
        };
        for id in 1..=3 {
            cluster.start(id, bootstrap(1..=3)).await.expect("starts");
        }
        let old = cluster.leader().await;
        cluster.machines[&old].sync_us.store(3_600_000_000, Ordering::Relaxed);
        let _waits = {
            let put = keelson_mvcc::types::Put { key: Bytes::from_static(b"k"), ..Default::default() };
            cluster.node(old).propose(&keelson_mvcc::types::Command::Put(put), TIMEOUT, None)
        };
        cluster.wait("health to fail", || cluster.node(old).status().disk_stalled.then_some(())).await;
        let others: Vec<_> = (1..=3).filter(|id| *id != old).collect();
        let new = cluster
            .wait("leadership to move", || {
                cluster.node(others[0]).status().leader.filter(|leader| *leader != old)
            })
            .await;
        cluster.put(new, "k2", "v").await.expect("the others go on");
        cluster
            .wait("the process to be told to end", || {
                let fatal = cluster.fatal.lock();
                fatal.iter().any(|(id, _)| *id == old).then_some(())
            })
            .await;
    });
}

fn short_log(options: &mut keelson_raftstore::NodeOptions) {
    options.keeping.flush_bytes = 64 << 10;
    options.keeping.log_bytes_kept = 0;
    options.keeping.log_bytes_max = 256 << 10;
    options.keeping.follower_live_ms = 200;
}

#[test]
fn a_member_that_lags_beyond_the_log_gets_a_snapshot_and_goes_on() {
    run(async {
        let mut cluster = Tokio::new();
        cluster.tune = short_log;
        for id in 1..=3 {
            cluster.start(id, bootstrap(1..=3)).await.expect("starts");
        }
        let leader = cluster.leader().await;
        let lagging = (1..=3).find(|id| *id != leader).expect("a follower");
        cluster.put(lagging, "first", "v").await.expect("applied");
        cluster.crash(lagging, Crash::LoseAll);

        let value = Bytes::from(vec![7; 16 << 10]);
        for n in 0..200 {
            put(cluster.node(leader), &format!("k{n}"), value.clone()).await.expect("applied");
        }
        cluster
            .wait("the log to be cut", || (cluster.node(leader).diagnostics().log_first > 20).then_some(()))
            .await;
        let node = cluster.start(lagging, Begin::Join).await.expect("starts again");
        node.read_index(TIMEOUT).await.expect("confirmed");
        assert_eq!(cluster.get(lagging, "first").expect("there"), "v");
        assert_eq!(cluster.get(lagging, "k0").expect("there"), value);
        assert_eq!(cluster.get(lagging, "k199").expect("there"), value);
        assert_eq!(node.reader().view().digest(), cluster.node(leader).reader().view().digest());
        assert!(node.diagnostics().snapshots_installed > 0);

        // It goes on as an ordinary member, also after a start from what it was given.
        cluster.put(lagging, "later", "v").await.expect("applied");
        cluster.crash(lagging, Crash::LoseAll);
        let node = cluster.start(lagging, Begin::Join).await.expect("starts again");
        node.read_index(TIMEOUT).await.expect("confirmed");
        assert_eq!(cluster.get(lagging, "later").expect("there"), "v");
        assert_eq!(cluster.fatal.lock().len(), 0);
    });
}

#[test]
fn members_are_added_promoted_updated_and_removed() {
    run(async {
        let mut cluster = Tokio::started(1).await;
        cluster.leader().await;
        for n in 0..20 {
            cluster.put(1, &format!("k{n}"), "v").await.expect("applied");
        }

        // A learner: no vote, and no promotion before it has caught up.
        let members = cluster.node(1).add_member(new_member(2, true), TIMEOUT).await.expect("added");
        assert!(members.get(2).expect("listed").is_learner);
        let early = cluster.node(1).promote_member(2, TIMEOUT).await;
        assert_eq!(early, Err(MemberError::LearnerNotReady));
        assert_eq!(
            cluster.node(1).add_member(new_member(9, true), TIMEOUT).await,
            Err(MemberError::TooManyLearners)
        );
        cluster.start(2, Begin::Join).await.expect("starts");
        cluster.wait("the learner to catch up", || cluster.get(2, "k19")).await;
        assert!(cluster.node(2).status().is_learner);
        assert_eq!(cluster.node(2).promote_member(9, TIMEOUT).await, Err(MemberError::NotFound));
        let members =
            cluster.node(2).promote_member(2, TIMEOUT).await.expect("promoted, asked on a follower");
        assert!(!members.get(2).expect("listed").is_learner);
        assert_eq!(cluster.node(1).promote_member(2, TIMEOUT).await, Err(MemberError::NotLearner));

        // A voter: listed as one at once, votes when it has caught up.
        let members = cluster.node(2).add_member(new_member(3, false), TIMEOUT).await.expect("added");
        let third = members.get(3).expect("listed");
        assert!(!third.is_learner && third.joining);
        cluster.put(1, "while-joining", "v").await.expect("a member that never starts costs no quorum");
        assert_eq!(
            cluster.node(1).add_member(new_member(4, false), TIMEOUT).await,
            Err(MemberError::NotEnoughStarted),
            "as etcd: a member that has not started counts as a voter"
        );
        cluster.start(3, Begin::Join).await.expect("starts");
        cluster
            .wait("the third vote", || {
                let member = cluster.node(1).members().get(3)?.clone();
                (!member.joining).then_some(())
            })
            .await;

        assert_eq!(
            cluster
                .node(1)
                .add_member(NewMember { id: 8, peer_urls: urls(2), learner: false }, TIMEOUT)
                .await,
            Err(MemberError::PeerUrlExists)
        );
        assert_eq!(
            cluster
                .node(1)
                .add_member(NewMember { peer_urls: urls(8), ..new_member(2, false) }, TIMEOUT)
                .await,
            Err(MemberError::Exists)
        );
        let moved = vec!["http://elsewhere:2380".to_string()];
        let members = cluster.node(3).update_member(2, moved.clone(), TIMEOUT).await.expect("updated");
        assert_eq!(members.get(2).expect("listed").peer_urls, moved);

        // Removed for ever: it learns of it, and its id is never used again.
        let members = cluster.node(1).remove_member(3, TIMEOUT).await.expect("removed");
        assert_eq!(ids(&members), [1, 2]);
        cluster
            .wait("the removed member to learn of it", || cluster.node(3).status().removed.then_some(()))
            .await;
        assert_eq!(
            cluster.node(1).add_member(new_member(3, false), TIMEOUT).await,
            Err(MemberError::NotFound)
        );
        cluster.put(2, "after", "v").await.expect("the rest goes on");
    });
}

#[test]
fn the_leader_can_be_removed_and_a_sole_member_cannot() {
    run(async {
        let cluster = Tokio::started(3).await;
        let leader = cluster.leader().await;
        let asked = (1..=3).find(|id| *id != leader).expect("a follower");
        let members = cluster.node(asked).remove_member(leader, TIMEOUT).await.expect("removed");
        assert_eq!(members.members.len(), 2);
        let new = cluster
            .wait("another leader", || cluster.node(asked).status().leader.filter(|now| *now != leader))
            .await;
        cluster.put(new, "k", "v").await.expect("applied");

        let alone = Tokio::started(1).await;
        alone.leader().await;
        assert_eq!(alone.node(1).remove_member(1, TIMEOUT).await, Err(MemberError::NotEnoughStarted));
    });
}

#[test]
fn leadership_is_transferred_to_a_voter() {
    run(async {
        let cluster = Tokio::started(3).await;
        let leader = cluster.leader().await;
        let target = (1..=3).find(|id| *id != leader).expect("a follower");
        assert_eq!(
            cluster.node(target).transfer_leader(leader, TIMEOUT).await,
            Err(TransferError::NotLeader)
        );
        assert_eq!(cluster.node(leader).transfer_leader(9, TIMEOUT).await, Err(TransferError::BadTransferee));
        cluster.node(leader).transfer_leader(target, TIMEOUT).await.expect("transferred");
        cluster
            .wait("everybody to know", || {
                (1..=3).all(|id| cluster.node(id).status().leader == Some(target)).then_some(())
            })
            .await;
        cluster.put(leader, "k", "v").await.expect("applied");
    });
}

#[test]
fn a_stopped_leader_hands_over_and_starts_again_from_its_flush() {
    run(async {
        let mut cluster = Tokio::started(3).await;
        let leader = cluster.leader().await;
        cluster.put(leader, "k", "v").await.expect("applied");
        cluster.stop(leader).await;
        let new = cluster.leader().await;
        assert_ne!(new, leader);
        cluster.put(new, "k2", "v").await.expect("applied");
        let node = cluster.start(leader, Begin::Join).await.expect("starts again");
        assert_eq!(cluster.get(leader, "k").expect("flushed at stop"), "v");
        node.read_index(TIMEOUT).await.expect("confirmed");
        assert_eq!(cluster.get(leader, "k2").expect("caught up"), "v");
    });
}

struct Echo;

impl CallHandler for Echo {
    fn call(&self, from: MemberId, kind: u8, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        async move {
            if kind == 0 {
                Err("no".into())
            } else {
                Ok(Bytes::from([&[from as u8, kind], &body[..]].concat()))
            }
        }
        .boxed()
    }
}

#[test]
fn members_call_each_other() {
    run(async {
        let cluster = Tokio::started(3).await;
        cluster.leader().await;
        let body = Bytes::from_static(b"hello");
        let early = cluster.node(1).call(2, 7, body.clone(), TIMEOUT).await;
        assert!(matches!(early, Err(CallError::Unreachable(_))), "{early:?}");
        cluster.node(2).serve_calls(std::sync::Arc::new(Echo));
        let answer = cluster.node(1).call(2, 7, body.clone(), TIMEOUT).await.expect("answered");
        assert_eq!(&answer[..], b"\x01\x07hello");
        let refused = cluster.node(3).call(2, 0, body.clone(), TIMEOUT).await;
        assert_eq!(refused, Err(CallError::Refused("no".into())));
        assert_eq!(cluster.node(3).call(9, 0, body, TIMEOUT).await, Err(CallError::UnknownMember));
    });
}

#[test]
fn messages_of_another_cluster_or_for_another_member_are_refused() {
    use keelson_raftstore::net::message::{self, Envelope, Kind, Refusal};
    run(async {
        let cluster = Tokio::started(1).await;
        cluster.leader().await;
        let service = cluster.node(1).peer_service();
        let ask = async |cluster, to| {
            let request = message::begin(Envelope { cluster, from: 2, to }, Kind::ReadIndex).freeze();
            message::answered(service.call(request).await).expect("an answer").err()
        };
        assert_eq!(ask(CLUSTER + 1, 1).await, Some(Refusal::Cluster { ours: CLUSTER, theirs: CLUSTER + 1 }));
        assert_eq!(ask(CLUSTER, 7).await, Some(Refusal::Member { ours: 1, wanted: 7 }));
        assert_eq!(ask(CLUSTER, 1).await, None);
        let garbage =
            message::answered(service.call(Bytes::from_static(b"\x09hi")).await).expect("an answer");
        assert_eq!(garbage.err(), Some(Refusal::Version { theirs: 9, ours: 1 }));
    });
}
