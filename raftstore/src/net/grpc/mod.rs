//! Members over gRPC: messages of our own, without protobuf.
//!
//! Owns: the codec and the names. [`client`] connects, [`server`] serves. Called by: the binary, `api`'s peer listener.
//! TLS is not known here: whoever starts the member hands in a [`Dial`] that connects, and serves [`PeerGrpc`] on
//! connections it has accepted.
//!
//! | path | shape | carries |
//! |---|---|---|
//! | `/keelson.Peer/Call` | one, one | heartbeats, votes, forwarded proposals, read indexes, calls |
//! | `/keelson.Peer/Stream` | many, many | entries |
//! | `/keelson.Peer/Upload` | many, one | snapshots |

mod client;
mod server;

use bytes::{Buf, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

pub use client::{Dial, GrpcTransport, PeerIo, TcpDial};
pub use server::PeerGrpc;

use super::Frame;

const SERVICE: &str = "keelson.Peer";
const CALL: &str = "/keelson.Peer/Call";
const STREAM: &str = "/keelson.Peer/Stream";
const UPLOAD: &str = "/keelson.Peer/Upload";

/// Largest message: an append of one large entry, or a snapshot chunk with one large row, with room to spare.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Messages are bytes: written piece by piece into the connection's buffer, read as a slice of it.
#[derive(Clone, Copy, Debug, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Frame;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(frame.len_bytes());
        frame.put(out);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = input.remaining();
        Ok(Some(input.copy_to_bytes(len)))
    }
}
