//! Users, roles, permissions and logins: what applying them does, on both engines, and what of it is kept.
//!
//! The expectations are those of etcd 3.7; `tests/tests/auth_table` asks both for the same through the API.

use bytes::Bytes;
use keelson_mvcc::auth::Access;
use keelson_mvcc::{
    ApplyEntry, ApplyError, AuthCommand, AuthError, Caller, Command, DeleteRange, KeyRange, LogPosition,
    MemoryEngine, Outcome, Permission, Put, RangeOptions, Store, StoreOptions, Txn, TxnOp,
};

struct Fixture {
    engine: MemoryEngine,
    store: Store<MemoryEngine>,
    index: u64,
}

impl Fixture {
    fn new() -> Self {
        let engine = MemoryEngine::default();
        let store = Store::open(engine.clone(), StoreOptions::default()).unwrap();
        Fixture { engine, store, index: 0 }
    }

    fn apply(&mut self, command: Command) -> Result<Outcome, ApplyError> {
        let position = LogPosition { term: 1, leader: 1, index: self.index };
        self.index += 1;
        let entry = ApplyEntry::Commands { position, commands: vec![command] };
        let mut applied = self.store.apply(&[entry]).unwrap();
        applied.replies.pop().unwrap().pop().unwrap().outcome
    }

