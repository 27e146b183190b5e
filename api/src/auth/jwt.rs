//! Signed tokens: nobody keeps them, any member with the key checks them.
//!
//! Owns: [`Jwt`]: reading `--auth-token=jwt,…`, writing tokens and checking them. Called by: the gate and the auth
//! service. Invariants: only the configured method is taken, whatever a token says of itself; a token says at which
//! revision of users and roles it was made, and needs renewing once they have changed.
//! Source: etcd 3.7 `server/auth/jwt.go`; RFC 7515 and 7519.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::keys::{Keys, TokenKeyError};

/// Life of a token when the setting names none.
const LIFETIME: Duration = Duration::from_secs(300);

/// See the module.
pub struct Jwt {
    method: String,
    keys: Keys,
    lifetime: Duration,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Jwt {
    /// Reads the options after `jwt,`. `duration` reads a duration as the other settings are read.
    ///
    /// # Errors
    /// Options that make no sense, and keys that cannot be read or do not fit.
    pub fn load(options: &str, duration: impl Fn(&str) -> Option<Duration>) -> Result<Self, TokenKeyError> {
        let mut found = BTreeMap::new();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let pair = option.split_once('=').filter(|(_, value)| !value.contains('='));
            let (name, value) = pair.ok_or_else(|| TokenKeyError::Option(option.to_owned()))?;
            if found.insert(name, value).is_some() {
                return Err(TokenKeyError::Option(option.to_owned()));
            }
        }
        let mut take = |name: &str| found.remove(name).filter(|value| !value.is_empty());
        let method = take("sign-method").unwrap_or_default().to_owned();
        let lifetime = match take("ttl") {
            None => LIFETIME,
            Some(text) => duration(text).ok_or_else(|| TokenKeyError::Lifetime(text.to_owned()))?,
        };
        let mut file = |name: &str| take(name).map(|path| read(Path::new(path))).transpose();
        let (public, private) = (file("pub-key")?, file("priv-key")?);
        for name in found.keys() {
            tracing::warn!(name, "--auth-token: an option nobody knows is ignored");
        }
        let keys = Keys::load(&method, public.as_deref(), private.as_deref())?;
        Ok(Jwt { method, keys, lifetime })
    }

    /// Whether this member can log users in.
    pub(crate) fn can_sign(&self) -> bool {
        self.keys.can_sign()
    }

    /// A token for a user; `None` where there is no key to sign with.
    pub(crate) fn sign(&self, user: &str, auth_revision: u64, now_unix_s: u64) -> Option<String> {
        let header = json!({"alg": self.method, "typ": "JWT"});
        let claims = json!({
            "exp": now_unix_s.saturating_add(self.lifetime.as_secs()),
            "revision": auth_revision,
            "username": user,
        });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.keys.sign(message.as_bytes())?;
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// User and auth revision of a token that is right and not over.
    pub(crate) fn verify(&self, token: &str, now_unix_s: u64) -> Option<(String, u64)> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let part = |text: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
        };
        if part(header)?.get("alg")?.as_str()? != self.method {
            return None;
        }
        if !self.keys.verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?) {
            return None;
        }
        let claims = part(claims)?;
        // Seconds may have a fraction; a claim of another type makes the token wrong.
        let now = now_unix_s as f64;
        if let Some(end) = claims.get("exp")
            && end.as_f64()? <= now
        {
            return None;
        }
        if let Some(begin) = claims.get("nbf")
            && begin.as_f64()? > now
        {
            return None;
        }
        let user = claims.get("username")?.as_str()?.to_owned();
        let revision = claims.get("revision")?.as_f64()?;
        Some((user, revision as u64))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TokenKeyError> {
    std::fs::read(path).map_err(|source| TokenKeyError::Read { path: PathBuf::from(path), source })
}

#[cfg(test)]
mod tests {
    use rcgen::{
        KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
        PKCS_RSA_SHA256, SignatureAlgorithm,
    };

    use super::*;

    fn pair(algorithm: &'static SignatureAlgorithm) -> KeyPair {
        KeyPair::generate_for(algorithm).unwrap()
    }

    fn jwt(method: &str, public: Option<&str>, private: Option<&str>) -> Result<Jwt, TokenKeyError> {
        let keys = Keys::load(method, public.map(str::as_bytes), private.map(str::as_bytes))?;
        Ok(Jwt { method: method.to_owned(), keys, lifetime: LIFETIME })
    }

