//! Looks at an endpoint step by step: name, connection, TLS, protocol.
//!
//! Owns: [`Seen`]. Invariants: it changes nothing at the server; it ends within a few times the limit for connecting.
//! Called by: the diagnoses, after something has failed.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::connector::{ConnectError, Stream, connect, tls_error};
use crate::net::endpoint::Place;
use crate::net::settings::Settings;
use crate::net::tls;

/// How every HTTP/2 client begins, with empty settings behind it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// Types of frames: settings, with which every HTTP/2 server begins, and the end of a connection.
const SETTINGS: u8 = 4;
const GOODBYE: u8 = 7;
/// The flag of settings that have been taken note of.
const ACKNOWLEDGED: u8 = 1;
/// The reason of a goodbye that asks for TLS. Source: RFC 9113, 7.
const INADEQUATE_SECURITY: u32 = 0xc;
/// More than any server says before it has taken note of our settings.
const BYTES_MAX: usize = 4096;

/// What an endpoint turned out to be.
#[derive(Debug)]
pub(crate) enum Seen {
    /// It speaks HTTP/2 as asked.
    Serves,
    /// A step before any byte failed.
    Connect(ConnectError),
    /// The certificate or the protocol of TLS is wrong.
    Tls(rustls::Error),
    /// The client's files are unusable.
    OwnFiles(String),
    /// TLS was spoken, and the port is plain.
    IsPlain,
    /// TLS was not spoken, and the port wants it.
    WantsTls,
    /// It answered with something else.
    OtherProtocol(String),
    /// It ended the connection without a word.
    Closed(String),
    /// It took the connection and said nothing.
    Mute(Duration),
}

/// What came back.
enum Answer {
    Settings,
    Goodbye(u32, String),
    Bytes(Vec<u8>),
    Closed(io::Error),
    Nothing,
}

/// Looks at an endpoint as the flags say.
pub(crate) async fn look(settings: &Settings, place: &Place) -> Seen {
    match greet(settings, place).await {
        Ok(Answer::Settings) => Seen::Serves,
        Ok(Answer::Goodbye(INADEQUATE_SECURITY, _)) if !place.tls => Seen::WantsTls,
        Ok(Answer::Goodbye(code, text)) => Seen::Closed(format!("goodbye {code} {text}")),
        Ok(Answer::Nothing) => Seen::Mute(settings.dial_timeout),
        Ok(Answer::Bytes(bytes)) if !place.tls && is_tls(&bytes) => Seen::WantsTls,
        Ok(Answer::Bytes(bytes)) => Seen::OtherProtocol(first_line(&bytes)),
        Ok(Answer::Closed(error)) => match tls_error(&error) {
            Some(error) => Seen::Tls(error.clone()),
            None if !place.tls && takes_tls(settings, place).await => Seen::WantsTls,
            None => Seen::Closed(error.to_string()),
        },
        Err(Trouble::Files(text)) => Seen::OwnFiles(text),
        Err(Trouble::Connect(error)) if matches!(error, ConnectError::Tls { .. }) => {
            let certificate = matches!(
                error.tls(),
                Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))
            );
            if !certificate && speaks_plainly(settings, place).await {
                return Seen::IsPlain;
            }
            match error.tls() {
                Some(error) => Seen::Tls(error.clone()),
                None => Seen::Connect(error),
            }
        }
        Err(Trouble::Connect(error)) => Seen::Connect(error),
    }
}

enum Trouble {
    Files(String),
    Connect(ConnectError),
}

/// Connects and says hello in HTTP/2.
async fn greet(settings: &Settings, place: &Place) -> Result<Answer, Trouble> {
    let tls = match place.tls {
        true => Some(tls::config(settings).map_err(|failure| Trouble::Files(failure.message().to_owned()))?),
        false => None,
    };
    let wait = settings.dial_timeout;
    let mut stream = connect(place, tls.as_ref(), wait).await.map_err(Trouble::Connect)?;
    Ok(match tokio::time::timeout(wait, hello(&mut stream)).await {
        Ok(answer) => answer,
        Err(_) => Answer::Nothing,
    })
}

