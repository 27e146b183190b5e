//! The operations of a differential run, in a form that stays meaningful when operations before it are removed.
//!
//! Owns: symbolic revisions and leases, and the translation into requests. Called by: the generator and the session.

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;

/// What both sessions know about the run: the same on both sides, since they run in lockstep.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The store's revision after the last answer.
    pub current: i64,
    /// The last compaction, or -1.
    pub compacted: i64,
}

impl View {
    /// A fresh store.
    pub const FRESH: View = View { current: 1, compacted: -1 };
}

/// A revision, relative to the state of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rev {
    /// Field not set.
    Unset,
    /// The current revision plus this.
    Current(i64),
    /// The compaction revision plus this.
    Compacted(i64),
    /// This number.
    Exact(i64),
}

impl Rev {
    /// The number to send as a compaction. Never 0: real etcd takes that on a fresh store, and from then on answers
    /// HashKV of the current revision (asked for as 0) with the hash it remembers of revision 0.
    pub fn resolve_compaction(self, view: View) -> i64 {
        match self.resolve(view) {
            0 => 1,
            revision => revision,
        }
    }

    /// The number to send.
    pub fn resolve(self, view: View) -> i64 {
        match self {
            Self::Unset => 0,
            Self::Current(delta) => view.current + delta,
            Self::Compacted(delta) => view.compacted + delta,
            Self::Exact(revision) => revision,
        }
    }
}

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseRef {
    /// Field not set.
    None,
    /// A lease granted under an id that the client chose: the same on both servers.
    Numbered(i64),
    /// The lease of a slot, whose id the server chose: different on the two servers.
    Chosen(usize),
}

/// A value: a short text, filled up to a length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The text.
    pub text: String,
    /// Length in bytes, if longer than the text.
    pub length: usize,
}

impl Value {
    /// The bytes to send.
    pub fn bytes(&self) -> Bytes {
        let mut bytes = self.text.clone().into_bytes();
        bytes.resize(self.length.max(bytes.len()), b'.');
        Bytes::from(bytes)
    }
}

/// A put.
#[derive(Clone, Debug)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Value,
    /// The lease.
    pub lease: LeaseRef,
    /// Field of the same name.
    pub prev_kv: bool,
    /// Field of the same name.
    pub ignore_value: bool,
    /// Field of the same name.
    pub ignore_lease: bool,
}

/// A deletion.
#[derive(Clone, Debug)]
pub struct Delete {
    /// The key.
    pub key: Bytes,
    /// Field of the same name.
    pub range_end: Bytes,
    /// Field of the same name.
    pub prev_kv: bool,
}

/// A range read.
#[derive(Clone, Debug)]
pub struct Range {
    /// The key.
    pub key: Bytes,
    /// Field of the same name.
    pub range_end: Bytes,
    /// Field of the same name.
    pub limit: i64,
    /// Field of the same name.
    pub revision: Rev,
    /// Field of the same name, also outside the enum.
    pub sort_order: i32,
    /// Field of the same name, also outside the enum.
    pub sort_target: i32,
    /// Field of the same name.
    pub serializable: bool,
    /// Field of the same name.
    pub keys_only: bool,
    /// Field of the same name.
    pub count_only: bool,
    /// Bounds: min and max mod revision, min and max create revision.
    pub bounds: [Rev; 4],
}

impl Range {
    /// A plain read of one key or range.
    pub fn plain(key: impl Into<Bytes>, range_end: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            range_end: range_end.into(),
            limit: 0,
            revision: Rev::Unset,
            sort_order: 0,
            sort_target: 0,
            serializable: false,
            keys_only: false,
            count_only: false,
            bounds: [Rev::Unset; 4],
        }
    }

    /// Whether equal sort keys leave the order open.
    pub fn has_ties(&self) -> bool {
        self.sort_target != 0
    }
}

/// What a compare carries.
#[derive(Clone, Debug)]
pub enum Operand {
    /// Field not set.
    Unset,
    /// `version`.
    Version(i64),
    /// `create_revision`.
    Create(Rev),
    /// `mod_revision`.
    Mod(Rev),
    /// `value`.
    Value(Value),
    /// `lease`.
    Lease(LeaseRef),
}

/// One condition.
#[derive(Clone, Debug)]
pub struct Compare {
    /// Field of the same name, also outside the enum.
    pub result: i32,
    /// Field of the same name, also outside the enum or not fitting the operand.
    pub target: i32,
    /// Field of the same name.
    pub key: Bytes,
    /// Field of the same name.
    pub range_end: Bytes,
    /// The operand.
    pub operand: Operand,
}

