//! Bodies of requests that have to grow, and of answers that count until they are sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::Running;

/// So many bytes have to come in each interval: a client that sends one now and then is as good as
/// one that sends nothing.
const LEAST_BYTES: usize = 1024;

/// The body of a request, which fails when it does not grow.
pub(super) struct Progressing {
    body: Incoming,
    timeout: Duration,
    /// Since the timer was set.
    bytes: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Progressing {
    pub fn new(body: Incoming, timeout: Duration) -> Self {
        Self {
            body,
            timeout,
            bytes: 0,
            timer: None,
        }
    }

    fn begin(&mut self) {
        self.bytes = 0;
        let deadline = Instant::now() + self.timeout;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(deadline),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }
}

impl HttpBody for Progressing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = polled {
            if let Some(Ok(frame)) = &frame {
                self.bytes += frame.data_ref().map_or(0, Bytes::len);
                if self.bytes >= LEAST_BYTES && self.timer.is_some() {
                    self.begin();
                }
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        if self.timer.is_none() {
            self.begin();
        }
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
        }
        let what = format!(
            "less than {LEAST_BYTES} bytes have come in {} ms (body_timeout_ms)",
            self.timeout.as_millis()
        );
        let error = io::Error::new(io::ErrorKind::TimedOut, what);
        Poll::Ready(Some(Err(axum::Error::new(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, with the request that it answers.
pub(super) struct Counted {
    body: Body,
    _running: Running,
}

impl Counted {
    pub fn new(body: Body, running: Running) -> Self {
        Self {
            body,
            _running: running,
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
