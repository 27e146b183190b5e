//! Who a request comes from, and whether it may be answered.
//!
//! Owns: [`Credentials`] (what a request shows), tokens, passwords, and the questions the services ask about a caller.
//! What users and roles there are, and which writes they may do, is replicated state ([`keelson_mvcc::auth`]).
//! Called by: every service. Invariants: a read is judged by the users and roles of the very view it reads; a write is
//! judged where it is applied; a request without credentials costs two look-ups in its headers while authentication is
//! off, and nothing else; secrets are in no log and no entry of the replicated log.
//! Source: etcd 3.7 `server/auth`, `server/etcdserver/api/v3rpc/auth.go`.

mod gate;
mod jwt;
mod keys;
mod password;
mod tokens;

use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderValue};
use keelson_mvcc::auth::{Auth, Caller};

use crate::{edge::tls::PeerIdentity, options::ApiOptions};

pub use jwt::Jwt;
pub use keys::TokenKeyError;
pub(crate) use password::Passwords;
pub(crate) use tokens::{Tokens, new_prefix};

/// Where the clients' libraries put the token.
const TOKEN: &str = "token";
/// Where the JSON gateway puts it.
const AUTHORIZATION: &str = "authorization";
/// Says that a request came through a JSON gateway, whose certificate is not the user's.
const GATEWAY: &str = "grpcgateway-accept";

/// How logged-in users show who they are.
#[derive(Clone, Debug, Default)]
pub enum TokenKind {
    /// Random tokens every member keeps in memory.
    #[default]
    Simple,
    /// Signed tokens nobody keeps.
    Jwt(Arc<Jwt>),
}

/// What a request shows of its sender, not yet checked.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    token: Option<HeaderValue>,
    certificate: Option<Arc<PeerIdentity>>,
}

impl Credentials {
    /// `None` for a request that shows nothing.
    pub(crate) fn of(
        options: &ApiOptions,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Option<Box<Self>> {
        let token = headers.get(TOKEN).or_else(|| headers.get(AUTHORIZATION));
        let certificate = match options.client_cert_auth {
            true if !headers.contains_key(GATEWAY) => extensions.get::<Arc<PeerIdentity>>(),
            _ => None,
        };
        (token.is_some() || certificate.is_some())
            .then(|| Box::new(Credentials { token: token.cloned(), certificate: certificate.cloned() }))
    }

    /// The token; bytes that are no text are as good as no token anybody was given.
    fn token(&self) -> Option<&str> {
        let text = self.token.as_ref()?.to_str().unwrap_or_default();
        Some(text.strip_prefix("Bearer ").unwrap_or(text))
    }
}

/// A user whose credentials were found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    user: String,
    /// Tokens of the signed kind say themselves what they count for.
    revision: Option<u64>,
}

impl Identity {
    /// The caller at the newest users and roles this member knows.
    fn caller(&self, auth: &Auth) -> Caller {
        Caller { user: self.user.clone(), auth_revision: self.revision.unwrap_or_else(|| auth.revision()) }
    }
}