/// A transaction.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// Conditions.
    pub compare: Vec<Compare>,
    /// Run if they hold.
    pub success: Vec<Request>,
    /// Run otherwise.
    pub failure: Vec<Request>,
}

/// A key-value request, alone or inside a transaction.
#[derive(Clone, Debug)]
pub enum Request {
    /// A put.
    Put(Put),
    /// A deletion.
    Delete(Delete),
    /// A read.
    Range(Range),
    /// A transaction.
    Txn(Txn),
    /// A `RequestOp` whose oneof is not set; only inside a transaction.
    Unset,
}

/// A watch to be created.
#[derive(Clone, Debug)]
pub struct WatchCreate {
    /// Which of the session's streams.
    pub stream: usize,
    /// Field of the same name; 0 lets the server choose.
    pub watch_id: i64,
    /// Field of the same name.
    pub key: Bytes,
    /// Field of the same name.
    pub range_end: Bytes,
    /// Field of the same name.
    pub start_revision: Rev,
    /// Field of the same name.
    pub prev_kv: bool,
    /// Field of the same name.
    pub progress_notify: bool,
    /// Field of the same name.
    pub fragment: bool,
    /// Field of the same name, also outside the enum.
    pub filters: Vec<i32>,
}

/// Whose alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The member asked.
    Own,
    /// This id.
    Exact(u64),
}

/// One step of a run.
#[derive(Clone, Debug)]
pub enum Op {
    /// A key-value request.
    Kv(Request),
    /// A streamed range.
    RangeStream(Range),
    /// A compaction.
    Compact {
        /// Up to where.
        revision: Rev,
        /// Field of the same name.
        physical: bool,
    },
    /// A lease with an id the client chooses, or 0 and then remembered in the slot.
    Grant {
        /// The id.
        id: i64,
        /// The slot that remembers a server's choice.
        slot: usize,
        /// Field of the same name, in seconds.
        ttl: i64,
    },
    /// Revokes a lease.
    Revoke(LeaseRef),
    /// One keep-alive on a stream of its own.
    KeepAlive(LeaseRef),
    /// The time left.
    TimeToLive {
        /// The lease.
        lease: LeaseRef,
        /// Whether to list keys.
        keys: bool,
    },
    /// All leases.
    Leases,
    /// Creates a watcher and waits for the confirmation.
    Watch(WatchCreate),
    /// Cancels a watcher.
    WatchCancel {
        /// Which stream.
        stream: usize,
        /// Which watcher; an id the client chose, or a small one the server chose.
        watch_id: i64,
    },
    /// Waits until everything written so far has reached every watcher, and compares what they got.
    Drain,
    /// The members.
    MemberList {
        /// Field of the same name.
        linearizable: bool,
    },
    /// The status of the member.
    Status,
    /// An alarm request.
    Alarm {
        /// Field of the same name, also outside the enum.
        action: i32,
        /// Field of the same name.
        member: Whose,
        /// Field of the same name, also outside the enum.
        alarm: i32,
    },
    /// The hash of the keys.
    HashKv(Rev),
    /// Defragments.
    Defragment,
    /// An authentication request, by name and arguments (see the session).
    Auth(Auth),
}

