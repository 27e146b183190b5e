//! Replies in the form Go's HTTP server gives them.
//!
//! Owns: error texts and headers. Invariants: error bodies end with a newline and are never sniffed by browsers.
//! Called by: [`super::routes`], [`super::checks`], [`super::access`].

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A plain text error, as `http.Error` in Go: the message and a newline.
pub fn error(status: StatusCode, message: &str) -> Response {
    let mut response = text(status, format!("{message}\n"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// Plain text.
pub(crate) fn text(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// Plain text that browsers must not interpret.
pub(crate) fn text_nosniff(body: String) -> Response {
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// JSON.
pub(crate) fn json(content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The endpoint answers GET only.
pub(crate) fn method_not_allowed() -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

/// Go's answer to an unknown path.
pub fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "404 page not found")
}
