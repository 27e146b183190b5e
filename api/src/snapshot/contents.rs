//! What is in etcd's database file: the buckets, and the rows of each.
//!
//! Owns: names and encodings of everything but the history, which `mvcc` encodes. Called by: `snapshot::stream`.
//! Invariant: what an etcd started on the file finds is what this member's view shows.
//! Source: etcd `server/storage/schema`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use keelson_mvcc::auth::{Auth, Permission, User};
use keelson_mvcc::{file_key, types::Revision};
use keelson_proto::{authpb, etcdserverpb::AlarmMember};
use keelson_raftstore::{MemberId, codec::MembershipRow, consensus::Members};
use prost::Message;
use serde_json::json;

use super::{SnapshotError, bbolt::Writer, sort::Sorter};
use crate::{backend::View, convert, members, services::downgrade_target};

/// Rows sorted in memory at once.
const SORT_BYTES: usize = 32 << 20;
/// Bytes put together before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// The rows of a bucket.
type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A lease as etcd stores it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseRow {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
    #[prost(int64, tag = "2")]
    pub(super) ttl: i64,
    #[prost(int64, tag = "3")]
    pub(super) remaining_ttl: i64,
}

/// Writes the file of a view; gives it with its size in bytes, rewound. Its folder is `dir`, it has no name there.
///
/// `given_up`: set by others when nobody wants it any more.
pub(super) fn write(
    view: &dyn View,
    storage_version: &str,
    dir: &Path,
    given_up: &AtomicBool,
) -> Result<(File, u64), SnapshotError> {
    let membership =
        view.membership().map(|row| MembershipRow::decode(&row)).transpose()?.unwrap_or_default();
    let members = membership.members();
    let small = [
        ("alarm", alarms(view)),
        ("auth", auth(view.auth())),
        ("authRoles", roles(view.auth())),
        ("authUsers", users(view.auth())),
        ("cluster", cluster(view, storage_version)?),
        ("lease", leases(view)?),
        ("members", member_rows(view, &members)),
        (
            "members_removed",
            membership.removed.iter().map(|id| (member_key(*id), b"removed".to_vec())).collect(),
        ),
        ("meta", meta(view, &members, storage_version)),
    ];
    let file = tempfile::tempfile_in(dir)?;
    let mut writer = Writer::new(BufWriter::with_capacity(WRITE_BYTES, &file))?;
    for (name, rows) in small {
        let mut bucket = writer.bucket(name);
        rows.iter().try_for_each(|(key, value)| bucket.put(key, value))?;
        bucket.finish()?;
    }
    write_history(view, &mut writer, dir, given_up)?;
    let bytes = writer.finish()?;
    (&file).rewind()?;
    Ok((file, bytes))
}

