//! Range, written by hand: its answers are the largest of all.
//!
//! Owns: the method from request to response. Called by: the router. Invariants: a range of many keys is read *and*
//! encoded on the blocking pool, so that no serving thread ever copies a long list; the encoded message goes to the
//! socket as it is. What a list without bounds needs is in `long_list`.
//! Source: etcd `server/etcdserver/api/v3rpc/key.go`, `v3_server.go` (`Range`).

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, Response, request::Parts};
use keelson_mvcc::auth::Access;
use keelson_mvcc::types::{KeyValue, RangeOptions, RangeReply, SortOrder, SortTarget};
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use prost::Message;
use tonic::{Status, body::Body};

use super::long_list::{self, Measured};
use super::one_message::{self, OneMessage};
use crate::{
    backend::View,
    call::OnLearner,
    convert, errors,
    state::{AppState, Size},
    transport, validate,
};

/// Where the method is served.
pub(super) const PATH: &str = "/etcdserverpb.KV/Range";

/// Keys read on the serving thread at most. With values of the largest size they are some 25 MB: a few milliseconds.
const KEYS_HERE: i64 = 16;
/// Ranges limited to so many keys do not wait behind unlimited ones.
const SHORT_KEYS: i64 = 1000;

/// Answers a request; never fails, as an error is a response too.
pub(super) async fn call<B>(state: AppState, request: Request<B>) -> Result<Response<Body>, Infallible>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    let answer = async {
        let (parts, request) = receive(&state, request).await?;
        let asked = admit(&state, &parts.headers, &parts.extensions, request).await?;
        if let Some(reply) = read_here(&*asked.view, &asked.options)? {
            let message = encode(&convert::range_response(asked.header, reply))?;
            return Ok(one_message::response(OneMessage::new(message)));
        }
        if !is_long_list(&asked.options) {
            let message = read_aside(&state, asked, |response| encode(&response)).await?;
            return Ok(one_message::response(OneMessage::new(message)));
        }
        let Asked { view, options, header } = asked;
        let (reader, limit) = (state.clone(), usize::try_from(options.limit).unwrap_or(0));
        let measure =
            move || long_list::measure(&reader, view, options.range, options.keys_only, limit, header);
        Ok(match state.read_blocking(Size::Long, measure).await? {
            Measured::Short(message) => one_message::response(OneMessage::new(message)),
            Measured::Long(body) => one_message::response(body),
        })
    };
    Ok(answer.await.unwrap_or_else(|status: Status| status.into_http()))
}

async fn receive<B>(state: &AppState, request: Request<B>) -> Result<(Parts, RangeRequest), Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    transport::check_encoding(request.headers())?;
    let (parts, body) = request.into_parts();
    let mut messages = transport::messages::<RangeRequest, _>(body, state.options.message_bytes_max());
    let message = messages.message().await?.ok_or_else(|| Status::internal("Missing request message."))?;
    // Read to the end of the stream, or the transport would reset it.
    messages.trailers().await?;
    Ok((parts, message))
}

/// The answer as a message.
pub(super) async fn answer(
    state: &AppState,
    headers: &HeaderMap,
    extensions: &Extensions,
    request: RangeRequest,
) -> Result<RangeResponse, Status> {
    let asked = admit(state, headers, extensions, request).await?;
    match read_here(&*asked.view, &asked.options)? {
        Some(reply) => Ok(convert::range_response(asked.header, reply)),
        None => read_aside(state, asked, Ok).await,
    }
}

/// A request that may be answered, and what it is answered from.
struct Asked {
    view: Arc<dyn View>,
    options: RangeOptions,
    header: ResponseHeader,
}

async fn admit(
    state: &AppState,
    headers: &HeaderMap,
    extensions: &Extensions,
    request: RangeRequest,
) -> Result<Asked, Status> {
    let learner = if request.serializable { OnLearner::Allowed } else { OnLearner::Refused };
    let (call, _) = state.admit_stream(headers, extensions, learner)?;
    validate::range(&request)?;
    if !request.serializable {
        state.linearize(&call).await?;
    }
    let options = convert::range(request);
    // Judged by what the view itself knows of users and roles: nothing can change in between.
    let (view, caller) = state.reader(&call).await?;
    view.auth().check(caller.as_ref(), Access::Read, &options.range).map_err(errors::from_auth)?;
    let header = state.header(view.revision());
    Ok(Asked { view, options, header })
}

/// Reads on the blocking pool, and hands the response to `finish` there.
async fn read_aside<T: Send + 'static>(
    state: &AppState,
    Asked { view, options, header }: Asked,
    finish: impl FnOnce(RangeResponse) -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let size = if options.count_only || is_limited(&options) { Size::Short } else { Size::Long };
    let read = move || {
        let reply = view.range(&options).map_err(errors::from_read)?;
        finish(convert::range_response(header, reply))
    };
    state.read_blocking(size, read).await
}

/// True for what does not wait behind longer reads.
fn is_limited(options: &RangeOptions) -> bool {
    (1..=SHORT_KEYS).contains(&options.limit)
}

/// True for a list that may be of any length and is answered row by row.
fn is_long_list(options: &RangeOptions) -> bool {
    options.revision <= 0 && !options.count_only && !is_limited(options) && is_plain(options)
}

/// Reads on the spot what turns out to be little work, `None` if it is more. Most ranges hold a few keys, and handing
/// them to another thread costs more than reading them.
fn read_here(view: &dyn View, options: &RangeOptions) -> Result<Option<RangeReply>, Status> {
    if is_point_read(options) {
        return view.get(&options.range.key).map(|found| Some(point_reply(found))).map_err(errors::from_read);
    }
    if options.range.is_single() {
        return view.range(options).map(Some).map_err(errors::from_read);
    }
    let plain = options.revision <= 0 && !options.count_only && is_plain(options);
    if !plain {
        return Ok(None);
    }
    let whole = (1..=KEYS_HERE).contains(&options.limit);
    let attempt = RangeOptions { limit: if whole { options.limit } else { KEYS_HERE }, ..options.clone() };
    let reply = view.range(&attempt).map_err(errors::from_read)?;
    Ok((whole || !reply.more).then_some(reply))
}

/// In key order and without filters.
fn is_plain(options: &RangeOptions) -> bool {
    options.sort_order == SortOrder::None
        && options.sort_target == SortTarget::Key
        && options.min_mod_revision == 0
        && options.max_mod_revision == 0
        && options.min_create_revision == 0
        && options.max_create_revision == 0
}

/// True for the read that needs no options at all: the newest version of one key.
fn is_point_read(options: &RangeOptions) -> bool {
    options.range.is_single()
        && options.revision <= 0
        && !options.keys_only
        && !options.count_only
        && is_plain(options)
}

fn point_reply(kv: Option<KeyValue>) -> RangeReply {
    RangeReply { count: i64::from(kv.is_some()), kvs: kv.into_iter().collect(), more: false }
}

/// The message with gRPC's prefix, in one buffer of the right size.
fn encode(response: &RangeResponse) -> Result<Bytes, Status> {
    let bytes = response.encoded_len();
    let mut out = Vec::with_capacity(one_message::PREFIX_BYTES + bytes);
    one_message::put_prefix(bytes, &mut out)?;
    response.encode_raw(&mut out);
    Ok(out.into())
}
