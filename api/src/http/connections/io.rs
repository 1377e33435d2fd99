//! Connections that wait for a request, or for the rest of its head, for a time only.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Activity;

/// What a connection waits for when no request of it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Request,
    Head,
}

/// A connection whose reads fail when no request begins, or none is complete, in time.
pub(super) struct TimedReads<T> {
    io: T,
    activity: Arc<Activity>,
    idle: Duration,
    head: Duration,
    waiting: Waiting,
    /// Requests that had begun when this was last looked at.
    requests: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> TimedReads<T> {
    pub fn new(io: T, activity: Arc<Activity>, idle: Duration, head: Duration) -> Self {
        Self {
            io,
            activity,
            idle,
            head,
            waiting: Waiting::Request,
            requests: 0,
            timer: None,
        }
    }

    fn wait_for(&mut self, waiting: Waiting) {
        self.waiting = waiting;
        let time = match waiting {
            Waiting::Request => self.idle,
            Waiting::Head => self.head,
        };
        let deadline = Instant::now() + time;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(deadline),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for TimedReads<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let requests = self.activity.requests.load(Ordering::Relaxed);
        if self.activity.running.load(Ordering::Relaxed) > 0 {
            (self.requests, self.timer) = (requests, None);
            return read;
        }
        let has_bytes = buffer.filled().len() > before;
        let is_new = self.timer.is_none() || requests != self.requests;
        self.requests = requests;
        if is_new {
            self.wait_for(Waiting::Request);
        }
        if has_bytes {
            match self.activity.is_http2.load(Ordering::Relaxed) {
                // A ping, as a rule, which shows that the client is there.
                true => self.wait_for(Waiting::Request),
                false if self.waiting == Waiting::Request => self.wait_for(Waiting::Head),
                false => {}
            }
        }
        if read.is_ready() {
            return read;
        }
        let Some(timer) = &mut self.timer else {
            return Poll::Pending;
        };
        ready!(timer.as_mut().poll(cx));
        let what = match self.waiting {
            Waiting::Request => "no request has begun in idle_timeout_ms",
            Waiting::Head => "the head of a request was not complete in head_timeout_ms",
        };
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TimedReads<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
