//! Who this member is: decided once, written down, and never decided again.
//!
//! Owns: the file `identity.json` in the data folder. Called by: `server` before anything else is opened.
//! Invariants: the file is written and synced before the log or the engine exist, so a folder with data always has
//! it; a folder with data and without it is refused, never adopted.
//! Source: etcd `server/etcdserver/api/membership` (how ids are derived from URLs and token).

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use keelson_api::members::new_member_id;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::config::EffectiveConfig;

/// Name of the file, below the data folder.
const FILE: &str = "identity.json";
/// Version of the file's format.
const FORMAT_VERSION: u32 = 1;

/// The member and its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    format_version: u32,
    /// Which cluster.
    #[serde(with = "hex")]
    pub(crate) cluster: u64,
    /// Which member.
    #[serde(with = "hex")]
    pub(crate) member: u64,
}

/// One of the first members of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FirstMember {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) peer_urls: Vec<String>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("{action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is not the identity of a member")]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("{path} has format version {found}; this build knows {FORMAT_VERSION}")]
    Version { path: PathBuf, found: u32 },
}

impl Identity {
    /// A new identity, not yet written down.
    pub(crate) fn new(cluster: u64, member: u64) -> Self {
        Identity { format_version: FORMAT_VERSION, cluster, member }
    }

    /// Reads the identity of a data folder; `None` where there is none yet.
    pub(crate) fn load(data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Io { action: "read", path, source }),
        };
        let identity: Identity = serde_json::from_slice(&bytes)
            .map_err(|source| IdentityError::Malformed { path: path.clone(), source })?;
        if identity.format_version != FORMAT_VERSION {
            return Err(IdentityError::Version { path, found: identity.format_version });
        }
        Ok(Some(identity))
    }

    /// Writes the identity so that it is there after a power cut, or not at all.
    pub(crate) fn save(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(FILE);
        let temporary = data_dir.join(format!("{FILE}.tmp"));
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Io { action, path, source }
        };
        let bytes = serde_json::to_vec_pretty(self).expect("an identity is plain numbers");
        let mut file = fs::File::create(&temporary).map_err(io("create", &temporary))?;
        file.write_all(&bytes).map_err(io("write", &temporary))?;
        file.sync_all().map_err(io("sync", &temporary))?;
        fs::rename(&temporary, &path).map_err(io("rename into place", &path))?;
        let folder = fs::File::open(data_dir).map_err(io("open", data_dir))?;
        folder.sync_all().map_err(io("sync", data_dir))
    }
}

/// The members that `--initial-cluster` names, ordered by id.
pub(crate) fn first_members(config: &EffectiveConfig) -> Vec<FirstMember> {
    let mut members: Vec<FirstMember> = config
        .cluster
        .initial_members
        .iter()
        .map(|(name, urls)| {
            let peer_urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
            FirstMember {
                id: new_member_id(&peer_urls, &config.cluster.token, None),
                name: name.clone(),
                peer_urls,
            }
        })
        .collect();
    members.sort_by_key(|member| member.id);
    members
}

/// The id of a cluster with these first members: the head of a SHA-1 over their ids in rising order.
pub(crate) fn cluster_id(members: &[FirstMember]) -> u64 {
    let bytes: Vec<u8> = members.iter().flat_map(|member| member.id.to_be_bytes()).collect();
    let digest = Sha1::digest(&bytes);
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-1 has 20 bytes"))
}

/// Ids as people see them everywhere else.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{id:x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_cluster_has_the_ids_of_etcd() {
        // What a real etcd 3.7.3 started without flags reports as its member and cluster.
        let urls = vec!["http://localhost:2380".to_owned()];
        let id = new_member_id(&urls, "etcd-cluster", None);
        let members = [FirstMember { id, name: "default".into(), peer_urls: urls }];
        assert_eq!((id, cluster_id(&members)), (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32));
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Identity::load(folder.path()).unwrap(), None);
        let identity = Identity::new(u64::MAX, 1);
        identity.save(folder.path()).unwrap();
        assert_eq!(Identity::load(folder.path()).unwrap(), Some(identity));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{").unwrap();
        let error = Identity::load(folder.path()).unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
    }
}
