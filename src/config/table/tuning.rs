//! Settings of background checks and of the doors that one should not open.

use crate::config::setting::{Group, Kind, Setting};

/// The group "Features".
pub(super) const GROUP: Group = Group {
    title: "Features",
    settings: &[
        Setting::new(
            "corrupt-check-time",
            Kind::Duration,
            "10m",
            "Time between comparisons of all data of all members (0 for none). Where reading the data takes long, it is \
             done less often.",
        ),
        Setting::new(
            "compact-hash-check-time",
            Kind::Duration,
            "1m",
            "Time between comparisons of what the last compaction has left on the members; turned off by \
             --feature-gates=CompactHashCheck=false.",
        ),
        Setting::new(
            "compaction-batch-limit",
            Kind::Signed,
            "1000",
            "Revisions that etcd deletes per batch.",
        )
        .inert("compaction raises a mark at once and frees space in the background"),
        Setting::new(
            "compaction-sleep-interval",
            Kind::Duration,
            "10ms",
            "Pause of etcd between such batches.",
        )
        .inert("compaction raises a mark at once and frees space in the background"),
        Setting::new(
            "watch-progress-notify-interval",
            Kind::Duration,
            "10m",
            "Time between progress notices to watchers that asked for them.",
        ),
        Setting::new(
            "warning-apply-duration",
            Kind::Duration,
            "100ms",
            "Log a group of applied entries that takes longer.",
        ),
        Setting::new(
            "bootstrap-defrag-threshold-megabytes",
            Kind::Unsigned,
            "0",
            "Megabytes to be won for which etcd defragments at start.",
        )
        .inert("there is nothing to defragment; space is freed while running"),
        Setting::new("max-learners", Kind::Signed, "1", "Learners that the cluster may have at one time."),
        Setting::new(
            "downgrade-check-time",
            Kind::Duration,
            "5s",
            "Time between checks of a downgrade in progress.",
        )
        .inert("this build cannot be downgraded while it runs"),
        Setting::new(
            "snapshot-catchup-entries",
            Kind::Unsigned,
            "5000",
            "Log entries that etcd keeps for slow followers.",
        )
        .inert("the log is kept by bytes behind the slowest live follower"),
    ],
};

/// The group "Unsafe".
pub(super) const UNSAFE: Group = Group {
    title: "Unsafe (these break promises: read the documentation first)",
    settings: &[
        Setting::new(
            "force-new-cluster",
            Kind::Switch,
            "false",
            "Start as the only member of a new cluster, with the data at hand. For the loss of a quorum; see also \
             `keelson recover`, which shows first what there is.",
        ),
        Setting::new(
            "unsafe-no-fsync",
            Kind::Switch,
            "false",
            "Do not wait for the disk. A power cut loses acknowledged writes; for tests only.",
        ),
    ],
};
