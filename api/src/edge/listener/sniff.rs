//! What a new connection speaks, from its first bytes; and how to tell a client that it chose the wrong scheme.
//!
//! Owns: [`classify`] and the refusal texts. Invariants: pure; reads no more than it needs to decide, and every byte is
//! replayed to whoever comes next. Called by: [`super::connection`].
//! Source: Go net/http answers plain HTTP on a TLS port the same way; HTTP/2 connection preface, RFC 9113 section 3.4.

/// First bytes of every HTTP/2 connection.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Record type of a TLS handshake: the first byte of every TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the bytes so far say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not enough bytes yet.
    More,
    /// A TLS handshake on a port that speaks TLS.
    Tls,
    /// HTTP/1, or something its parser will refuse.
    Http1,
    /// HTTP/2.
    Http2,
    /// Plain HTTP/1 on a TLS port.
    Http1OnTls,
    /// Plain HTTP/2 (gRPC without TLS) on a TLS port.
    Http2OnTls,
    /// A TLS handshake on a plain port.
    TlsOnPlain,
    /// Neither TLS nor HTTP on a TLS port.
    Unknown,
}

/// Judges the first bytes on a port that speaks TLS, plain HTTP, or both.
pub(crate) fn classify(bytes: &[u8], plain: bool, tls: bool) -> Verdict {
    let Some(first) = bytes.first() else { return Verdict::More };
    if *first == TLS_HANDSHAKE {
        return if tls { Verdict::Tls } else { Verdict::TlsOnPlain };
    }
    if plain {
        return http_version(bytes);
    }
    const METHODS: [&[u8]; 9] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE "];
    if bytes.len() >= 4 && PREFACE.starts_with(&bytes[..bytes.len().min(PREFACE.len())]) {
        return Verdict::Http2OnTls;
    }
    let mut undecided = PREFACE.starts_with(bytes);
    for method in METHODS {
        if bytes.starts_with(method) {
            return Verdict::Http1OnTls;
        }
        undecided |= method.starts_with(bytes);
    }
    if undecided { Verdict::More } else { Verdict::Unknown }
}

/// HTTP/1 or HTTP/2 on a stream that is past TLS.
pub(crate) fn http_version(bytes: &[u8]) -> Verdict {
    let compared = bytes.len().min(PREFACE.len());
    if bytes[..compared] != PREFACE[..compared] {
        Verdict::Http1
    } else if compared == PREFACE.len() {
        Verdict::Http2
    } else {
        Verdict::More
    }
}

/// Go's answer, byte for byte: clients and scripts know it.
pub(crate) const HTTP1_ON_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// In plain text on purpose: Go's client recognises it and says "server gave HTTP response to HTTPS client".
pub(crate) const TLS_ON_PLAIN: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent a TLS handshake to a plain HTTP port: use an http:// URL, or configure certificates.\n";

/// Says the same to gRPC without TLS: empty SETTINGS, then GOAWAY (INADEQUATE_SECURITY) whose text clients print.
pub(crate) fn http2_on_tls() -> Vec<u8> {
    let text: &[u8] = b"this port speaks TLS: use an https:// endpoint and the CA certificate";
    let mut out = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    goaway(&mut out, 0, 0xc, text);
    out
}

/// Appends a GOAWAY frame.
pub(crate) fn goaway(out: &mut Vec<u8>, last_stream: u32, code: u32, text: &[u8]) {
    let length = u32::try_from(8 + text.len()).expect("texts are short constants");
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[7, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        use Verdict::*;
        for (bytes, plain_only, tls_only, both) in [
            (&b""[..], More, More, More),
            (b"\x16", TlsOnPlain, Tls, Tls),
            (b"G", Http1, More, Http1),
            (b"GET / HTTP/1.1", Http1, Http1OnTls, Http1),
            (b"DELETE /x", Http1, Http1OnTls, Http1),
            (b"P", More, More, More),
            (b"POST / HT", Http1, Http1OnTls, Http1),
            (b"PRI * HT", More, Http2OnTls, More),
            (PREFACE, Http2, Http2OnTls, Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", Http1, Unknown, Http1),
            (b"\x00\x01", Http1, Unknown, Http1),
            (b"SSH-2.0", Http1, Unknown, Http1),
        ] {
            assert_eq!(classify(bytes, true, false), plain_only, "plain {bytes:?}");
            assert_eq!(classify(bytes, false, true), tls_only, "tls {bytes:?}");
            assert_eq!(classify(bytes, true, true), both, "both {bytes:?}");
        }
    }
}
