//! Random operations: every request, every option, valid and invalid, weighted so that most reach the store.
//!
//! Owns: the choice. Invariant: the list is a function of the seed, the profile and the length alone.
//! Called by: the differential suite.

use bytes::Bytes;

use super::op::{
    Auth, Compare, Delete, LeaseRef, Op, Operand, Put, Range, Request, Rev, Txn, Value, WatchCreate, Whose,
};
use crate::random::Random;

/// What a run concentrates on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Key-value requests, leases, watches, maintenance; authentication stays off.
    Store,
    /// Like `Store`, with users, roles, tokens and permissions.
    Auth,
}

/// Limits the servers are started with, small enough that ordinary operations cross them.
pub const TXN_OPS_MAX: usize = 8;
/// Limit of a request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 8192;
/// Lease ids that the generator chooses.
const LEASES: [i64; 6] = [1, 2, 7, 77, 4_000_000_000, i64::MAX];
/// Slots of leases whose id the server chooses; those are never attached to keys, so that hashes stay comparable.
const CHOSEN_SLOTS: usize = 3;
/// Streams 0..3 hold watchers of the past and the present, the others one watcher of the future each.
const STREAMS: usize = 3;
const FUTURE_STREAMS: usize = 4;

/// Generates one run.
pub struct Generator {
    random: Random,
    values: u32,
    futures: usize,
    /// See `put_in_txn`.
    open_deletes: bool,
    /// Whether requests may end before they begin. With authentication on, what such a request needs depends on the shape
    /// of the tree etcd keeps permissions in: it may be refused where a request for more is not.
    backwards: bool,
}

/// The operations of a run.
pub fn generate(seed: u64, profile: Profile, count: usize) -> Vec<Op> {
    let mut generator = Generator {
        random: Random::new(seed),
        values: 0,
        futures: 0,
        open_deletes: false,
        backwards: profile != Profile::Auth,
    };
    let mut ops = Vec::with_capacity(count + 2);
    while ops.len() < count {
        // Random requests alone rarely get authentication going, and often lose it again: set it up now and then.
        if profile == Profile::Auth && ops.len() % 400 == 0 {
            generator.set_up_auth(&mut ops);
        }
        generator.step(profile, &mut ops);
    }
    ops.push(Op::Drain);
    ops.push(Op::HashKv(Rev::Unset));
    ops
}

impl Generator {
    fn step(&mut self, profile: Profile, ops: &mut Vec<Op>) {
        if profile == Profile::Auth && self.random.percent(35) {
            let auth = self.auth();
            ops.push(Op::Auth(auth));
            return;
        }
        let op = match self.random.weighted(&[30, 10, 25, 14, 4, 6, 2, 3, 3, 1, 1]) {
            0 => Op::Kv(Request::Put(self.put())),
            1 => Op::Kv(Request::Delete(self.delete())),
            2 => Op::Kv(Request::Range(self.range(true))),
            3 => Op::Kv(Request::Txn(self.txn(0))),
            4 => {
                let mut range = self.range(true);
                if range.sort_order == 0 {
                    // etcd lets a target without an order through and then sorts each chunk by it, but goes on after the
                    // chunk's last key: beyond one chunk it repeats and skips keys. Nothing to hold a server to.
                    range.sort_target = 0;
                }
                Op::RangeStream(range)
            }
            5 => self.lease(),
            6 => {
                // Cancellations for compaction arrive whenever they do; with everyone in step there are none by surprise.
                ops.push(Op::Drain);
                self.compact()
            }
            7 => self.watch(),
            8 => self.maintain(),
            9 => {
                ops.push(Op::Drain);
                Op::WatchCancel { stream: self.random.below(STREAMS), watch_id: self.random.between(0, 6) }
            }
            _ => Op::Drain,
        };
        if let Op::Alarm { action: 1, .. } = op {
            self.alarmed(op, ops);
            return;
        }
        ops.push(op);
    }

