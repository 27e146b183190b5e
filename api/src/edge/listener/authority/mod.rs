//! Makes an `:authority` that is a URL acceptable to the HTTP/2 library, in the received bytes.
//!
//! Old gRPC clients (etcdctl 3.4 with `http://` in its endpoint, some clients of Unix sockets) send their whole target
//! as `:authority`. Go's server takes any text there; `h2` resets such a request as malformed, has no option for it, and
//! its maintainers decline one (hyperium/h2#442, #487, #525). A patched copy of the library would have to follow each of
//! its security releases; this needs no more than HPACK's framing.
//!
//! Owns: [`Repair`], one for each HTTP/2 connection. Invariants: only literal values of `:authority` are touched, and in
//! them only characters that the library would refuse the request for (the exception: the colon of a host called like
//! a scheme). Lengths stay the same, encoded and decoded, so both ends keep equal dynamic tables. Total on any byte
//! stream, however it is cut: each replacement differs from its original in the last bit of the code, so nothing that
//! was passed on has to change. A connection whose first request is in order is not looked at any more.
//! Called by: [`super::stream::EdgeIo`] with every chunk read. Source: RFC 7541 sections 5, 6 and B; RFC 9113 4.1, 6.2.

mod block;
#[cfg(test)]
mod tests;
mod text;

use super::sniff::PREFACE;
use block::Block;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: u32 = 5;
const HEAD_BYTES: usize = 9;

/// Finds header blocks in the frames of a connection.
#[derive(Debug)]
pub(crate) struct Repair {
    at: At,
    block: Block,
    /// Nothing left to do: the first request needed no repair.
    settled: bool,
}

/// Position in the stream of frames.
#[derive(Clone, Copy, Debug)]
enum At {
    /// So many bytes to pass over: the preface, payloads of other frames, padding.
    Skip(u32),
    /// In a frame's head.
    Head { bytes: [u8; HEAD_BYTES], len: usize },
    /// At the byte that tells the length of the padding.
    PadLength(Fields),
    /// In the priority fields.
    Priority(Fields),
    /// In a part of a header block.
    Fragment(Fields),
}

/// What is left of a frame that carries header fields.
#[derive(Clone, Copy, Debug)]
struct Fields {
    priority: u32,
    fragment: u32,
    padding: u32,
    ends_block: bool,
}

impl Repair {
    pub(crate) fn new() -> Self {
        let preface = u32::try_from(PREFACE.len()).expect("24");
        Repair { at: At::Skip(preface), block: Block::default(), settled: false }
    }

    /// Looks at the next bytes of the connection and corrects them in place.
    pub(crate) fn received(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() && !self.settled {
            let used = self.step(bytes);
            bytes = &mut std::mem::take(&mut bytes)[used..];
        }
    }

    /// Nothing is left to do on this connection.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Handles some of the bytes; none if only the position changes.
    fn step(&mut self, bytes: &mut [u8]) -> usize {
        match &mut self.at {
            At::Skip(0) => self.go(At::Head { bytes: [0; HEAD_BYTES], len: 0 }),
            At::Skip(left) => pass(left, bytes.len()),
            At::Head { bytes: head, len } => {
                head[*len] = bytes[0];
                *len += 1;
                if *len == HEAD_BYTES {
                    let head = *head;
                    self.begin(head);
                }
                1
            }
            At::PadLength(fields) => {
                let padding = u32::from(bytes[0]).min(fields.fragment);
                let fields = Fields { padding, fragment: fields.fragment - padding, ..*fields };
                self.go(At::Priority(fields)) + 1
            }
            At::Priority(fields) if fields.priority == 0 => {
                let fields = *fields;
                self.go(At::Fragment(fields))
            }
            At::Priority(fields) => pass(&mut fields.priority, bytes.len()),
            At::Fragment(fields) if fields.fragment == 0 => {
                let fields = *fields;
                self.settled = fields.ends_block && !self.block.touched;
                self.go(At::Skip(fields.padding))
            }
            At::Fragment(fields) => {
                let used = pass(&mut fields.fragment, bytes.len());
                bytes[..used].iter_mut().for_each(|byte| self.block.feed(byte));
                used
            }
        }
    }

    fn go(&mut self, at: At) -> usize {
        self.at = at;
        0
    }

    fn begin(&mut self, head: [u8; HEAD_BYTES]) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let mut fields =
            Fields { priority: 0, fragment: length, padding: 0, ends_block: flags & END_HEADERS != 0 };
        self.at = match kind {
            HEADERS => {
                self.block = Block::default();
                let padded = flags & PADDED != 0;
                fields.fragment = fields.fragment.saturating_sub(u32::from(padded));
                if flags & PRIORITY != 0 {
                    fields.priority = PRIORITY_BYTES.min(fields.fragment);
                    fields.fragment -= fields.priority;
                }
                if padded && length > 0 { At::PadLength(fields) } else { At::Priority(fields) }
            }
            CONTINUATION => At::Fragment(fields),
            _ => At::Skip(length),
        };
    }
}

/// Takes as much as there is of what is left.
fn pass(left: &mut u32, available: usize) -> usize {
    let used = available.min(*left as usize);
    *left -= u32::try_from(used).expect("bounded by what is left");
    used
}
