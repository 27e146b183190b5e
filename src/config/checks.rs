//! Checks what single values cannot show: bounds, contradictions, doors left open by mistake.
//!
//! Invariants: a configuration that passes can be handed to the server; each refusal names the settings and a remedy.
//! Called by: `resolve`, last. Source: etcd server/embed/config.go (`Validate`), client/pkg/transport (TLS rules).

use std::time::Duration;

use super::effective::{EffectiveConfig, Tls, TlsVersion};
use super::error::ConfigError;
use super::given::Given;
use super::setting::Status;
use super::table;
use super::url::{self, Scheme, Url};
use super::value;

/// Upper bound of `--election-timeout`; etcd's, so that a follower is not without a leader for minutes.
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(50_000);

/// Refuses settings that cannot be honoured, and returns a remark for each one without effect.
pub(super) fn statuses(given: &Given) -> Result<Vec<String>, ConfigError> {
    let mut remarks = Vec::new();
    for name in given.names() {
        let setting = table::find(name).expect("given settings are from the table");
        let default = value::parse(setting.kind, setting.default)
            .expect("each default is a value of its kind (tested)");
        match setting.status {
            _ if given.value(name) == default => {}
            Status::Honoured => {}
            Status::Inert(why) => remarks.push(format!("--{name} has no effect: {why}")),
            Status::Refused(remedy) => {
                return Err(ConfigError::Unsupported { setting: setting.name, remedy });
            }
        }
    }
    Ok(remarks)
}

/// Checks the whole, and returns remarks for the log.
pub(super) fn check(config: &EffectiveConfig) -> Result<Vec<String>, ConfigError> {
    let mut remarks = Vec::new();
    times(config)?;
    addresses(config)?;
    limits(config)?;
    logs(config)?;
    versions(config)?;
    let listen = &config.listen;
    let client_urls: Vec<&Url> = listen.client_urls.iter().chain(&listen.client_http_urls).collect();
    side("", "listen-client-urls", &client_urls, &config.client_tls, &mut remarks)?;
    let peer_urls: Vec<&Url> = listen.peer_urls.iter().collect();
    side("peer-", "listen-peer-urls", &peer_urls, &config.peer_tls, &mut remarks)?;
    if let Some(url) =
        listen.metrics_urls.iter().find(|url| url.is_secure() && !config.client_tls.can_serve())
    {
        return Err(no_certificate("", "listen-metrics-urls", url));
    }
    if config.member.name == "default" && config.cluster.initial_members.len() > 1 {
        remarks.push(
            "several members with the name \"default\" take each other's place; give each a --name"
                .to_owned(),
        );
    }
    if config.unsafe_no_fsync {
        remarks.push("--unsafe-no-fsync is on: a power cut loses acknowledged writes".to_owned());
    }
    Ok(remarks)
}

fn times(config: &EffectiveConfig) -> Result<(), ConfigError> {
    let heartbeat_ms = config.cluster.heartbeat_interval.as_millis();
    let election_ms = config.cluster.election_timeout.as_millis();
    for (name, ms) in [("heartbeat-interval", heartbeat_ms), ("election-timeout", election_ms)] {
        if ms == 0 {
            return Err(ConfigError::contradiction(
                format!("--{name} is 0"),
                "give a number of milliseconds above 0",
            ));
        }
    }
    if heartbeat_ms.saturating_mul(5) > election_ms {
        return Err(ConfigError::contradiction(
            format!(
                "--election-timeout ({election_ms} ms) is less than five times --heartbeat-interval ({heartbeat_ms} ms)"
            ),
            format!("set --election-timeout to {} or more", heartbeat_ms.saturating_mul(5)),
        ));
    }
    if config.cluster.election_timeout > ELECTION_TIMEOUT_MAX {
        return Err(ConfigError::contradiction(
            format!("--election-timeout ({election_ms} ms) is too long"),
            format!("set it to {} or less", ELECTION_TIMEOUT_MAX.as_millis()),
        ));
    }
    if config.checks.compact_hash_check_time.is_zero() && config.feature_gates.is_enabled("CompactHashCheck")
    {
        return Err(ConfigError::contradiction(
            "--compact-hash-check-time is 0",
            "give a duration above 0, such as 1m",
        ));
    }
    Ok(())
}

fn addresses(config: &EffectiveConfig) -> Result<(), ConfigError> {
    let listen = &config.listen;
    for (name, urls, required) in [
        ("listen-peer-urls", &listen.peer_urls, true),
        ("listen-client-urls", &listen.client_urls, true),
        ("listen-client-http-urls", &listen.client_http_urls, false),
        ("listen-metrics-urls", &listen.metrics_urls, false),
    ] {
        if required && urls.is_empty() {
            return Err(ConfigError::contradiction(
                format!("--{name} is empty"),
                "give at least one address to listen on",
            ));
        }
        if let Some(url) = urls.iter().find(|url| !url.can_bind()) {
            return Err(ConfigError::contradiction(
                format!("--{name}: {url} has a host name, and one listens on addresses"),
                format!(
                    "give an IP address of this machine, 0.0.0.0 for all, or localhost: {}",
                    url.with_host("0.0.0.0")
                ),
            ));
        }
    }
    for (name, urls) in [
        ("initial-advertise-peer-urls", &config.cluster.advertise_peer_urls),
        ("advertise-client-urls", &config.cluster.advertise_client_urls),
    ] {
        if let Some(url) = urls.iter().find(|url| url.socket_path().is_none() && url.host().is_empty()) {
            return Err(ConfigError::contradiction(
                format!("--{name}: {url} has no host"),
                format!(
                    "give the address under which this machine is reached, such as {}",
                    url.with_host("10.0.0.1")
                ),
            ));
        }
    }
    if let Some(url) = listen.client_http_urls.iter().find(|url| {
        listen
            .client_urls
            .iter()
            .any(|other| other.authority() == url.authority() && other.socket_path() == url.socket_path())
    }) {
        return Err(ConfigError::contradiction(
            format!("{url} stands in both --listen-client-urls and --listen-client-http-urls"),
            "give HTTP a port of its own",
        ));
    }
    if config.cluster.advertise_client_urls.is_empty() {
        return Err(ConfigError::contradiction(
            "--listen-client-urls is set and --advertise-client-urls is not",
            format!(
                "add --advertise-client-urls with the addresses under which clients reach this member, such as {}",
                url::join(&listen.client_urls)
            ),
        ));
    }
    Ok(())
}

