//! A connection as bytes: messages in, within limits and their memory, and messages out, to clients
//! that take them in time.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::backend::Output;
use super::cancel::Cancel;
use super::error::{PgError, code};
use super::startup::Stream;

/// Largest message before a client is authenticated.
pub const MAX_STARTUP_BYTES: usize = 10_000;
/// Largest message of a session: a statement of `MAX_SQL_BYTES` with its parameters.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// What a connection may have in its buffer without counting it.
const UNCOUNTED_BYTES: usize = 16 << 10;
/// Bytes that are read while a query runs: what comes after its message.
const MAX_READ_AHEAD: usize = 64 << 10;
/// Answers are sent in pieces of about this size.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Why a connection ends.
#[derive(Debug)]
pub enum Ended {
    /// The client is gone.
    Closed,
    /// The client takes nothing any more.
    Stalled,
    /// The client is told why.
    Told(PgError),
}

impl From<PgError> for Ended {
    fn from(error: PgError) -> Self {
        Ended::Told(error)
    }
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Ended::Closed
    }
}

/// See the module.
pub struct Link<S> {
    io: S,
    input: BytesMut,
    pub out: Output,
    write_timeout: Duration,
    held: Reservation,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub fn new(io: S, write_timeout: Duration, memory: &Arc<MemoryBudget>) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            out: Output::default(),
            write_timeout,
            held: memory.empty(Share::Bodies),
        }
    }

    /// The stream, if nothing is left of what was read from it or is to be sent.
    pub fn into_bare(self) -> Result<S, PgError> {
        match self.input.is_empty() && self.out.0.is_empty() {
            true => Ok(self.io),
            // It came before TLS, so anything on the way can have put it there.
            false => Err(PgError::fatal(
                code::PROTOCOL_VIOLATION,
                "unencrypted data came after the request for TLS",
            )),
        }
    }

    /// Whether a whole message is there already.
    pub fn has_message(&self) -> bool {
        let length = self
            .input
            .get(1..)
            .and_then(|mut rest| rest.try_get_u32().ok());
        length.is_some_and(|length| self.input.len() as u64 > u64::from(length))
    }

    /// The first message, which has no type.
    pub async fn first(&mut self) -> Result<Bytes, Ended> {
        self.fill_to(4).await?;
        let len = self.length(0, MAX_STARTUP_BYTES)?;
        self.fill_to(len).await?;
        let mut message = self.input.split_to(len).freeze();
        message.advance(4);
        Ok(message)
    }

    /// The next message: its type and its body.
    pub async fn message(&mut self, limit: usize) -> Result<(u8, Bytes), Ended> {
        self.settle();
        self.fill_to(5).await?;
        let len = self.length(1, limit)?;
        self.fill_to(1 + len).await?;
        let mut message = self.input.split_to(1 + len).freeze();
        let tag = message.try_get_u8().unwrap_or_default();
        message.advance(4);
        Ok((tag, message))
    }

    /// The length that a message says it has, itself included.
    fn length(&self, at: usize, limit: usize) -> Result<usize, PgError> {
        let length = self
            .input
            .get(at..)
            .and_then(|mut rest| rest.try_get_i32().ok());
        let length = length.and_then(|length| usize::try_from(length).ok());
        match length {
            Some(length) if (4..=limit + 4).contains(&length) => Ok(length),
            _ => Err(PgError::fatal(
                code::PROTOCOL_VIOLATION,
                format!("a message has no valid length; {limit} bytes are allowed"),
            )),
        }
    }

    /// Gives the memory of a large message back.
    fn settle(&mut self) {
        if self.held.bytes() > 0 && self.input.len() <= UNCOUNTED_BYTES {
            // What is left shares its memory with the message.
            self.input = BytesMut::from(&self.input[..]);
            self.held.shrink(self.held.bytes());
        }
    }

    async fn fill_to(&mut self, len: usize) -> Result<(), Ended> {
        while self.input.len() < len {
            self.fill().await?;
        }
        Ok(())
    }

    /// Reads what comes next. Can be dropped while it waits.
    async fn fill(&mut self) -> Result<(), Ended> {
        if self.input.len() > UNCOUNTED_BYTES {
            // The buffer doubles when it grows.
            let held = self.held.try_resize(self.input.len() * 2);
            held.map_err(|error| {
                let message = format!("a message does not fit into memory: {error}");
                PgError::fatal(code::OUT_OF_MEMORY, message)
            })?;
        }
        match self.io.read_buf(&mut self.input).await? {
            0 => Err(Ended::Closed),
            _ => Ok(()),
        }
    }

    /// Sends what is there.
    pub async fn flush(&mut self) -> Result<(), Ended> {
        if self.out.0.is_empty() {
            return Ok(());
        }
        let send = async {
            self.io.write_all(&self.out.0).await?;
            self.io.flush().await
        };
        let sent = tokio::time::timeout(self.write_timeout, send).await;
        self.out.0.clear();
        if self.out.0.capacity() > 4 * CHUNK_BYTES {
            self.out.0 = Vec::new();
        }
        match sent {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(Ended::Stalled),
        }
    }

    /// Sends what is there if it is much.
    pub async fn flush_if_full(&mut self) -> Result<(), Ended> {
        match self.out.0.len() < CHUNK_BYTES {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    /// Waits for work, unless it is cancelled or the client goes away. What comes is kept.
    pub async fn attend<T>(
        &mut self,
        cancel: &Cancel,
        work: impl Future<Output = T>,
    ) -> Result<T, Ended> {
        let mut work = pin!(work);
        let mut cancelled = pin!(cancel.asked());
        loop {
            tokio::select! {
                biased;
                () = &mut cancelled => {
                    cancel.clear();
                    let message = "canceling statement due to user request";
                    return Err(PgError::new(code::CANCELED, message).into());
                }
                done = &mut work => return Ok(done),
                read = self.fill(), if self.input.len() < MAX_READ_AHEAD => read?,
            }
        }
    }

    /// Ends the connection, after a moment in which the client reads the last message.
    pub async fn close(mut self, error: Option<&PgError>) {
        if let Some(error) = error {
            self.out.error(error);
        }
        let closing = async {
            let _ = self.flush().await;
            let _ = self.io.shutdown().await;
            // Bytes that were not read would make the system reset the connection.
            let mut rest = [0; 1024];
            while matches!(self.io.read(&mut rest).await, Ok(n) if n > 0) {}
        };
        let _ = tokio::time::timeout(LINGER, closing).await;
    }
}

/// Longest time in which the server waits for the client to close.
const LINGER: Duration = Duration::from_millis(500);

impl<S: Stream + 'static> Link<S> {
    /// The same of any stream.
    pub fn boxed(self) -> Link<Box<dyn Stream>> {
        Link {
            io: Box::new(self.io),
            input: self.input,
            out: self.out,
            write_timeout: self.write_timeout,
            held: self.held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(io: tokio::io::DuplexStream) -> Link<tokio::io::DuplexStream> {
        Link::new(io, Duration::from_millis(50), &MemoryBudget::unlimited())
    }

    #[tokio::test]
    async fn messages_have_limits() {
        let (io, mut client) = tokio::io::duplex(1 << 20);
        let mut link = link(io);
        client
            .write_all(b"Q\0\0\0\x06a\0S\0\0\0\x04")
            .await
            .unwrap();
        let (tag, body) = link.message(100).await.unwrap();
        assert_eq!((tag, &body[..]), (b'Q', &b"a\0"[..]));
        let (tag, body) = link.message(100).await.unwrap();
        assert_eq!((tag, body.len()), (b'S', 0));
        for bad in [3i32, -1, 105, i32::MAX] {
            let (io, mut client) = tokio::io::duplex(1000);
            let mut link = super::tests::link(io);
            client.write_all(b"Q").await.unwrap();
            client.write_all(&bad.to_be_bytes()).await.unwrap();
            assert!(
                matches!(link.message(100).await, Err(Ended::Told(_))),
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn large_messages_are_counted_while_they_are_there() {
        let memory = Arc::new(MemoryBudget::new(1 << 30));
        let (io, mut client) = tokio::io::duplex(1 << 20);
        let mut link = Link::new(io, Duration::from_secs(1), &memory);
        let sent = tokio::spawn(async move {
            let length = (1i32 << 20) + 4;
            client.write_all(b"Q").await.unwrap();
            client.write_all(&length.to_be_bytes()).await.unwrap();
            client.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
            client.write_all(b"S\0\0\0\x04").await.unwrap();
            client
        });
        let (_, body) = link.message(MAX_MESSAGE_BYTES).await.unwrap();
        assert!(memory.used() >= body.len());
        drop(body);
        let _client = sent.await.unwrap();
        link.message(MAX_MESSAGE_BYTES).await.unwrap();
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn what_a_large_message_took_is_given_back_after_it() {
        for length in [
            20_000i32, 32_763, 65_000, 65_531, 65_535, 131_067, 1_000_000,
        ] {
            let memory = Arc::new(MemoryBudget::new(1 << 30));
            let (io, mut client) = tokio::io::duplex(2 << 20);
            let mut link = Link::new(io, Duration::from_secs(1), &memory);
            client.write_all(b"Q").await.unwrap();
            client.write_all(&length.to_be_bytes()).await.unwrap();
            let body = vec![b'x'; length as usize - 4];
            client.write_all(&body).await.unwrap();
            link.message(MAX_MESSAGE_BYTES).await.unwrap();
            client.write_all(b"S\0\0\0\x04").await.unwrap();
            link.message(MAX_MESSAGE_BYTES).await.unwrap();
            assert_eq!(memory.used(), 0, "{length}");
        }
    }

    #[tokio::test]
    async fn work_ends_with_the_client_and_by_request() {
        let cancel = Cancel::default();
        let (io, client) = tokio::io::duplex(100);
        let mut gone = link(io);
        drop(client);
        let ended = gone.attend(&cancel, std::future::pending::<()>()).await;
        assert!(matches!(ended, Err(Ended::Closed)));
        let (io, mut client) = tokio::io::duplex(100);
        let mut there = link(io);
        client.write_all(b"S\0\0\0\x04").await.unwrap();
        let work = tokio::time::sleep(Duration::from_millis(20));
        there.attend(&cancel, work).await.unwrap();
        assert_eq!(there.message(100).await.unwrap().0, b'S');
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_noticed() {
        let (io, _client) = tokio::io::duplex(10);
        let mut link = link(io);
        link.out.0 = vec![0; 100];
        assert!(matches!(link.flush().await, Err(Ended::Stalled)));
    }
}
