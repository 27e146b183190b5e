//! Leases: grants, keep-alives, expiry by the leader alone.

use std::time::Duration;

use keelson_api::errors;
use keelson_mvcc::types::Command;
use keelson_proto::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::kit::*;

async fn grant(member: &Member, id: i64, ttl: i64) -> pb::LeaseGrantResponse {
    member.lease().lease_grant(pb::LeaseGrantRequest { ttl, id }).await.unwrap().into_inner()
}

async fn attach(member: &Member, key: &'static str, lease: i64) {
    member.kv().put(pb::PutRequest { key: key.into(), lease, ..Default::default() }).await.unwrap();
}

async fn time_to_live(member: &Member, id: i64, keys: bool) -> pb::LeaseTimeToLiveResponse {
    let request = pb::LeaseTimeToLiveRequest { id, keys };
    member.lease().lease_time_to_live(request).await.unwrap().into_inner()
}

/// A keep-alive stream: ask with the sender, read the answers.
async fn keep_alive(
    member: &Member,
) -> (mpsc::Sender<pb::LeaseKeepAliveRequest>, tonic::Streaming<pb::LeaseKeepAliveResponse>) {
    let (sender, receiver) = mpsc::channel(16);
    let answers = member.lease().lease_keep_alive(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    (sender, answers)
}

async fn renew(member: &Member, id: i64) -> pb::LeaseKeepAliveResponse {
    let (ask, mut answers) = keep_alive(member).await;
    ask.send(pb::LeaseKeepAliveRequest { id }).await.unwrap();
    soon(answers.message()).await.unwrap().unwrap()
}

/// Moves the clock in steps the expiry loop sees, `count` seconds in all.
async fn pass(member: &Member, count: u32) {
    for _ in 0..count * 4 {
        member.cluster.clock.advance(Duration::from_millis(250));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_grant_gets_at_least_the_shortest_time() {
    let member = Member::alone().await;
    for (asked, given) in [(60, 60), (2, 2), (1, 2), (0, 2), (-5, 2), (9_000_000_000, 9_000_000_000)] {
        let response = grant(&member, 0, asked).await;
        assert!(response.id > 0);
        assert_eq!((response.ttl, response.error.as_str(), response.header), (given, "", member.header(1)));
    }
    let too_long = pb::LeaseGrantRequest { ttl: 9_000_000_001, id: 0 };
    assert_error(member.lease().lease_grant(too_long).await, errors::LEASE_TTL_TOO_LARGE);
    // A raised alarm refuses it before anybody looks at the time.
    for (alarm, error) in [(1, errors::NO_SPACE), (2, errors::CORRUPT)] {
        let request = pb::AlarmRequest { action: 1, member_id: 1, alarm };
        member.maintenance().alarm(request).await.unwrap();
        assert_error(member.lease().lease_grant(too_long).await, error);
    }
}

#[tokio::test]
async fn a_chosen_id_is_used_once() {
    let member = Member::alone().await;
    assert_eq!(grant(&member, 77, 10).await.id, 77);
    let again = pb::LeaseGrantRequest { ttl: 10, id: 77 };
    assert_error(member.lease().lease_grant(again).await, errors::LEASE_EXISTS);
    assert_eq!(grant(&member, -3, 10).await.id, -3, "clients may choose negative ids");
}

#[tokio::test]
async fn a_generated_id_that_is_taken_is_replaced() {
    let member = Member::alone().await;
    let first = grant(&member, 0, 10).await.id;
    grant(&member, first + 1, 10).await;
    assert_eq!(grant(&member, 0, 10).await.id, first + 2);
}

#[tokio::test]
async fn a_revocation_deletes_the_keys_in_one_revision() {
    let member = Member::alone().await;
    grant(&member, 5, 60).await;
    attach(&member, "b", 5).await;
    attach(&member, "a", 5).await;
    let revoked = member.lease().lease_revoke(pb::LeaseRevokeRequest { id: 5 }).await.unwrap().into_inner();
    assert_eq!(revoked.header, member.header(4));
    assert_eq!(member.get("a").await.count + member.get("b").await.count, 0);
    assert_error(
        member.lease().lease_revoke(pb::LeaseRevokeRequest { id: 5 }).await,
        errors::LEASE_NOT_FOUND,
    );
}

#[tokio::test]
async fn an_unknown_lease_is_no_error() {
    let member = Member::alone().await;
    let answer = renew(&member, 404).await;
    assert_eq!(answer, pb::LeaseKeepAliveResponse { header: member.header(1), id: 404, ttl: 0 });
    let answer = time_to_live(&member, 404, true).await;
    let expected = pb::LeaseTimeToLiveResponse {
        header: member.header(1),
        id: 404,
        ttl: -1,
        granted_ttl: 0,
        keys: vec![],
    };
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn time_passes_and_a_keep_alive_starts_it_again() {
    let member = Member::alone().await;
    grant(&member, 5, 10).await;
    attach(&member, "b", 5).await;
    attach(&member, "a", 5).await;
    pass(&member, 4).await;
    let left = time_to_live(&member, 5, true).await;
    assert_eq!((left.ttl, left.granted_ttl), (6, 10));
    assert_eq!(left.keys, ["a", "b"]);
    assert_eq!(renew(&member, 5).await.ttl, 10);
    let left = time_to_live(&member, 5, false).await;
    assert_eq!((left.ttl, left.keys.len()), (10, 0));
}

#[tokio::test]
async fn a_stream_answers_each_request_in_turn() {
    let member = Member::alone().await;
    grant(&member, 5, 10).await;
    let (ask, mut answers) = keep_alive(&member).await;
    for id in [5, 404, 5] {
        ask.send(pb::LeaseKeepAliveRequest { id }).await.unwrap();
    }
    drop(ask);
    let mut seen = Vec::new();
    while let Some(answer) = soon(answers.message()).await.unwrap() {
        seen.push((answer.id, answer.ttl));
    }
    assert_eq!(seen, [(5, 10), (404, 0), (5, 10)]);
}

#[tokio::test]
async fn the_leader_revokes_what_ran_out_and_says_so_in_its_term() {
    let member = Member::alone().await;
    grant(&member, 5, 2).await;
    attach(&member, "a", 5).await;
    pass(&member, 1).await;
    assert_eq!(member.get("a").await.count, 1, "not a moment early");
    pass(&member, 2).await;
    until(|| member.cluster.revision() == 3).await;
    assert_eq!(member.get("a").await.count, 0);
    assert!(member.control().proposed.contains(&Command::LeaseRevoke { id: 5, term: Some(TERM) }));
    assert_eq!(renew(&member, 5).await.ttl, 0);
}

#[tokio::test]
async fn nothing_expires_where_nobody_leads_and_a_new_leader_gives_more_time() {
    let member = Member::alone().await;
    grant(&member, 5, 2).await;
    pass(&member, 1).await;
    member.control().leader = None;
    pass(&member, 20).await;
    {
        let mut control = member.control();
        control.leader = Some(1);
        control.term += 1;
    }
    pass(&member, 1).await;
    // The whole two seconds and an election timeout of one, from the moment it took over.
    let left = time_to_live(&member, 5, false).await.ttl;
    assert!((1..=3).contains(&left), "{left}");
    pass(&member, 4).await;
    soon(async {
        while time_to_live(&member, 5, false).await.ttl != -1 {
            pass(&member, 1).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_revocation_that_fails_is_tried_again() {
    let member = Member::alone().await;
    grant(&member, 5, 2).await;
    member.control().refuse = Some(keelson_raftstore::consensus::ProposeError::Overloaded);
    pass(&member, 4).await;
    member.control().refuse = None;
    assert_eq!(time_to_live(&member, 5, false).await.ttl, 0, "run out, but not yet revoked");
    pass(&member, 1).await;
    soon(async {
        while time_to_live(&member, 5, false).await.ttl != -1 {
            pass(&member, 1).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_keep_alive_that_comes_too_late_waits_for_the_end() {
    let member = Member::alone().await;
    grant(&member, 5, 2).await;
    member.control().refuse = Some(keelson_raftstore::consensus::ProposeError::Overloaded);
    pass(&member, 3).await;
    let (ask, mut answers) = keep_alive(&member).await;
    ask.send(pb::LeaseKeepAliveRequest { id: 5 }).await.unwrap();
    member.control().refuse = None;
    let answer = soon(async {
        loop {
            tokio::select! {
                biased;
                answer = answers.message() => break answer.unwrap().unwrap(),
                () = pass(&member, 1) => {}
            }
        }
    })
    .await;
    assert_eq!((answer.id, answer.ttl), (5, 0));
}

#[tokio::test]
async fn followers_ask_the_leader() {
    let cluster = Cluster::new(&[1, 2]);
    let (leader, follower) = (cluster.serve(1, |_| {}).await, cluster.serve(2, |_| {}).await);
    grant(&follower, 5, 10).await;
    attach(&follower, "a", 5).await;
    assert_eq!(
        renew(&follower, 5).await,
        pb::LeaseKeepAliveResponse { header: follower.header(2), id: 5, ttl: 10 }
    );
    assert_eq!(renew(&follower, 404).await.ttl, 0);
    pass(&leader, 3).await;
    let left = time_to_live(&follower, 5, true).await;
    assert_eq!((left.ttl, left.granted_ttl, left.keys), (7, 10, vec!["a".into()]));
    assert_eq!(left.header, follower.header(2));
    assert_eq!(time_to_live(&follower, 404, false).await.ttl, -1);
    pass(&leader, 8).await;
    until(|| cluster.revision() == 3).await;
    let revokes =
        cluster.control.lock().proposed.iter().filter(|c| matches!(c, Command::LeaseRevoke { .. })).count();
    assert_eq!(revokes, 1, "only the leader revokes");
}

#[tokio::test]
async fn without_a_leader_a_keep_alive_fails_in_time() {
    let cluster = Cluster::new(&[1, 2]);
    let follower = cluster.serve(2, |_| {}).await;
    cluster.control.lock().leader = None;
    let (ask, mut answers) = keep_alive(&follower).await;
    ask.send(pb::LeaseKeepAliveRequest { id: 5 }).await.unwrap();
    let answer = soon(async {
        loop {
            tokio::select! {
                biased;
                answer = answers.message() => break answer,
                () = pass(&follower, 1) => {}
            }
        }
    })
    .await;
    assert_error(answer, errors::NO_LEADER);
}

#[tokio::test]
async fn leases_are_listed_by_what_runs_out_first() {
    let member = Member::alone().await;
    for (id, ttl) in [(1, 300), (2, 100), (3, 200)] {
        grant(&member, id, ttl).await;
    }
    let listed = member.lease().lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner();
    let ids: Vec<_> = listed.leases.iter().map(|lease| lease.id).collect();
    assert_eq!((ids, listed.header), (vec![2, 3, 1], member.header(1)));
}

#[tokio::test]
async fn a_lease_granted_elsewhere_is_timed_at_once() {
    let cluster = Cluster::new(&[1, 2]);
    let (leader, follower) = (cluster.serve(1, |_| {}).await, cluster.serve(2, |_| {}).await);
    pass(&leader, 1).await;
    grant(&follower, 9, 5).await;
    // Nobody looks at the clock before a quarter of a second has passed.
    cluster.clock.advance(Duration::from_millis(4250));
    assert_eq!(time_to_live(&leader, 9, false).await.ttl, 0, "less than a second is left");
    assert_eq!(cluster.revision(), 1);
    attach(&follower, "a", 9).await;
    pass(&leader, 2).await;
    until(|| cluster.revision() == 3).await;
}

#[tokio::test]
async fn an_id_revoked_and_granted_again_keeps_the_new_time() {
    let member = Member::alone().await;
    grant(&member, 9, 3).await;
    pass(&member, 2).await;
    member.cluster.apply(&Command::LeaseRevoke { id: 9, term: None });
    member.cluster.apply(&Command::LeaseGrant { id: 9, ttl_s: 100 });
    assert_eq!(time_to_live(&member, 9, false).await.ttl, 100);
    pass(&member, 4).await;
    assert_eq!(time_to_live(&member, 9, false).await.ttl, 96, "the first one's end is not the second one's");
    assert!(!member.control().proposed.contains(&Command::LeaseRevoke { id: 9, term: Some(TERM) }));
}

/// A revocation by expiry whose answer is still on its way when the id is granted again.
#[tokio::test]
async fn the_end_of_a_revocation_takes_nothing_from_a_new_lease() {
    let member = Member::alone().await;
    grant(&member, 9, 2).await;
    member.control().refuse = Some(keelson_raftstore::consensus::ProposeError::Overloaded);
    pass(&member, 3).await;
    member.control().refuse = None;
    member.cluster.apply(&Command::LeaseRevoke { id: 9, term: Some(TERM) });
    member.cluster.apply(&Command::LeaseGrant { id: 9, ttl_s: 3 });
    attach(&member, "a", 9).await;
    pass(&member, 1).await;
    assert_eq!(member.get("a").await.count, 1);
    pass(&member, 4).await;
    until(|| member.cluster.revision() == 3).await;
}

/// Ten thousand leases run out at the same moment while another is kept alive.
#[tokio::test]
async fn many_expiring_leases_do_not_starve_keep_alives() {
    const MANY: i64 = 10_000;
    let member = Member::alone().await;
    for id in 1..=MANY {
        member.cluster.apply(&Command::LeaseGrant { id, ttl_s: 10 });
    }
    grant(&member, MANY + 1, 10).await;
    let (ask, mut answers) = keep_alive(&member).await;
    let left = || member.state.view().leases().unwrap().len();
    let (mut answered, mut least) = (0, MANY as usize);
    while least > 1 {
        pass(&member, 1).await;
        ask.send(pb::LeaseKeepAliveRequest { id: MANY + 1 }).await.unwrap();
        let answer = soon(answers.message()).await.unwrap().unwrap();
        assert_eq!((answer.id, answer.ttl), (MANY + 1, 10), "{} leases left", left());
        let now = left();
        // Expiry is spread over many looks, and an answer comes between any two.
        answered += u32::from(now < least && now > 1);
        least = now;
    }
    assert!(answered >= 8, "answered {answered} times while leases went");
    assert_eq!(member.state.view().leases().unwrap()[0].id, MANY + 1);
}

#[tokio::test]
async fn the_remaining_time_survives_a_change_of_leader() {
    let cluster = Cluster::new(&[1, 2]);
    let (first, second) = (cluster.serve(1, |_| {}).await, cluster.serve(2, |_| {}).await);
    grant(&first, 5, 1000).await;
    grant(&first, 6, 1000).await;
    pass(&first, 200).await;
    assert_eq!(renew(&first, 6).await.ttl, 1000);
    pass(&first, 200).await;
    let lead = |id| {
        let mut control = cluster.control.lock();
        control.leader = Some(id);
        control.term += 1;
    };
    lead(2);
    pass(&second, 1).await;
    // Written down after 300 of the 400 seconds; the election timeout of one comes on top.
    let left = time_to_live(&second, 5, false).await.ttl;
    assert!((695..=701).contains(&left), "{left}");
    // Renewed 200 seconds ago: nothing was written down, so it gets everything again.
    let left = time_to_live(&second, 6, false).await.ttl;
    assert!((995..=1001).contains(&left), "{left}");

    // A renewal takes back what was written down before it is answered.
    assert_eq!(renew(&second, 5).await.ttl, 1000);
    assert_eq!(cluster.control.lock().proposed.last(), Some(&reset(5)));
    pass(&second, 10).await;
    lead(1);
    pass(&first, 1).await;
    let left = time_to_live(&first, 5, false).await.ttl;
    assert!((995..=1001).contains(&left), "{left}");
}

fn reset(id: i64) -> Command {
    Command::LeaseCheckpoint { remaining: vec![(id, 0)], term: Some(TERM + 1) }
}

#[tokio::test]
async fn a_renewal_that_cannot_take_back_a_checkpoint_is_refused() {
    let member = Member::alone().await;
    grant(&member, 5, 1000).await;
    pass(&member, 301).await;
    member.control().refuse = Some(keelson_raftstore::consensus::ProposeError::Overloaded);
    let (ask, mut answers) = keep_alive(&member).await;
    ask.send(pb::LeaseKeepAliveRequest { id: 5 }).await.unwrap();
    assert_error(soon(answers.message()).await, errors::TIMEOUT);
    member.control().refuse = None;
    assert_eq!(renew(&member, 5).await.ttl, 1000);
}

#[tokio::test]
async fn without_checkpoints_a_new_leader_gives_everything_again() {
    let member = Member::alone_with(|options| options.lease_checkpoint_interval = None).await;
    grant(&member, 5, 1000).await;
    pass(&member, 400).await;
    {
        let mut control = member.control();
        control.term += 1;
        assert!(!control.proposed.iter().any(|command| matches!(command, Command::LeaseCheckpoint { .. })));
    }
    pass(&member, 1).await;
    let left = time_to_live(&member, 5, false).await.ttl;
    assert!((995..=1001).contains(&left), "{left}");
}
