//! What is held and when it goes, on a socket that notes every write.

use std::future::poll_fn;

use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Takes `room` bytes, then nothing more.
#[derive(Default)]
struct Socket {
    writes: Vec<Vec<u8>>,
    flushes: usize,
    room: usize,
    broken: bool,
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = buf.len().min(self.room);
        if taken == 0 {
            return Poll::Pending;
        }
        self.room -= taken;
        self.writes.push(buf[..taken].to_vec());
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn gathered(room: usize) -> Gathered<Socket> {
    Gathered::new(Socket { room, ..Socket::default() })
}

fn writes(io: &Gathered<Socket>) -> Vec<Vec<u8>> {
    std::mem::take(&mut io.0.lock().io.writes)
}

/// Writes as the library does, with a flush behind.
fn write(io: &mut Gathered<Socket>, bytes: &[u8]) -> Option<io::Result<()>> {
    io.write_all(bytes).now_or_never().map(|written| written.and(io.flush().now_or_never().expect("at once")))
}

fn send(io: &Gathered<Socket>) -> Option<io::Result<()>> {
    poll_fn(|cx| io.0.lock().poll_send(cx)).now_or_never()
}

#[test]
fn flushed_pieces_leave_in_one_write_and_memory_is_given_back() {
    let mut io = gathered(1 << 20);
    for piece in [&b"one "[..], b"two ", b"three"] {
        write(&mut io, piece).unwrap().unwrap();
    }
    assert!(writes(&io).is_empty());
    send(&io).unwrap().unwrap();
    assert_eq!(writes(&io), [b"one two three"]);
    assert_eq!(io.0.lock().bytes.capacity(), 0);
    assert_eq!(io.0.lock().io.flushes, 1);
    send(&io).unwrap().unwrap();
    assert_eq!(io.0.lock().io.flushes, 1, "nothing is left to flush");
}

#[test]
fn a_large_piece_goes_by_itself_behind_what_is_held() {
    let mut io = gathered(1 << 20);
    let large = vec![7; ALONE_BYTES_MIN];
    write(&mut io, b"head").unwrap().unwrap();
    write(&mut io, &large).unwrap().unwrap();
    assert_eq!(writes(&io), [b"head".to_vec(), large]);
    assert!(io.0.lock().unflushed);
    send(&io).unwrap().unwrap();
    assert!(!io.0.lock().unflushed);
}

#[test]
fn no_more_is_held_than_the_limit_while_the_socket_takes_nothing() {
    let mut io = gathered(0);
    let piece = vec![1; 1 << 10];
    let taken = (0..1000).take_while(|_| write(&mut io, &piece).is_some()).count();
    assert_eq!(taken, HELD_BYTES_MAX >> 10);
    assert!(send(&io).is_none(), "waits for the socket");
    io.0.lock().io.room = 100;
    assert!(send(&io).is_none(), "a part of it is sent");
    io.0.lock().io.room = 1 << 20;
    send(&io).unwrap().unwrap();
    assert_eq!(writes(&io).concat(), vec![1; HELD_BYTES_MAX]);
}

#[test]
fn a_broken_socket_ends_the_connection() {
    let mut io = gathered(1 << 10);
    io.0.lock().io.broken = true;
    let mut library = io.clone();
    let connection = Box::pin(async move {
        library.write_all(b"answer").await?;
        library.flush().await?;
        library.read_u8().await.map(drop)
    });
    write(&mut io, b"held").unwrap().unwrap();
    let outcome = Sending { connection, io }.now_or_never().expect("does not wait for ever");
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