/// Requests of the authentication service.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Whether authentication is on.
    Status,
    /// Turns it on.
    Enable,
    /// Turns it off.
    Disable,
    /// Asks for a token and uses it from now on.
    Login(&'static str, &'static str),
    /// Drops the token.
    Logout,
    /// Uses a token that nobody issued.
    BadToken,
    /// Adds a user.
    UserAdd(&'static str, &'static str, bool),
    /// Shows a user.
    UserGet(&'static str),
    /// Lists users.
    UserList,
    /// Deletes a user.
    UserDelete(&'static str),
    /// Changes a password.
    UserChangePassword(&'static str, &'static str),
    /// Gives a user a role.
    UserGrantRole(&'static str, &'static str),
    /// Takes a role from a user.
    UserRevokeRole(&'static str, &'static str),
    /// Adds a role.
    RoleAdd(&'static str),
    /// Shows a role.
    RoleGet(&'static str),
    /// Lists roles.
    RoleList,
    /// Deletes a role.
    RoleDelete(&'static str),
    /// Gives a role a permission: kind, key, range end.
    RoleGrant(&'static str, i32, Bytes, Bytes),
    /// Takes a permission from a role.
    RoleRevoke(&'static str, Bytes, Bytes),
}

impl Op {
    /// The same operation with its revisions named relative to the compaction instead of the present, where there has been
    /// one: writes before it can then be removed without moving what it reads.
    pub fn rebased(&self, view: View) -> Self {
        let mut op = self.clone();
        if view.compacted > 0 {
            match &mut op {
                Self::Kv(request) => request.rebase(view),
                Self::RangeStream(range) => range.rebase(view),
                Self::Compact { revision, .. } | Self::HashKv(revision) => revision.rebase(view),
                Self::Watch(create) => create.start_revision.rebase(view),
                _ => {}
            }
        }
        op
    }
}

impl Rev {
    fn rebase(&mut self, view: View) {
        if let Self::Current(delta) = self
            && *delta < 0
        {
            *self = Self::Compacted(view.current + *delta - view.compacted);
        }
    }
}

impl Range {
    fn rebase(&mut self, view: View) {
        self.revision.rebase(view);
        self.bounds.iter_mut().for_each(|bound| bound.rebase(view));
    }
}

impl Request {
    fn rebase(&mut self, view: View) {
        match self {
            Self::Range(range) => range.rebase(view),
            Self::Txn(txn) => {
                txn.success.iter_mut().chain(&mut txn.failure).for_each(|request| request.rebase(view))
            }
            Self::Put(_) | Self::Delete(_) | Self::Unset => {}
        }
    }
}

/// Translates leases and revisions of one side.
pub trait Resolve {
    /// The id of a lease on this server.
    fn lease(&self, lease: LeaseRef) -> i64;
    /// The state of the run.
    fn view(&self) -> View;
}

impl Put {
    /// The request.
    pub fn build(&self, side: &impl Resolve) -> pb::PutRequest {
        pb::PutRequest {
            key: self.key.clone(),
            value: self.value.bytes(),
            lease: side.lease(self.lease),
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        }
    }
}

impl Delete {
    /// The request.
    pub fn build(&self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest {
            key: self.key.clone(),
            range_end: self.range_end.clone(),
            prev_kv: self.prev_kv,
        }
    }
}

impl Range {
    /// The request.
    pub fn build(&self, view: View) -> pb::RangeRequest {
        let [min_mod, max_mod, min_create, max_create] = self.bounds.map(|bound| bound.resolve(view));
        pb::RangeRequest {
            key: self.key.clone(),
            range_end: self.range_end.clone(),
            limit: self.limit,
            revision: self.revision.resolve(view),
            sort_order: self.sort_order,
            sort_target: self.sort_target,
            serializable: self.serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: min_mod,
            max_mod_revision: max_mod,
            min_create_revision: min_create,
            max_create_revision: max_create,
        }
    }
}

impl Compare {
    fn build(&self, side: &impl Resolve) -> pb::Compare {
        use pb::compare::TargetUnion;
        let target_union = match &self.operand {
            Operand::Unset => None,
            Operand::Version(version) => Some(TargetUnion::Version(*version)),
            Operand::Create(revision) => Some(TargetUnion::CreateRevision(revision.resolve(side.view()))),
            Operand::Mod(revision) => Some(TargetUnion::ModRevision(revision.resolve(side.view()))),
            Operand::Value(value) => Some(TargetUnion::Value(value.bytes())),
            Operand::Lease(lease) => Some(TargetUnion::Lease(side.lease(*lease))),
        };
        pb::Compare {
            result: self.result,
            target: self.target,
            key: self.key.clone(),
            range_end: self.range_end.clone(),
            target_union,
        }
    }
}

impl Txn {
    /// The request.
    pub fn build(&self, side: &impl Resolve) -> pb::TxnRequest {
        let operations = |list: &[Request]| list.iter().map(|request| request.build(side)).collect();
        pb::TxnRequest {
            compare: self.compare.iter().map(|compare| compare.build(side)).collect(),
            success: operations(&self.success),
            failure: operations(&self.failure),
        }
    }
}

impl Request {
    fn build(&self, side: &impl Resolve) -> pb::RequestOp {
        use pb::request_op::Request as Union;
        let request = match self {
            Self::Put(put) => Some(Union::RequestPut(put.build(side))),
            Self::Delete(delete) => Some(Union::RequestDeleteRange(delete.build())),
            Self::Range(range) => Some(Union::RequestRange(range.build(side.view()))),
            Self::Txn(txn) => Some(Union::RequestTxn(txn.build(side))),
            Self::Unset => None,
        };
        pb::RequestOp { request }
    }
}

impl WatchCreate {
    /// The request.
    pub fn build(&self, view: View) -> pb::WatchCreateRequest {
        pb::WatchCreateRequest {
            key: self.key.clone(),
            range_end: self.range_end.clone(),
            start_revision: self.start_revision.resolve(view),
            progress_notify: self.progress_notify,
            filters: self.filters.clone(),
            prev_kv: self.prev_kv,
            watch_id: self.watch_id,
            fragment: self.fragment,
        }
    }
}
