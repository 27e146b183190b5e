//! Input that no honest client sends: the server under test must answer like real etcd, or at least stay alive.
//!
//! `cargo test -p keelson-tests --test bad_input`. Where etcd's answer is part of the API it is compared; where etcd itself
//! breaks (three of the cases), only the server under test is asked.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use keelson_proto::etcdserverpb as pb;
use keelson_tests::client::Client;
use keelson_tests::clock;
use keelson_tests::cluster::{Cluster, Kind, Options};
use keelson_tests::http::{get, raw, request};
use keelson_tests::missing::{Feature, lacks};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

/// A test that takes longer is stuck.
const TEST_WAIT: Duration = Duration::from_secs(60);

/// Bytes in, bytes out: whatever the test wants to send.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Sends a unary request with any body to any method.
async fn call(client: &Client, path: &'static str, body: impl Into<Bytes>) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(client.channel());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = tonic::Request::new(body.into());
    grpc.unary(request, PathAndQuery::from_static(path), Raw).await.map(tonic::Response::into_inner)
}

async fn start(kind: Kind, flags: &[&str]) -> Cluster {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let options = Options::new(kind, 1).quick().flag("--log-level=error").flag_all(&flags);
    Cluster::start(options).await.expect("the server starts")
}

async fn on_each(flags: &[&str], test: impl AsyncFn(&Cluster, Client)) {
    for kind in Kind::each(&[]) {
        println!("{kind:?}");
        let cluster = start(kind, flags).await;
        let client = Client::lazy(&cluster.member(0).client_url());
        let ended = tokio::time::timeout(TEST_WAIT, test(&cluster, client.clone())).await;
        assert!(ended.is_ok(), "{kind:?}: no end within {TEST_WAIT:?}");
        client.ping(Duration::from_secs(5)).await.expect("the server still serves");
    }
}

/// Only the server under test, where etcd breaks: skipped when etcd is under test.
async fn on_keelson(test: impl AsyncFn(&Cluster, Client)) {
    if Kind::subject() == Kind::Etcd || Kind::subject().require().is_none() {
        return;
    }
    let cluster = start(Kind::subject(), &[]).await;
    let client = Client::lazy(&cluster.member(0).client_url());
    test(&cluster, client.clone()).await;
    client.ping(Duration::from_secs(5)).await.expect("the server still serves");
}

