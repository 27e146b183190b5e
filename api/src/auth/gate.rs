//! The questions services ask about the sender of a request.
//!
//! Owns: the steps from credentials to a caller, and the proposal of a write in the name of one. Invariant: a proposal
//! is repeated only when it was refused because users or roles had changed, so it has done nothing.

use std::sync::Arc;

use keelson_mvcc::auth::{AuthError, Caller, Login};
use keelson_mvcc::types::{ApplyError, Command, Outcome, Revision};
use tonic::Status;

use super::{Credentials, Identity, TokenKind};
use crate::{
    backend::View,
    call::Call,
    errors,
    state::{AppState, Inner},
};

/// What the credentials of a request came to.
enum Found {
    Identity(Identity),
    /// Perhaps a login this member has not applied yet.
    NotYet,
    /// Nothing that names a user.
    Nobody,
}

impl Inner {
    /// The newest view, and who asks by what it knows. No caller while authentication is off.
    ///
    /// # Errors
    /// A token nobody was given.
    pub(crate) async fn visitor(&self, call: &Call) -> Result<(Arc<dyn View>, Option<Caller>), Status> {
        let view = self.view();
        let Some(credentials) = call.credentials.as_deref().filter(|_| view.auth().is_enabled()) else {
            return Ok((view, None));
        };
        let (view, found) = match self.identify(credentials, &*view)? {
            Found::NotYet => {
                // Whoever was told this token was told after it had been committed.
                self.linearize(call).await?;
                let view = self.view();
                let found = self.identify(credentials, &*view)?;
                (view, found)
            }
            found => (view, found),
        };
        let caller = match found {
            Found::Identity(identity) => Some(identity.caller(view.auth())),
            Found::Nobody => None,
            Found::NotYet => return Err(errors::INVALID_AUTH_TOKEN.into()),
        };
        Ok((view, caller))
    }

    /// As [`Inner::visitor`], for a read of keys: refused where the data may be damaged.
    pub(crate) async fn reader(&self, call: &Call) -> Result<(Arc<dyn View>, Option<Caller>), Status> {
        let (view, caller) = self.visitor(call).await?;
        match self.is_isolated(&*view) {
            true => Err(errors::CORRUPT.into()),
            false => Ok((view, caller)),
        }
    }

    /// As [`Inner::visitor`], at once: a login that is not applied here yet counts as wrong.
    pub(crate) fn visitor_now(&self, call: &Call) -> Result<(Arc<dyn View>, Option<Caller>), Status> {
        let view = self.view();
        let Some(credentials) = call.credentials.as_deref().filter(|_| view.auth().is_enabled()) else {
            return Ok((view, None));
        };
        let caller = match self.identify(credentials, &*view)? {
            Found::Identity(identity) => Some(identity.caller(view.auth())),
            Found::Nobody => None,
            Found::NotYet => return Err(errors::INVALID_AUTH_TOKEN.into()),
        };
        Ok((view, caller))
    }

    /// Refuses everybody but users with the role root.
    pub(crate) async fn check_admin(&self, call: &Call) -> Result<(), Status> {
        let (view, caller) = self.visitor(call).await?;
        view.auth().check_admin(caller.as_ref()).map_err(errors::from_auth)?;
        Ok(())
    }

    /// Refuses nobody.
    pub(crate) async fn check_user(&self, call: &Call) -> Result<(), Status> {
        let (view, caller) = self.visitor(call).await?;
        match caller.is_none() && view.auth().is_enabled() {
            true => Err(errors::USER_EMPTY.into()),
            false => Ok(()),
        }
    }

    /// Logins were applied; told in the order of the log.
    pub(crate) fn logged_in(&self, logins: &[Login]) {
        // Members that sign tokens take none of these.
        if matches!(self.options.token_kind, TokenKind::Simple) {
            self.tokens.add(logins, self.clock.now());
        }
    }

    fn identify(&self, credentials: &Credentials, view: &dyn View) -> Result<Found, Status> {
        let Some(token) = credentials.token() else {
            let name = |certificate: &Arc<crate::edge::tls::PeerIdentity>| Identity {
                user: certificate.common_name.clone(),
                revision: None,
            };
            return Ok(credentials
                .certificate
                .as_ref()
                .map_or(Found::Nobody, |it| Found::Identity(name(it))));
        };
        match &self.options.token_kind {
            TokenKind::Jwt(jwt) => {
                let (user, revision) =
                    jwt.verify(token, self.clock.unix_ms() / 1000).ok_or(errors::INVALID_AUTH_TOKEN)?;
                Ok(Found::Identity(Identity { user, revision: Some(revision) }))
            }
            TokenKind::Simple => {
                let applied = view.applied().map_or(0, |position| position.index);
                match self.tokens.user(token, view.auth(), self.clock.now()) {
                    Some(user) => Ok(Found::Identity(Identity { user, revision: None })),
                    None if super::tokens::index(token).is_some_and(|index| index > applied) => {
                        Ok(Found::NotYet)
                    }
                    None => Err(errors::INVALID_AUTH_TOKEN.into()),
                }
            }
        }
    }
}

impl AppState {
    /// Replicates and applies a command in the name of whoever sent the request. The reply's revision belongs into the
    /// header.
    pub(crate) async fn propose(&self, command: Command, call: &Call) -> Result<(Revision, Outcome), Status> {
        if call.credentials.is_none() {
            return answer(self.propose_once(command, call).await?);
        }
        let deadline = self.clock.now() + call.timeout;
        let mut caller = self.visitor(call).await?.1;
        loop {
            let this = match &caller {
                Some(caller) => Command::As { caller: caller.clone(), command: Box::new(command.clone()) },
                None => command.clone(),
            };
            let reply = self.propose_once(this, call).await?;
            // Users or roles changed between here and apply, which refused it. It has done nothing, so it is judged
            // anew; a caller that is the same again, such as one with a signed token, keeps its answer.
            let moved =
                matches!(reply.outcome, Err(ApplyError::Auth(AuthError::OldRevision | AuthError::UserEmpty)));
            if !moved || self.clock.now() >= deadline {
                return answer(reply);
            }
            let now = self.visitor(call).await?.1;
            if now == caller {
                return answer(reply);
            }
            caller = now;
        }
    }
}

fn answer(reply: keelson_mvcc::types::Reply) -> Result<(Revision, Outcome), Status> {
    match reply.outcome {
        Ok(outcome) => Ok((reply.revision, outcome)),
        Err(error) => Err(errors::from_apply(&error).status()),
    }
}
