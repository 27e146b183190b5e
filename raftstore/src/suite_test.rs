//! openraft's own suite for log stores and state machines, on ours: simulated disk with the task driver, real files
//! with the thread driver.
//!
//! Left out of the suite: `snapshot_meta`, `snapshot_meta_optional` and `transfer_snapshot`, which expect that building
//! a snapshot yields data that can be installed. Here it is a flush, and data is exported when a follower needs it;
//! that way is tested in `tests/cluster.rs`. And `last_applied_state`, which applies entry 5 after entry 3: our store
//! refuses to skip one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::BytesMut;
use keelson_mvcc::engine::memory::MemoryOptions;
use keelson_mvcc::types::Event;
use keelson_mvcc::{MemoryEngine, Store, StoreOptions};
use keelson_wal::writer::{WriterOptions, writer};
use keelson_wal::{Disk, Identity, Options, RealDisk, SimDisk, Wal, WriterHandle, spawn_writer};
use keelson_watch::{FrameCodec, Hub, HubOptions};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft_rt_tokio::TokioRuntime;

use crate::clock::Clock;
use crate::events::StoreEvents;
use crate::facts::Facts;
use crate::log_store::device::{WalDevice, drive};
use crate::log_store::{Log, LogOptions, LogStore};
use crate::net::client::Links;
use crate::net::memory::MemoryNetwork;
use crate::progress::Progress;
use crate::proposer::{Proposals, ProposerOptions};
use crate::state_machine::{
    Blocking, FlushState, GroupOptions, SharedApplyObserver, StateMachine, Surroundings,
};
use crate::types::Types;

type RT = TokioRuntime;
type C = Types<RT>;
type Machine = StateMachine<RT, MemoryEngine>;

struct NoFrames;

impl FrameCodec for NoFrames {
    fn events(&self, _events: &[&Event], _prev_kv: bool, _out: &mut BytesMut) {}
}

fn wal_options() -> Options {
    let mut salt = 0;
    Options::tiny(
        Identity { cluster: 1, member: 1 },
        Box::new(move || {
            salt += 1;
            salt
        }),
    )
}

fn log<D: Disk>(disk: D, dir: &Path, spawn: impl FnOnce(Wal<D>) -> WriterHandle) -> Arc<Log> {
    let (wal, recovered) = Wal::open(disk, dir, wal_options()).expect("opens");
    let reader = wal.reader();
    let device = Arc::new(WalDevice::new(spawn(wal), reader));
    // Nothing stays in memory that can be read back: reads go to the WAL as soon as possible.
    let options = LogOptions { tail_bytes_max: 0, ..LogOptions::default() };
    Log::open(device, recovered, options, Clock::start::<RT>()).expect("opens")
}

fn sim_log() -> Arc<Log> {
    log(SimDisk::new(1), Path::new("wal"), |wal| {
        let options = WriterOptions {
            on_fatal: Box::new(|_| {}),
            clock: Box::new(|| Duration::ZERO),
            ..Default::default()
        };
        let (writer, handle) = writer(wal, options);
        drop(tokio::spawn(drive::<RT, SimDisk>(writer, || Duration::ZERO)));
        handle
    })
}

/// The suite applies entries that it has not appended, so this machine is told that everything is durable.
fn machine() -> Machine {
    let log = sim_log();
    log.durable().advance(u64::MAX >> 1);
    let clock = Clock::start::<RT>();
    let engine = MemoryEngine::new(MemoryOptions::default());
    let store = Store::open(engine, StoreOptions::default()).expect("opens");
    let source = Arc::new(StoreEvents(store.reader()));
    let row = Machine::membership_row(&store).expect("fresh");
    let around = Arc::new(Surroundings {
        member: 1,
        log,
        applied: Progress::default(),
        proposals: Proposals::new(1, 1, ProposerOptions::default(), clock.clone()),
        facts: Arc::new(Facts::new(clock, row.clone(), 0)),
        links: Arc::new(Links::new(1, 1, MemoryNetwork::<RT>::default().transport(1), || {})),
        hub: Hub::new(HubOptions::default(), source, Arc::new(NoFrames)),
        apply_observer: SharedApplyObserver::default(),
        flush: Arc::new(FlushState::default()),
        group: GroupOptions::default(),
        blocking: Blocking::Inline,
        running: AtomicBool::new(false),
        machine_gone: Progress::default(),
    });
    StateMachine::new(store, row, around)
}

struct OnSimDisk;
struct OnFiles;

impl StoreBuilder<C, LogStore<RT>, Machine, ()> for OnSimDisk {
    async fn build(&self) -> Result<((), LogStore<RT>, Machine), StorageError<C>> {
        Ok(((), LogStore::new(sim_log()), machine()))
    }
}

impl StoreBuilder<C, LogStore<RT>, Machine, tempfile::TempDir> for OnFiles {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore<RT>, Machine), StorageError<C>> {
        let dir = tempfile::tempdir().expect("a directory");
        let log = log(RealDisk, dir.path(), |wal| {
            // The directory may go before the thread does.
            let options = WriterOptions { on_fatal: Box::new(|_| {}), ..Default::default() };
            spawn_writer(wal, options).expect("a thread")
        });
        Ok((dir, LogStore::new(log), machine()))
    }
}