fn limits(config: &EffectiveConfig) -> Result<(), ConfigError> {
    if config.member.name.is_empty() {
        return Err(ConfigError::contradiction("--name is empty", "give this member a name"));
    }
    if config.limits.txn_ops_max == 0 || config.limits.request_bytes_max == 0 {
        return Err(ConfigError::contradiction(
            "--max-txn-ops or --max-request-bytes is 0, so that no write can succeed",
            "drop it for the default",
        ));
    }
    let token = config.auth.token.split(',').next().unwrap_or_default();
    if !matches!(token, "simple" | "jwt") {
        return Err(ConfigError::contradiction(
            format!("--auth-token: unknown kind {token:?}"),
            "give 'simple', or 'jwt' with its options",
        ));
    }
    Ok(())
}

fn logs(config: &EffectiveConfig) -> Result<(), ConfigError> {
    let outputs = &config.logging.outputs;
    if outputs.len() > 1 && outputs.iter().any(|output| output == "default") {
        return Err(ConfigError::contradiction(
            "--log-outputs has 'default' beside others",
            "write 'stderr' instead of 'default'",
        ));
    }
    Ok(())
}

fn versions(config: &EffectiveConfig) -> Result<(), ConfigError> {
    let security = &config.security;
    if security.tls_min > security.tls_max {
        return Err(ConfigError::contradiction(
            "--tls-min-version is newer than --tls-max-version",
            "swap them, or drop --tls-max-version",
        ));
    }
    if security.tls_min == TlsVersion::V13 && !security.cipher_suites.is_empty() {
        return Err(ConfigError::contradiction(
            "--cipher-suites is set and --tls-min-version is TLS1.3, whose suites are not configurable",
            "drop --cipher-suites",
        ));
    }
    Ok(())
}

fn no_certificate(prefix: &str, listen: &str, url: &Url) -> ConfigError {
    ConfigError::contradiction(
        format!("--{listen}: {url} wants TLS, and there is no certificate"),
        format!("give --{prefix}cert-file and --{prefix}key-file, or --{prefix}auto-tls, or write http"),
    )
}

/// The TLS rules of one side, clients (prefix "") or members ("peer-").
fn side(
    prefix: &str,
    listen: &str,
    urls: &[&Url],
    tls: &Tls,
    remarks: &mut Vec<String>,
) -> Result<(), ConfigError> {
    for (cert, key, name) in
        [(&tls.cert_file, &tls.key_file, ""), (&tls.client_cert_file, &tls.client_key_file, "client-")]
    {
        let (missing, present) = match (cert, key) {
            (Some(_), None) => ("key", "cert"),
            (None, Some(_)) => ("cert", "key"),
            _ => continue,
        };
        return Err(ConfigError::contradiction(
            format!("--{prefix}{name}{present}-file is set and --{prefix}{name}{missing}-file is not"),
            format!("give --{prefix}{name}{missing}-file"),
        ));
    }
    if !tls.allowed_cns.is_empty() && !tls.allowed_hostnames.is_empty() {
        return Err(ConfigError::contradiction(
            format!("--{prefix}cert-allowed-cn and --{prefix}cert-allowed-hostname are both set"),
            "keep one of them",
        ));
    }
    // etcd would accept any certificate of a public authority here, or with auto-tls none at all.
    if tls.client_cert_auth && tls.trusted_ca_file.is_none() {
        return Err(ConfigError::contradiction(
            format!("--{prefix}client-cert-auth is set and --{prefix}trusted-ca-file is not"),
            format!("give --{prefix}trusted-ca-file, the CA that signs the certificates to be accepted"),
        ));
    }
    if tls.crl_file.is_some() && tls.trusted_ca_file.is_none() {
        let crl = if prefix.is_empty() { "client-crl-file" } else { "peer-crl-file" };
        return Err(ConfigError::contradiction(
            format!(
                "--{crl} is set and --{prefix}trusted-ca-file is not, so that no certificate is ever checked"
            ),
            format!("give --{prefix}trusted-ca-file"),
        ));
    }
    for url in urls {
        if url.is_secure() && !tls.can_serve() {
            return Err(no_certificate(prefix, listen, url));
        }
        if !url.is_secure() && tls.can_serve() {
            remarks.push(format!("--{listen}: {url} is served without TLS although there is a certificate"));
        }
        if !url.is_secure() && tls.client_cert_auth && url.scheme() == Scheme::Http {
            remarks.push(format!(
                "--{listen}: {url} asks nobody for a certificate although --{prefix}client-cert-auth is set"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "checks_test.rs"]
mod tests;
