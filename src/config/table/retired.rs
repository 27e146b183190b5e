//! Names that etcd once had: which are silently accepted, which are gone, and what replaces them.
//!
//! Called by: the flag parser, the environment and the file reader, for messages that tell what to write instead.

/// Flags of etcd's first years that it still accepts and ignores; so do we.
pub const IGNORED: &[&str] = &[
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
];

/// Keys that old configuration files still carry. etcd 3.7 skips them, so a file that it accepts must start here too.
pub const FILE_LEFTOVERS: &[&str] = &[
    "debug",
    "discovery",
    "discovery-proxy",
    "enable-v2",
    "log-package-levels",
    "proxy",
    "proxy-dial-timeout",
    "proxy-failure-wait",
    "proxy-read-timeout",
    "proxy-refresh-interval",
    "proxy-write-timeout",
];

/// Experimental flags that became a feature gate rather than a flag of the same name.
const GATES: &[(&str, &str)] = &[
    ("compact-hash-check-enabled", "CompactHashCheck"),
    ("enable-initial-corrupt-check", "InitialCorruptCheck"),
    ("initial-corrupt-check", "InitialCorruptCheck"),
    ("enable-lease-checkpoint", "LeaseCheckpoint"),
    ("enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    ("set-member-localaddr", "SetMemberLocalAddr"),
    ("stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    ("txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
];

/// Flags that were renamed or removed outside the experimental ones, with what to do.
const GONE: &[(&str, &str)] = &[
    ("debug", "write --log-level=debug"),
    ("discovery", "list the members with --initial-cluster"),
    ("discovery-proxy", "list the members with --initial-cluster"),
    ("enable-v2", "drop it: the v2 API no longer exists"),
    ("log-output", "write --log-outputs"),
    ("log-package-levels", "write --log-level"),
    ("peer-ca-file", "write --peer-trusted-ca-file and --peer-client-cert-auth"),
    ("ca-file", "write --trusted-ca-file and --client-cert-auth"),
    ("proxy", "drop it: the v2 proxy no longer exists"),
    ("addr", "write --advertise-client-urls"),
    ("bind-addr", "write --listen-client-urls"),
    ("peers", "write --initial-cluster"),
    ("peer-addr", "write --initial-advertise-peer-urls"),
    ("peer-bind-addr", "write --listen-peer-urls"),
];

/// What to write instead of a name that etcd 3.7 no longer has, or `None` for a name it never had.
pub fn replacement(name: &str) -> Option<String> {
    if let Some((_, instead)) = GONE.iter().find(|(gone, _)| *gone == name) {
        return Some((*instead).to_owned());
    }
    let experimental = name.strip_prefix("experimental-")?;
    if let Some((_, gate)) = GATES.iter().find(|(flag, _)| *flag == experimental) {
        return Some(format!("write --feature-gates={gate}=true"));
    }
    super::find(experimental)
        .map(|setting| format!("write --{}", setting.name))
        .or_else(|| Some("drop it: etcd 3.7 has no successor of it".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_lead_to_new_ones() {
        let check =
            |name: &str, expected: Option<&str>| assert_eq!(replacement(name).as_deref(), expected, "{name}");
        check("experimental-corrupt-check-time", Some("write --corrupt-check-time"));
        check("experimental-initial-corrupt-check", Some("write --feature-gates=InitialCorruptCheck=true"));
        check("experimental-enable-distributed-tracing", Some("write --enable-distributed-tracing"));
        check("experimental-enable-v2v3", Some("drop it: etcd 3.7 has no successor of it"));
        check("enable-v2", Some("drop it: the v2 API no longer exists"));
        check("no-such-flag", None);
    }
}