    fn auth(&mut self, command: AuthCommand) -> Result<u64, AuthError> {
        match self.apply(Command::Auth(command)) {
            Ok(Outcome::Auth { revision }) => Ok(revision),
            Err(ApplyError::Auth(error)) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn called(&mut self, user: &str, command: Command) -> Result<Outcome, ApplyError> {
        let auth_revision = self.store.view().auth().revision();
        let caller = Caller { user: user.to_owned(), auth_revision };
        self.apply(Command::As { caller, command: Box::new(command) })
    }

    /// `root`, and `alice` who may write `a` to `c` and read `b`.
    fn secured() -> Self {
        let mut fixture = Fixture::new();
        for (name, role) in [("root", "root"), ("alice", "some")] {
            fixture.auth(AuthCommand::RoleAdd { name: role.to_owned() }).unwrap();
            let password = Some(Bytes::from_static(b"hash"));
            fixture.auth(AuthCommand::UserAdd { name: name.to_owned(), password }).unwrap();
            let grant = AuthCommand::UserGrantRole { user: name.to_owned(), role: role.to_owned() };
            fixture.auth(grant).unwrap();
        }
        fixture.auth(grant("some", 1, "a", "d")).unwrap();
        fixture.auth(grant("some", 0, "b", "")).unwrap();
        fixture.auth(AuthCommand::Enable).unwrap();
        fixture
    }
}

fn range(key: &str, end: &str) -> KeyRange {
    KeyRange { key: Bytes::copy_from_slice(key.as_bytes()), end: Bytes::copy_from_slice(end.as_bytes()) }
}

fn grant(role: &str, kind: i32, key: &str, end: &str) -> AuthCommand {
    AuthCommand::RoleGrant {
        role: role.to_owned(),
        permission: Some(Permission { kind, range: range(key, end) }),
    }
}

fn put(key: &str) -> Put {
    Put { key: Bytes::copy_from_slice(key.as_bytes()), ..Put::default() }
}

const DENIED: ApplyError = ApplyError::Auth(AuthError::PermissionDenied);

#[test]
fn changes_count_and_errors_do_not() {
    let mut fixture = Fixture::new();
    let name = || "u".to_owned();
    assert_eq!(fixture.store.view().auth().revision(), 1);
    let add = AuthCommand::UserAdd { name: name(), password: None };
    assert_eq!(fixture.auth(add.clone()), Ok(2));
    assert_eq!(fixture.auth(add), Err(AuthError::UserExists));
    let nobody = AuthCommand::UserAdd { name: String::new(), password: None };
    assert_eq!(fixture.auth(nobody), Err(AuthError::UserEmpty));
    let grant_role = |role: &str| AuthCommand::UserGrantRole { user: name(), role: role.to_owned() };
    assert_eq!(fixture.auth(grant_role("r")), Err(AuthError::RoleNotFound));
    // The role root need not exist to be granted.
    assert_eq!(fixture.auth(grant_role("root")), Ok(3));
    assert_eq!(fixture.auth(grant_role("root")), Ok(3), "granting again changes nothing");
    assert_eq!(fixture.auth(AuthCommand::RoleAdd { name: "r".to_owned() }), Ok(4));
    assert_eq!(fixture.auth(AuthCommand::RoleAdd { name: "r".to_owned() }), Err(AuthError::RoleExists));
    assert_eq!(fixture.auth(AuthCommand::RoleAdd { name: String::new() }), Err(AuthError::RoleEmpty));
    assert_eq!(fixture.auth(grant("r", 0, "b", "a")), Err(AuthError::InvalidManagement));
    assert_eq!(fixture.auth(grant("r", 0, "", "")), Err(AuthError::InvalidManagement));
    assert_eq!(fixture.auth(grant("none", 0, "a", "b")), Err(AuthError::RoleNotFound));
    let nothing = AuthCommand::RoleGrant { role: "none".to_owned(), permission: None };
    assert_eq!(fixture.auth(nothing), Err(AuthError::PermissionNotGiven));
    assert_eq!(fixture.auth(grant("r", 0, "b", "\0")), Ok(5));
    assert_eq!(fixture.auth(grant("r", 1, "b", "\0")), Ok(6), "the same range again changes its kind");
    assert_eq!(fixture.auth(grant("r", 0, "a", "")), Ok(7));
    let kinds: Vec<i32> = fixture.store.view().auth().role("r").unwrap().iter().map(|p| p.kind).collect();
    assert_eq!(kinds, [0, 1], "sorted by key");
    let revoke = |end: &str| AuthCommand::RoleRevoke { role: "r".to_owned(), range: range("b", end) };
    assert_eq!(fixture.auth(revoke("c")), Err(AuthError::PermissionNotGranted));
    assert_eq!(fixture.auth(revoke("\0")), Ok(8));
    assert_eq!(fixture.auth(AuthCommand::Disable), Ok(8), "it is off already");
    assert_eq!(fixture.auth(AuthCommand::Enable), Err(AuthError::RootUserMissing));
}

#[test]
fn root_stays_root_while_authentication_is_on() {
    let mut fixture = Fixture::secured();
    let root = || "root".to_owned();
    for command in [
        AuthCommand::UserDelete { name: root() },
        AuthCommand::RoleDelete { name: root() },
        AuthCommand::UserRevokeRole { user: root(), role: root() },
    ] {
        let refused = Err(ApplyError::Auth(AuthError::InvalidManagement));
        assert_eq!(fixture.called("root", Command::Auth(command)), refused);
    }
    assert!(fixture.called("root", Command::Auth(AuthCommand::Disable)).is_ok());
    assert!(fixture.auth(AuthCommand::UserDelete { name: root() }).is_ok());
}

#[test]
fn every_part_of_a_write_needs_its_right() {
    let mut fixture = Fixture::secured();
    let empty = Err(ApplyError::Auth(AuthError::UserEmpty));
    assert_eq!(fixture.apply(Command::Put(put("a"))), empty, "a write without a caller is nobody's");
    assert_eq!(fixture.apply(Command::Auth(AuthCommand::Disable)), empty);
    let admin = Command::Auth(AuthCommand::Disable);
    assert_eq!(fixture.called("alice", admin.clone()), Err(DENIED));
    assert_eq!(fixture.called("gone", admin), Err(ApplyError::Auth(AuthError::UserNotFound)));
    assert_eq!(fixture.called("gone", Command::Put(put("a"))), Err(DENIED));
    assert!(fixture.called("alice", Command::Put(put("a"))).is_ok());
    assert!(fixture.called("root", Command::Put(put("z"))).is_ok());
    assert_eq!(fixture.called("alice", Command::Put(put("d"))), Err(DENIED));
    let with_previous = |key: &str| Command::Put(Put { prev_kv: true, ..put(key) });
    assert_eq!(fixture.called("alice", with_previous("a")), Err(DENIED));
    assert!(fixture.called("alice", with_previous("b")).is_ok());
    let delete = |end: &str, prev_kv: bool| DeleteRange { range: range("a", end), prev_kv };
    assert!(fixture.called("alice", Command::DeleteRange(delete("c", false))).is_ok());
    assert_eq!(fixture.called("alice", Command::DeleteRange(delete("c", true))), Err(DENIED));
    assert_eq!(fixture.called("alice", Command::DeleteRange(delete("\0", false))), Err(DENIED));

    let read = |key: &str| TxnOp::Range(RangeOptions { range: range(key, ""), ..RangeOptions::default() });
    let txn = |success: Vec<TxnOp>, failure: Vec<TxnOp>| Txn { success, failure, ..Txn::default() };
    let check = |fixture: &mut Fixture, txn: Txn, allowed: bool| {
        let outcome = fixture.called("alice", Command::Txn(txn.clone()));
        assert_eq!(outcome.is_ok(), allowed, "{txn:?} {outcome:?}");
    };
    check(&mut fixture, txn(vec![read("b"), TxnOp::Put(put("c"))], vec![]), true);
    // The branch that does not run counts as well, however deep.
    check(&mut fixture, txn(vec![TxnOp::Put(put("c"))], vec![read("a")]), false);
    check(&mut fixture, txn(vec![TxnOp::Txn(txn(vec![], vec![TxnOp::Put(put("d"))]))], vec![]), false);
    let compare = keelson_mvcc::Compare {
        range: range("a", ""),
        result: keelson_mvcc::CompareResult::Equal,
        target: keelson_mvcc::CompareTarget::Version(0),
    };
    check(&mut fixture, Txn { compare: vec![compare], ..Txn::default() }, false);
}

#[test]
fn a_lease_with_keys_of_others_is_out_of_reach() {
    let mut fixture = Fixture::secured();
    fixture.apply(Command::LeaseGrant { id: 7, ttl_s: 60 }).unwrap();
    let with_lease = |key: &str| Command::Put(Put { lease: 7, ..put(key) });
    assert!(fixture.called("alice", with_lease("a")).is_ok());
    let revoke = |term| Command::LeaseRevoke { id: 7, term };
    assert!(fixture.called("root", with_lease("z")).is_ok());
    assert_eq!(fixture.called("alice", with_lease("a")), Err(DENIED));
    assert_eq!(fixture.called("alice", revoke(None)), Err(DENIED));
    let nobody = ApplyError::Auth(AuthError::UserEmpty);
    assert_eq!(fixture.apply(revoke(None)), Err(nobody));
    // The leader's own, at expiry.
    assert!(fixture.apply(revoke(Some(1))).is_ok());
}

#[test]
fn a_caller_established_before_a_change_is_refused() {
    let mut fixture = Fixture::secured();
    let before = Caller { user: "alice".to_owned(), auth_revision: fixture.store.view().auth().revision() };
    let again = Command::As { caller: before, command: Box::new(Command::Put(put("a"))) };
    assert!(fixture.apply(again.clone()).is_ok());
    fixture.called("root", Command::Auth(AuthCommand::RoleAdd { name: "x".to_owned() })).unwrap();
    assert_eq!(fixture.apply(again), Err(ApplyError::Auth(AuthError::OldRevision)));
    let early = Caller { user: "alice".to_owned(), auth_revision: 0 };
    let command = Command::As { caller: early, command: Box::new(Command::Put(put("a"))) };
    assert_eq!(fixture.apply(command), Err(ApplyError::Auth(AuthError::UserEmpty)));
}

#[test]
fn rights_follow_the_roles() {
    let mut fixture = Fixture::secured();
    assert!(fixture.called("alice", Command::Put(put("a"))).is_ok());
    let revoke = AuthCommand::RoleRevoke { role: "some".to_owned(), range: range("a", "d") };
    fixture.called("root", Command::Auth(revoke)).unwrap();
    assert_eq!(fixture.called("alice", Command::Put(put("a"))), Err(DENIED));
    fixture.called("root", Command::Auth(grant("some", 2, "a", ""))).unwrap();
    assert!(fixture.called("alice", Command::Put(put("a"))).is_ok());
    fixture.called("root", Command::Auth(AuthCommand::RoleDelete { name: "some".to_owned() })).unwrap();
    assert_eq!(fixture.called("alice", Command::Put(put("a"))), Err(DENIED));
    assert!(fixture.store.view().auth().user("alice").unwrap().roles.is_empty());
}

#[test]
fn logins_end_with_the_password_they_were_made_with() {
    let mut fixture = Fixture::secured();
    let login = |fixture: &mut Fixture, user: &str, checked_revision: u64| {
        let (user, token) = (user.to_owned(), "prefix".to_owned());
        fixture.apply(Command::Auth(AuthCommand::Login { user, token, checked_revision }))
    };
    let revision = |fixture: &Fixture| fixture.store.view().auth().revision();
    let now = revision(&fixture);
    assert_eq!(login(&mut fixture, "alice", now - 1), Err(ApplyError::Auth(AuthError::OldRevision)));
    assert_eq!(login(&mut fixture, "nobody", now), Err(ApplyError::Auth(AuthError::LoginFailed)));
    let index = fixture.index;
    let token = format!("prefix.{index}");
    assert_eq!(login(&mut fixture, "alice", now), Ok(Outcome::Login { token }));
    let counts = |fixture: &Fixture, user: &str| fixture.store.view().auth().login_counts(user, now);
    assert!(counts(&fixture, "alice"));
    // A change of a role leaves logins alone; a change of the password does not.
    fixture.called("root", Command::Auth(AuthCommand::RoleAdd { name: "x".to_owned() })).unwrap();
    assert!(counts(&fixture, "alice"));
    let name = "alice".to_owned();
    let change = AuthCommand::UserSetPassword { name, password: Some(Bytes::from_static(b"other")) };
    fixture.called("root", Command::Auth(change)).unwrap();
    assert!(!counts(&fixture, "alice") && counts(&fixture, "root"));
    fixture.called("root", Command::Auth(AuthCommand::Disable)).unwrap();
    fixture.auth(AuthCommand::Enable).unwrap();
    assert!(!counts(&fixture, "root"), "switching off ends every login");
}

#[test]
fn everything_survives_reopening_and_travels_in_snapshots() {
    let mut fixture = Fixture::secured();
    let _ = fixture.called("root", Command::Auth(AuthCommand::UserAdd { name: "é".into(), password: None }));
    fixture.store.flush().unwrap();
    let chunks: Vec<Bytes> = fixture.store.snapshot().map(Result::unwrap).collect();
    let reopened = Store::open(fixture.engine.clone(), StoreOptions::default()).unwrap();
    let mut other = Store::open(MemoryEngine::default(), StoreOptions::default()).unwrap();
    other.install(chunks).unwrap();
    for store in [&reopened, &other] {
        let (found, expected) = (store.view().auth(), fixture.store.view().auth());
        assert!(found.is_enabled());
        assert_eq!(found.revision(), expected.revision());
        let users = |auth: &keelson_mvcc::auth::Auth| -> Vec<_> {
            let user = |(name, user): (&str, &keelson_mvcc::auth::User)| {
                (name.to_owned(), user.password.clone(), user.no_password, user.roles.clone(), user.since)
            };
            auth.users().map(user).collect()
        };
        assert_eq!(users(found), users(expected));
        assert_eq!(users(found).len(), 3);
        assert_eq!(found.role("some"), expected.role("some"));
        let alice = Caller { user: "alice".to_owned(), auth_revision: found.revision() };
        assert_eq!(found.check(Some(&alice), Access::Write, &range("a", "d")), Ok(()));
        assert!(found.check(Some(&alice), Access::Read, &range("a", "d")).is_err());
    }
    assert_eq!(reopened.view().hash().unwrap(), other.view().hash().unwrap());
}
