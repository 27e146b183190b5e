//! From the configuration's words to those of the edge.
//!
//! Called by: `server`. Owns no state.

use std::path::Path;

use keelson_api::edge::tls::{AutoTls, TlsRole, TlsSettings, TlsVersion};

use crate::config::EffectiveConfig;
use crate::config::effective::{self, Tls};
use crate::config::url::Url;

/// Settings of the client port.
pub(super) fn client(config: &EffectiveConfig) -> TlsSettings {
    settings(config, &config.client_tls, TlsRole::Client, "client", &config.listen.client_urls)
}

/// Settings of the peer port and of connections to peers.
pub(super) fn peer(config: &EffectiveConfig) -> TlsSettings {
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
