//! The certificates, keys and CAs of all ports, and the way to them from the configuration's words.
//!
//! Owns: [`Material`]. Called by: `server` and `ports`. Invariants: a start with files that cannot be used fails; a
//! reload with such files changes nothing and is logged.

use std::path::Path;
use std::sync::Arc;

use keelson_api::edge::tls::{
    AutoTls, ClientTls, PeerConnector, ServerTls, TlsError, TlsRole, TlsSettings, TlsVersion,
};

use super::StartError;
use crate::config::EffectiveConfig;
use crate::config::effective::{self, Tls};
use crate::config::url::Url;
use crate::lifecycle;

/// What is loaded; `None` where a side is plain. Clones share it.
#[derive(Clone)]
pub(super) struct Material {
    pub(super) client: Option<Arc<ServerTls>>,
    pub(super) peer: Option<Arc<ServerTls>>,
    /// Of connections to other members.
    outgoing: Option<Arc<ClientTls>>,
}

impl Material {
    /// Reads all files that the configuration names.
    pub(super) fn load(config: &EffectiveConfig) -> Result<Self, StartError> {
        let (client, peer) = (client(config), peer(config));
        Ok(Material {
            client: serving(&client)?,
            peer: serving(&peer)?,
            outgoing: if peer.is_empty() && peer.trusted_ca_file.is_none() {
                None
            } else {
                Some(ClientTls::load(peer).map_err(failed)?)
            },
        })
    }

    /// The way to other members.
    pub(super) fn connector(&self) -> PeerConnector {
        PeerConnector::new(self.outgoing.clone())
    }

    /// Reads the files again at each hangup. A changed file is noticed at the next handshake without one, too; the
    /// signal is for those who want to see at once whether the new files can be used.
    pub(super) async fn reload_at_hangup(self) {
        let mut requests = lifecycle::reload_requests();
        while requests.changed().await.is_ok() {
            tracing::info!("received hangup; reading the TLS files again");
            // What is wrong with a file is logged there, and the material of before stays in use.
            [&self.client, &self.peer].into_iter().flatten().for_each(|tls| drop(tls.reload()));
            self.outgoing.iter().for_each(|tls| drop(tls.reload()));
        }
    }
}

fn serving(settings: &TlsSettings) -> Result<Option<Arc<ServerTls>>, StartError> {
    if settings.is_empty() {
        return Ok(None);
    }
    ServerTls::load(settings.clone()).map(Some).map_err(failed)
}

fn failed(error: TlsError) -> StartError {
    StartError::new("load the TLS settings", "see the cause").caused_by(error)
}

/// Settings of the client port.
fn client(config: &EffectiveConfig) -> TlsSettings {
    settings(config, &config.client_tls, TlsRole::Client, "client", &config.listen.client_urls)
}

/// Settings of the peer port and of connections to peers.
fn peer(config: &EffectiveConfig) -> TlsSettings {
    TlsSettings {
        // A certificate that a peer made itself proves nothing but is better than plain text, as in etcd.
        insecure_skip_verify: config.peer_tls.auto && config.peer_tls.trusted_ca_file.is_none(),
        ..settings(config, &config.peer_tls, TlsRole::Peer, "peer", &config.listen.peer_urls)
    }
}

fn settings(config: &EffectiveConfig, tls: &Tls, role: TlsRole, folder: &str, urls: &[Url]) -> TlsSettings {
    let security = &config.security;
    let version = |version| match version {
        effective::TlsVersion::V12 => Some(TlsVersion::Tls12),
        effective::TlsVersion::V13 => Some(TlsVersion::Tls13),
    };
    TlsSettings {
        role,
        cert_file: tls.cert_file.clone(),
        key_file: tls.key_file.clone(),
        client_cert_file: tls.client_cert_file.clone(),
        client_key_file: tls.client_key_file.clone(),
        trusted_ca_file: tls.trusted_ca_file.clone(),
        client_cert_auth: tls.client_cert_auth,
        crl_file: tls.crl_file.clone(),
        allowed_common_names: tls.allowed_cns.clone(),
        allowed_hostnames: tls.allowed_hostnames.clone(),
        cipher_suites: security.cipher_suites.clone(),
        version_min: version(security.tls_min),
        version_max: version(security.tls_max),
        auto_tls: tls
            .auto
            .then(|| auto(&config.member.data_dir, folder, urls, security.self_signed_validity_years)),
        skip_client_san_verification: tls.skip_san_verification,
        ..TlsSettings::default()
    }
}

fn auto(data_dir: &Path, folder: &str, urls: &[Url], validity_years: u32) -> AutoTls {
    AutoTls {
        directory: data_dir.join("fixtures").join(folder),
        hosts: urls.iter().map(|url| url.host().to_owned()).collect(),
        validity_years,
    }
}
