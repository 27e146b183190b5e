//! The JSON gateway: every method of the services as a POST under `/v3/`.
//!
//! Owns: the way from an HTTP request to a call of the gRPC services in this process, and back. Called by: the wiring,
//! which merges [`router`] into the HTTP endpoints; `/v3beta/` is renamed before it comes here (`edge::http`).
//! Invariants: a request goes through the same services as any client's, so rules and rights are theirs; a client
//! certificate names nobody here, a token in `Authorization` does.
//! Source: etcd 3.7 `server/embed/serve.go` (`registerGateway`); grpc-gateway's runtime for paths, statuses and streams.

mod routes;
mod schema;

use std::pin::Pin;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use keelson_proto::dynamic::Dynamic;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::json;
use tonic::client::{Grpc, GrpcService};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};

use schema::{Pieces, first_message, method, to_json};

/// Header that tells how the services answered, for what it is worth.
const METADATA_CONTENT_TYPE: HeaderName = HeaderName::from_static("grpc-metadata-content-type");
/// Headers of this prefix are handed on without it.
const METADATA_PREFIX: &str = "grpc-metadata-";
/// The client's deadline, in gRPC's own form.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// JSON may be so many times as large as the message in it: base64, names and white space.
const JSON_EXPANSION: usize = 3;

type Messages = Pin<Box<dyn Stream<Item = DynamicMessage> + Send>>;

/// The paths of the gateway, answered by `grpc`; `message_bytes_max` as that service has it.
pub fn router<S>(grpc: S, message_bytes_max: usize) -> Router
where
    S: GrpcService<tonic::body::Body> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::ResponseBody: Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError>,
{
    let gateway = Gateway { grpc, body_bytes_max: message_bytes_max.saturating_mul(JSON_EXPANSION) };
    let handler = any(move |request: Request<Body>| gateway.clone().answer(request));
    Router::new().route("/v3/", handler.clone()).route("/v3/{*method}", handler)
}

#[derive(Clone)]
struct Gateway<S> {
    grpc: S,
    body_bytes_max: usize,
}

impl<S> Gateway<S>
where
    S: GrpcService<tonic::body::Body>,
    S::ResponseBody: Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError>,
{
    async fn answer(self, request: Request<Body>) -> Response {
        let path = request.uri().path();
        let route = routes::ROUTES.iter().find(|(known, _, _)| *known == path);
        let Some(method) = route.and_then(|(_, service, name)| method(service, name)) else {
            return refused(&Status::not_found("Not Found"));
        };
        if request.method() != Method::POST {
            return refused(&Status::unimplemented("Method Not Allowed"));
        }
        let streaming = method.is_server_streaming();
        match self.call(method, request).await {
            Ok(messages) if streaming => stream_of(messages).await,
            Ok(messages) => match only(messages).await.and_then(|message| json_of(&message)) {
                Ok(json) => reply(StatusCode::OK, Body::from(json), true),
                Err(status) => refused(&status),
            },
            Err(status) if streaming => {
                reply(http_status(status.code()), Body::from(chunk("error", &error_of(&status))), false)
            }
            Err(status) => refused(&status),
        }
    }

    async fn call(
        self,
        method: MethodDescriptor,
        request: Request<Body>,
    ) -> Result<Streaming<DynamicMessage>, Status> {
        let (parts, body) = request.into_parts();
        let input = method.input();
        let messages: Messages = match method.is_client_streaming() {
            true => client_messages(input, body, self.body_bytes_max).await?,
            false => {
                let body = to_bytes(body, self.body_bytes_max).await.map_err(|error| {
                    Status::resource_exhausted(format!("the request cannot be read: {error}"))
                })?;
                Box::pin(stream::iter([first_message(input, &body)?]))
            }
        };
        let mut request = tonic::Request::new(messages);
        *request.metadata_mut() = metadata(&parts.headers);
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = path.parse().map_err(|_| Status::internal("a method has an impossible name"))?;
        let mut client = Grpc::new(self.grpc).max_decoding_message_size(usize::MAX);
        client.ready().await.map_err(|_| Status::unavailable("the services are not ready"))?;
        let codec = Dynamic { output: method.output() };
        Ok(client.streaming(request, path, codec).await?.into_inner())
    }
}

