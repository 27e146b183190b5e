//! The keys of signed tokens, from files to something that signs and verifies.
//!
//! Owns: [`Keys`], the signature methods and their names. Called by: [`super::jwt`]. Invariant: what signs also
//! verifies, and a pair of files that do not belong together is refused at start.
//! Source: etcd 3.7 `server/auth/options.go`; RFC 7518 for the methods.

use std::path::PathBuf;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use aws_lc_rs::{hmac, rsa};
use rustls_pki_types::pem::{PemObject, SectionKind};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

/// Why tokens cannot be signed or verified with what `--auth-token` names.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TokenKeyError {
    #[error("--auth-token: {0:?} is not of the form name=value, or there twice")]
    Option(String),
    #[error(
        "--auth-token: sign-method {0:?} is unknown: give RS, PS, ES or HS with 256, 384 or 512, or EdDSA"
    )]
    Method(String),
    #[error("--auth-token: ttl {0:?} is not a duration such as 10m")]
    Lifetime(String),
    #[error("--auth-token: read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("--auth-token: no key is given: priv-key= to sign, pub-key= to verify alone")]
    Missing,
    #[error("--auth-token: the {which} key does not fit the sign-method: {reason}")]
    Unfit { which: &'static str, reason: String },
    #[error("--auth-token: pub-key and priv-key do not belong together")]
    Mismatch,
}

/// Signs and verifies.
pub(super) struct Keys {
    signer: Option<Signer>,
    verifier: Verifier,
}

enum Signer {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac(Box<hmac::Key>),
}

enum Verifier {
    Public(UnparsedPublicKey<Vec<u8>>),
    Hmac(Box<hmac::Key>),
}

/// A signature method: its family with what the family needs.
/// Of ECDSA also the bytes of a number.
#[derive(Clone, Copy)]
enum Method {
    Rsa(&'static dyn RsaEncoding, &'static dyn VerificationAlgorithm),
    Ecdsa(&'static EcdsaSigningAlgorithm, &'static dyn VerificationAlgorithm, usize),
    Ed25519,
    Hmac(hmac::Algorithm),
}

