//! What Keelson does not have yet: tests of it run against etcd only, until the entry is removed.
//!
//! Owns: the list. Invariant: an entry is checked at every use, so that one that has become untrue fails the test.
//! Called by: the suites, before a test that needs the feature.

use keelson_proto::etcdserverpb as pb;
use keelson_proto::v3lockpb::{UnlockRequest, lock_client::LockClient};
use tonic::Code;

use crate::client::Client;
use crate::cluster::{Cluster, Kind};
use crate::http;

/// A part of etcd's surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Users, roles, tokens, permissions.
    Auth,
    /// The JSON gateway under `/v3/`.
    Gateway,
    /// The lock and election services (the clients' own recipes need only keys and leases).
    Locks,
}

impl Feature {
    /// The name the client programs know.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Gateway => "gateway",
            Self::Locks => "locks",
        }
    }
}

/// What Keelson lacks; all of it answers "unimplemented", nothing half.
pub const MISSING_IN_KEELSON: &[Feature] = &[];

/// Whether a server lacks a feature by the list alone, without asking it.
pub fn listed(kind: Kind, feature: Feature) -> bool {
    kind == Kind::Keelson && MISSING_IN_KEELSON.contains(&feature)
}

/// Whether this server lacks the feature.
///
/// # Panics
/// If the list says so but the server answers: then the entry has to go.
pub async fn lacks(cluster: &Cluster, feature: Feature) -> bool {
    if !listed(cluster.options().kind, feature) {
        return false;
    }
    let client = Client::lazy(&cluster.member(0).client_url());
    let missing = match feature {
        Feature::Auth => {
            let user = pb::AuthUserAddRequest {
                name: "probe".to_owned(),
                password: "x".to_owned(),
                ..Default::default()
            };
            let answer = client.auth().user_add(user).await;
            answer.is_err_and(|status| status.code() == Code::Unimplemented)
        }
        Feature::Gateway => {
            let address = cluster.member(0).client_address();
            let answer = http::request(&address, "POST", "/v3/kv/range", r#"{"key":"YQ=="}"#).await;
            answer.is_ok_and(|answer| answer.status == 404)
        }
        Feature::Locks => {
            let mut lock = LockClient::new(client.channel());
            let answer = lock.unlock(UnlockRequest { key: "nothing".into() }).await;
            answer.is_err_and(|status| status.code() == Code::Unimplemented)
        }
    };
    assert!(missing, "{feature:?} is there now: remove it from MISSING_IN_KEELSON");
    println!("SKIPPED: Keelson does not have {feature:?} yet");
    true
}
