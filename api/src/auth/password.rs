//! Passwords: hashed and checked with bcrypt, away from the serving threads.
//!
//! Owns: [`Passwords`]. Called by: the auth service. Invariants: at most half of the cores hash at a time, so that
//! logins, which need no right, cannot keep the others from being served; what is hashed has the form etcd writes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::errors;

/// Bytes of a password bcrypt looks at.
const PASSWORD_BYTES_MAX: usize = 72;

/// See the module.
pub(crate) struct Passwords {
    cost: u32,
    places: Arc<Semaphore>,
}

impl Passwords {
    /// Hashes at `cost`, 4 to 31.
    pub(crate) fn new(cost: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Passwords { cost, places: Arc::new(Semaphore::new((cores / 2).max(1))) }
    }

    /// The hash to be kept of a password.
    pub(crate) async fn hash(&self, password: String) -> Result<Bytes, Status> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(errors::PASSWORD_TOO_LONG.into());
        }
        let cost = self.cost;
        let hash = self.apart(move || bcrypt::hash_with_result(password, cost)).await?;
        let hash = hash.map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            Status::internal("hashing the password failed")
        })?;
        Ok(Bytes::from(hash.format_for_version(bcrypt::Version::TwoA)))
    }

    /// Whether this is the password the hash was made of.
    pub(crate) async fn matches(&self, password: String, hash: Bytes) -> Result<bool, Status> {
        self.apart(move || {
            let hash = std::str::from_utf8(&hash).unwrap_or_default();
            bcrypt::verify(password, hash).unwrap_or(false)
        })
        .await
    }

    async fn apart<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| errors::STOPPED.status())?;
        let work = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(place);
            result
        });
        work.await.map_err(|failure| {
            tracing::error!(%failure, "a password check panicked");
            Status::internal("checking the password failed")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hashes_are_those_of_etcd_and_match_their_password_alone() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash("secret".to_owned()).await.unwrap();
        assert!(hash.starts_with(b"$2a$04$") && hash.len() == 60, "{hash:?}");
        assert!(passwords.matches("secret".to_owned(), hash.clone()).await.unwrap());
        assert!(!passwords.matches("Secret".to_owned(), hash).await.unwrap());
        // A user without a hash has no password that matches.
        assert!(!passwords.matches("pw".to_owned(), Bytes::new()).await.unwrap());
    }

    #[tokio::test]
    async fn a_password_beyond_what_bcrypt_reads_is_refused() {
        let passwords = Passwords::new(4);
        assert!(passwords.hash("x".repeat(72)).await.is_ok());
        let status = passwords.hash("x".repeat(73)).await.unwrap_err();
        assert_eq!(status.message(), "bcrypt: password length exceeds 72 bytes");
    }
}