impl Method {
    fn named(name: &str) -> Option<Self> {
        use signature as s;
        Some(match name {
            "RS256" => Method::Rsa(&s::RSA_PKCS1_SHA256, &s::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => Method::Rsa(&s::RSA_PKCS1_SHA384, &s::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => Method::Rsa(&s::RSA_PKCS1_SHA512, &s::RSA_PKCS1_2048_8192_SHA512),
            "PS256" => Method::Rsa(&s::RSA_PSS_SHA256, &s::RSA_PSS_2048_8192_SHA256),
            "PS384" => Method::Rsa(&s::RSA_PSS_SHA384, &s::RSA_PSS_2048_8192_SHA384),
            "PS512" => Method::Rsa(&s::RSA_PSS_SHA512, &s::RSA_PSS_2048_8192_SHA512),
            "ES256" => Method::Ecdsa(&s::ECDSA_P256_SHA256_FIXED_SIGNING, &s::ECDSA_P256_SHA256_FIXED, 32),
            "ES384" => Method::Ecdsa(&s::ECDSA_P384_SHA384_FIXED_SIGNING, &s::ECDSA_P384_SHA384_FIXED, 48),
            "ES512" => Method::Ecdsa(&s::ECDSA_P521_SHA512_FIXED_SIGNING, &s::ECDSA_P521_SHA512_FIXED, 66),
            "EdDSA" => Method::Ed25519,
            "HS256" => Method::Hmac(hmac::HMAC_SHA256),
            "HS384" => Method::Hmac(hmac::HMAC_SHA384),
            "HS512" => Method::Hmac(hmac::HMAC_SHA512),
            _ => return None,
        })
    }
}

impl Keys {
    /// Keys for the method of this name, from the contents of the files.
    pub(super) fn load(
        method: &str,
        public: Option<&[u8]>,
        private: Option<&[u8]>,
    ) -> Result<Self, TokenKeyError> {
        let named = Method::named(method).ok_or_else(|| TokenKeyError::Method(method.to_owned()))?;
        // An empty file counts as none, as in etcd.
        let (public, private) = (public.filter(|key| !key.is_empty()), private.filter(|key| !key.is_empty()));
        if let Method::Hmac(algorithm) = named {
            let key = Box::new(hmac::Key::new(algorithm, private.ok_or(TokenKeyError::Missing)?));
            return Ok(Keys { signer: Some(Signer::Hmac(key.clone())), verifier: Verifier::Hmac(key) });
        }
        let given = public.map(public_key).transpose()?;
        let signer = private.map(|pem| signer(named, pem)).transpose()?;
        let own = signer.as_ref().and_then(Signer::public_key);
        if let (Some(given), Some(own)) = (&given, &own)
            && given != own
        {
            return Err(TokenKeyError::Mismatch);
        }
        let key = own.or(given).ok_or(TokenKeyError::Missing)?;
        let algorithm = match named {
            Method::Rsa(_, algorithm) | Method::Ecdsa(_, algorithm, _) => algorithm,
            _ => &signature::ED25519,
        };
        fits(named, &key)?;
        Ok(Keys { signer, verifier: Verifier::Public(UnparsedPublicKey::new(algorithm, key)) })
    }

    /// The signature of a message; `None` where there is only a public key.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self.signer.as_ref()? {
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Signer::Ecdsa(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Signer::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Signer::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
        }
    }

    /// Whether there is a key to sign with.
    pub(super) fn can_sign(&self) -> bool {
        self.signer.is_some()
    }

    /// Whether the signature is one of the message.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.verifier {
            Verifier::Public(key) => key.verify(message, signature).is_ok(),
            Verifier::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

impl Signer {
    /// The bare key, as [`public_key`] gives it.
    fn public_key(&self) -> Option<Vec<u8>> {
        Some(match self {
            Signer::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
            Signer::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Signer::Hmac(_) => return None,
        })
    }
}

fn unfit(which: &'static str) -> impl Fn(String) -> TokenKeyError {
    move |reason| TokenKeyError::Unfit { which, reason }
}

/// The first section of a PEM file that holds a key or a certificate.
fn section(pem: &[u8], which: &'static str) -> Result<(SectionKind, Vec<u8>), TokenKeyError> {
    // Sections of other kinds, such as the parameters of a curve, are passed over.
    let found = <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(pem).find_map(Result::ok);
    found.ok_or_else(|| unfit(which)("the file has no section in the PEM format".to_owned()))
}

fn signer(method: Method, pem: &[u8]) -> Result<Signer, TokenKeyError> {
    let (kind, der) = section(pem, "private")?;
    let refused = |error: aws_lc_rs::error::KeyRejected| unfit("private")(error.to_string());
    Ok(match method {
        Method::Rsa(encoding, _) => {
            let pair = match kind {
                SectionKind::RsaPrivateKey => RsaKeyPair::from_der(&der),
                _ => RsaKeyPair::from_pkcs8(&der),
            };
            Signer::Rsa(Box::new(pair.map_err(refused)?), encoding)
        }
        Method::Ecdsa(algorithm, ..) => Signer::Ecdsa(match kind {
            SectionKind::EcPrivateKey => {
                EcdsaKeyPair::from_private_key_der(algorithm, &der).map_err(refused)?
            }
            _ => EcdsaKeyPair::from_pkcs8(algorithm, &der).map_err(refused)?,
        }),
        Method::Ed25519 => {
            Signer::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(refused)?)
        }
        Method::Hmac(algorithm) => Signer::Hmac(Box::new(hmac::Key::new(algorithm, pem))),
    })
}

/// The bare key in a PEM file: of a public key in either form, or of a certificate.
fn public_key(pem: &[u8]) -> Result<Vec<u8>, TokenKeyError> {
    let (kind, der) = section(pem, "public")?;
    let refused = |error: &dyn std::fmt::Display| unfit("public")(error.to_string());
    let bare = |info: SubjectPublicKeyInfo<'_>| info.subject_public_key.data.to_vec();
    match kind {
        SectionKind::Certificate => {
            let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| refused(&error))?;
            Ok(bare(certificate.tbs_certificate.subject_pki))
        }
        SectionKind::PublicKey => {
            let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|error| refused(&error))?;
            Ok(bare(info))
        }
        _ => Err(refused(&"the file holds no public key")),
    }
}

/// A key of another kind would only show when the first token is refused.
fn fits(method: Method, key: &[u8]) -> Result<(), TokenKeyError> {
    let fits = match method {
        Method::Rsa(..) => rsa::PublicKey::from_der(key).is_ok(),
        // An uncompressed point: a byte and two numbers.
        Method::Ecdsa(_, _, number) => key.len() == 1 + 2 * number,
        Method::Ed25519 => key.len() == 32,
        Method::Hmac(_) => true,
    };
    if fits { Ok(()) } else { Err(unfit("public")("it is of another kind".to_owned())) }
}
