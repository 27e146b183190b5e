//! What is decided about a request before its handler looks at the message.
//!
//! Owns: refusal on learners, the client's version header, `hasleader`, the deadline. Called by: every handler first.
//! Invariants: same order as etcd's interceptors: learner, version, leader.
//! Source: etcd `server/etcdserver/api/v3rpc/interceptor.go`; gRPC over HTTP/2 (`grpc-timeout`).

use std::time::Duration;

use http::{Extensions, HeaderMap};
use tonic::{Request, Status};

use crate::{
    auth::Credentials,
    errors::{self, WireError},
    state::AppState,
};

const CLIENT_API_VERSION: &str = "client-api-version";
const HAS_LEADER: &str = "hasleader";
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// An admitted request.
#[derive(Clone, Debug)]
pub struct Call {
    /// How long it may wait for consensus.
    pub timeout: Duration,
    /// The client's own deadline is the shorter one.
    pub by_client: bool,
    /// What it shows of its sender.
    pub(crate) credentials: Option<Box<Credentials>>,
}

impl Call {
    /// The error a request ends with: once the client's own deadline has passed, that is the reason it is told.
    pub(crate) fn status(&self, error: WireError) -> Status {
        let timed_out =
            [errors::TIMEOUT, errors::TIMEOUT_LEADER_FAIL, errors::TIMEOUT_CONNECTION_LOST].contains(&error);
        if timed_out && self.by_client { errors::CLIENT_DEADLINE.status() } else { error.status() }
    }
}

/// What the learner of a cluster may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnLearner {
    Refused,
    Allowed,
}

impl AppState {
    /// Admits a unary request.
    pub(crate) fn admit<T>(&self, request: &Request<T>, learner: OnLearner) -> Result<Call, Status> {
        self.admit_stream(request.metadata().as_ref(), request.extensions(), learner).map(|(call, _)| call)
    }

    /// Admits a stream; true if it must end when the cluster loses its leader.
    pub(crate) fn admit_stream(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        learner: OnLearner,
    ) -> Result<(Call, bool), Status> {
        let status = self.consensus.status();
        if status.is_learner && learner == OnLearner::Refused {
            return Err(errors::NOT_SUPPORTED_FOR_LEARNER.into());
        }
        check_client_version(headers)?;
        let needs_leader = headers.get(HAS_LEADER).is_some_and(|value| value == "true");
        if needs_leader && status.leader.is_none() {
            return Err(errors::NO_LEADER.into());
        }
        let ours = self.options.request_timeout();
        let credentials = Credentials::of(&self.options, headers, extensions);
        let call = match client_timeout(headers) {
            Some(theirs) if theirs < ours => Call { timeout: theirs, by_client: true, credentials },
            _ => Call { timeout: ours, by_client: false, credentials },
        };
        Ok((call, needs_leader))
    }
}

fn check_client_version(headers: &HeaderMap) -> Result<(), WireError> {
    let Some(version) = headers.get(CLIENT_API_VERSION) else { return Ok(()) };
    std::str::from_utf8(version.as_bytes()).map(drop).map_err(|_| errors::INVALID_CLIENT_API_VERSION)
}

/// Reads `grpc-timeout`: at most eight digits and a unit. Anything else counts as absent.
fn client_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, http::HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn timeouts_are_read_with_their_unit() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("7u", Some(Duration::from_micros(7))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("5", None),
            ("5X", None),
        ] {
            assert_eq!(client_timeout(&headers(GRPC_TIMEOUT, text.as_bytes())), expected, "{text:?}");
        }
    }

    #[test]
    fn versions_must_be_text() {
        assert_eq!(check_client_version(&HeaderMap::new()), Ok(()));
        assert_eq!(check_client_version(&headers(CLIENT_API_VERSION, b"3.6.0")), Ok(()));
        let broken = headers(CLIENT_API_VERSION, b"\xff\xfe");
        assert_eq!(check_client_version(&broken), Err(errors::INVALID_CLIENT_API_VERSION));
    }

    #[test]
    fn a_timeout_of_the_client_is_its_own_error() {
        let call = Call { timeout: Duration::from_secs(1), by_client: true, credentials: None };
        assert_eq!(call.status(errors::TIMEOUT).message(), "context deadline exceeded");
        let call = Call { by_client: false, ..call };
        assert_eq!(call.status(errors::TIMEOUT).message(), "etcdserver: request timed out");
    }
}
