//! The store against the naive model, on both engines, with physical drops and flushes at random moments.

mod common;

use std::sync::Arc;

use common::strategy::{TERM, groups, options, resolve};
use common::{Change, Driver, Model, cases, everything};
use keelson_mvcc::engine::memory::MemoryOptions;
use keelson_mvcc::*;
use proptest::prelude::*;

/// Everything that can be read must agree with the model.
fn check_reads<E: KvEngine>(view: &Arc<ReadView<E>>, model: &Model, probes: &[RangeOptions]) {
    assert_eq!((view.revision(), view.compacted()), (model.revision, model.mark));
    assert_eq!(view.key_count(), model.now().len() as u64);
    assert_eq!(view.alarms(), model.alarms.iter().copied().collect::<Vec<_>>());
    assert_eq!(view.leases().unwrap(), model.leases.values().copied().collect::<Vec<_>>());
    for id in model.leases.keys() {
        assert_eq!(view.lease(*id).unwrap(), model.leases.get(id).copied());
        assert_eq!(view.lease_keys(*id).unwrap(), model.lease_keys(*id));
    }
    assert_eq!(view.meta_all().unwrap(), model.meta.clone().into_iter().collect::<Vec<_>>());
    for key in model.states.values().flat_map(|keys| keys.keys()) {
        assert_eq!(view.get(key).unwrap(), model.now().get(key).cloned());
    }
    for revision in -1..=model.revision + 1 {
        let all = RangeOptions { range: everything(), revision, ..RangeOptions::default() };
        assert_eq!(view.range(&all), model.range(&all), "everything at {revision}");
        for probe in probes {
            let probe = RangeOptions { revision, ..probe.clone() };
            // Twice: the second answer may come from what the first one remembered.
            assert_eq!(view.range(&probe), model.range(&probe), "{probe:?}");
            assert_eq!(view.range(&probe), model.range(&probe), "again {probe:?}");
            check_pages(view, model, &probe);
            check_stream(view, model, &probe);
        }
    }
    check_events(view, model);
    for revision in model.mark.max(1)..=model.revision {
        let hash = view.hash_kv(revision).unwrap();
        assert_eq!((hash.compact_revision, hash.hash_revision), (model.mark, revision));
        assert_eq!(hash.hash, model.hash_kv(revision), "hash at {revision}");
    }
    assert_eq!(view.hash_kv(0).unwrap().hash, model.hash_kv(model.revision));
    let mut rows = Vec::new();
    let all = view.each_file_row(|key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    });
    rows.sort();
    let expected: Vec<_> = model.file_rows().into_iter().map(|row| (row.key, row.value)).collect();
    assert_eq!((all, rows), (Ok(()), expected));
}

/// A list read page by page gives what it gives in one piece, with every page's own count.
fn check_pages<E: KvEngine>(view: &ReadView<E>, model: &Model, probe: &RangeOptions) {
    if probe.limit <= 0 || probe.limit > 4 || probe.range.is_single() {
        return;
    }
    let mut page = RangeOptions { range: probe.range.clone(), limit: probe.limit, ..RangeOptions::default() };
    page.revision = probe.revision;
    while let Ok(reply) = view.range(&page) {
        assert_eq!(Ok(&reply), model.range(&page).as_ref());
        let Some(last) = reply.kvs.last().filter(|_| reply.more) else { return };
        page.range.key = [last.key.as_ref(), &[0]].concat().into();
    }
}

