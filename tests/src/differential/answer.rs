//! What a server answered, with everything masked that two correct servers may choose differently.
//!
//! Owns: [`Answer`] and the masking rules. Masked: cluster and member ids, terms, lease ids that the server chose, ports,
//! sizes, remaining times. Kept: every revision, every count, every flag, every error code and text.
//! Called by: the session.

use std::collections::{BTreeMap, HashMap};

use keelson_proto::{etcdserverpb as pb, mvccpb};

/// An answer in comparable form.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // One variant per kind of response.
pub enum Answer {
    /// An error.
    Refused {
        code: tonic::Code,
        message: String,
    },
    /// The harness got no answer in time, or a broken promise it noticed by itself.
    Broken(String),
    /// May differ, see [`super::accepted`].
    Softened,
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    Delete(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    Grant(pb::LeaseGrantResponse),
    Revoke(pb::LeaseRevokeResponse),
    KeepAlive(pb::LeaseKeepAliveResponse),
    TimeToLive(pb::LeaseTimeToLiveResponse),
    Leases(pb::LeaseLeasesResponse),
    Watch(pb::WatchResponse),
    Members(pb::MemberListResponse),
    Status(pb::StatusResponse),
    Alarm(pb::AlarmResponse),
    HashKv(pb::HashKvResponse),
    Defragment(pb::DefragmentResponse),
    /// The debug form of a masked authentication response.
    Auth(String),
    /// Per stream and watcher: what came since the last drain.
    Drained(BTreeMap<(usize, i64), Vec<Delivery>>),
    /// Nothing to compare.
    Nothing,
}

/// What a watcher got.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// An event.
    Event(mvccpb::Event),
    /// A cancellation.
    Canceled(pb::WatchResponse),
}

impl Answer {
    /// The revision of the header, where the header shows the store's state.
    pub fn revision(&self) -> Option<i64> {
        let header = match self {
            Self::Range(answer) => &answer.header,
            Self::Put(answer) => &answer.header,
            Self::Delete(answer) => &answer.header,
            Self::Txn(answer) => &answer.header,
            Self::Compact(answer) => &answer.header,
            Self::Grant(answer) => &answer.header,
            Self::Revoke(answer) => &answer.header,
            _ => return None,
        };
        header.as_ref().map(|header| header.revision)
    }
}

impl From<tonic::Status> for Answer {
    fn from(status: tonic::Status) -> Self {
        Self::Refused { code: status.code(), message: mask_ports(status.message()) }
    }
}

/// Masks ids that differ between servers.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    /// Leases whose ids the server chose, by id, with a stand-in that is the same on both sides.
    pub leases: HashMap<i64, i64>,
}

impl Mask {
    /// Keeps whether an id was set, and the revision.
    pub fn header(&self, header: &mut Option<pb::ResponseHeader>) {
        if let Some(header) = header {
            header.cluster_id = u64::from(header.cluster_id != 0);
            header.member_id = u64::from(header.member_id != 0);
            header.raft_term = u64::from(header.raft_term != 0);
        }
    }

    /// The stand-in of a lease.
    pub fn lease(&self, id: i64) -> i64 {
        self.leases.get(&id).copied().unwrap_or(id)
    }

    /// Masks the lease of a key-value.
    pub fn kv(&self, kv: &mut mvccpb::KeyValue) {
        kv.lease = self.lease(kv.lease);
    }

    /// Masks an event.
    pub fn event(&self, event: &mut mvccpb::Event) {
        event.kv.iter_mut().chain(&mut event.prev_kv).for_each(|kv| self.kv(kv));
    }

    /// Masks a range response.
    pub fn range(&self, answer: &mut pb::RangeResponse) {
        self.header(&mut answer.header);
        answer.kvs.iter_mut().for_each(|kv| self.kv(kv));
    }

    /// Masks a put response.
    pub fn put(&self, answer: &mut pb::PutResponse) {
        self.header(&mut answer.header);
        answer.prev_kv.iter_mut().for_each(|kv| self.kv(kv));
    }

