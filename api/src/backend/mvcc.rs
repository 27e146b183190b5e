//! The view of the real store, whatever its engine.

use std::sync::Arc;

use bytes::Bytes;
use keelson_mvcc::{
    KvEngine, ReadView, Reader,
    auth::Auth,
    types::{
        Alarm, KeyRange, KeyValue, Lease, LeaseId, LogPosition, RangeOptions, RangeReply, ReadError,
        Revision, Txn, TxnReply,
    },
};

use super::{ReadAccess, View, VisitKeyValue, VisitRow};

impl<E: KvEngine> ReadAccess for Reader<E> {
    fn view(&self) -> Arc<dyn View> {
        Reader::view(self)
    }
}

impl<E: KvEngine> View for ReadView<E> {
    fn revision(&self) -> Revision {
        self.revision()
    }

    fn compacted(&self) -> Revision {
        self.compacted()
    }

    fn physically_compacted(&self) -> Revision {
        self.physically_compacted()
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, ReadError> {
        self.get(key)
    }

    fn range(&self, options: &RangeOptions) -> Result<RangeReply, ReadError> {
        self.range(options)
    }

    fn visit(
        &self,
        range: &KeyRange,
        keys_only: bool,
        visit: &mut VisitKeyValue<'_>,
    ) -> Result<(), ReadError> {
        self.visit(range, keys_only, visit)
    }

    fn count(&self, range: &KeyRange, revision: Revision) -> Result<i64, ReadError> {
        self.count(range, revision).map(|count| count as i64)
    }

    fn txn_read_only(&self, txn: &Txn) -> Result<TxnReply, ReadError> {
        self.eval_txn_readonly(txn)
    }

    fn hash_kv(&self, revision: Revision) -> Result<(u32, Revision, Revision), ReadError> {
        let found = self.hash_kv(revision)?;
        Ok((found.hash, found.compact_revision, found.hash_revision))
    }

    fn hash(&self) -> Result<u32, ReadError> {
        self.hash()
    }

    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, ReadError> {
        self.lease(id)
    }

    fn leases(&self) -> Result<Vec<Lease>, ReadError> {
        self.leases()
    }

    fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, ReadError> {
        self.lease_keys(id)
    }

    fn auth(&self) -> &Auth {
        self.auth()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms()
    }

    fn has_alarm(&self, alarm: Alarm) -> bool {
        self.has_alarm(alarm)
    }

    fn meta(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.meta(key)
    }

    fn applied(&self) -> Option<LogPosition> {
        self.applied()
    }

    fn membership(&self) -> Option<Bytes> {
        self.membership().map(|(_, row)| row)
    }

    fn each_file_row(&self, visit: &mut VisitRow<'_>) -> Result<(), ReadError> {
        self.each_file_row(visit)
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes()
    }

    fn size_in_use_bytes(&self) -> u64 {
        self.size_in_use_bytes()
    }
}