/// The pieces of a stream are what one request gives.
fn check_stream<E: KvEngine>(view: &Arc<ReadView<E>>, model: &Model, probe: &RangeOptions) {
    let RangeOptions { range, limit, revision, keys_only, .. } = probe.clone();
    let plain = RangeOptions { range, limit, revision, keys_only, ..RangeOptions::default() };
    let expected = match model.range(&plain) {
        Ok(expected) => expected,
        Err(error) => return assert_eq!(view.range_stream(&plain).map(drop), Err(error)),
    };
    for rows_max in [1, 2, 100] {
        let mut stream = view.range_stream(&plain).unwrap();
        let mut kvs = Vec::new();
        while let Some(piece) = stream.next(rows_max).unwrap() {
            assert!(!piece.is_empty() && piece.len() <= rows_max);
            kvs.extend(piece);
        }
        assert_eq!((kvs, stream.more()), (expected.kvs.clone(), expected.more));
        assert_eq!(stream.count(), Ok(expected.count as u64));
    }
}

fn check_events<E: KvEngine>(view: &ReadView<E>, model: &Model) {
    for after in -1..=model.revision {
        for (upto, bytes_soft) in [(model.revision, usize::MAX), (model.revision + 5, 1), (after + 3, 100)] {
            let found = view.events(after, upto, bytes_soft);
            let expected = match model.events(after, upto) {
                Ok(expected) => expected,
                Err(mark) => {
                    assert_eq!(found, Err(ReadError::Compacted { requested: after + 1, mark }));
                    continue;
                }
            };
            let found = found.unwrap();
            let flat: Vec<_> =
                found.iter().flat_map(|one| one.events.iter().map(|event| (one.revision, event))).collect();
            assert!(expected.is_empty() || !flat.is_empty(), "a soft limit never stops everything");
            assert!(bytes_soft == usize::MAX || flat.len() <= expected.len());
            assert!(bytes_soft != usize::MAX || flat.len() == expected.len());
            for ((revision, event), change) in flat.iter().zip(&expected) {
                let Change { kind, kv, prev, sub, .. } = change;
                assert_eq!((*revision, event.sub, event.kind), (change.revision, *sub, *kind));
                assert_eq!((&event.kv, &event.prev), (kv, prev));
            }
            let last = flat.last().map(|(revision, _)| *revision);
            let cut = expected.get(flat.len()).map(|change| change.revision);
            assert!(cut.is_none() || cut != last, "a revision is never cut");
        }
    }
}

/// Fills in the revisions that depend on the current one, and gives the model after each entry.
fn resolve_all(groups: &[Vec<Vec<Command>>]) -> (Vec<Vec<Vec<Command>>>, Vec<Model>) {
    let (mut model, mut models) = (Model::default(), Vec::new());
    let mut groups = groups.to_vec();
    for entry in groups.iter_mut().flatten() {
        for command in entry {
            resolve(command, model.revision);
            model.apply(command, TERM);
        }
        models.push(model.clone());
    }
    (groups, models)
}

/// Applies the groups to both, dropping dead rows after every `drop_every`th group.
fn run<E: KvEngine>(
    engine: E,
    groups: &[Vec<Vec<Command>>],
    probes: &[RangeOptions],
    drop_every: usize,
    cache_bytes: usize,
) -> (Driver<E>, Model) {
    let mut driver = Driver::open_with(engine, StoreOptions { row_cache_bytes: cache_bytes });
    driver.term = TERM;
    let mut model = Model::default();
    for (number, group) in groups.iter().enumerate() {
        let old = driver.store.view().clone();
        let old_model = model.clone();
        let applied = driver.group(group.clone());
        let mut events = Vec::new();
        for (entry, replies) in group.iter().zip(&applied.replies) {
            for (command, reply) in entry.iter().zip(replies) {
                let before = model.changes.len();
                assert_eq!(*reply, model.apply(command, TERM), "{command:?}");
                events.extend(model.changes[before..].iter().cloned());
            }
        }
        let live = applied.events.iter().flat_map(|one| one.events.iter().map(|event| (one.revision, event)));
        for ((revision, event), change) in live.clone().zip(&events) {
            assert_eq!((revision, event.sub, event.kind), (change.revision, change.sub, change.kind));
            assert_eq!((&event.kv, &event.prev), (&change.kv, &change.prev));
        }
        assert_eq!(live.count(), events.len());
        if drop_every > 0 && number % drop_every == 0 {
            driver.drop_dead_rows();
        }
        if number % 4 == 3 {
            check_reads(&applied.view, &model, probes);
            // An old view still answers for its own revision, whatever was written and dropped since.
            let all = RangeOptions { range: everything(), ..RangeOptions::default() };
            assert_eq!(old.range(&all), old_model.range(&all));
            for key in old_model.now().keys().chain(model.now().keys()) {
                assert_eq!(old.get(key).unwrap(), old_model.now().get(key).cloned());
            }
            check_old_view(&old, &old_model);
        }
    }
    check_reads(driver.store.view(), &model, probes);
    (driver, model)
}

