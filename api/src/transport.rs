//! Errors of the transport in the words of grpc-go.
//!
//! Owns: those words. Called by: the router, for requests that never reach a handler, and by streams for messages
//! they cannot take. Invariants: only responses that carry their whole status in the headers are rewritten; bodies
//! pass untouched.
//! A message that is too large, or no protobuf, is refused by tonic before any handler sees it; clients and their
//! users know the texts of grpc-go.
//! Source: grpc-go `rpc_util.go` (size limit, encodings), `server.go` (unmarshalling, unknown services).

use http::{HeaderMap, Request, Response};
use tonic::{Code, Status, Streaming, codec::BufferSettings};
use tonic_prost::ProstCodec;

const GRPC_ENCODING: &str = "grpc-encoding";

/// Refuses compressed requests: nothing here unpacks them.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), Status> {
    let Some(encoding) = headers.get(GRPC_ENCODING).filter(|encoding| *encoding != "identity") else {
        return Ok(());
    };
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    Err(Status::unimplemented(format!(
        "grpc: Decompressor is not installed for grpc-encoding \"{encoding}\""
    )))
}

/// The messages of a request's body.
///
/// The buffer begins small: a stream keeps it for its whole life, and its messages are usually some ten bytes.
pub(crate) fn messages<M, B>(body: B, message_bytes_max: usize) -> Streaming<M>
where
    M: prost::Message + Default + 'static,
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const BUFFER_BYTES: usize = 256;
    // How much is sent before the sender yields; nothing is sent through this codec.
    let settings = BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES);
    Streaming::new_request(ProstCodec::<M, M>::raw_decoder(settings), body, None, Some(message_bytes_max))
}

/// Answers a path that belongs to no service.
pub(crate) async fn unknown_service(request: Request<axum::body::Body>) -> Response<axum::body::Body> {
    let path = request.uri().path().trim_start_matches('/');
    let service = path.rsplit_once('/').map_or(path, |(service, _)| service);
    Status::unimplemented(format!("unknown service {service}")).into_http()
}

/// Rewrites the status of a request that never reached its handler.
pub(crate) fn translate(headers: &mut HeaderMap) {
    let Some(code) = headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes())) else {
        return;
    };
    if !matches!(code, Code::OutOfRange | Code::Internal) {
        return;
    }
    let Some(status) = Status::from_header_map(headers).as_ref().and_then(transport_status) else { return };
    headers.remove(Status::GRPC_MESSAGE);
    // Only an unprintable text could fail, and none of ours is.
    let _ = status.add_header(headers);
}

/// A transport error of tonic in grpc-go's words, `None` for any other status.
pub(crate) fn transport_status(status: &Status) -> Option<Status> {
    let text = status.message();
    match status.code() {
        Code::OutOfRange => {
            let numbers = text.strip_prefix("Error, decoded message length too large: found ")?;
            let (found, rest) = numbers.split_once(" bytes, the limit is: ")?;
            let limit = rest.strip_suffix(" bytes")?;
            let text = format!("grpc: received message larger than max ({found} vs. {limit})");
            Some(Status::resource_exhausted(text))
        }
        Code::Internal if text.starts_with("failed to decode Protobuf message") => {
            Some(Status::internal(format!("grpc: error unmarshalling request: {text}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transport_errors_speak_as_grpc_go_does() {
        let tonic = Status::out_of_range(
            "Error, decoded message length too large: found 2097153 bytes, the limit is: 2097152 bytes",
        );
        let ours = transport_status(&tonic).unwrap();
        assert_eq!(ours.code(), Code::ResourceExhausted);
        assert_eq!(ours.message(), "grpc: received message larger than max (2097153 vs. 2097152)");
        assert!(transport_status(&crate::errors::COMPACTED.status()).is_none());
        let garbled = Status::internal("failed to decode Protobuf message: invalid wire type");
        assert_eq!(transport_status(&garbled).unwrap().code(), Code::Internal);
    }

    #[test]
    fn compressed_requests_are_refused() {
        let mut headers = HeaderMap::new();
        assert!(check_encoding(&headers).is_ok());
        headers.insert(GRPC_ENCODING, "identity".parse().unwrap());
        assert!(check_encoding(&headers).is_ok());
        headers.insert(GRPC_ENCODING, "gzip".parse().unwrap());
        let refused = check_encoding(&headers).unwrap_err();
        assert_eq!(refused.message(), "grpc: Decompressor is not installed for grpc-encoding \"gzip\"");
    }
}
