//! A small model of the store: keys at one revision, and what an operation would answer and change there.
//!
//! Owns: [`State`]. Invariant: evaluating an operation never changes the state; only [`State::advance`] does.
//! Called by: the operation and watch validators.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::history::{
    Compare, CompareResult, CompareTarget, Delete, Event, EventKind, KeyRange, KeyValue, Operation, Put,
    Range, Response, Revision, Txn,
};

/// The keys at one revision.
#[derive(Clone, Debug, Default)]
pub struct State {
    keys: BTreeMap<Bytes, KeyValue>,
    /// Keys by lease, so that an expiry is checked without walking all keys.
    attached: BTreeMap<i64, std::collections::BTreeSet<Bytes>>,
}

/// What an operation would do at a state: its answer and its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The answer.
    pub response: Response,
    /// The changes, in order; empty if nothing changes and no revision is used.
    pub events: Vec<Event>,
}

impl State {
    /// A state that holds `initial`.
    pub fn new(initial: &[KeyValue]) -> Self {
        let mut state = Self::default();
        for kv in initial {
            state.insert(kv.clone());
        }
        state
    }

    /// The key-value of `key`, if present.
    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    /// All key-values in key order.
    pub fn iter(&self) -> impl Iterator<Item = &KeyValue> {
        self.keys.values()
    }

    /// Keys attached to a lease, in key order.
    pub fn attached(&self, lease: i64) -> impl Iterator<Item = &Bytes> {
        self.attached.get(&lease).into_iter().flatten()
    }

    /// Applies one event of the log; returns the key-value that was there before.
    pub fn advance(&mut self, event: &Event) -> Option<KeyValue> {
        match event.kind {
            EventKind::Put => self.insert(event.kv.clone()),
            EventKind::Delete => self.remove(&event.kv.key),
        }
    }

    fn insert(&mut self, kv: KeyValue) -> Option<KeyValue> {
        let before = self.remove(&kv.key);
        if kv.lease != 0 {
            self.attached.entry(kv.lease).or_default().insert(kv.key.clone());
        }
        self.keys.insert(kv.key.clone(), kv);
        before
    }

    fn remove(&mut self, key: &Bytes) -> Option<KeyValue> {
        let before = self.keys.remove(key)?;
        if before.lease != 0
            && let Some(keys) = self.attached.get_mut(&before.lease)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.attached.remove(&before.lease);
            }
        }
        Some(before)
    }

    /// The key-values of `range`, in key order.
    pub fn range<'a>(&'a self, range: &'a KeyRange) -> Box<dyn Iterator<Item = &'a KeyValue> + 'a> {
        if range.end.is_empty() {
            return Box::new(self.keys.get(&range.key).into_iter());
        }
        let open = &range.end[..] == b"\0";
        if !open && range.end <= range.key {
            return Box::new(std::iter::empty());
        }
        let end = if open { Bound::Unbounded } else { Bound::Excluded(range.end.clone()) };
        Box::new(self.keys.range::<Bytes, _>((Bound::Included(range.key.clone()), end)).map(|(_, kv)| kv))
    }

    /// What `operation` answers and changes at this state if it runs as revision `revision`.
    /// `None` for operations the model does not evaluate.
    pub fn evaluate(&self, operation: &Operation, revision: Revision) -> Option<Effect> {
        let mut run = Run { base: self, changed: BTreeMap::new(), revision, events: Vec::new() };
        let response = run.operation(operation)?;
        Some(Effect { response, events: run.events })
    }
}

/// The evaluation of one request: the state before it, overlaid with its own changes so far.
struct Run<'a> {
    base: &'a State,
    changed: BTreeMap<Bytes, Option<KeyValue>>,
    revision: Revision,
    events: Vec<Event>,
}

