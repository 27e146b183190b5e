//! A correct history is accepted; each planted violation is rejected under its own name.
//!
//! The correct histories come from a small sequential store whose operations overlap in time: each takes effect at a moment
//! between its invocation and its return, so that the histories are strictly serializable by construction.

use bytes::Bytes;
use keelson_checker::{
    Compare, CompareResult, CompareTarget, Consistency, Delete, Effect, Event, EventKind, History, KeyRange,
    LeasePromise, Operation, Outcome, Put, Range, Record, Response, Revision, RevisionRecord, Rules, State,
    Txn, Verdict, Violation, WatchItem, WatchPromise, WatchRecord, check,
};

const RULES: Rules = Rules { member_revision_monotone: true };

/// A sequential store that records what it does.
struct Store {
    state: State,
    revision: Revision,
    now: u64,
    random: u64,
    history: History,
}

impl Store {
    fn new(seed: u64) -> Self {
        let history = History { initial_revision: 1, lease_ids: vec![900], ..History::default() };
        Self { state: State::default(), revision: 1, now: 100, random: seed | 1, history }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// Runs one operation now; it was sent a little before and answered a little later, so neighbours overlap.
    fn run(&mut self, operation: Operation, unknown: bool) -> usize {
        self.now += 10;
        let (early, late) = (self.below(30), self.below(30));
        let effect = self.state.evaluate(&operation, self.revision + 1);
        let events = effect.as_ref().map_or(Vec::new(), |effect| effect.events.clone());
        self.append(events);
        let response = effect.map_or(Response::Other, |effect: Effect| effect.response);
        let outcome =
            if unknown { Outcome::Unknown } else { Outcome::Ok { revision: self.revision, response } };
        self.history.records.push(Record {
            client: 1,
            member: 1,
            invoked: self.now - early,
            returned: self.now + late,
            consistency: Consistency::Linearizable,
            operation,
            outcome,
        });
        self.history.records.len() - 1
    }

    fn append(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.revision += 1;
        for event in &events {
            self.state.advance(event);
        }
        self.history.log.push(RevisionRecord { revision: self.revision, events });
    }

    fn random_operation(&mut self, unique: u64) -> Operation {
        let key = Bytes::from(format!("k{}", self.below(6)));
        let value = Bytes::from(format!("v{unique}"));
        match self.below(10) {
            0..=4 => {
                let lease = if self.below(4) == 0 { 900 } else { 0 };
                Operation::Put(Put { key, value, lease, prev_kv: self.below(2) == 0 })
            }
            5 => Operation::Delete(Delete { range: KeyRange::single(key), prev_kv: true }),
            6 => Operation::Txn(Txn {
                compares: vec![Compare {
                    range: KeyRange::single(key.clone()),
                    target: CompareTarget::Version(0),
                    result: CompareResult::Equal,
                }],
                success: vec![Operation::Put(Put { key: key.clone(), value, lease: 0, prev_kv: false })],
                failure: vec![Operation::Delete(Delete {
                    range: KeyRange { key, end: "k4".into() },
                    prev_kv: false,
                })],
            }),
            _ => Operation::Range(Range { range: KeyRange::all(), limit: 3, revision: 0 }),
        }
    }

    /// A watcher of everything that got every revision from `start` on, one response each, with progress at the end.
    fn watch(&mut self, start: Revision, prev_kv: bool) {
        let mut items = vec![WatchItem::Created { revision: 1 }];
        let mut before = State::default();
        for record in &self.history.log {
            let events: Vec<Event> = record
                .events
                .iter()
                .map(|event| Event {
                    prev: before.get(&event.kv.key).cloned().filter(|_| prev_kv),
                    ..event.clone()
                })
                .collect();
            record.events.iter().for_each(|event| {
                before.advance(event);
            });
            if record.revision >= start {
                items.push(WatchItem::Events { revision: record.revision, received: 1_000_000, events });
            }
        }
        items.push(WatchItem::Progress { revision: self.revision });
        self.history.watches.push(WatchRecord {
            client: 2,
            member: 1,
            range: KeyRange::all(),
            start_revision: start,
            prev_kv,
            no_put: false,
            no_delete: false,
            items,
            complete_through: self.revision,
        });
    }
}

fn correct(seed: u64, operations: u64) -> History {
    let mut store = Store::new(seed);
    for unique in 0..operations {
        let operation = store.random_operation(unique);
        let unknown = store.below(10) == 0;
        store.run(operation, unknown);
        if store.below(40) == 0 {
            let ended = store.state.evaluate(&Operation::LeaseRevoke(900), store.revision + 1).unwrap();
            store.append(ended.events);
        }
    }
    store.watch(1, true);
    store.watch(40, false);
    store.history
}

fn violations(history: &History) -> Vec<Violation> {
    check(history, RULES).violations
}

/// Plants one fault in a correct history and expects a violation that `fits`.
fn planted(plant: impl Fn(&mut History), fits: impl Fn(&Violation) -> bool) {
    let mut history = correct(7, 300);
    plant(&mut history);
    let found = violations(&history);
    assert!(found.iter().any(fits), "not found among {found:#?}");
}

fn first_ok(history: &History, wanted: impl Fn(&Operation, &Response) -> bool) -> usize {
    history
        .records
        .iter()
        .position(|record| {
            matches!(&record.outcome, Outcome::Ok { revision, response } if *revision > 50 && wanted(&record.operation, response))
        })
        .expect("the history has such an operation")
}

fn is_put(operation: &Operation, _: &Response) -> bool {
    matches!(operation, Operation::Put(_))
}

fn is_range(operation: &Operation, _: &Response) -> bool {
    matches!(operation, Operation::Range(_))
}

fn events_at(history: &mut History, watcher: usize, item: usize) -> &mut Vec<Event> {
    match &mut history.watches[watcher].items[item] {
        WatchItem::Events { events, .. } => events,
        other => panic!("not events: {other:?}"),
    }
}

fn watch_promise(wanted: WatchPromise) -> impl Fn(&Violation) -> bool {
    move |violation| matches!(violation, Violation::Watch { promise, .. } if *promise == wanted)
}

#[test]
fn correct_histories_are_accepted_and_counted() {
    for seed in 1..40 {
        let history = correct(seed, 400);
        let Verdict { summary, violations } = check(&history, RULES);
        assert_eq!(violations, [], "seed {seed}");
        assert_eq!(summary.revisions, history.log.len());
        assert!(
            summary.unknown > 0 && summary.unknown_applied > 0 && summary.watch_events > summary.revisions
        );
    }
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    // The store forgot its last revisions: the crash lost what it had acknowledged.
    planted(
        |history| history.log.truncate(history.log.len() - 5),
        |violation| matches!(violation, Violation::LostWrite { found: None, .. }),
    );
}

#[test]
fn an_acknowledged_write_replaced_by_another_is_found() {
    planted(
        |history| {
            let index = first_ok(history, is_put);
            let Outcome::Ok { revision, .. } = history.records[index].outcome else { unreachable!() };
            let at = history.log.iter().position(|record| record.revision == revision).unwrap();
            history.log[at].events[0].kv.value = "another".into();
        },
        |violation| matches!(violation, Violation::LostWrite { found: Some(_), .. }),
    );
}

#[test]
fn a_stale_linearizable_read_is_found() {
    planted(
        |history| {
            // A read sent at the end that answers with the state of an early read.
            let index = first_ok(history, is_range);
            let mut stale = history.records[index].clone();
            let end = history.records.iter().map(|record| record.returned).max().unwrap();
            (stale.invoked, stale.returned) = (end + 1, end + 2);
            history.records.push(stale);
        },
        |violation| matches!(violation, Violation::BehindRealTime { .. }),
    );
}

#[test]
fn a_stale_serializable_read_is_no_violation_except_of_the_members_own_order() {
    let mut history = correct(7, 300);
    let index = first_ok(&history, is_range);
    let mut stale = history.records[index].clone();
    let end = history.records.iter().map(|record| record.returned).max().unwrap();
    (stale.invoked, stale.returned) = (end + 1, end + 2);
    stale.consistency = Consistency::Serializable;
    stale.member = 9;
    history.records.push(stale.clone());
    assert_eq!(violations(&history), []);
    stale.member = 1;
    history.records.push(stale);
    let found = violations(&history);
    assert!(matches!(found[..], [Violation::MemberWentBack { .. }]), "{found:?}");
    assert!(check(&history, Rules { member_revision_monotone: false }).accepted());
}

#[test]
fn a_write_into_the_past_is_found() {
    planted(
        |history| {
            let index = first_ok(history, is_put);
            let end = history.records.iter().map(|record| record.returned).max().unwrap();
            (history.records[index].invoked, history.records[index].returned) = (end + 1, end + 2);
        },
        |violation| matches!(violation, Violation::BehindRealTime { .. }),
    );
}

#[test]
fn a_wrong_previous_value_is_found() {
    planted(
        |history| {
            let index = first_ok(history, |_, response| matches!(response, Response::Put { prev: Some(_) }));
            let Outcome::Ok { response: Response::Put { prev: Some(prev) }, .. } =
                &mut history.records[index].outcome
            else {
                unreachable!()
            };
            prev.version += 1;
        },
        |violation| matches!(violation, Violation::WrongAnswer { .. }),
    );
}

#[test]
fn a_wrong_range_is_found() {
    planted(
        |history| {
            let index = first_ok(
                history,
                |_, response| matches!(response, Response::Range { kvs, .. } if !kvs.is_empty()),
            );
            let Outcome::Ok { response: Response::Range { kvs, .. }, .. } =
                &mut history.records[index].outcome
            else {
                unreachable!()
            };
            kvs.pop();
        },
        |violation| matches!(violation, Violation::WrongAnswer { .. }),
    );
}

#[test]
fn a_refused_write_that_was_applied_is_found() {
    planted(
        |history| {
            let index = first_ok(history, is_put);
            history.records[index].outcome = Outcome::Rejected;
        },
        |violation| matches!(violation, Violation::RejectedApplied { .. }),
    );
}

#[test]
fn a_write_applied_twice_is_found() {
    let mut store = Store::new(3);
    let put = Operation::Put(Put { key: "k".into(), value: "once".into(), ..Put::default() });
    store.run(put.clone(), true);
    let again = store.state.evaluate(&put, store.revision + 1).unwrap();
    store.append(again.events);
    let found = violations(&store.history);
    assert!(matches!(found[..], [Violation::AppliedTwice { first: 2, second: 3, .. }]), "{found:?}");
}

#[test]
fn one_revision_acknowledged_to_two_writers_is_found() {
    planted(
        |history| {
            let index = first_ok(history, is_put);
            let copy = history.records[index].clone();
            history.records.push(copy);
        },
        |violation| matches!(violation, Violation::RevisionClaimedTwice { .. }),
    );
}

#[test]
fn a_revision_that_nobody_wrote_is_found() {
    planted(
        |history| {
            history.records.remove(first_ok(history, is_put));
        },
        |violation| matches!(violation, Violation::Unexplained { .. }),
    );
}

#[test]
fn a_gap_in_the_log_is_found() {
    planted(
        |history| {
            history.log.remove(100);
        },
        |violation| matches!(violation, Violation::LogOrder { .. }),
    );
}

#[test]
fn an_event_that_contradicts_the_replay_is_found() {
    planted(
        |history| {
            let at = history.log.iter().position(|record| record.events[0].kv.version > 1).unwrap();
            history.log[at].events[0].kv.version += 1;
        },
        |violation| matches!(violation, Violation::LogEvent { .. }),
    );
}

#[test]
fn keys_that_survive_the_revocation_of_their_lease_are_found() {
    let mut store = Store::new(5);
    store.run(Operation::Put(Put { key: "k".into(), value: "v".into(), lease: 900, prev_kv: false }), false);
    store.history.records.push(Record {
        operation: Operation::LeaseRevoke(900),
        outcome: Outcome::Ok { revision: 2, response: Response::LeaseRevoke },
        invoked: 500,
        returned: 600,
        ..store.history.records[0].clone()
    });
    let found = violations(&store.history);
    assert!(matches!(found[..], [Violation::LostWrite { .. }]), "{found:?}");
}

#[test]
fn a_missing_watch_event_is_found() {
    planted(
        |history| {
            history.watches[0].items.remove(30);
        },
        watch_promise(WatchPromise::Reliable),
    );
}

#[test]
fn a_watch_that_ends_short_is_found() {
    planted(
        |history| {
            let items = &mut history.watches[0].items;
            items.truncate(items.len() - 3);
        },
        watch_promise(WatchPromise::Reliable),
    );
}

#[test]
fn a_repeated_watch_event_is_found() {
    planted(
        |history| {
            let copy = history.watches[0].items[30].clone();
            history.watches[0].items.insert(31, copy);
        },
        watch_promise(WatchPromise::Unique),
    );
}

#[test]
fn swapped_watch_events_are_found() {
    planted(|history| history.watches[0].items.swap(30, 31), watch_promise(WatchPromise::Reliable));
}

#[test]
fn a_watch_event_from_before_its_start_is_found() {
    planted(
        |history| {
            let early = history.watches[0].items[5].clone();
            history.watches[1].items.insert(1, early);
        },
        watch_promise(WatchPromise::Ordered),
    );
}

#[test]
fn a_split_revision_is_found() {
    planted(
        |history| {
            let at = history.watches[0]
                .items
                .iter()
                .position(|item| matches!(item, WatchItem::Events { events, .. } if events.len() > 1))
                .unwrap();
            let rest = events_at(history, 0, at).split_off(1);
            let revision = rest[0].kv.mod_revision;
            let item = WatchItem::Events { revision, received: 1_000_000, events: rest };
            history.watches[0].items.insert(at + 1, item);
        },
        watch_promise(WatchPromise::Atomic),
    );
}

#[test]
fn a_progress_notification_ahead_of_events_is_found() {
    planted(
        |history| history.watches[0].items.insert(20, WatchItem::Progress { revision: 90 }),
        watch_promise(WatchPromise::Bookmarkable),
    );
}

#[test]
fn a_wrong_previous_value_in_an_event_is_found() {
    planted(
        |history| {
            for item in &mut history.watches[0].items {
                if let WatchItem::Events { events, .. } = item
                    && let Some(prev) = events.iter_mut().find_map(|event| event.prev.as_mut())
                {
                    prev.value = "wrong".into();
                    return;
                }
            }
        },
        watch_promise(WatchPromise::Faithful),
    );
}

#[test]
fn an_event_outside_the_range_is_found() {
    planted(
        |history| history.watches[0].range = KeyRange::single("k0"),
        watch_promise(WatchPromise::Filtered),
    );
}

#[test]
fn events_before_the_creation_is_confirmed_are_found() {
    planted(|history| history.watches[0].items.swap(0, 1), watch_promise(WatchPromise::Filtered));
}

#[test]
fn a_compaction_notice_for_kept_history_is_found() {
    planted(
        |history| history.watches[0].items.insert(60, WatchItem::Compacted { compact_revision: 10 }),
        watch_promise(WatchPromise::Resumable),
    );
}

#[test]
fn a_lease_that_ends_early_is_found_unless_revoked() {
    let mut store = Store::new(11);
    store.run(Operation::Put(Put { key: "k".into(), value: "v".into(), lease: 900, prev_kv: false }), false);
    let ended = store.state.evaluate(&Operation::LeaseRevoke(900), 3).unwrap();
    store.append(ended.events);
    store.watch(1, false);
    store.history.leases.push(LeasePromise { lease: 900, made: 5, until: 2_000_000 });
    let found = violations(&store.history);
    assert!(matches!(found[..], [Violation::LeaseEarly { lease: 900, .. }]), "{found:?}");
    store.history.leases[0].until = 900_000;
    assert_eq!(violations(&store.history), []);
    store.history.leases[0].until = 2_000_000;
    store.history.records.push(Record {
        operation: Operation::LeaseRevoke(900),
        outcome: Outcome::Unknown,
        ..store.history.records[0].clone()
    });
    assert_eq!(violations(&store.history), []);
}

#[test]
fn a_delete_of_unknown_outcome_is_not_taken_for_the_end_of_a_lease() {
    let mut store = Store::new(11);
    store.run(Operation::Put(Put { key: "k".into(), value: "v".into(), lease: 900, prev_kv: false }), false);
    store.run(Operation::Delete(Delete { range: KeyRange::single("k"), prev_kv: false }), true);
    store.watch(1, false);
    store.history.leases.push(LeasePromise { lease: 900, made: 5, until: 2_000_000 });
    assert_eq!(violations(&store.history), []);
}

#[test]
fn a_delete_that_claims_more_than_it_deleted_is_found() {
    planted(
        |history| {
            let index = first_ok(history, |operation, response| {
                matches!((operation, response), (Operation::Delete(_), Response::Delete { deleted: 1, .. }))
            });
            let Outcome::Ok { response: Response::Delete { deleted, .. }, .. } =
                &mut history.records[index].outcome
            else {
                unreachable!()
            };
            *deleted = 2;
        },
        |violation| matches!(violation, Violation::WrongAnswer { .. }),
    );
}

#[test]
fn an_event_of_another_kind_is_found() {
    planted(
        |history| {
            let at = history.watches[0]
                .items
                .iter()
                .position(|item| matches!(item, WatchItem::Events { events, .. } if events[0].kind == EventKind::Delete))
                .unwrap();
            events_at(history, 0, at)[0].kind = EventKind::Put;
        },
        watch_promise(WatchPromise::Faithful),
    );
}