async fn hello(stream: &mut Stream) -> Answer {
    let mut bytes = vec![0; BYTES_MAX];
    let mut filled = 0;
    let sent = async {
        stream.write_all(PREFACE).await?;
        stream.flush().await
    };
    // Who has closed already may have said why before.
    let sent = sent.await;
    loop {
        if let Some(answer) = judge(&bytes[..filled]) {
            return answer;
        }
        match stream.read(&mut bytes[filled..]).await {
            Ok(0) if filled == 0 => {
                return Answer::Closed(sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
            }
            Err(error) if filled == 0 => return Answer::Closed(error),
            Ok(0) | Err(_) => return Answer::Bytes(bytes[..filled].to_vec()),
            Ok(read) => filled += read,
        }
    }
}

/// What the bytes so far say; nothing while more are needed. A server begins with its settings, then takes note of ours
/// or says goodbye.
fn judge(bytes: &[u8]) -> Option<Answer> {
    if is_tls(bytes) || bytes.starts_with(b"HTTP/") || bytes.len() == BYTES_MAX {
        return Some(Answer::Bytes(bytes.to_vec()));
    }
    let mut rest = bytes;
    let mut is_first = true;
    while let [high, middle, low, kind, flags, _, _, _, _, behind @ ..] = rest {
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        match *kind {
            SETTINGS if *flags & ACKNOWLEDGED != 0 => return Some(Answer::Settings),
            GOODBYE => {
                let payload = behind.get(..length)?;
                let code = payload
                    .get(4..8)
                    .map_or(0, |code| u32::from_be_bytes(code.try_into().unwrap_or_default()));
                return Some(Answer::Goodbye(code, first_line(payload.get(8..).unwrap_or_default())));
            }
            SETTINGS => {}
            _ if is_first => return Some(Answer::Bytes(bytes.to_vec())),
            _ => {}
        }
        is_first = false;
        rest = behind.get(length..)?;
    }
    None
}

/// Whether the same address speaks HTTP/2 without TLS.
async fn speaks_plainly(settings: &Settings, place: &Place) -> bool {
    match greet(settings, &place.toggled()).await {
        Ok(Answer::Settings) => true,
        Ok(Answer::Bytes(bytes)) => bytes.starts_with(b"HTTP/"),
        _ => false,
    }
}

/// Whether the same address answers a TLS handshake in any way that only TLS does.
async fn takes_tls(settings: &Settings, place: &Place) -> bool {
    let anyone = Settings { skip_verify: true, cert: None, key: None, ca: None, ..settings.clone() };
    match greet(&anyone, &place.toggled()).await {
        Ok(Answer::Settings | Answer::Goodbye(..) | Answer::Bytes(_)) => true,
        Ok(Answer::Closed(error)) => tls_error(&error).is_some(),
        Err(Trouble::Connect(error)) => matches!(error.tls(), Some(rustls::Error::AlertReceived(_))),
        _ => false,
    }
}

/// A record of TLS: an alert or a handshake, version 3.x.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 3, ..])
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(80).map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart() {
        let settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
        let noted = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00";
        let goodbye = b"\x00\x00\x0a\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0cno";
        assert!(judge(settings).is_none());
        assert!(matches!(judge(&[&settings[..], noted].concat()), Some(Answer::Settings)));
        let Some(Answer::Goodbye(code, text)) = judge(&[&settings[..], goodbye].concat()) else {
            panic!("a goodbye")
        };
        assert_eq!((code, text.as_str()), (INADEQUATE_SECURITY, "no"));
        assert!(judge(&goodbye[..12]).is_none(), "the rest is to come");
        assert!(matches!(judge(b"HTTP/1.1 400"), Some(Answer::Bytes(_))));
        assert!(matches!(judge(b"\x15\x03\x01"), Some(Answer::Bytes(_))));
        assert!(matches!(judge(b"+OK hello there"), Some(Answer::Bytes(_))));
    }
}