/// The messages of a body that may stay open. The first one is waited for: where it is wrong, that is the answer, and
/// later ones that are wrong end the client's side of the stream.
async fn client_messages(kind: MessageDescriptor, body: Body, bytes_max: usize) -> Result<Messages, Status> {
    let pieces = (body.into_data_stream(), Pieces::default(), false);
    let messages = stream::unfold(pieces, move |(mut body, mut pieces, mut ended)| {
        let kind = kind.clone();
        async move {
            loop {
                if let Some(message) = pieces.next(&kind, ended) {
                    return Some((message, (body, pieces, ended)));
                }
                if ended {
                    return None;
                }
                match body.next().await {
                    Some(Ok(piece)) if pieces.waiting() + piece.len() <= bytes_max => pieces.add(&piece),
                    Some(Ok(_)) => {
                        let status = Status::resource_exhausted("a message of the request is too large");
                        return Some((Err(status), (body, Pieces::default(), true)));
                    }
                    Some(Err(_)) | None => ended = true,
                }
            }
        }
    });
    let mut messages = Box::pin(messages);
    let first = messages.next().await.transpose()?;
    let rest = messages
        .take_while(|message| std::future::ready(message.is_ok()))
        .filter_map(async |message| message.ok());
    Ok(Box::pin(stream::iter(first).chain(rest)))
}

/// The one message of a unary answer.
async fn only(mut messages: Streaming<DynamicMessage>) -> Result<DynamicMessage, Status> {
    let message = messages.message().await?.ok_or_else(|| Status::internal("the answer holds no message"))?;
    messages.trailers().await?;
    Ok(message)
}

/// A stream of answers, a line each. The first one is waited for: if it is an error, so is the status.
async fn stream_of(mut messages: Streaming<DynamicMessage>) -> Response {
    let first = match messages.message().await {
        Ok(first) => first,
        Err(status) => {
            return reply(http_status(status.code()), Body::from(chunk("error", &error_of(&status))), false);
        }
    };
    let lines = stream::iter(first.map(Ok)).chain(messages).map(|message| {
        let line = match message.and_then(|message| json_of(&message)) {
            Ok(json) => chunk("result", &json),
            Err(status) => chunk("error", &error_of(&status)),
        };
        Ok::<_, std::convert::Infallible>(Bytes::from(line))
    });
    reply(StatusCode::OK, Body::from_stream(lines), true)
}

fn json_of(message: &DynamicMessage) -> Result<String, Status> {
    to_json(message)
        .map_err(|error| Status::internal(format!("an answer cannot be written as JSON: {error}")))
}

/// What of the headers goes on to the services.
fn metadata(headers: &HeaderMap) -> MetadataMap {
    let mut handed_on = HeaderMap::new();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(METADATA_PREFIX)
            && let Ok(name) = HeaderName::try_from(name)
        {
            handed_on.append(name, value.clone());
        } else if name == AUTHORIZATION || name == GRPC_TIMEOUT {
            handed_on.append(name, value.clone());
        }
    }
    MetadataMap::from_headers(handed_on)
}

fn chunk(name: &str, json: &str) -> String {
    format!("{{\"{name}\":{json}}}\n")
}

fn error_of(status: &Status) -> String {
    json!({"code": status.code() as i32, "message": status.message()}).to_string()
}

/// An error as the whole answer.
fn refused(status: &Status) -> Response {
    let mut response = reply(http_status(status.code()), Body::from(error_of(status)), false);
    if status.code() == Code::Unauthenticated
        && let Ok(message) = HeaderValue::from_str(status.message())
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, message);
    }
    response
}

fn reply(status: StatusCode, body: Body, answered: bool) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if answered {
        response.headers_mut().insert(METADATA_CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    }
    response
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).expect("three digits"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