macro_rules! suite {
    ($builder:expr, $guard:ty, $($test:ident)*) => {
        type S = Suite<C, LogStore<RT>, Machine, Builder, $guard>;
        $({
            println!(stringify!($test));
            let (_guard, log, machine) = $builder.build().await.expect("builds");
            S::$test(log, machine).await.unwrap_or_else(|error| panic!("{}: {error}", stringify!($test)));
        })*
    };
    ($builder:expr, $guard:ty) => {
        suite! { $builder, $guard,
            last_membership_in_log_initial last_membership_in_log last_membership_in_log_multi_step
            get_membership_initial get_membership_from_log_and_empty_sm get_membership_from_empty_log_and_sm
            get_membership_from_log_le_sm_last_applied get_membership_from_log_gt_sm_last_applied_1
            get_membership_from_log_gt_sm_last_applied_2
            get_initial_state_without_init get_initial_state_membership_from_empty_log_and_sm
            get_initial_state_membership_from_sm_inlog_is_smaller get_initial_state_membership_from_log_insm_is_smaller
            get_initial_state_with_state get_initial_state_last_log_gt_sm get_initial_state_last_log_lt_sm
            get_initial_state_inverted_log_order get_initial_state_conflict_at_same_index
            get_initial_state_log_ids get_initial_state_re_apply_committed
            save_vote get_log_entries limited_get_log_entries leader_bounded_stream entries_stream
            try_get_log_entry log_reader_reads_new_entries initial_logs get_log_state get_log_id last_id_in_log
            purge_logs_upto_0 purge_logs_upto_5 purge_logs_upto_20
            delete_logs_after_11 delete_logs_after_5 delete_logs_after_0 delete_logs_after_none append_to_log
            apply_single apply_multiple
        }
    };
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(test)
}

#[test]
fn openraft_suite_on_a_simulated_disk() {
    run(async {
        type Builder = OnSimDisk;
        suite!(OnSimDisk, ());
    });
}

#[test]
fn openraft_suite_on_files() {
    run(async {
        type Builder = OnFiles;
        suite!(OnFiles, tempfile::TempDir);
    });
}

/// Found by the simulation: the cut of conflicting entries was only noted in the WAL when the machine lost power, while
/// the snapshot that came after it was durable in the engine.
#[test]
fn entries_that_contradict_what_is_applied_are_dropped_at_start() {
    use openraft::storage::{IOFlushed, RaftLogStorage};
    use openraft::{LogId, RaftLogReader};

    run(async {
        let id = LogId::new_term_index;
        let entry = |term, index| crate::types::Entry {
            log_id: id(term, index),
            payload: crate::types::Payload::Blank,
        };
        let log = sim_log();
        let mut store = LogStore::<RT>::new(log.clone());
        store.append((0..10).map(|index| entry(4, index)), IOFlushed::noop()).await.expect("appends");
        log.durable().wait(10).await;

        log.drop_contradicting(id(4, 6)).await.expect("reads");
        assert_eq!(log.next(), 10, "nothing contradicts");
        log.drop_contradicting(id(5, 20)).await.expect("reads");
        assert_eq!(log.next(), 10, "a hole is openraft's business");

        log.drop_contradicting(id(5, 6)).await.expect("reads");
        let state = store.get_log_state().await.expect("reads");
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(5, 6)), Some(id(5, 6))));
        assert_eq!(log.durable().next(), 7);
        store.append([entry(5, 7)], IOFlushed::noop()).await.expect("appends");
        log.durable().wait(8).await;
        assert_eq!(store.try_get_log_entries(0..100).await.expect("reads"), [entry(5, 7)]);
    });
}

/// Found by the simulation: a replication that was behind the purge got the entries after it, as if they followed.
#[test]
fn a_read_for_replication_never_skips_purged_entries() {
    use openraft::storage::{IOFlushed, RaftLogStorage};
    use openraft::{LogId, RaftLogReader};

    run(async {
        let entry = |index| crate::types::Entry {
            log_id: LogId::new_term_index(1, index),
            payload: crate::types::Payload::Blank,
        };
        let log = sim_log();
        let mut store = LogStore::<RT>::new(log.clone());
        store.append((0..10).map(entry), IOFlushed::noop()).await.expect("appends");
        log.durable().wait(10).await;
        store.purge(LogId::new_term_index(1, 5)).await.expect("purges");
        assert_eq!(store.limited_get_log_entries(4, 10).await.expect("reads"), []);
        assert_eq!(store.limited_get_log_entries(6, 10).await.expect("reads").len(), 4);
        assert_eq!(store.try_get_log_entries(4..10).await.expect("reads").len(), 4, "here it is allowed");
    });
}

/// What makes a read of a sole voter safe without asking anybody.
#[test]
fn a_sole_voter_is_one_until_a_membership_is_appended() {
    use openraft::storage::{IOFlushed, RaftLogStorage};

    run(async {
        let id = openraft::LogId::new_term_index;
        let membership = |index| {
            let membership = openraft::Membership::new_with_defaults(vec![[1].into()], []);
            crate::types::Entry {
                log_id: id(1, index),
                payload: crate::types::Payload::Membership(membership),
            }
        };
        let log = sim_log();
        let mut store = LogStore::<RT>::new(log.clone());
        store.append([membership(0)], IOFlushed::noop()).await.expect("appends");
        assert!(!log.is_sole_voter(), "not applied");
        log.set_sole_voter(id(1, 0));
        assert!(log.is_sole_voter());
        store.append([membership(1)], IOFlushed::noop()).await.expect("appends");
        assert!(!log.is_sole_voter(), "before anybody can have received it");
        log.set_sole_voter(id(1, 0));
        assert!(!log.is_sole_voter(), "an older one was applied late");
        log.set_sole_voter(id(1, 1));
        assert!(log.is_sole_voter());
    });
}
