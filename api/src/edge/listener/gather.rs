//! Answers of many requests in one write.
//!
//! The HTTP/2 library flushes behind every message of 256 bytes or more, which is a system call and a segment per answer.
//! Here a flush only promises one: what is written is held, and goes out when the connection's task has done all it can
//! for now.
//!
//! Owns: [`Gathered`] (holds what is written) and [`Sending`] (sends it). Called by: [`super::connection`], for HTTP/2.
//! Invariants: bytes leave in the order in which they were written; nothing is held while the task sleeps, unless the
//! socket takes no more, which then wakes it; no more than [`HELD_BYTES_MAX`] are held, and none by an idle connection;
//! an error of the socket reaches the library at its next read or write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One system call takes as much without waiting for the other side, by the usual size of a socket's buffer.
const HELD_BYTES_MAX: usize = 64 << 10;
/// From here on a copy costs more than a system call.
const ALONE_BYTES_MIN: usize = 16 << 10;
/// The first piece of memory: answers to some ten small requests.
const HELD_BYTES_FIRST: usize = 4 << 10;

/// What the HTTP library writes to and reads from; clones share the connection.
pub(crate) struct Gathered<T>(Arc<Mutex<Held<T>>>);

struct Held<T> {
    io: T,
    bytes: Vec<u8>,
    /// So many of `bytes` are sent already.
    sent: usize,
    /// Something was written to `io` since its last flush.
    unflushed: bool,
    failed: Option<io::Error>,
}

impl<T> Clone for Gathered<T> {
    fn clone(&self) -> Self {
        Gathered(Arc::clone(&self.0))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Gathered<T> {
    pub(crate) fn new(io: T) -> Self {
        Gathered(Arc::new(Mutex::new(Held {
            io,
            bytes: Vec::new(),
            sent: 0,
            unflushed: false,
            failed: None,
        })))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Held<T> {
    /// Sends everything that is held.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            self.unflushed = true;
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.bytes[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        (self.bytes, self.sent) = (Vec::new(), 0);
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn check(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.lock();
        held.check()?;
        Pin::new(&mut held.io).poll_read(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.0.lock();
        held.check()?;
        let length = bufs.iter().map(|piece| piece.len()).sum::<usize>();
        let alone = length >= ALONE_BYTES_MIN;
        if !held.bytes.is_empty() && (alone || held.bytes.len() + length > HELD_BYTES_MAX) {
            ready!(held.poll_send(cx))?;
        }
        if alone {
            held.unflushed = true;
            return Pin::new(&mut held.io).poll_write_vectored(cx, bufs);
        }
        if held.bytes.is_empty() {
            held.bytes.reserve(HELD_BYTES_FIRST);
        }
        bufs.iter().for_each(|piece| held.bytes.extend_from_slice(piece));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // See the module: `Sending` does it.
        Poll::Ready(self.0.lock().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.lock();
        ready!(held.poll_send(cx))?;
        Pin::new(&mut held.io).poll_shutdown(cx)
    }
}

/// A connection that sends what it has written after each of its turns.
pub(crate) struct Sending<C, T> {
    pub(crate) connection: Pin<Box<C>>,
    pub(crate) io: Gathered<T>,
}

impl<C: Future, T: AsyncRead + AsyncWrite + Unpin> Future for Sending<C, T> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let outcome = self.connection.as_mut().poll(cx);
        let sent = self.io.0.lock().poll_send(cx);
        match sent {
            Poll::Ready(Err(error)) if outcome.is_pending() => {
                self.io.0.lock().failed = Some(error);
                self.connection.as_mut().poll(cx)
            }
            _ => outcome,
        }
    }
}

#[cfg(test)]
#[path = "gather_test.rs"]
mod gather_test;
