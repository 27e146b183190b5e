//! Reads `--feature-gates Name=true,Other=false`.
//!
//! Invariants: only known names; the sets AllAlpha and AllBeta give way to a name given by itself. Called by: `resolve`.
//! Source: etcd server/features/etcd_features.go.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::suggest;

/// How ripe etcd calls a feature; decides which of the two sets it is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
}

/// Name, stage, default, and the reason why it has no effect here, if it has none. Those that etcd leaves off by default
/// and this store has on guard data or what users count on, and cost next to nothing here.
const KNOWN: &[(&str, Stage, bool, Option<&str>)] = &[
    ("CompactHashCheck", Stage::Alpha, true, None),
    ("FastLeaseKeepAlive", Stage::Beta, true, Some("keep-alive never waits for the applied index here")),
    ("InitialCorruptCheck", Stage::Alpha, true, None),
    ("LeaseCheckpoint", Stage::Alpha, true, None),
    (
        "LeaseCheckpointPersist",
        Stage::Alpha,
        false,
        Some("what is written down of a lease is always kept here"),
    ),
    // Not one of etcd's: there an operator has to disarm the alarm.
    ("NoSpaceAutoDisarm", Stage::Beta, true, None),
    ("PriorityRequest", Stage::Alpha, false, Some("the expiry of leases is never held back by load here")),
    (
        "SetMemberLocalAddr",
        Stage::Alpha,
        false,
        Some("connections to members leave from the address the system chooses"),
    ),
    ("StopGRPCServiceOnDefrag", Stage::Alpha, false, Some("defragmentation does not block here")),
    ("TxnModeWriteWithSharedBuffer", Stage::Beta, true, Some("there is no such buffer here")),
];

impl Stage {
    /// As etcd's metric has it.
    fn label(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        }
    }
}

/// The state of every gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureGates {
    enabled: BTreeMap<&'static str, bool>,
}

impl FeatureGates {
    /// Whether the gate of this name is open.
    ///
    /// # Panics
    /// If etcd 3.7 has no such gate.
    pub fn is_enabled(&self, name: &str) -> bool {
        *self.enabled.get(name).unwrap_or_else(|| panic!("no feature gate is named {name}"))
    }

    /// Name, stage and state of all gates, for the metric `etcd_server_feature_enabled`.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> + '_ {
        KNOWN.iter().map(|(name, stage, ..)| (*name, stage.label(), self.is_enabled(name)))
    }
}

/// Reads the setting; also returns remarks about gates that have no effect.
///
/// # Errors
/// An unknown name, a value that is no bool, or persistence of checkpoints without checkpoints.
pub fn parse(text: &str) -> Result<(FeatureGates, Vec<String>), ConfigError> {
    let mut given: BTreeMap<String, bool> = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let problem = || {
            ConfigError::contradiction(
                format!("--feature-gates: {pair:?} is not Name=true or Name=false"),
                "write for example --feature-gates=InitialCorruptCheck=true",
            )
        };
        let (name, value) = pair.split_once('=').ok_or_else(problem)?;
        let name = name.trim();
        let on = match value.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => true,
            "false" | "f" | "0" => false,
            _ => return Err(problem()),
        };
        if !KNOWN.iter().any(|(known, ..)| *known == name) && !matches!(name, "AllAlpha" | "AllBeta") {
            let nearest = suggest_gate(name);
            return Err(ConfigError::contradiction(
                format!("--feature-gates: unknown feature {name:?}"),
                nearest.map_or_else(
                    || "--help lists the features".to_owned(),
                    |near| format!("did you mean {near}?"),
                ),
            ));
        }
        given.insert(name.to_owned(), on);
    }
    let mut enabled = BTreeMap::new();
    let mut remarks = Vec::new();
    for (name, stage, default, why) in KNOWN {
        let set = given.get(if *stage == Stage::Alpha { "AllAlpha" } else { "AllBeta" });
        let own = given.get(*name);
        enabled.insert(*name, *own.or(set).unwrap_or(default));
        if let (Some(on), Some(why)) = (own.filter(|on| *on != default), why) {
            remarks.push(format!("--feature-gates: {name}={on} has no effect: {why}"));
        }
    }
    let gates = FeatureGates { enabled };
    if gates.is_enabled("LeaseCheckpointPersist") && !gates.is_enabled("LeaseCheckpoint") {
        return Err(ConfigError::contradiction(
            "--feature-gates: LeaseCheckpointPersist is on and LeaseCheckpoint is off",
            "turn LeaseCheckpoint on as well",
        ));
    }
    Ok((gates, remarks))
}

fn suggest_gate(name: &str) -> Option<&'static str> {
    // `suggest` compares in lower case; gates are in camel case.
    let lower: Vec<String> = KNOWN.iter().map(|(known, ..)| known.to_ascii_lowercase()).collect();
    let near = suggest::nearest(name, lower.iter().map(String::as_str))?;
    KNOWN.iter().map(|(known, ..)| *known).find(|known| known.to_ascii_lowercase() == near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_have_etcds_defaults_and_sets() {
        let (gates, _) = parse("").unwrap();
        assert!(gates.is_enabled("FastLeaseKeepAlive"));
        assert!(!gates.is_enabled("PriorityRequest"));
        // On here, off in etcd.
        for name in ["CompactHashCheck", "InitialCorruptCheck", "LeaseCheckpoint"] {
            assert!(gates.is_enabled(name), "{name}");
        }
        let (gates, remarks) = parse("LeaseCheckpoint=false,NoSpaceAutoDisarm=false").unwrap();
        assert!(!gates.is_enabled("LeaseCheckpoint") && !gates.is_enabled("NoSpaceAutoDisarm"));
        assert!(remarks.is_empty());
        let (gates, _) = parse("AllAlpha=true,InitialCorruptCheck=false").unwrap();
        assert!(gates.is_enabled("StopGRPCServiceOnDefrag"));
        assert!(!gates.is_enabled("InitialCorruptCheck"));
        let (gates, remarks) = parse("AllBeta=false, PriorityRequest=true").unwrap();
        assert!(!gates.is_enabled("FastLeaseKeepAlive"));
        assert_eq!(remarks.len(), 1);
    }

    #[test]
    fn wrong_gates_are_refused() {
        let check = |text: &str, part: &str| {
            let error = parse(text).unwrap_err();
            let shown = format!("{error}: {}", error.remedy());
            assert!(shown.contains(part), "{shown}");
        };
        check("InitialCorruptCheck", "Name=true");
        check("InitialCorruptCheck=maybe", "Name=true");
        check("InitialCoruptCheck=true", "did you mean InitialCorruptCheck?");
        check("LeaseCheckpointPersist=true,LeaseCheckpoint=false", "turn LeaseCheckpoint on");
    }
}
