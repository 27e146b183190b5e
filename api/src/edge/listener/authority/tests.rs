//! The repair on streams cut everywhere, in every shape of frames and both encodings of strings.

use super::text::{CODES, Text, decode};
use super::*;

/// A string with its length, as HPACK writes it.
fn string(text: &str, huffman: bool) -> Vec<u8> {
    let body = if huffman { encode(text) } else { text.as_bytes().to_vec() };
    let mark = if huffman { 0x80 } else { 0 };
    assert!(body.len() < 127, "one byte of length");
    [vec![mark | u8::try_from(body.len()).unwrap()], body].concat()
}

fn encode(text: &str) -> Vec<u8> {
    let mut bits = String::new();
    for character in text.bytes() {
        let code = CODES.iter().find_map(|(length, first, characters)| {
            let at = characters.iter().position(|other| *other == character)?;
            Some(format!("{:0width$b}", first + u32::try_from(at).unwrap(), width = *length as usize))
        });
        // Brackets are outside of the table.
        bits += &code.unwrap_or_else(|| match character {
            b'[' => format!("{:013b}", 0x1ffb),
            b']' => format!("{:013b}", 0x1ffd),
            other => panic!("no code for {other}"),
        });
    }
    bits += &"1".repeat(bits.len().next_multiple_of(8) - bits.len());
    bits.as_bytes()
        .chunks(8)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
        .collect()
}

/// Reads a string back; the reverse of `string` for the characters of the table.
fn read(bytes: &[u8]) -> String {
    let (length, body) = bytes.split_first().unwrap();
    let body = &body[..usize::from(length & 0x7f)];
    if length & 0x80 == 0 {
        return String::from_utf8(body.to_vec()).unwrap();
    }
    let (mut code, mut bits, mut text) = (0, 0, String::new());
    for bit in body.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        (code, bits) = (code << 1 | u32::from(bit), bits + 1);
        let bracket = match (code, bits) {
            (0x1ffb, 13) => Some(b'['),
            (0x1ffd, 13) => Some(b']'),
            _ => None,
        };
        if let Some(character) = decode(code, bits).or(bracket) {
            text.push(char::from(character));
            (code, bits) = (0, 0);
        }
    }
    text
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[length[1], length[2], length[3], kind, flags, 0, 0, 0, 1], payload].concat()
}

/// What gRPC clients send: pseudo headers from the static table, then `before` the authority other fields.
fn block(authority: &str, huffman: bool) -> (Vec<u8>, usize) {
    let mut block = vec![0x83, 0x86, 0x3f, 0xe1, 0x1f]; // POST, http, a change of the table's size
    block.extend([&[0x45][..], &string("/etcdserverpb/range", huffman)].concat());
    block.extend([&[0x40][..], &string("x/y", huffman), &string("http://a/b", huffman)].concat());
    block.push(0x41);
    let at = block.len();
    block.extend(string(authority, huffman));
    block.extend([&[0x0f, 0x2b][..], &string("http://user/agent", huffman)].concat());
    block.extend([0xbe, 0xbf]);
    (block, at)
}

fn repaired(stream: &[u8], piece: usize) -> Vec<u8> {
    let mut repair = Repair::new();
    let mut stream = stream.to_vec();
    stream.chunks_mut(piece).for_each(|chunk| repair.received(chunk));
    stream
}

