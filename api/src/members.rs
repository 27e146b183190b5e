//! Members as clients see them: the replicated membership joined with what each member publishes about itself.
//!
//! Owns: the rows `member/<id>` (name and client URLs), new member ids. Called by: the cluster service; the binary
//! publishes this member once it serves. Invariants: a row never decides who votes; an id is never reused, because
//! the moment of its addition is part of it.
//! Source: etcd `server/etcdserver/api/membership/member.go` (ids), `server.go` (`publishV3`).

use std::time::Duration;

use bytes::Bytes;
use keelson_mvcc::types::Command;
use keelson_proto::etcdserverpb as pb;
use keelson_raftstore::consensus::Member;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::{backend::View, state::AppState};

/// Pause before a publication is tried again.
const PUBLISH_PAUSE: Duration = Duration::from_millis(500);

/// What a member says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAttributes {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    #[serde(rename = "clientURLs")]
    pub client_urls: Vec<String>,
}

/// The row a member's attributes are kept in.
pub fn attributes_key(id: u64) -> Bytes {
    format!("member/{id:016x}").into_bytes().into()
}

/// The attributes of a member; empty until it has published them.
pub fn attributes(view: &dyn View, id: u64) -> MemberAttributes {
    let row = match view.meta(&attributes_key(id)) {
        Ok(Some(row)) => row,
        Ok(None) => return MemberAttributes::default(),
        Err(error) => {
            tracing::error!(id, %error, "reading member attributes failed");
            return MemberAttributes::default();
        }
    };
    serde_json::from_slice(&row).unwrap_or_else(|error| {
        tracing::warn!(id, %error, "member attributes cannot be read");
        MemberAttributes::default()
    })
}

/// All members, ordered by id.
pub fn list(state: &AppState) -> Vec<pb::Member> {
    let view = state.view();
    let join = |member: Member| {
        let MemberAttributes { name, client_urls } = attributes(&*view, member.id);
        pb::Member {
            id: member.id,
            name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: client_urls,
            is_learner: member.is_learner,
        }
    };
    state.consensus.members().members.into_iter().map(join).collect()
}

/// Publishes this member's attributes, trying until the cluster takes them or the server stops.
pub async fn publish(state: AppState, attributes: MemberAttributes) {
    let value: Bytes = serde_json::to_vec(&attributes).expect("strings always become JSON").into();
    let key = attributes_key(state.options.member_id);
    let mut lifecycle = state.lifecycle();
    let attempt = async {
        loop {
            if state.view().meta(&key).is_ok_and(|row| row.as_ref() == Some(&value)) {
                return;
            }
            let command = Command::MetaSet { key: key.clone(), value: value.clone() };
            match state.propose(command, &state.internal_call()).await {
                Ok(_) => return,
                Err(status) => tracing::info!(%status, "publishing this member failed, will try again"),
            }
            state.clock.sleep(PUBLISH_PAUSE).await;
        }
    };
    tokio::select! {
        biased;
        () = attempt => {}
        _ = lifecycle.wait_for(|now| now.stopping) => {}
    }
}

/// The id of a member added at run time: the first eight bytes of a hash over its sorted URLs, the cluster's token
/// and the second of its addition. `unix_s` is `None` for members of the initial cluster.
pub fn new_member_id(peer_urls: &[String], cluster_token: &str, unix_s: Option<u64>) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut text = sorted.concat();
    text.push_str(cluster_token);
    if let Some(unix_s) = unix_s {
        text.push_str(&unix_s.to_string());
    }
    let digest = Sha1::digest(text.as_bytes());
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-1 digest has twenty bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_etcd() {
        // The member id every single-node etcd with default settings shows.
        let urls = ["http://localhost:2380".to_owned()];
        assert_eq!(new_member_id(&urls, "etcd-cluster", None), 0x8e9e_05c5_2164_694d);
        assert_ne!(
            new_member_id(&urls, "etcd-cluster", Some(1)),
            new_member_id(&urls, "etcd-cluster", Some(2))
        );
        let two = ["http://b:1".to_owned(), "http://a:1".to_owned()];
        let swapped = ["http://a:1".to_owned(), "http://b:1".to_owned()];
        assert_eq!(new_member_id(&two, "t", None), new_member_id(&swapped, "t", None));
    }

    #[test]
    fn attributes_are_readable_json() {
        let attributes = MemberAttributes { name: "n1".into(), client_urls: vec!["http://a:2379".into()] };
        let json = serde_json::to_string(&attributes).unwrap();
        assert_eq!(json, r#"{"name":"n1","clientURLs":["http://a:2379"]}"#);
        assert_eq!(attributes_key(0xab).as_ref(), b"member/00000000000000ab");
    }
}