impl Run<'_> {
    fn operation(&mut self, operation: &Operation) -> Option<Response> {
        match operation {
            Operation::Put(put) => Some(self.put(put)),
            Operation::Delete(delete) => Some(self.delete(delete)),
            Operation::Range(range) => Some(self.read(range)),
            Operation::Txn(txn) => self.txn(txn),
            Operation::LeaseRevoke(lease) => {
                let keys: Vec<Bytes> = self.base.attached(*lease).cloned().collect();
                for key in keys {
                    self.delete_one(&key);
                }
                Some(Response::LeaseRevoke)
            }
            Operation::Other => None,
        }
    }

    fn get(&self, key: &Bytes) -> Option<&KeyValue> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.base.get(key),
        }
    }

    fn collect(&self, range: &KeyRange) -> Vec<KeyValue> {
        let mut found: BTreeMap<Bytes, KeyValue> =
            self.base.range(range).map(|kv| (kv.key.clone(), kv.clone())).collect();
        for (key, kv) in self.changed.iter().filter(|(key, _)| range.contains(key)) {
            match kv {
                Some(kv) => found.insert(key.clone(), kv.clone()),
                None => found.remove(key),
            };
        }
        found.into_values().collect()
    }

    fn put(&mut self, put: &Put) -> Response {
        let before = self.get(&put.key).cloned();
        let kv = KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: before.as_ref().map_or(self.revision, |kv| kv.create_revision),
            mod_revision: self.revision,
            version: before.as_ref().map_or(0, |kv| kv.version) + 1,
            lease: put.lease,
        };
        self.changed.insert(put.key.clone(), Some(kv.clone()));
        self.events.push(Event { kind: EventKind::Put, kv, prev: before.clone() });
        Response::Put { prev: before.filter(|_| put.prev_kv) }
    }

    fn delete_one(&mut self, key: &Bytes) {
        let before = self.get(key).cloned();
        self.changed.insert(key.clone(), None);
        let kv = KeyValue { key: key.clone(), mod_revision: self.revision, ..KeyValue::default() };
        self.events.push(Event { kind: EventKind::Delete, kv, prev: before });
    }

    fn delete(&mut self, delete: &Delete) -> Response {
        let found = self.collect(&delete.range);
        for kv in &found {
            self.delete_one(&kv.key);
        }
        Response::Delete { deleted: found.len(), prev: if delete.prev_kv { found } else { Vec::new() } }
    }

    fn read(&self, range: &Range) -> Response {
        let mut kvs = self.collect(&range.range);
        let count = kvs.len();
        let more = range.limit != 0 && count > range.limit;
        if more {
            kvs.truncate(range.limit);
        }
        Response::Range { kvs, more, count }
    }

    fn txn(&mut self, txn: &Txn) -> Option<Response> {
        // Every compare, nested ones included, looks at the state before the whole request.
        let succeeded = txn.compares.iter().all(|compare| holds(self.base, compare));
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let responses =
            branch.iter().map(|operation| self.operation(operation)).collect::<Option<Vec<_>>>()?;
        Some(Response::Txn { succeeded, responses })
    }
}

fn holds(state: &State, compare: &Compare) -> bool {
    let mut found = state.range(&compare.range).peekable();
    if found.peek().is_none() {
        return holds_for(&KeyValue::default(), false, compare);
    }
    found.all(|kv| holds_for(kv, true, compare))
}

