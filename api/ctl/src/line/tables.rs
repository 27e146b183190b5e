//! The commands and their flags.
//!
//! Invariant: names, letters and defaults are those of etcdctl 3.7.3; the words are our own.

use super::access::{AUTH, ROLE, USER};
use super::spec::{Action, Command, Flag, Kind};

/// The commands.
pub static ROOT: Command = Command::group("ctl", "Talk to a server that speaks the etcd v3 API", COMMANDS);

const CLUSTER: &[Flag] = &[Flag::switch("cluster", "Ask every member that the cluster lists")];
const CONSISTENCY: Flag = Flag::text("consistency", "Linearizable (l) or serializable (s)").or("l");
const PREV_KV: Flag = Flag::switch("prev-kv", "Show what was there before");
const CHECK: [Flag; 2] = [
    Flag::switch("auto-compact", "Compact the store when done"),
    Flag::switch("auto-defrag", "Defragment the store when done"),
];
const LOAD: Flag = Flag::text("load", "How much: s, m, l or xl").or("s");

const COMMANDS: &[Command] = &[
    Command::leaf(
        "get",
        "<key> [range_end]",
        Action::Get,
        "Print a key or a range of keys",
        "get --prefix /registry/ --keys-only",
    )
    .with(&[
        CONSISTENCY,
        Flag::text("order", "ASCEND or DESCEND"),
        Flag::text("sort-by", "CREATE, KEY, MODIFY, VALUE or VERSION"),
        Flag::number("limit", "At most so many"),
        Flag::switch("prefix", "All keys that begin with the given one"),
        Flag::switch("from-key", "The given key and all behind it"),
        Flag::number("rev", "As of this revision"),
        Flag::switch("keys-only", "Without values"),
        Flag::switch("count-only", "Only how many (with -w fields)"),
        Flag::switch("print-value-only", "Without keys (with -w simple)"),
        Flag::number("min-create-rev", "Created at this revision or later"),
        Flag::number("max-create-rev", "Created at this revision or before"),
        Flag::number("min-mod-rev", "Changed at this revision or later"),
        Flag::number("max-mod-rev", "Changed at this revision or before"),
        Flag::switch("stream", "Let the server answer in pieces"),
    ]),
    Command::leaf(
        "put",
        "<key> [value]",
        Action::Put,
        "Write a key; without a value it is read from standard input",
        "put greeting hello",
    )
    .with(&[
        Flag::text("lease", "Attach this lease (hexadecimal)").or("0"),
        PREV_KV,
        Flag::switch("ignore-value", "Keep the value it has"),
        Flag::switch("ignore-lease", "Keep the lease it has"),
    ]),
    Command::leaf(
        "del",
        "<key> [range_end]",
        Action::Del,
        "Remove a key or a range of keys",
        "del --prefix /tmp/",
    )
    .with(&[
        Flag::switch("prefix", "All keys that begin with the given one"),
        PREV_KV,
        Flag::switch("from-key", "The given key and all behind it"),
        Flag::switch("range", "Remove a range without waiting for second thoughts"),
    ]),
    Command::leaf(
        "txn",
        "",
        Action::Txn,
        "Read comparisons and requests from standard input and do them in one step",
        "txn -i",
    )
    .with(&[Flag::switch("interactive", "Ask for each part").letter('i')]),
    Command::leaf(
        "compaction",
        "<revision>",
        Action::Compaction,
        "Drop history before a revision",
        "compaction 12345",
    )
    .with(&[Flag::switch("physical", "Wait until it is gone from the disk")]),
    Command::group(
        "alarm",
        "Alarms of the members",
        &[
            Command::leaf("disarm", "", Action::AlarmDisarm, "Clear all alarms", "alarm disarm"),
            Command::leaf("list", "", Action::AlarmList, "List all alarms", "alarm list"),
        ],
    ),
    Command::leaf(
        "defrag",
        "",
        Action::Defrag,
        "Give free space of the given members back to the disk",
        "defrag --cluster",
    )
    .with(CLUSTER),
    Command {
        flags: CLUSTER,
        ..Command::group(
            "endpoint",
            "Each of the given endpoints",
            &[
                Command::leaf(
                    "health",
                    "",
                    Action::EndpointHealth,
                    "Whether each serves a linearizable read",
                    "endpoint health --cluster",
                ),
                Command::leaf(
                    "status",
                    "",
                    Action::EndpointStatus,
                    "Versions, sizes, leader and positions",
                    "endpoint status -w table",
                ),
                Command::leaf(
                    "hashkv",
                    "",
                    Action::EndpointHashKv,
                    "A hash over keys and history",
                    "endpoint hashkv --cluster",
                )
                .with(&[Flag::number("rev", "Up to this revision")]),
            ],
        )
    },
    Command::leaf(
        "move-leader",
        "<member id>",
        Action::MoveLeader,
        "Hand leadership to another member",
        "move-leader 8e9e05c52164694d",
    ),
    Command::leaf(
        "watch",
        "[key] [range_end] [-- command arguments...]",
        Action::Watch,
        "Print changes, or run a command at each",
        "watch --prefix /jobs/ -- echo changed",
    )
    .with(&[
        Flag::switch("interactive", "Read what to watch from standard input").letter('i'),
        Flag::switch("prefix", "All keys that begin with the given one"),
        Flag::number("rev", "From this revision on"),
        PREV_KV,
        Flag::switch("progress-notify", "Ask the server to tell how far it is"),
    ]),
    Command::leaf("version", "", Action::Version, "Print the version of this client", "version"),
    Command::group(
        "lease",
        "Leases",
        &[
            Command::leaf(
                "grant",
                "<ttl>",
                Action::LeaseGrant,
                "Make a lease of so many seconds",
                "lease grant 60",
            ),
            Command::leaf(
                "revoke",
                "<lease id>",
                Action::LeaseRevoke,
                "End a lease and remove its keys",
                "lease revoke 32695410dcc0ca06",
            ),
            Command::leaf(
                "timetolive",
                "<lease id>",
                Action::LeaseTimeToLive,
                "How long a lease has left",
                "lease timetolive 32695410dcc0ca06 --keys",
            )
            .with(&[Flag::switch("keys", "List its keys")]),
            Command::leaf("list", "", Action::LeaseList, "List all leases", "lease list"),
            Command::leaf(
                "keep-alive",
                "<lease id>",
                Action::LeaseKeepAlive,
                "Renew a lease again and again",
                "lease keep-alive --once 32695410dcc0ca06",
            )
            .with(&[Flag::switch("once", "Renew it once")]),
        ],
    ),
    Command::group(
        "member",
        "Members of the cluster",
        &[
            Command::leaf(
                "add",
                "<name>",
                Action::MemberAdd,
                "Announce a new member",
                "member add m4 --peer-urls=http://10.0.0.4:2380 --learner",
            )
            .with(&[
                Flag::text("peer-urls", "Where the others reach it, separated by commas"),
                Flag::switch("learner", "Let it follow without a vote first"),
            ]),
            Command::leaf(
                "remove",
                "<member id>",
                Action::MemberRemove,
                "Remove a member",
                "member remove 8e9e05c52164694d",
            ),
            Command::leaf(
                "update",
                "<member id>",
                Action::MemberUpdate,
                "Change where the others reach a member",
                "member update 8e9e05c52164694d --peer-urls=http://10.0.0.9:2380",
            )
            .with(&[Flag::text("peer-urls", "Where the others reach it, separated by commas")]),
            Command::leaf("list", "", Action::MemberList, "List all members", "member list -w table")
                .with(&[CONSISTENCY]),
            Command::leaf(
                "promote",
                "<member id>",
                Action::MemberPromote,
                "Give a learner a vote",
                "member promote 8e9e05c52164694d",
            ),
        ],
    ),
    Command::group(
        "snapshot",
        "Copies of a member's data",
        &[Command::leaf(
            "save",
            "<file>",
            Action::SnapshotSave,
            "Write the data of one member into a file",
            "snapshot save backup.db",
        )],
    ),
    Command::leaf(
        "make-mirror",
        "<destination>",
        Action::MakeMirror,
        "Copy keys to another cluster, and their changes as they come",
        "make-mirror --prefix /app/ 10.0.0.5:2379",
    )
    .with(&[
        Flag::text("prefix", "Only keys that begin so"),
        Flag::number("rev", "Only changes from this revision on"),
        Flag {
            kind: Kind::Count,
            default: "128",
            ..Flag::number("max-txn-ops", "At most so many changes at once")
        },
        Flag::text("dest-prefix", "Begin keys so at the destination instead"),
        Flag::switch("no-dest-prefix", "Leave the prefix out at the destination"),
        Flag::text("dest-cert", "Certificate to show to the destination"),
        Flag::text("dest-key", "Key of that certificate"),
        Flag::text("dest-cacert", "Authorities that may have signed the destination's certificate"),
        Flag::switch("dest-insecure-transport", "Talk to the destination without TLS").or("true"),
        Flag::text("dest-user", "User at the destination, name[:password]"),
        Flag::text("dest-password", "Password at the destination"),
    ]),
    Command::leaf(
        "lock",
        "<name> [command arguments...]",
        Action::Lock,
        "Hold a lock, until stopped or while a command runs",
        "lock deploy ./deploy.sh",
    )
    .with(&[Flag {
        default: "10",
        ..Flag::number("ttl", "Seconds after which others may think this holder dead")
    }]),
    Command::leaf(
        "elect",
        "<name> [proposal]",
        Action::Elect,
        "Stand for an election, or look on",
        "elect leader $HOSTNAME",
    )
    .with(&[Flag::switch("listen", "Only look on").letter('l')]),
    AUTH,
    USER,
    ROLE,
    Command::group(
        "check",
        "Whether a cluster is up to a load",
        &[
            Command::leaf(
                "perf",
                "",
                Action::CheckPerf,
                "Write for a minute and judge rate and latency",
                "check perf --load=m",
            )
            .with(&[
                LOAD,
                Flag::text("prefix", "Where the keys go").or("/etcdctl-check-perf/"),
                CHECK[0],
                CHECK[1],
            ]),
            Command::leaf(
                "datascale",
                "",
                Action::CheckDatascale,
                "Write many keys and tell what memory they take",
                "check datascale --load=s",
            )
            .with(&[
                LOAD,
                Flag::text("prefix", "Where the keys go").or("/etcdctl-check-datascale/"),
                CHECK[0],
                CHECK[1],
            ]),
        ],
    ),
    Command::group(
        "downgrade",
        "Going back to the release before",
        &[
            Command::leaf(
                "validate",
                "<version>",
                Action::DowngradeValidate,
                "Ask whether it is possible",
                "downgrade validate 3.6",
            ),
            Command::leaf("enable", "<version>", Action::DowngradeEnable, "Begin", "downgrade enable 3.6"),
            Command::leaf("cancel", "", Action::DowngradeCancel, "Call it off", "downgrade cancel"),
        ],
    ),
    Command::leaf(
        "completion",
        "<shell>",
        Action::Completion,
        "Print completions for bash, zsh, fish or powershell",
        "completion bash",
    ),
    Command::leaf("options", "", Action::Options, "List the flags that every command takes", "options"),
];