    /// Masks a delete response.
    pub fn delete(&self, answer: &mut pb::DeleteRangeResponse) {
        self.header(&mut answer.header);
        answer.prev_kvs.iter_mut().for_each(|kv| self.kv(kv));
    }

    /// Masks a transaction response, nested ones included.
    pub fn txn(&self, answer: &mut pb::TxnResponse) {
        use pb::response_op::Response;
        self.header(&mut answer.header);
        for response in &mut answer.responses {
            match &mut response.response {
                Some(Response::ResponseRange(inner)) => self.range(inner),
                Some(Response::ResponsePut(inner)) => self.put(inner),
                Some(Response::ResponseDeleteRange(inner)) => self.delete(inner),
                Some(Response::ResponseTxn(inner)) => self.txn(inner),
                None => {}
            }
        }
    }

    /// Keeps the shape of a status: what is set, which errors, which versions.
    pub fn status(&self, answer: &mut pb::StatusResponse) {
        self.header(&mut answer.header);
        answer.db_size = answer.db_size.signum();
        answer.db_size_in_use = answer.db_size_in_use.signum();
        answer.leader = u64::from(answer.leader != 0);
        answer.raft_index = u64::from(answer.raft_index != 0);
        answer.raft_applied_index = u64::from(answer.raft_applied_index != 0);
        answer.raft_term = u64::from(answer.raft_term != 0);
        // etcd settles it some seconds after its start; the named tests wait for it and look.
        answer.storage_version.clear();
        for error in &mut answer.errors {
            // etcd prints a protobuf message, whose spacing differs between builds by design.
            *error = mask_digits_after(error, "memberID:").split_whitespace().collect::<Vec<_>>().join(" ");
        }
    }

    /// Keeps names, roles and the number of URLs.
    pub fn members(&self, answer: &mut pb::MemberListResponse) {
        self.header(&mut answer.header);
        answer.members.sort_by(|left, right| left.name.cmp(&right.name));
        for member in &mut answer.members {
            member.id = u64::from(member.id != 0);
            for url in member.peer_ur_ls.iter_mut().chain(&mut member.client_ur_ls) {
                *url = mask_ports(url);
            }
        }
    }

    /// Masks the member of an alarm if it is the server's own.
    pub fn alarm(&self, answer: &mut pb::AlarmResponse, own: u64) {
        self.header(&mut answer.header);
        for alarm in &mut answer.alarms {
            if alarm.member_id == own {
                alarm.member_id = u64::MAX;
            }
        }
        answer.alarms.sort_by_key(|alarm| (alarm.alarm, alarm.member_id));
    }

    /// Keeps whether the lease lives and what was granted; the rest of the time runs on.
    pub fn time_to_live(&self, answer: &mut pb::LeaseTimeToLiveResponse) {
        self.header(&mut answer.header);
        answer.id = self.lease(answer.id);
        let plausible = answer.ttl <= answer.granted_ttl;
        answer.ttl = if plausible { answer.ttl.signum() } else { answer.ttl };
        answer.keys.sort();
    }

    /// Masks ids and the order, which follows from real time.
    pub fn leases(&self, answer: &mut pb::LeaseLeasesResponse) {
        self.header(&mut answer.header);
        for lease in &mut answer.leases {
            lease.id = self.lease(lease.id);
        }
        answer.leases.sort_by_key(|lease| lease.id);
    }
}

/// Replaces every port of a local URL.
pub fn mask_ports(text: &str) -> String {
    mask_digits_after(&mask_digits_after(text, "127.0.0.1:"), "localhost:")
}

/// Replaces the digits that follow each occurrence of `prefix`.
pub fn mask_digits_after(text: &str, prefix: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let (head, tail) = rest.split_at(at + prefix.len());
        masked.push_str(head);
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        if digits > 0 {
            masked.push('#');
        }
        rest = &tail[digits..];
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_masked_wherever_they_stand() {
        assert_eq!(
            mask_ports("http://127.0.0.1:2379,http://localhost:80/x"),
            "http://127.0.0.1:#,http://localhost:#/x"
        );
        assert_eq!(mask_ports("no port"), "no port");
    }
}
