//! What all commands take from their flags.

use std::path::PathBuf;
use std::time::Duration;

use crate::failure::{FEATURE, Failure};
use crate::line::parse::Call;
use crate::print::terminal;

/// How servers are reached and answers shown.
#[derive(Clone, Debug)]
pub struct Settings {
    /// As given.
    pub endpoints: Vec<String>,
    /// Tell what is tried.
    pub debug: bool,
    /// Limit for connecting.
    pub dial_timeout: Duration,
    /// Limit for a short command.
    pub command_timeout: Duration,
    /// How long a connection may be silent.
    pub keepalive_time: Duration,
    /// How long the answer to a ping may take.
    pub keepalive_timeout: Duration,
    /// Largest request in bytes.
    pub send_bytes_max: usize,
    /// Largest answer in bytes.
    pub receive_bytes_max: usize,
    /// Endpoints without a scheme are plain.
    pub insecure_transport: bool,
    /// Trust any certificate.
    pub skip_verify: bool,
    /// The client's certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Who may have signed the server's.
    pub ca: Option<PathBuf>,
    /// Who asks.
    pub auth: Option<Auth>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub enum Auth {
    /// With a password.
    User {
        /// The name.
        name: String,
        /// The password.
        password: String,
    },
    /// With a token made elsewhere.
    Token(String),
}

/// etcd's client takes no more unless told.
const SEND_BYTES_MAX: usize = 2 << 20;

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            debug: false,
            dial_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(5),
            keepalive_time: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(6),
            send_bytes_max: SEND_BYTES_MAX,
            receive_bytes_max: usize::MAX,
            insecure_transport: true,
            skip_verify: false,
            cert: None,
            key: None,
            ca: None,
            auth: None,
        }
    }
}

impl Settings {
    /// From the flags of a command.
    ///
    /// # Errors
    /// Values that exclude each other, flags that are not supported.
    pub(crate) fn from_call(call: &Call) -> Result<Self, Failure> {
        if !call.text("discovery-srv").is_empty() {
            return Err(Failure::new(FEATURE, "--discovery-srv is not supported")
                .help("look the records up (dig SRV _etcd-client._tcp.DOMAIN) and give --endpoints"));
        }
        let (cert, key) = (file(call, "cert")?, file(call, "key")?);
        if cert.is_some() != key.is_some() {
            let (key, cert) = (call.text("key"), call.text("cert"));
            return Err(Failure::arguments(format!(
                "KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"
            ))
            .help("give --cert and --key together"));
        }
        let limit = |name, default| match usize::try_from(call.number(name)) {
            Ok(0) | Err(_) => default,
            Ok(limit) => limit,
        };
        Ok(Self {
            endpoints: call.list("endpoints"),
            debug: call.switch("debug"),
            dial_timeout: call.duration("dial-timeout"),
            command_timeout: call.duration("command-timeout"),
            keepalive_time: call.duration("keepalive-time"),
            keepalive_timeout: call.duration("keepalive-timeout"),
            send_bytes_max: limit("max-request-bytes", SEND_BYTES_MAX),
            receive_bytes_max: limit("max-recv-bytes", usize::MAX),
            insecure_transport: call.switch("insecure-transport"),
            skip_verify: call.switch("insecure-skip-tls-verify"),
            cert,
            key,
            ca: file(call, "cacert")?,
            auth: auth(call)?,
        })
    }

    /// The same for one endpoint.
    pub fn at(&self, endpoint: &str) -> Self {
        Self { endpoints: vec![endpoint.to_owned()], ..self.clone() }
    }

    /// Whether an endpoint without a scheme is spoken to with TLS.
    pub(crate) fn tls_by_default(&self) -> bool {
        let files = [&self.cert, &self.key, &self.ca];
        !self.insecure_transport || self.skip_verify || files.iter().any(|file| file.is_some())
    }
}

fn file(call: &Call, name: &str) -> Result<Option<PathBuf>, Failure> {
    match call.text(name) {
        "" if call.given(name) => {
            Err(Failure::arguments(format!("empty string is passed to --{name} option")))
        }
        "" => Ok(None),
        path => Ok(Some(PathBuf::from(path))),
    }
}

fn auth(call: &Call) -> Result<Option<Auth>, Failure> {
    let (user, password, token) = (call.text("user"), call.text("password"), call.text("auth-jwt-token"));
    match (token, user) {
        ("", "") => Ok(None),
        ("", user) => login(user, password, "Password: ").map(Some),
        (token, _) => Ok(Some(Auth::Token(token.to_owned()))),
    }
}

/// A user and a password: given apart, in one, or asked for.
pub(crate) fn login(user: &str, password: &str, prompt: &str) -> Result<Auth, Failure> {
    let (name, password) = match (password, user.split_once(':')) {
        ("", Some((name, password))) => (name.to_owned(), password.to_owned()),
        ("", None) => (user.to_owned(), terminal::ask_secret(prompt)?),
        (password, _) => (user.to_owned(), password.to_owned()),
    };
    Ok(Auth::User { name, password })
}