    /// An alarm, a few operations under it, and its end.
    fn alarmed(&mut self, raise: Op, ops: &mut Vec<Op>) {
        ops.push(raise);
        for _ in 0..self.random.below(6) {
            let op = match self.random.below(6) {
                0 => Op::Kv(Request::Put(self.put())),
                1 => Op::Kv(Request::Txn(self.txn(0))),
                2 => Op::Kv(Request::Delete(self.delete())),
                3 => self.lease(),
                4 => Op::Status,
                _ => Op::Alarm { action: 0, member: Whose::Exact(0), alarm: 0 },
            };
            ops.push(op);
        }
        for alarm in 1..=2 {
            for member in [Whose::Own, Whose::Exact(0), Whose::Exact(5)] {
                ops.push(Op::Alarm { action: 2, member, alarm });
            }
        }
    }

    fn key(&mut self) -> Bytes {
        const KEYS: [&[u8]; 16] = [
            b"a",
            b"a/1",
            b"a/2",
            b"a/3",
            b"b",
            b"b\0",
            b"c",
            b"c/x",
            b"d",
            b"foo",
            b"foo/bar",
            b"z",
            b"\0",
            b"\xff",
            b"\xff\xff",
            b"\x80key",
        ];
        if self.random.percent(1) {
            return Bytes::new();
        }
        Bytes::from_static(KEYS[self.random.below(KEYS.len())])
    }

    fn range_end(&mut self, key: &Bytes) -> Bytes {
        let end = self.any_range_end(key);
        let backwards = !end.is_empty() && end[..] != *b"\0" && end <= *key;
        if backwards && !self.backwards { Bytes::new() } else { end }
    }

    /// One end for each key, or one that is refused. Of several permissions of one key etcd changes the first, and in a
    /// role of more than twelve its sort leaves open which that is; `traps` covers small ones.
    fn permission_end(&mut self, key: &Bytes) -> Bytes {
        let any = self.any_range_end(key);
        if !any.is_empty() && any[..] != *b"\0" && any <= *key {
            return any;
        }
        match key.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 3 {
            // As `set_up_auth` has them.
            _ if key[..] == *b"a" => Bytes::from_static(b"d"),
            _ if key[..] == *b"\0" => Bytes::from_static(b"\0"),
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            _ => prefix_end(key),
        }
    }