fn check(authority: &str, huffman: bool, expected: &str) {
    let (block, at) = block(authority, huffman);
    let (first, second) = block.split_at(at + 3);
    let padded = [&[4][..], &[0; 5], &block, &[0x41, 0x03, b'/', b'/']].concat();
    let shapes = [
        frame(HEADERS, END_HEADERS | 1, &block),
        frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded),
        [frame(HEADERS, 0, first), frame(CONTINUATION, END_HEADERS, second)].concat(),
    ];
    for (shape, frames) in shapes.iter().enumerate() {
        let settings = frame(4, 0, b"\0\x03////");
        let stream = [&PREFACE[..], &settings, frames, &frame(0, 1, b"http://")].concat();
        let skip = PREFACE.len() + settings.len();
        let at = skip + at + [9, 15, 9][shape];
        for piece in [1, 2, 3, 5, 7, 64, 4096] {
            let mut out = repaired(&stream, piece);
            if shape == 2 {
                // Close the gap that the second frame's head makes.
                out.drain(skip + 9 + first.len()..skip + 18 + first.len());
            }
            assert_eq!(read(&out[at..]), expected, "shape {shape}, pieces of {piece}");
            // Nothing else differs.
            let mut original = stream.clone();
            if shape == 2 {
                original.drain(skip + 9 + first.len()..skip + 18 + first.len());
            }
            let end = at + string(authority, huffman).len();
            assert_eq!((&out[..at], &out[end..]), (&original[..at], &original[end..]));
        }
    }
}

#[test]
fn urls_become_authorities_and_nothing_else_changes() {
    for huffman in [false, true] {
        check("http://127.0.0.1:2379", huffman, "httpB33127.0.0.1:2379");
        check("https://db-1.example.com:2379", huffman, "httpsB33db-1.example.com:2379");
        check("http://[::1]:2379", huffman, "httpB33[::1]:2379");
        check("unix:///run/etcd.sock", huffman, "unixB333run3etcd.sock");
        check("/run/etcd.sock", huffman, "3run3etcd.sock");
        for good in
            ["127.0.0.1:2379", "localhost", "etcd.example.com:2379", "[::1]:2379", "https.example.com:1"]
        {
            check(good, huffman, good);
        }
    }
    check("%2Frun%2Fetcd.sock", false, ".2Frun.2Fetcd.sock");
}

#[test]
fn what_comes_out_is_an_authority() {
    for url in
        ["http://127.0.0.1:2379", "https://[2001:db8::1]:2379", "unix:///tmp/a.sock", "%2Ftmp%2Fa.sock"]
    {
        assert!(url.parse::<http::uri::Authority>().is_err(), "{url} needs no repair");
        let mut bytes = url.as_bytes().to_vec();
        let mut text = Text::new(false);
        bytes.iter_mut().for_each(|byte| assert!(text.feed(byte) || *byte != b'/'));
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.parse::<http::uri::Authority>().is_ok(), "{text}");
        assert_eq!(text.len(), url.len());
    }
}

#[test]
fn a_connection_in_order_is_left_alone_after_its_first_request() {
    let settled = |authority| {
        let mut repair = Repair::new();
        let mut stream =
            [&PREFACE[..], &frame(HEADERS, END_HEADERS, &block(authority, true).0), &[0]].concat();
        repair.received(&mut stream);
        repair.settled
    };
    assert!(settled("localhost:2379"));
    assert!(!settled("http://localhost:2379"), "the literal comes again when the table has dropped it");
}

#[test]
fn the_table_is_that_of_the_library() {
    for (length, first, characters) in CODES {
        let fits = first as usize + characters.len();
        assert!(fits <= 1 << length, "codes of {length} bits");
        assert_eq!(characters.len(), [10, 26, 32, 6][length as usize - 5]);
    }
    let pairs = [(b'/', b'3'), (b':', b'B')];
    for (from, to) in pairs {
        let code = |wanted| (0..256).find(|code| (5..9).any(|bits| decode(*code, bits) == Some(wanted)));
        assert_eq!(code(from).unwrap() | 1, code(to).unwrap());
    }
}

proptest::proptest! {
    /// Whatever comes, and however it is cut: no panic, the same result, the same length.
    #[test]
    fn any_stream_is_survived(bytes in proptest::collection::vec(0u8.., 0..400), piece in 1usize..50) {
        let stream = [&PREFACE[..], &frame(HEADERS, END_HEADERS, &bytes), &bytes].concat();
        proptest::prop_assert_eq!(repaired(&stream, piece), repaired(&stream, usize::MAX));
    }
}
