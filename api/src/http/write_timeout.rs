//! Connections whose clients take nothing any more.
//!
//! TCP waits for ever for a client that acknowledges but does not read, and so does hyper, with up
//! to 400 kB of answers in its buffer. `paced_body` ends the query of such an answer; this ends
//! the connection, whatever it has left to send.
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Queries notice a stalled client first, and are then counted as stalled, not as cancelled.
const GRACE: Duration = Duration::from_secs(1);

/// A connection whose writes fail when the other end takes nothing for so long.
#[derive(Debug)]
pub struct TimedWrites<T> {
    io: T,
    timeout: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> TimedWrites<T> {
    /// `write_timeout` is the setting; connections have a second more.
    pub fn new(io: T, write_timeout: Duration) -> Self {
        Self {
            io,
            timeout: write_timeout.saturating_add(GRACE),
            stalled: None,
        }
    }

    fn in_time<R>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.timeout;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        tracing::debug!(
            timeout_ms = timeout.as_millis() as u64,
            "a connection is closed: its client took nothing for so long"
        );
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for TimedWrites<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TimedWrites<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.in_time(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_reader_may_be_slow_but_not_gone() {
        let timeout = Duration::from_millis(60);
        let (io, mut client) = tokio::io::duplex(10);
        let mut io = TimedWrites::new(io, timeout);
        let reader = tokio::spawn(async move {
            let mut byte = [0; 1];
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                client.read_exact(&mut byte).await.unwrap();
            }
            client
        });
        io.write_all(&[1; 30]).await.unwrap();
        let _client = reader.await.unwrap();
        let error = io.write_all(&[1; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