fn write_history<W: Write + Seek>(
    view: &dyn View,
    writer: &mut Writer<W>,
    dir: &Path,
    given_up: &AtomicBool,
) -> Result<(), SnapshotError> {
    let mut sorter = Sorter::new(dir.to_owned(), SORT_BYTES);
    let mut failure = None;
    view.each_file_row(&mut |key, value| {
        failure = match given_up.load(Ordering::Relaxed) {
            true => Some(SnapshotError::GivenUp),
            false => sorter.add(key, value).err().map(SnapshotError::File),
        };
        if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    failure.map_or(Ok(()), Err)?;
    let mut bucket = writer.bucket("key");
    sorter.finish(|key, value| match given_up.load(Ordering::Relaxed) {
        true => Err(io::Error::from(io::ErrorKind::Interrupted)),
        false => bucket.put(key, value),
    })?;
    Ok(bucket.finish()?)
}

fn meta(view: &dyn View, members: &Members, storage_version: &str) -> Rows {
    let applied = view.applied().unwrap_or_default();
    let ids = |learners: bool| -> Vec<MemberId> {
        members
            .members
            .iter()
            .filter(|member| member.is_learner == learners)
            .map(|member| member.id)
            .collect()
    };
    let (voters, learners) = (ids(false), ids(true));
    let mut rows = Rows::from([
        (b"consistent_index".to_vec(), applied.index.to_be_bytes().to_vec()),
        (b"term".to_vec(), applied.term.to_be_bytes().to_vec()),
        (b"confState".to_vec(), json!({"voters": voters, "learners": learners}).to_string().into_bytes()),
        (b"storageVersion".to_vec(), storage_version.as_bytes().to_vec()),
    ]);
    let mark: Revision = view.compacted();
    if mark >= 0 {
        // Both at once: the file is what a compaction leaves that has run to its end.
        for name in [b"finishedCompactRev".to_vec(), b"scheduledCompactRev".to_vec()] {
            let mut place = Vec::new();
            file_key(mark, 0, &mut place);
            rows.insert(name, place);
        }
    }
    rows
}

fn cluster(view: &dyn View, version: &str) -> Result<Rows, SnapshotError> {
    let mut rows = Rows::from([(b"clusterVersion".to_vec(), version.as_bytes().to_vec())]);
    if let Some(target) = downgrade_target(view)? {
        let info = json!({"target-version": target, "enabled": true});
        rows.insert(b"downgrade".to_vec(), info.to_string().into_bytes());
    }
    Ok(rows)
}

fn alarms(view: &dyn View) -> Rows {
    let key = |alarm: keelson_mvcc::types::Alarm| {
        AlarmMember { member_id: alarm.member, alarm: alarm.kind as i32 }.encode_to_vec()
    };
    view.alarms().into_iter().map(|alarm| (key(alarm), Vec::new())).collect()
}

/// Whether authentication is on stands there once it ever was.
fn auth(auth: &Auth) -> Rows {
    let mut rows = Rows::from([(b"authRevision".to_vec(), auth.revision().to_be_bytes().to_vec())]);
    if auth.is_enabled() || auth.closed() > 0 {
        rows.insert(b"authEnabled".to_vec(), vec![u8::from(auth.is_enabled())]);
    }
    rows
}

fn roles(auth: &Auth) -> Rows {
    let row = |name: &str, permissions: &[Permission]| authpb::Role {
        name: name.as_bytes().to_vec().into(),
        key_permission: permissions.iter().map(convert::permission).collect(),
    };
    auth.roles().map(|(name, role)| (name.as_bytes().to_vec(), row(name, role).encode_to_vec())).collect()
}

fn users(auth: &Auth) -> Rows {
    let row = |name: &str, user: &User| authpb::User {
        name: name.as_bytes().to_vec().into(),
        password: user.password.clone(),
        roles: user.roles.clone(),
        options: Some(authpb::UserAddOptions { no_password: user.no_password }),
    };
    auth.users().map(|(name, user)| (name.as_bytes().to_vec(), row(name, user).encode_to_vec())).collect()
}

fn leases(view: &dyn View) -> Result<Rows, SnapshotError> {
    let leases = view.leases()?.into_iter();
    Ok(leases
        .map(|lease| {
            let row = LeaseRow { id: lease.id, ttl: lease.ttl_s, remaining_ttl: lease.remaining_s };
            (lease.id.to_be_bytes().to_vec(), row.encode_to_vec())
        })
        .collect())
}

fn member_rows(view: &dyn View, members: &Members) -> Rows {
    let row = |member: &keelson_raftstore::consensus::Member| {
        let members::MemberAttributes { name, client_urls } = members::attributes(view, member.id);
        let json = json!({
            "id": member.id,
            "peerURLs": member.peer_urls,
            "isLearner": member.is_learner,
            "name": name,
            "clientURLs": client_urls,
        });
        (member_key(member.id), json.to_string().into_bytes())
    };
    members.members.iter().map(row).collect()
}

fn member_key(id: MemberId) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}
