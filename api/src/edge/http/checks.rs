//! `/health`, `/livez` and `/readyz`.
//!
//! Owns: which checks exist, what they ask and how results are written and counted. Invariants: a lost quorum never
//! fails `/livez` (a supervisor would restart all members at once); unknown names in `?exclude=` are ignored; each
//! check takes at most `read_timeout`. Checks run in the order of the lists below; etcd's own order is random.
//! Called by: [`super::routes`]. Source: etcd server/etcdserver/api/etcdhttp/health.go.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::{Method, StatusCode, Uri};

use super::reply;
use super::source::{AlarmKind, HealthError, HealthSource, ReadResult};
use crate::edge::clock;
use crate::edge::metrics::EtcdMetrics;

/// A check by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }
}

/// A root endpoint with its checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) checks: &'static [Check],
}

pub(crate) const LIVEZ: Group = Group { name: "livez", checks: &[Check::SerializableRead] };
pub(crate) const READYZ: Group = Group {
    name: "readyz",
    checks: &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner],
};

/// What the checks run against.
#[derive(Clone)]
pub(crate) struct Checker {
    pub(crate) source: Arc<dyn HealthSource>,
    pub(crate) metrics: Arc<EtcdMetrics>,
    pub(crate) read_timeout: Duration,
}

impl Checker {
    async fn read(&self, read: ReadResult<'_>) -> Result<(), HealthError> {
        clock::within(self.read_timeout, read)
            .await
            .unwrap_or_else(|| Err(HealthError("etcdserver: request timed out".to_owned())))
    }

    /// Serves `/health`.
    pub(crate) async fn health(&self, method: &Method, uri: &Uri) -> Response {
        if method != Method::GET {
            return reply::method_not_allowed();
        }
        let excluded = query(uri, "exclude");
        let serializable = query(uri, "serializable").first().is_some_and(|value| value == "true");
        match self.health_reason(&excluded, serializable).await {
            None => {
                self.metrics.server.health_success.inc();
                reply::text(StatusCode::OK, health_json(true, ""))
            }
            Some(reason) => {
                self.metrics.server.health_failures.inc();
                tracing::warn!(reason, "/health answers false");
                reply::error(StatusCode::SERVICE_UNAVAILABLE, &health_json(false, &reason))
            }
        }
    }

    async fn health_reason(&self, excluded: &[String], serializable: bool) -> Option<String> {
        let raised = self.source.alarms();
        if let Some(alarm) =
            raised.into_iter().find(|alarm| !excluded.iter().any(|name| name == alarm.name()))
        {
            return Some(format!("ALARM {}", alarm.name()));
        }
        if !serializable && !self.source.has_leader() {
            return Some("RAFT NO LEADER".to_owned());
        }
        let read =
            if serializable { self.source.serializable_read() } else { self.source.linearizable_read() };
        self.read(read).await.err().map(|error| format!("RANGE ERROR:{error}"))
    }

    /// Serves a group's root path.
    pub(crate) async fn group(&self, group: Group, method: &Method, uri: &Uri) -> Response {
        let excluded = query(uri, "exclude");
        let unknown: Vec<&String> =
            excluded.iter().filter(|name| !group.checks.iter().any(|check| check.name() == *name)).collect();
        if method == Method::GET && !unknown.is_empty() {
            tracing::warn!(?unknown, group = group.name, "?exclude= names checks that do not exist");
        }
        let checks: Vec<Check> = group
            .checks
            .iter()
            .copied()
            .filter(|check| !excluded.iter().any(|name| name == check.name()))
            .collect();
        self.run(group, &checks, method, uri).await
    }

    /// Serves one check's path.
    pub(crate) async fn single(&self, group: Group, check: Check, method: &Method, uri: &Uri) -> Response {
        self.run(group, &[check], method, uri).await
    }

    async fn run(&self, group: Group, checks: &[Check], method: &Method, uri: &Uri) -> Response {
        if method != Method::GET {
            return reply::method_not_allowed();
        }
        let mut report = String::new();
        let mut good = true;
        for check in checks {
            let outcome = self.check(*check).await;
            self.count(group, *check, outcome.is_ok());
            match outcome {
                Ok(()) => report.push_str(&format!("[+]{} ok\n", check.name())),
                Err(error) => {
                    good = false;
                    report.push_str(&format!("[-]{} failed: {error}\n", check.name()));
                }
            }
        }
        if !good {
            tracing::warn!(path = uri.path(), report, "a health check failed");
            return reply::error(StatusCode::SERVICE_UNAVAILABLE, &report);
        }
        let verbose = has_query(uri, "verbose");
        reply::text_nosniff(if verbose { format!("{report}ok\n") } else { "ok\n".to_owned() })
    }

    async fn check(&self, check: Check) -> Result<(), HealthError> {
        match check {
            Check::DataCorruption if self.source.alarms().contains(&AlarmKind::Corrupt) => {
                Err(HealthError("alarm activated: CORRUPT".to_owned()))
            }
            Check::NonLearner if self.source.is_learner() => {
                Err(HealthError("not supported for learner".to_owned()))
            }
            Check::DataCorruption | Check::NonLearner => Ok(()),
            Check::SerializableRead => self.read(self.source.serializable_read()).await,
            Check::LinearizableRead => self.read(self.source.linearizable_read()).await,
        }
    }

    fn count(&self, group: Group, check: Check, good: bool) {
        let server = &self.metrics.server;
        server.healthcheck.with(&[check.name(), group.name]).set_bool(good);
        server.healthchecks.with(&[check.name(), if good { "success" } else { "error" }, group.name]).inc();
    }
}

/// Key order and spelling as etcd writes them.
fn health_json(healthy: bool, reason: &str) -> String {
    let reason = serde_json::Value::from(reason);
    format!(r#"{{"health":"{healthy}","reason":{reason}}}"#)
}

/// Non-empty values of a query parameter, decoded.
fn query(uri: &Uri, name: &str) -> Vec<String> {
    pairs(uri).filter(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value).collect()
}

fn has_query(uri: &Uri, name: &str) -> bool {
    pairs(uri).any(|(key, _)| key == name)
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

/// Percent and plus decoding; malformed escapes stay as they are.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let uri: Uri = "/readyz?verbose&exclude=a&exclude=&exclude=b%5Fc&x=%zz+1".parse().unwrap();
        assert_eq!(query(&uri, "exclude"), ["a", "b_c"]);
        assert_eq!(query(&uri, "x"), ["%zz 1"]);
        assert!(has_query(&uri, "verbose") && !has_query(&uri, "verb"));
    }

    #[test]
    fn reasons_are_escaped() {
        assert_eq!(health_json(false, "a \"b\""), r#"{"health":"false","reason":"a \"b\""}"#);
    }
}
