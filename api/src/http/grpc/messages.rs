//! Messages of a request: within a limit for each and a budget for all, whatever is announced.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{TryStreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use tidelake_catalog::Environment;
use tidelake_catalog::memory::Reservation;
use tidelake_ingest::content::{self, ContentError};
use tonic::Status;

use super::PREFIX_BYTES;
use crate::http::app::App;
use crate::node::backend::ContentEncoding;
use crate::service::error::{Code, ServiceError};

/// A message has memory for so many bytes when it begins.
const FIRST_BYTES: usize = 64 << 10;
/// Larger messages are decompressed on a thread that may take its time.
const SMALL_BYTES: usize = 64 << 10;

/// A message and its share of the memory for bodies, given back when dropped.
#[derive(Debug)]
pub struct Message {
    /// As received, without its prefix.
    pub bytes: Bytes,
    /// Whether it is compressed.
    pub is_compressed: bool,
    memory: Option<Reservation>,
}

/// The messages of a request while they come.
pub struct Messages {
    app: Arc<App>,
    body: Body,
    received: BytesMut,
    /// For as much as is received, and for what is expected.
    memory: Option<Reservation>,
}

/// What the message that is worked on takes.
pub type Held = Arc<Mutex<Option<Reservation>>>;

impl Messages {
    pub fn new(app: Arc<App>, body: Body) -> Self {
        Self {
            app,
            body,
            received: BytesMut::new(),
            memory: None,
        }
    }

    /// The next message; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Message, ServiceError>> {
        self.try_next().await.transpose()
    }

    async fn try_next(&mut self) -> Result<Option<Message>, ServiceError> {
        loop {
            let expected = self.expected()?;
            if let Some(length) = expected
                && self.received.len() >= length
            {
                return Ok(Some(self.take(length)));
            }
            let data = match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => return Err(broken(&error)),
                None if self.received.is_empty() => return Ok(None),
                None => return Err(broken(&io::Error::from(io::ErrorKind::UnexpectedEof))),
            };
            self.reserve(self.received.len() + data.len(), expected)
                .await?;
            self.received.extend_from_slice(&data);
        }
    }

    /// The length of the message that begins what is received, with its prefix.
    fn expected(&self) -> Result<Option<usize>, ServiceError> {
        let Some((prefix, _)) = self.received.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *prefix;
        if flag > 1 {
            return Err(ServiceError::bad_request("a message has an unknown flag"));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let limit = self.app.service.config.max_body_bytes;
        if length > limit {
            return Err(too_large(limit));
        }
        Ok(Some(PREFIX_BYTES.saturating_add(length)))
    }

    /// What is announced is not there yet: a message has memory for as much again as came.
    async fn reserve(&mut self, have: usize, expected: Option<usize>) -> Result<(), ServiceError> {
        let counted = self.memory.as_ref().map_or(0, Reservation::bytes);
        if have <= counted {
            return Ok(());
        }
        let ahead = (2 * have)
            .max(FIRST_BYTES)
            .min(expected.unwrap_or(FIRST_BYTES));
        let more = self.app.bodies.reserve(ahead.max(have) - counted).await?;
        match &mut self.memory {
            Some(memory) => memory.merge(more),
            None => self.memory = Some(more),
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Message {
        let mut bytes = self.received.split_to(length);
        let is_compressed = bytes.get_u8() != 0;
        bytes.advance(PREFIX_BYTES - 1);
        let memory = self.memory.as_mut().map(|memory| memory.split(length));
        Message {
            bytes: bytes.freeze(),
            is_compressed,
            memory,
        }
    }

    /// A body of the same messages for a generated service, none of them compressed, and what its
    /// last message takes: to be held while it is worked on.
    pub fn decompressed(self, encoding: Option<ContentEncoding>) -> (tonic::body::Body, Held) {
        let held = Held::default();
        let of_body = Arc::clone(&held);
        let frames = stream::try_unfold((self, of_body), move |(mut messages, held)| async move {
            let Some(message) = messages.next().await else {
                return Ok(None);
            };
            let limit = messages.app.service.config.max_body_bytes;
            let (bytes, memory) = message?.decompressed(encoding, limit).await?;
            *held.lock() = memory;
            let mut framed = BytesMut::with_capacity(PREFIX_BYTES + bytes.len());
            framed.put_u8(0);
            framed.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            framed.extend_from_slice(&bytes);
            Ok(Some((Frame::data(framed.freeze()), (messages, held))))
        });
        let frames = frames.map_err(|error: ServiceError| Status::from(error));
        (tonic::body::Body::new(StreamBody::new(frames)), held)
    }
}

impl Message {
    async fn decompressed(
        self,
        encoding: Option<ContentEncoding>,
        limit: usize,
    ) -> Result<(Bytes, Option<Reservation>), ServiceError> {
        if !self.is_compressed {
            return Ok((self.bytes, self.memory));
        }
        let encoding = encoding.ok_or_else(not_announced)?;
        let length = self.bytes.len();
        let work = move || {
            let mut memory = self.memory.ok_or_else(not_announced)?;
            let inflated = content::decompress(&self.bytes, encoding, limit, &mut memory);
            Ok((
                Bytes::from(inflated.map_err(refused)?.into_owned()),
                Some(memory),
            ))
        };
        if length <= SMALL_BYTES {
            return work();
        }
        let done = Environment::system().run_blocking(work).await;
        done.unwrap_or_else(|_| Err(ServiceError::unavailable("the server stops")))
    }
}

/// A message says that it is compressed, and the request does not say with what.
pub fn not_announced() -> ServiceError {
    ServiceError::bad_request("a message is compressed, but there is no grpc-encoding")
}

fn refused(error: ContentError) -> ServiceError {
    let code = match &error {
        ContentError::TooLarge { .. } => Code::TooLarge,
        ContentError::Corrupt(_) => Code::BadRequest,
        ContentError::OutOfMemory(_) => return ServiceError::unavailable(error.to_string()),
        ContentError::Unsupported(_) => Code::Unsupported,
    };
    ServiceError::of(code, error)
}

fn broken(error: &dyn std::fmt::Display) -> ServiceError {
    ServiceError::bad_request(format!(
        "the request ended in the middle of a message: {error}"
    ))
}

fn too_large(limit: usize) -> ServiceError {
    let message =
        format!("a message is larger than {limit} bytes (max_body_bytes); send smaller batches");
    ServiceError::new(Code::TooLarge, message)
}