#[tokio::test]
async fn a_malformed_body_is_an_internal_error() {
    on_each(&[], async |_, client| {
        let bodies: [&'static [u8]; 5] = [
            b"\xff\xff\xff\xff",                                 // no tag
            b"\x0a\x05ab",                                       // a length beyond the end
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",         // an absurd length
            b"\x08\x01\x0b",                                     // wrong type, then an open group
            b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // an integer of eleven bytes
        ];
        for body in bodies {
            let status = call(&client, "/etcdserverpb.KV/Range", body).await.expect_err("an error");
            assert_eq!(status.code(), Code::Internal, "{body:?}: {status:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    on_each(&[], async |_, client| {
        // Field 1 "k", field 99 a number, field 100 bytes.
        let body: &'static [u8] = b"\x0a\x01k\x98\x06\x05\xa2\x06\x02xy";
        assert!(call(&client, "/etcdserverpb.KV/Range", body).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn unknown_methods_and_services_are_unimplemented() {
    on_each(&[], async |_, client| {
        let status = call(&client, "/etcdserverpb.KV/Nonsense", "").await.expect_err("an error");
        assert_eq!(status.code(), Code::Unimplemented);
        println!("{}", status.message());
        let status = call(&client, "/nonsense.Service/Range", "").await.expect_err("an error");
        assert_eq!(status.code(), Code::Unimplemented);
        println!("{}", status.message());
    })
    .await;
}

#[tokio::test]
async fn a_message_above_the_receive_limit_is_exhausted_and_one_below_is_too_large() {
    on_each(&["--max-request-bytes=65536"], async |_, client| {
        let put = async |bytes: usize| {
            let request =
                pb::PutRequest { key: "k".into(), value: vec![b'v'; bytes].into(), ..Default::default() };
            client.kv().put(request).await.expect_err("an error")
        };
        let too_large = put(70_000).await;
        assert_eq!(
            (too_large.code(), too_large.message()),
            (Code::InvalidArgument, "etcdserver: request is too large")
        );
        // The receive limit is half a MiB above the request limit.
        let exhausted = put(65_536 + 512 * 1024 + 100).await;
        assert_eq!(exhausted.code(), Code::ResourceExhausted, "{exhausted:?}");
        println!("{}", exhausted.message());
    })
    .await;
}

#[tokio::test]
async fn keys_and_values_may_hold_any_bytes_but_names_must_be_text() {
    on_each(&[], async |_, client| {
        let request = pb::PutRequest {
            key: b"\xff\xfe\0".as_slice().into(),
            value: b"\x80".as_slice().into(),
            ..Default::default()
        };
        assert!(client.kv().put(request).await.is_ok());
        // UserAdd with a name that is not UTF-8.
        let status = call(&client, "/etcdserverpb.Auth/UserAdd", b"\x0a\x02\xff\xfe".as_slice())
            .await
            .expect_err("an error");
        assert_eq!(status.code(), Code::Internal, "{status:?}");
    })
    .await;
}

#[tokio::test]
async fn the_client_api_version_may_be_nonsense() {
    // Fuzzing of etcd in 2022: a version that is not text crashed the metrics.
    on_each(&[], async |_, client| {
        for version in ["3.6.0", "nonsense", "", "999999999999999999999.0.0"] {
            let mut request = tonic::Request::new(pb::RangeRequest { key: "k".into(), ..Default::default() });
            request.metadata_mut().insert("client-api-version", version.parse().unwrap());
            let answer = client.kv().range(request).await;
            println!("{version:?}: {answer:?}");
            assert!(answer.is_ok(), "{version}");
        }
    })
    .await;
}

#[tokio::test]
async fn plain_http_on_the_client_port_gets_http_answers() {
    on_each(&[], async |cluster, _| {
        let address = cluster.member(0).client_address();
        assert_eq!(get(&address, "/nonsense").await.unwrap().status, 404);
        if lacks(cluster, Feature::Gateway).await {
            return;
        }
        assert_eq!(get(&address, "/v3/kv/range").await.unwrap().status, 501);
        let bad = request(&address, "POST", "/v3/kv/range", "{not json").await.unwrap();
        assert_eq!(bad.status, 400);
        println!("{}", bad.body);
        let wrong = request(&address, "POST", "/v3/kv/range", r#"{"key":"!not base64!"}"#).await.unwrap();
        assert_eq!(wrong.status, 400);
        let huge =
            request(&address, "POST", "/v3/kv/range", r#"{"limit":"99999999999999999999"}"#).await.unwrap();
        assert_eq!(huge.status, 400);
    })
    .await;
}

#[tokio::test]
async fn noise_on_the_client_port_ends_the_connection() {
    on_each(&[], async |cluster, _| {
        let address = cluster.member(0).client_address();
        for noise in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], // the start of a TLS handshake
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense frames, not settings at all, and more of them",
            b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"GET / HTTP/9.9\r\n\r\n",
        ] {
            let start = clock::now();
            let answer = raw(&address, noise, Duration::from_secs(3)).await.unwrap_or_default();
            println!("{:?} after {:?}", String::from_utf8_lossy(&answer), start.elapsed());
        }
    })
    .await;
}

#[tokio::test]
async fn a_frame_above_the_http2_limit_ends_that_connection_only() {
    on_each(&[], async |cluster, client| {
        client.ping(Duration::from_secs(5)).await.unwrap();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]); // empty settings
        bytes.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]); // a data frame of 16 MiB on an idle stream
        raw(&cluster.member(0).client_address(), &bytes, Duration::from_secs(2)).await.unwrap_or_default();
    })
    .await;
}

#[tokio::test]
async fn many_connections_that_say_nothing_do_not_keep_others_out() {
    on_each(&[], async |cluster, client| {
        let address = cluster.member(0).client_address();
        let mut silent = Vec::new();
        for _ in 0..500 {
            silent.push(TcpStream::connect(&address).await.expect("a connection"));
        }
        client.ping(Duration::from_secs(5)).await.expect("others are served");
        let fresh = Client::lazy(&cluster.member(0).client_url());
        fresh.ping(Duration::from_secs(5)).await.expect("new connections are served");
        drop(silent);
        // What was left behind is given back.
        let process = cluster.member(0).process().expect("a process");
        let gone = clock::until(Duration::from_secs(20), || async {
            let open = std::fs::read_dir(format!("/proc/{process}/fd")).map(Iterator::count).unwrap_or(0);
            if open < 200 { Ok(()) } else { Err(open) }
        });
        gone.await.expect("file descriptors are closed");
    })
    .await;
}

#[tokio::test]
async fn a_watch_stream_of_empty_requests_is_ignored() {
    on_each(&[], async |_, client| {
        let (requests, queue) = tokio::sync::mpsc::channel(8);
        for union in [
            None,
            None,
            Some(pb::watch_request::RequestUnion::CreateRequest(pb::WatchCreateRequest::default())),
        ] {
            requests.send(pb::WatchRequest { request_union: union }).await.unwrap();
        }
        let stream = tokio_stream::wrappers::ReceiverStream::new(queue);
        let mut responses = client.watch().watch(stream).await.unwrap().into_inner();
        let first = responses.message().await.unwrap().expect("an answer");
        assert!(first.created && !first.canceled);
    })
    .await;
}

#[tokio::test]
async fn extreme_numbers_are_answered() {
    on_each(&[], async |_, client| {
        for number in [i64::MIN, -1, i64::MAX] {
            let range =
                pb::RangeRequest { key: "a".into(), limit: number, revision: number, ..Default::default() };
            let compact = pb::CompactionRequest { revision: number, physical: true };
            let lease = pb::LeaseTimeToLiveRequest { id: number, keys: true };
            let hash = pb::HashKvRequest { revision: number };
            println!(
                "{number}: {:?} {:?} {:?} {:?}",
                client.kv().range(range).await.map(drop).map_err(|status| status.message().to_owned()),
                client.kv().compact(compact).await.map(drop).map_err(|status| status.message().to_owned()),
                client.lease().lease_time_to_live(lease).await.map(|answer| answer.into_inner().ttl),
                client
                    .maintenance()
                    .hash_kv(hash)
                    .await
                    .map(drop)
                    .map_err(|status| status.message().to_owned()),
            );
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_in_the_data_directory_is_open_to_others() {
    use std::os::unix::fs::PermissionsExt;
    on_each(&[], async |cluster, _| {
        let mode = std::fs::metadata(cluster.member(0).data()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
    })
    .await;
}

#[tokio::test]
async fn a_half_sent_request_is_dropped_with_its_connection() {
    on_each(&[], async |cluster, _| {
        let address = cluster.member(0).client_address();
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "POST /v3/kv/put HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1000\r\n\r\n{{\"key\":\"Zm9v\""
        );
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        println!("{}", String::from_utf8_lossy(&answer));
        let client = Client::lazy(&cluster.member(0).client_url());
        let read = client
            .kv()
            .range(pb::RangeRequest { key: "foo".into(), ..Default::default() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(read.count, 0, "half a request was carried out");
    })
    .await;
}

#[tokio::test]
async fn an_alarm_action_outside_the_enum_does_not_end_the_server() {
    // Real etcd 3.7.3 dereferences nil and exits.
    on_keelson(async |_, client| {
        for action in [3, -1, i32::MAX] {
            let answer =
                client.maintenance().alarm(pb::AlarmRequest { action, member_id: 0, alarm: 1 }).await;
            println!("{answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_put_that_keeps_the_value_of_a_key_deleted_in_the_same_transaction_does_not_end_the_server() {
    // Real etcd 3.7.3 takes an open-ended delete for an empty one when it looks for duplicates, and panics in apply on every
    // member, at every restart again.
    on_keelson(async |_, client| {
        use pb::request_op::Request;
        let put =
            |key: &'static str| pb::PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
        client.kv().put(put("b")).await.unwrap();
        for (ignore_value, ignore_lease) in [(true, false), (false, true)] {
            let delete = pb::DeleteRangeRequest {
                key: "a".into(),
                range_end: b"\0".as_slice().into(),
                prev_kv: false,
            };
            let keep = pb::PutRequest {
                key: "b".into(),
                value: if ignore_value { Bytes::new() } else { "w".into() },
                ignore_value,
                ignore_lease,
                ..Default::default()
            };
            let operations = [Request::RequestDeleteRange(delete), Request::RequestPut(keep)];
            let success =
                operations.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect();
            let status = client
                .kv()
                .txn(pb::TxnRequest { success, ..Default::default() })
                .await
                .expect_err("an error");
            assert_eq!(
                (status.code(), status.message()),
                (Code::InvalidArgument, "etcdserver: key not found")
            );
            let kept = client
                .kv()
                .range(pb::RangeRequest { key: "b".into(), ..Default::default() })
                .await
                .unwrap()
                .into_inner();
            assert_eq!(kept.count, 1, "the transaction had an effect");
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_deleted_and_put_in_one_transaction_survives_a_compaction_at_that_revision() {
    // Real etcd 3.7.3 keeps the key in its index, drops its value, and exits at the next read.
    on_keelson(async |_, client| {
        use pb::request_op::Request;
        let put = || pb::PutRequest { key: "b".into(), value: "v".into(), ..Default::default() };
        client.kv().put(put()).await.unwrap();
        let delete =
            pb::DeleteRangeRequest { key: "a".into(), range_end: b"\0".as_slice().into(), prev_kv: false };
        let operations = [Request::RequestDeleteRange(delete), Request::RequestPut(put())];
        let success =
            operations.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect();
        client.kv().txn(pb::TxnRequest { success, ..Default::default() }).await.unwrap();
        client.kv().compact(pb::CompactionRequest { revision: 3, physical: true }).await.unwrap();
        for revision in [0, 3] {
            let read = pb::RangeRequest { key: "b".into(), revision, ..Default::default() };
            let answer = client.kv().range(read).await.unwrap().into_inner();
            assert_eq!((answer.count, answer.kvs[0].mod_revision, answer.kvs[0].version), (1, 3, 1));
        }
    })
    .await;
}

#[tokio::test]
async fn deeply_nested_transactions_are_refused_or_answered() {
    on_each(&[], async |_, client| {
        let mut txn = pb::TxnRequest::default();
        for _ in 0..90 {
            let request = pb::request_op::Request::RequestTxn(txn);
            txn = pb::TxnRequest {
                success: vec![pb::RequestOp { request: Some(request) }],
                ..Default::default()
            };
        }
        let answer = client.kv().txn(txn).await;
        println!("{:?}", answer.map(drop));
    })
    .await;
}

#[tokio::test]
async fn a_body_of_nested_transactions_without_end_does_not_overflow_the_stack() {
    on_each(&[], async |_, client| {
        // TxnRequest.success (2) -> RequestOp.request_txn (4) -> and so on; lengths are computed from the inside.
        let mut body = Vec::new();
        for _ in 0..10_000 {
            let mut operation = vec![0x22];
            varint(body.len(), &mut operation);
            operation.extend(&body);
            let mut outer = vec![0x12];
            varint(operation.len(), &mut outer);
            outer.extend(&operation);
            body = outer;
        }
        let answer = call(&client, "/etcdserverpb.KV/Txn", body).await;
        println!("{:?}", answer.map(drop));
    })
    .await;
}

fn varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