    #[test]
    fn every_method_signs_and_verifies() {
        let rsa = pair(&PKCS_RSA_SHA256);
        for (method, key) in [
            ("RS256", &rsa),
            ("RS384", &rsa),
            ("RS512", &rsa),
            ("PS256", &rsa),
            ("PS384", &rsa),
            ("PS512", &rsa),
            ("ES256", &pair(&PKCS_ECDSA_P256_SHA256)),
            ("ES384", &pair(&PKCS_ECDSA_P384_SHA384)),
            ("ES512", &pair(&PKCS_ECDSA_P521_SHA512)),
            ("EdDSA", &pair(&PKCS_ED25519)),
        ] {
            let (public, private) = (key.public_key_pem(), key.serialize_pem());
            let both = jwt(method, Some(&public), Some(&private)).unwrap();
            let token = both.sign("alice", 7, 1000).unwrap();
            let verifying = jwt(method, Some(&public), None).unwrap();
            assert!(!verifying.can_sign() && verifying.sign("alice", 7, 1000).is_none());
            assert_eq!(verifying.verify(&token, 1000), Some(("alice".to_owned(), 7)), "{method}");
            let mut forged = token.into_bytes();
            let last = forged.len() - 5;
            forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
            assert_eq!(verifying.verify(std::str::from_utf8(&forged).unwrap(), 1000), None, "{method}");
        }
        for method in ["HS256", "HS384", "HS512"] {
            let shared = jwt(method, None, Some("a shared secret")).unwrap();
            let token = shared.sign("alice", 7, 1000).unwrap();
            assert_eq!(shared.verify(&token, 1000), Some(("alice".to_owned(), 7)));
            let other = jwt(method, None, Some("another secret")).unwrap();
            assert_eq!(other.verify(&token, 1000), None);
        }
    }

    #[test]
    fn a_token_lives_for_its_time() {
        let jwt = jwt("HS256", None, Some("secret")).unwrap();
        let token = jwt.sign("alice", 7, 1000).unwrap();
        assert!(jwt.verify(&token, 1299).is_some());
        assert!(jwt.verify(&token, 1300).is_none());
    }

    #[test]
    fn a_token_says_nothing_about_how_it_is_checked() {
        let jwt = jwt("HS256", None, Some("secret")).unwrap();
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let claims = r#"{"username":"root","revision":7}"#;
        let signed = |header: &str, claims: &str| {
            let message = format!("{}.{}", part(header), part(claims));
            let signature = jwt.keys.sign(message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
        };
        let header = r#"{"alg":"HS256","typ":"JWT"}"#;
        assert!(jwt.verify(&signed(header, claims), 1000).is_some(), "a token may live for ever");
        assert!(jwt.verify(&signed(r#"{"alg":"none"}"#, claims), 1000).is_none());
        assert!(jwt.verify(&signed(r#"{"alg":"HS512"}"#, claims), 1000).is_none());
        let unsigned = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(claims));
        assert!(jwt.verify(&unsigned, 1000).is_none());
        for wrong in [
            r#"{"revision":7}"#,
            r#"{"username":"root"}"#,
            r#"{"username":7,"revision":7}"#,
            r#"{"username":"root","revision":"7"}"#,
            r#"{"username":"root","revision":7,"exp":"soon"}"#,
            r#"{"username":"root","revision":7,"nbf":1001}"#,
            "[]",
        ] {
            assert!(jwt.verify(&signed(header, wrong), 1000).is_none(), "{wrong}");
        }
        for noise in ["", ".", "..", "a.b.c", "nonsense"] {
            assert!(jwt.verify(noise, 1000).is_none());
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_refused_at_start() {
        let (one, other) = (pair(&PKCS_ECDSA_P256_SHA256), pair(&PKCS_ECDSA_P256_SHA256));
        let mixed = jwt("ES256", Some(&one.public_key_pem()), Some(&other.serialize_pem()));
        assert!(matches!(mixed, Err(TokenKeyError::Mismatch)));
        assert!(matches!(jwt("ES256", None, None), Err(TokenKeyError::Missing)));
        assert!(matches!(jwt("HS256", Some("x"), None), Err(TokenKeyError::Missing)));
        assert!(matches!(jwt("none", None, Some("x")), Err(TokenKeyError::Method(_))));
        for method in ["ES384", "RS256", "EdDSA"] {
            let public = jwt(method, Some(&one.public_key_pem()), None);
            assert!(matches!(public, Err(TokenKeyError::Unfit { .. })), "{method} {public:?}");
            let private = jwt(method, None, Some(&one.serialize_pem()));
            assert!(matches!(private, Err(TokenKeyError::Unfit { .. })), "{method} {private:?}");
        }
        assert!(matches!(jwt("ES256", Some("no key"), None), Err(TokenKeyError::Unfit { .. })));
    }

    #[test]
    fn options_are_read_as_etcd_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        std::fs::write(&key, pair(&PKCS_ED25519).serialize_pem()).unwrap();
        let key = key.display();
        let load = |options: String| Jwt::load(&options, |text| text.parse().ok().map(Duration::from_secs));
        let jwt = load(format!("sign-method=EdDSA,priv-key={key},ttl=10")).unwrap();
        assert_eq!((jwt.lifetime, jwt.can_sign()), (Duration::from_secs(10), true));
        assert_eq!(load(format!("sign-method=EdDSA,priv-key={key}")).unwrap().lifetime, LIFETIME);
        assert!(matches!(load(format!("priv-key={key}")), Err(TokenKeyError::Method(_))));
        assert!(matches!(load("sign-method".to_owned()), Err(TokenKeyError::Option(_))));
        assert!(matches!(load("ttl=1,ttl=2".to_owned()), Err(TokenKeyError::Option(_))));
        assert!(matches!(load("ttl=x,sign-method=EdDSA".to_owned()), Err(TokenKeyError::Lifetime(_))));
        let absent = load("sign-method=EdDSA,priv-key=/nowhere".to_owned());
        assert!(matches!(absent, Err(TokenKeyError::Read { .. })));
    }
}