/// What an old view says of the past is right or `Compacted`, and it says `Compacted` only of what is.
fn check_old_view<E: KvEngine>(old: &ReadView<E>, model: &Model) {
    for revision in 1..model.revision {
        let past = RangeOptions { range: everything(), revision, ..RangeOptions::default() };
        let found = old.range(&past);
        assert!(
            found == model.range(&past)
                || matches!(found, Err(ReadError::Compacted { mark, .. }) if mark > revision)
        );
        let found = old.hash_kv(revision);
        if let Ok(found) = found {
            assert_eq!(found.hash, model.hash_kv(revision));
        }
        let Ok(expected) = model.events(revision - 1, model.revision) else { continue };
        match old.events(revision - 1, model.revision, usize::MAX) {
            Ok(found) => assert_eq!(found.iter().map(|one| one.events.len()).sum::<usize>(), expected.len()),
            Err(error) => assert!(matches!(error, ReadError::Compacted { mark, .. } if mark > revision)),
        }
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn the_memory_engine_follows_the_model(
        groups in groups(), probes in prop::collection::vec(options(), 4), drop_every in 0usize..4, seed in any::<u64>(),
        cached in any::<bool>(),
    ) {
        let (groups, _) = resolve_all(&groups);
        let engine = MemoryEngine::new(MemoryOptions { seed, flush_every: 5, drop_every: 3 });
        run(engine, &groups, &probes, drop_every, if cached { 1 << 20 } else { 0 });
    }

    /// Design rules 7, 11 and 13: neither how entries are grouped nor when rows are dropped may show anywhere.
    #[test]
    fn grouping_and_dropping_leave_no_trace(groups in groups(), seed in any::<u64>()) {
        let (groups, _) = resolve_all(&groups);
        let never = MemoryEngine::default();
        let (grouped, _) = run(never, &groups, &[], 0, 1 << 20);
        let often = MemoryEngine::new(MemoryOptions { seed, flush_every: 2, drop_every: 2 });
        let mut single = Driver::open_with(often, StoreOptions { row_cache_bytes: 0 });
        single.term = TERM;
        for entry in groups.iter().flatten() {
            single.group(vec![entry.clone()]);
            single.drop_dead_rows();
        }
        let (a, b) = (grouped.store.view(), single.store.view());
        prop_assert_eq!(a.applied(), b.applied());
        prop_assert_eq!(a.digest(), b.digest());
        prop_assert_eq!(a.digests(), b.digests());
        prop_assert_eq!(a.hash().unwrap(), b.hash().unwrap());
        prop_assert_eq!(a.hash_kv(0).unwrap(), b.hash_kv(0).unwrap());
        prop_assert_eq!(a.events(a.compacted() - 1, a.revision(), usize::MAX), b.events(b.compacted() - 1, b.revision(), usize::MAX));
    }

    /// A crash at any moment goes back to some flush, and replaying the log from there ends in the same state.
    #[test]
    fn a_crash_anywhere_is_repaired_by_the_log(groups in groups(), crash_after in 0usize..40, seed in any::<u64>()) {
        let (groups, models) = resolve_all(&groups);
        let engine = MemoryEngine::new(MemoryOptions { seed, flush_every: 3, drop_every: 2 });
        let mut driver = Driver::open(engine.clone());
        driver.term = TERM;
        let (reference, model) = run(MemoryEngine::default(), &groups, &[], 0, 1 << 20);
        let entries: Vec<_> = groups.iter().flatten().cloned().collect();
        let mut seen = (driver.store.view().revision(), None);
        for (number, entry) in entries.iter().enumerate() {
            driver.group(vec![entry.clone()]);
            if number % 5 == 2 {
                let durable = driver.store.flush().unwrap();
                prop_assert_eq!(durable, driver.store.applied());
                seen = (driver.store.view().revision(), durable);
                driver.store.compaction_job().step(200).unwrap();
            }
            if number == crash_after {
                engine.crash();
                driver = Driver::open(engine.clone());
                driver.term = TERM;
                prop_assert!(driver.store.applied() >= seen.1, "a flush is never lost");
                prop_assert!(driver.store.view().revision() >= seen.0, "nor its revision");
                let at_crash = driver.next.checked_sub(1).map_or(Model::default(), |at| models[at as usize].clone());
                check_reads(driver.store.view(), &at_crash, &[]);
                for replayed in &entries[driver.next as usize..=number] {
                    driver.group(vec![replayed.clone()]);
                }
            }
        }
        prop_assert_eq!(driver.store.view().digest(), reference.store.view().digest());
        check_reads(driver.store.view(), &model, &[]);
    }

    /// A snapshot carries everything, and nothing shows that it came that way.
    #[test]
    fn a_snapshot_moves_the_whole_state(
        groups in groups(), before in groups(), probes in prop::collection::vec(options(), 2), rest in groups(),
    ) {
        let (groups, _) = resolve_all(&groups);
        let (mut source, mut model) = run(MemoryEngine::default(), &groups, &[], 3, 1 << 20);
        let chunks: Vec<_> = source.store.snapshot().collect::<Result<_, _>>().unwrap();
        let engine = MemoryEngine::default();
        let mut target = Driver::open(engine.clone());
        target.term = TERM;
        // The receiver has a history of its own, a prefix of the same log in truth, anything here.
        let ahead = before.iter().flatten().count() >= groups.iter().flatten().count();
        if !ahead {
            for group in before.iter().take(1) {
                target.group(group.clone());
            }
        }
        let old = target.store.view().clone();
        if old.revision() <= source.store.view().revision() && target.next < source.next {
            let all = RangeOptions { range: everything(), ..RangeOptions::default() };
            let old_reply = old.range(&all);
            let reader = target.store.reader();
            target.store.install(chunks).unwrap();
            target.next = source.next;
            prop_assert_eq!(reader.view().digest(), source.store.view().digest());
            prop_assert_eq!(old.range(&all), old_reply, "old views keep their data");
            check_reads(&reader.view(), &model, &probes);
            engine.crash();
            target = Driver::open(engine);
            prop_assert_eq!(target.next, source.next);
            for group in &rest {
                let mut group = group.clone();
                group.iter_mut().flatten().for_each(|command| resolve(command, model.revision));
                source.group(group.clone());
                target.group(group.clone());
                for command in group.iter().flatten() {
                    model.apply(command, TERM);
                }
            }
            prop_assert_eq!(target.store.view().digest(), source.store.view().digest());
            check_reads(target.store.view(), &model, &probes);
        }
    }
}

#[cfg(feature = "rocks")]
proptest! {
    #![proptest_config(cases(10))]

    #[test]
    fn the_rocks_engine_follows_the_model(
        groups in groups(), probes in prop::collection::vec(options(), 4), drop_every in 0usize..4,
    ) {
        let (groups, _) = resolve_all(&groups);
        let dir = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(dir.path(), RocksOptions::default()).unwrap();
        run(engine, &groups, &probes, drop_every, 1 << 20);
    }
}