    fn any_range_end(&mut self, key: &Bytes) -> Bytes {
        match self.random.weighted(&[40, 15, 25, 20]) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            2 => prefix_end(key),
            _ => self.key(),
        }
    }

    fn value(&mut self) -> Value {
        self.values += 1;
        // Few texts, so that values are often equal.
        let text = format!("v{}", self.values % 7);
        let length = match self.random.weighted(&[90, 6, 3, 1]) {
            0 => 0,
            1 => 300,
            2 => 5_000,
            // Not at the limit itself: etcd measures the encoded entry, whose size varies with its random request id.
            _ => *self.random.pick(&[REQUEST_BYTES_MAX - 500, REQUEST_BYTES_MAX + 1, REQUEST_BYTES_MAX * 2]),
        };
        if self.random.percent(2) { Value { text: String::new(), length: 0 } } else { Value { text, length } }
    }

    fn attachable(&mut self) -> LeaseRef {
        match self.random.weighted(&[70, 27, 3]) {
            0 => LeaseRef::None,
            1 => LeaseRef::Numbered(*self.random.pick(&LEASES)),
            _ => LeaseRef::Numbered(*self.random.pick(&[-1, 12345, i64::MIN])),
        }
    }

    fn any_lease(&mut self) -> LeaseRef {
        match self.random.weighted(&[70, 25, 5]) {
            0 => LeaseRef::Numbered(*self.random.pick(&LEASES)),
            1 => LeaseRef::Chosen(self.random.below(CHOSEN_SLOTS)),
            _ => LeaseRef::Numbered(*self.random.pick(&[0, -1, 12345])),
        }
    }

    fn put(&mut self) -> Put {
        let ignore_value = self.random.percent(5);
        let ignore_lease = self.random.percent(5);
        let mut value = self.value();
        if ignore_value && self.random.percent(80) {
            value = Value { text: String::new(), length: 0 };
        }
        let lease = if ignore_lease && self.random.percent(80) { LeaseRef::None } else { self.attachable() };
        Put { key: self.key(), value, lease, prev_kv: self.random.percent(30), ignore_value, ignore_lease }
    }

    fn delete(&mut self) -> Delete {
        let key = self.key();
        let range_end = if self.random.percent(70) { Bytes::new() } else { self.range_end(&key) };
        Delete { key, range_end, prev_kv: self.random.percent(40) }
    }

    fn rev(&mut self) -> Rev {
        match self.random.weighted(&[40, 20, 8, 8, 6, 6, 6, 6]) {
            0 => Rev::Current(-self.random.between(0, 12)),
            1 => Rev::Current(-self.random.between(0, 300)),
            2 => Rev::Current(0),
            3 => Rev::Current(self.random.between(1, 3)),
            4 => Rev::Compacted(0),
            5 => Rev::Compacted(self.random.between(-2, 2)),
            6 => Rev::Exact(*self.random.pick(&[-1, -100, i64::MIN, i64::MAX])),
            _ => Rev::Exact(self.random.between(0, 3)),
        }
    }

    fn range(&mut self, alone: bool) -> Range {
        let key = self.key();
        let range_end = self.range_end(&key);
        let mut range = Range::plain(key, range_end);
        if self.random.percent(30) {
            range.limit = *self.random.pick(&[1, 2, 3, 10, -1, 1000]);
        }
        if self.random.percent(30) {
            range.revision = self.rev();
        }
        if self.random.percent(30) {
            range.sort_order = *self.random.pick(&[0, 1, 2, 1, 2, 1, 2, 3, -1]);
            range.sort_target = *self.random.pick(&[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, -1]);
        }
        range.serializable = self.random.percent(20);
        range.keys_only = self.random.percent(15);
        range.count_only = self.random.percent(10);
        if self.random.percent(12) {
            for bound in &mut range.bounds {
                if self.random.percent(40) {
                    *bound = Rev::Current(-self.random.between(-1, 40));
                }
            }
        }
        // Inside a transaction an unknown sort is as invalid as alone; keep those rare, they end the whole request.
        if !alone && self.random.percent(90) {
            range.sort_order = range.sort_order.clamp(0, 2);
            range.sort_target = range.sort_target.clamp(0, 4);
        }
        if !alone && self.random.percent(80) {
            range.revision = Rev::Unset;
        }
        range
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let range_end = if self.random.percent(80) { Bytes::new() } else { self.range_end(&key) };
        let operand = match self.random.weighted(&[20, 20, 20, 20, 10, 2]) {
            0 => Operand::Version(self.random.between(0, 3)),
            1 => Operand::Create(self.small_rev()),
            2 => Operand::Mod(self.small_rev()),
            3 => Operand::Value(Value { text: format!("v{}", self.random.below(7)), length: 0 }),
            4 => Operand::Lease(self.attachable()),
            _ => Operand::Unset,
        };
        let fitting = match operand {
            Operand::Version(_) | Operand::Unset => 0,
            Operand::Create(_) => 1,
            Operand::Mod(_) => 2,
            Operand::Value(_) => 3,
            Operand::Lease(_) => 4,
        };
        let target =
            if self.random.percent(97) { fitting } else { *self.random.pick(&[0, 1, 2, 3, 4, 5, -1]) };
        let result =
            if self.random.percent(98) { self.random.below(4) as i32 } else { *self.random.pick(&[4, -1]) };
        Compare { result, target, key, range_end, operand }
    }

    fn small_rev(&mut self) -> Rev {
        if self.random.percent(30) { Rev::Exact(0) } else { Rev::Current(-self.random.between(-1, 20)) }
    }

    fn txn(&mut self, depth: usize) -> Txn {
        let compare = (0..self.random.weighted(&[30, 50, 15, 5])).map(|_| self.compare()).collect();
        let oversized = depth == 0 && self.random.percent(2);
        if depth == 0 {
            self.open_deletes = self.random.percent(20);
        }
        let branch = |generator: &mut Self| -> Vec<Request> {
            let count =
                if oversized { TXN_OPS_MAX + generator.random.below(2) } else { generator.random.below(5) };
            (0..count).map(|_| generator.request(depth)).collect()
        };
        let success = branch(self);
        let failure = branch(self);
        Txn { compare, success, failure }
    }

    // Real etcd 3.7.3 does not see that a delete up to "\0" (everything from the key on) meets a put of the same
    // transaction, and lets both through. Then it panics in apply if the put ignores value or lease, because the key is gone
    // by then; and a compaction at exactly that revision loses the key and ends the server at the next read of it. So a
    // transaction has either open deletes or puts. `bad_input` covers both cases.

    fn put_in_txn(&mut self) -> Request {
        if self.open_deletes {
            return Request::Range(self.range(false));
        }
        Request::Put(self.put())
    }

    fn delete_in_txn(&mut self) -> Delete {
        let mut delete = self.delete();
        if !self.open_deletes && &delete.range_end[..] == b"\0" {
            delete.range_end = Bytes::new();
        }
        delete
    }

    fn request(&mut self, depth: usize) -> Request {
        let nested = if depth < 3 { 8 } else { 0 };
        match self.random.weighted(&[40, 18, 34, nested, 1]) {
            0 => self.put_in_txn(),
            1 => Request::Delete(self.delete_in_txn()),
            2 => Request::Range(self.range(false)),
            3 => Request::Txn(self.txn(depth + 1)),
            _ => Request::Unset,
        }
    }

    fn lease(&mut self) -> Op {
        match self.random.weighted(&[40, 15, 15, 20, 10]) {
            0 => {
                let ttl = *self.random.pick(&[
                    10_000,
                    20_000,
                    3_600,
                    9_000_000_000,
                    9_000_000_001,
                    i64::MAX,
                    10_000,
                    20_000,
                ]);
                let id = if self.random.percent(20) {
                    0
                } else if self.random.percent(2) {
                    -5
                } else {
                    *self.random.pick(&LEASES)
                };
                Op::Grant { id, slot: self.random.below(CHOSEN_SLOTS), ttl }
            }
            1 => Op::Revoke(self.any_lease()),
            2 => Op::KeepAlive(self.any_lease()),
            3 => Op::TimeToLive { lease: self.any_lease(), keys: self.random.percent(60) },
            _ => Op::Leases,
        }
    }

    fn compact(&mut self) -> Op {
        let revision = match self.random.weighted(&[40, 20, 10, 10, 10, 10]) {
            0 => Rev::Current(-self.random.between(0, 60)),
            1 => Rev::Current(0),
            2 => Rev::Compacted(self.random.between(-1, 1)),
            3 => Rev::Current(self.random.between(1, 2)),
            4 => Rev::Exact(*self.random.pick(&[0, -1, i64::MAX])),
            _ => Rev::Compacted(self.random.between(1, 20)),
        };
        Op::Compact { revision, physical: self.random.percent(30) }
    }

    fn watch(&mut self) -> Op {
        let key = self.key();
        let range_end = self.range_end(&key);
        let mut start_revision = match self.random.weighted(&[50, 25, 10, 5, 5]) {
            0 => Rev::Unset,
            1 => Rev::Current(-self.random.between(-1, 60)),
            2 => Rev::Compacted(self.random.between(-1, 2)),
            3 => Rev::Exact(*self.random.pick(&[-1, -5, 1, 2])),
            _ => Rev::Current(self.random.between(2, 40)),
        };
        let mut stream = self.random.below(STREAMS);
        if let Rev::Current(2..) = start_revision {
            // One watcher of the future per stream: it keeps the whole stream from being drained until then.
            if self.futures < FUTURE_STREAMS {
                stream = STREAMS + self.futures;
                self.futures += 1;
            } else {
                start_revision = Rev::Unset;
            }
        }
        let watch_id = if self.random.percent(30) { self.random.between(1, 12) } else { 0 };
        let filters = match self.random.weighted(&[80, 8, 8, 2, 2]) {
            0 => vec![],
            1 => vec![0],
            2 => vec![1],
            3 => vec![0, 1],
            _ => vec![9],
        };
        Op::Watch(WatchCreate {
            stream,
            watch_id,
            key,
            range_end,
            start_revision,
            prev_kv: self.random.percent(50),
            progress_notify: self.random.percent(20),
            fragment: self.random.percent(30),
            filters,
        })
    }

    fn maintain(&mut self) -> Op {
        match self.random.weighted(&[25, 15, 20, 10, 29, 1]) {
            0 => Op::MemberList { linearizable: self.random.percent(50) },
            1 => Op::Status,
            2 => Op::Alarm {
                // An action outside the enum makes real etcd 3.7.3 dereference nil and exit; `bad_input` covers it.
                action: *self.random.pick(&[0, 0, 2, 1]),
                member: *self.random.pick(&[Whose::Own, Whose::Exact(0), Whose::Exact(5)]),
                alarm: *self.random.pick(&[0, 1, 1, 2]),
            },
            3 => Op::HashKv(Rev::Unset),
            4 => Op::HashKv(self.rev()),
            _ => Op::Defragment,
        }
    }

    /// The requests of an administrator who turns authentication on, from whatever state the run is in.
    fn set_up_auth(&mut self, ops: &mut Vec<Op>) {
        let everything = || (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        let steps = [
            Auth::Login("root", "one"),
            Auth::RoleAdd("root"),
            Auth::RoleAdd("reader"),
            Auth::RoleAdd("writer"),
            Auth::UserAdd("root", "one", false),
            Auth::UserAdd("alice", "one", false),
            Auth::UserAdd("bob", "two", false),
            Auth::UserGrantRole("root", "root"),
            Auth::UserGrantRole("alice", "reader"),
            Auth::UserGrantRole("bob", "writer"),
            Auth::RoleGrant("reader", 0, Bytes::from_static(b"a"), Bytes::from_static(b"d")),
            Auth::RoleGrant("writer", 2, everything().0, everything().1),
            Auth::Enable,
            Auth::Login(if self.random.percent(50) { "root" } else { "alice" }, "one"),
        ];
        ops.extend(steps.map(Op::Auth));
    }

    fn auth(&mut self) -> Auth {
        const USERS: [&str; 4] = ["root", "alice", "bob", ""];
        const ROLES: [&str; 4] = ["root", "reader", "writer", ""];
        const PASSWORDS: [&str; 3] = ["one", "two", ""];
        let user = *self.random.pick(&USERS);
        let role = *self.random.pick(&ROLES);
        let fitting = if user == "bob" { "two" } else { "one" };
        let password = if self.random.percent(75) { fitting } else { *self.random.pick(&PASSWORDS) };
        match self.random.weighted(&[3, 6, 1, 24, 2, 1, 6, 4, 3, 1, 2, 8, 2, 6, 4, 3, 1, 8, 3]) {
            0 => Auth::Status,
            1 => Auth::Enable,
            2 => Auth::Disable,
            3 => Auth::Login(user, password),
            4 => Auth::Logout,
            5 => Auth::BadToken,
            6 => Auth::UserAdd(user, password, self.random.percent(10)),
            7 => Auth::UserGet(user),
            8 => Auth::UserList,
            9 => Auth::UserDelete(user),
            10 => Auth::UserChangePassword(user, password),
            11 => Auth::UserGrantRole(user, role),
            12 => Auth::UserRevokeRole(user, role),
            13 => Auth::RoleAdd(role),
            14 => Auth::RoleGet(role),
            15 => Auth::RoleList,
            16 => Auth::RoleDelete(role),
            17 => {
                let key = self.key();
                let range_end = self.permission_end(&key);
                Auth::RoleGrant(role, *self.random.pick(&[0, 1, 2, 2, 2, 7]), key, range_end)
            }
            _ => {
                let key = self.key();
                let range_end = self.permission_end(&key);
                Auth::RoleRevoke(role, key, range_end)
            }
        }
    }
}

/// The end of the range of all keys with this prefix.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_run() {
        let text = |seed| format!("{:?}", generate(seed, Profile::Store, 300));
        assert_eq!(text(5), text(5));
        assert_ne!(text(5), text(6));
    }

    #[test]
    fn a_run_contains_every_kind_of_operation() {
        let text = format!("{:?}", generate(1, Profile::Store, 50_000));
        for kind in [
            "Put(",
            "Delete(",
            "Txn(",
            "RangeStream",
            "Compact",
            "Grant",
            "Revoke",
            "KeepAlive",
            "TimeToLive",
            "Leases",
            "Watch(",
            "WatchCancel",
            "Drain",
            "MemberList",
            "Status",
            "Alarm",
            "HashKv",
            "Defragment",
            "Unset",
        ] {
            assert!(text.contains(kind), "{kind}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_drops_trailing_highest_bytes() {
        assert_eq!(prefix_end(b"ab"), "ac");
        assert_eq!(&prefix_end(b"a\xff")[..], b"b");
        assert_eq!(&prefix_end(b"\xff")[..], b"\0");
    }
}