fn holds_for(kv: &KeyValue, present: bool, compare: &Compare) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(version) => kv.version.cmp(version),
        CompareTarget::Create(revision) => kv.create_revision.cmp(revision),
        CompareTarget::Mod(revision) => kv.mod_revision.cmp(revision),
        CompareTarget::Lease(lease) => kv.lease.cmp(lease),
        CompareTarget::Value(_) if !present => return false,
        CompareTarget::Value(value) => kv.value.cmp(value),
    };
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::NotEqual => order.is_ne(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(keys: &[(&'static str, &'static str)]) -> State {
        let kvs: Vec<KeyValue> = keys
            .iter()
            .zip(2..)
            .map(|((key, value), revision)| KeyValue {
                key: Bytes::from(*key),
                value: Bytes::from(*value),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                lease: 0,
            })
            .collect();
        State::new(&kvs)
    }

    fn put(key: &'static str, value: &'static str) -> Operation {
        Operation::Put(Put { key: key.into(), value: value.into(), lease: 0, prev_kv: true })
    }

    #[test]
    fn overwriting_keeps_create_and_counts_versions() {
        let effect = state(&[("a", "1")]).evaluate(&put("a", "2"), 9).unwrap();
        let kv = &effect.events[0].kv;
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 9, 2));
        assert_eq!(effect.events[0].prev.as_ref().unwrap().value, "1");
    }

    #[test]
    fn later_operations_of_a_transaction_see_earlier_ones_but_compares_do_not() {
        let not_there = Compare {
            range: KeyRange::single("b"),
            target: CompareTarget::Version(0),
            result: CompareResult::Equal,
        };
        let nested =
            Operation::Txn(Txn { compares: vec![not_there], success: vec![put("c", "3")], failure: vec![] });
        let read = Operation::Range(Range { range: KeyRange::all(), limit: 2, revision: 0 });
        let txn = Operation::Txn(Txn { success: vec![put("b", "2"), nested, read], ..Txn::default() });
        let effect = state(&[("a", "1")]).evaluate(&txn, 5).unwrap();
        let Response::Txn { responses, .. } = effect.response else { panic!("not a transaction") };
        assert!(matches!(&responses[1], Response::Txn { succeeded: true, .. }));
        assert!(matches!(&responses[2], Response::Range { kvs, more: true, count: 3 } if kvs.len() == 2));
    }

    #[test]
    fn a_value_compare_on_a_missing_key_is_false_even_for_not_equal() {
        let compare = |target, result| Compare { range: KeyRange::single("x"), target, result };
        let empty = State::default();
        assert!(!holds(&empty, &compare(CompareTarget::Value("v".into()), CompareResult::NotEqual)));
        assert!(holds(&empty, &compare(CompareTarget::Mod(0), CompareResult::Equal)));
        assert!(holds(&empty, &compare(CompareTarget::Lease(1), CompareResult::Less)));
    }

    #[test]
    fn a_compare_over_a_range_must_hold_for_every_key() {
        let two = state(&[("a", "1"), ("b", "2")]);
        let compare = |end: &'static str| Compare {
            range: KeyRange { key: "a".into(), end: end.into() },
            target: CompareTarget::Value("1".into()),
            result: CompareResult::Equal,
        };
        assert!(holds(&two, &compare("b")));
        assert!(!holds(&two, &compare("\0")));
    }

    #[test]
    fn a_lease_deletes_its_keys_in_key_order() {
        let mut two = State::default();
        for key in ["b", "a"] {
            let kv = KeyValue {
                key: key.into(),
                lease: 7,
                version: 1,
                create_revision: 2,
                mod_revision: 2,
                ..KeyValue::default()
            };
            two.advance(&Event { kind: EventKind::Put, kv, prev: None });
        }
        let effect = two.evaluate(&Operation::LeaseRevoke(7), 3).unwrap();
        let keys: Vec<_> = effect.events.iter().map(|event| event.kv.key.clone()).collect();
        assert_eq!(keys, ["a", "b"]);
    }

    #[test]
    fn ranges_follow_the_encoding_of_the_end() {
        let three = state(&[("a", ""), ("b", ""), ("c", "")]);
        let count = |key: &'static str, end: &'static str| {
            three.range(&KeyRange { key: key.into(), end: end.into() }).count()
        };
        assert_eq!(
            (count("b", ""), count("b", "\0"), count("a", "c"), count("c", "a"), count("\0", "\0")),
            (1, 2, 2, 0, 3)
        );
    }
}
