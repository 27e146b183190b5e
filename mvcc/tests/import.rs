//! A store made from the rows of another one's file is the store that applying the same history gives.

mod common;

use std::collections::BTreeMap;

use common::strategy::{TERM, groups, resolve};
use common::{Driver, Model, cases, everything};
use keelson_mvcc::*;
use proptest::prelude::*;

const APPLIED: LogPosition = LogPosition { term: TERM, leader: 0, index: 70 };

/// Imports what etcd's file of the model would hold.
fn import<E: KvEngine>(engine: E, model: &Model) -> Store<E> {
    let mut import = Import::new(engine, model.mark);
    model.leases.values().for_each(|lease| import.lease(lease));
    model.alarms.iter().for_each(|alarm| import.alarm(alarm));
    model.meta.iter().for_each(|(key, value)| import.fact(key, value));
    let changes: BTreeMap<_, _> =
        model.changes.iter().map(|change| ((change.revision, change.sub), change)).collect();
    for row in model.file_rows() {
        let kv = &changes[&row.place].kv;
        let put = (!row.tombstone).then_some(ImportedPut {
            value: &kv.value,
            create: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
        });
        import.row(&ImportedRow { main: row.place.0, sub: row.place.1, key: &kv.key, put }).unwrap();
    }
    import.finish(APPLIED, model.revision, StoreOptions::default()).unwrap()
}

/// What can be read from the mark on. (At the mark itself a file lacks what one transaction wrote twice.)
fn check<E: KvEngine>(view: &ReadView<E>, model: &Model) {
    assert_eq!((view.revision(), view.compacted()), (model.revision, model.mark));
    assert_eq!(view.key_count(), model.now().len() as u64);
    assert_eq!(view.alarms(), model.alarms.iter().copied().collect::<Vec<_>>());
    assert_eq!(view.meta_all().unwrap(), model.meta.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(view.leases().unwrap(), model.leases.values().copied().collect::<Vec<_>>());
    for id in model.leases.keys() {
        assert_eq!(view.lease_keys(*id).unwrap(), model.lease_keys(*id), "keys of lease {id}");
    }
    for revision in -1..=model.revision + 1 {
        let all = RangeOptions { range: everything(), revision, ..RangeOptions::default() };
        assert_eq!(view.range(&all), model.range(&all), "everything at {revision}");
    }
    for revision in model.mark.max(1)..=model.revision {
        assert_eq!(view.hash_kv(revision).unwrap().hash, model.hash_kv(revision), "hash at {revision}");
    }
    let mut rows = Vec::new();
    view.each_file_row(|key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    rows.sort();
    let expected: Vec<_> = model.file_rows().into_iter().map(|row| (row.key, row.value)).collect();
    assert_eq!(rows, expected);
    let found = view.events(model.mark, model.revision, usize::MAX).unwrap();
    let found: Vec<_> =
        found.iter().flat_map(|one| one.events.iter().map(|event| (one.revision, event))).collect();
    let expected = model.events(model.mark, model.revision).unwrap();
    assert_eq!(found.len(), expected.len());
    for ((revision, event), change) in found.iter().zip(&expected) {
        assert_eq!((*revision, event.sub, event.kind), (change.revision, change.sub, change.kind));
        assert_eq!((&event.kv, &event.prev), (&change.kv, &change.prev));
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn an_imported_history_is_the_history(before in groups(), after in groups()) {
        let mut model = Model::default();
        for mut command in before.into_iter().flatten().flatten() {
            resolve(&mut command, model.revision);
            model.apply(&command, TERM);
        }
        let engine = MemoryEngine::default();
        let store = import(engine.clone(), &model);
        check(store.view(), &model);
        drop(store);
        // It is durable, and goes on like any other.
        engine.crash();
        let mut driver = Driver::open(engine);
        prop_assert_eq!(driver.store.applied(), Some(APPLIED));
        check(driver.store.view(), &model);
        for mut command in after.into_iter().flatten().flatten() {
            resolve(&mut command, model.revision);
            prop_assert_eq!(driver.one(command.clone()), model.apply(&command, TERM), "{:?}", command);
        }
        driver.drop_dead_rows();
        check(driver.store.view(), &model);
    }
}

/// A row as a damaged or made-up file may hold it.
type Odd = (i64, u32, Vec<u8>, bool, i64, i64, i64);

proptest! {
    #![proptest_config(cases(200))]

    /// Whatever is taken can be read at every revision; whatever is not is refused.
    #[test]
    fn rows_that_contradict_each_other_never_panic(
        rows in prop::collection::vec(
            (0i64..12, 0u32..3, prop::collection::vec(0u8..3, 0..2), any::<bool>(), -1i64..14, -1i64..5, -1i64..3), 0..40
        ),
        mark in -1i64..14,
        sorted in any::<bool>(),
    ) {
        let mut rows: Vec<Odd> = rows;
        if sorted {
            rows.sort();
        }
        let mut import = Import::new(MemoryEngine::default(), mark);
        import.lease(&Lease { id: 1, ttl_s: 9, remaining_s: 0 });
        for (main, sub, key, deleted, create, version, lease) in &rows {
            let put = ImportedPut { value: b"v", create: *create, version: *version, lease: *lease };
            let row = ImportedRow { main: *main, sub: *sub, key, put: (!deleted).then_some(put) };
            let _ = import.row(&row);
        }
        let store = import.finish(APPLIED, 1, StoreOptions::default()).unwrap();
        let view = store.view();
        for revision in view.compacted().max(1)..=view.revision() {
            let all = RangeOptions { range: everything(), revision, ..RangeOptions::default() };
            prop_assert!(view.range(&all).is_ok());
            prop_assert!(view.hash_kv(revision).is_ok());
        }
        prop_assert!(view.events(view.compacted(), view.revision(), usize::MAX).is_ok());
        prop_assert!(view.lease_keys(1).is_ok());
    }
}

#[test]
fn changes_that_cannot_be_are_refused() {
    let put = ImportedPut { value: b"v", create: 2, version: 1, lease: 0 };
    let row = ImportedRow { main: 5, sub: 1, key: b"k", put: Some(put) };
    let refused = |row: ImportedRow<'_>| {
        let mut import = Import::new(MemoryEngine::default(), -1);
        import
            .row(&ImportedRow { main: 5, sub: 0, key: b"a", put: Some(ImportedPut { create: 5, ..put }) })
            .unwrap();
        import.row(&row).unwrap_err().to_string()
    };
    let order = refused(ImportedRow { sub: 0, ..row });
    assert!(order.contains("comes after revision 5, change 0"), "{order}");
    let of = |create, version| Some(ImportedPut { create, version, ..put });
    for (row, fault) in [
        (ImportedRow { key: b"", ..row }, "the key is empty"),
        (ImportedRow { put: of(6, 1), ..row }, "created at a revision"),
        (ImportedRow { put: of(-1, 1), ..row }, "created at a revision"),
        (ImportedRow { put: of(5, 0), ..row }, "version"),
        (ImportedRow { main: i64::MAX, ..row }, "no such revision"),
    ] {
        let error = refused(row);
        assert!(error.contains(fault), "{error}");
    }
    assert!(Import::new(MemoryEngine::default(), -1).row(&ImportedRow { main: 0, ..row }).is_err());
}
