//! What clients send: bytes to messages.
//!
//! Own code, because these bytes come before authentication: nothing is read beyond the end of a
//! message, and nothing is allocated for more elements than a message has bytes for.

use bytes::{Buf, Bytes};

use super::error::{PgError, code};

/// The first message of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// A request for TLS.
    Tls,
    /// A request for GSSAPI.
    Gss,
    /// A request to end the query of another connection.
    Cancel {
        /// The number of that connection.
        pid: i32,
        /// Its secret.
        key: i32,
    },
    /// The beginning of a session.
    Startup {
        /// Whether the client would speak a later protocol than 3.0.
        is_newer: bool,
        /// Names and values.
        parameters: Vec<(String, String)>,
    },
}

/// What a client prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A statement.
    Statement,
    /// A statement with its parameters, on its way.
    Portal,
}

/// A message of a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Statements to run, as text.
    Query(String),
    /// A statement to prepare.
    Parse {
        name: String,
        query: String,
        types: Vec<u32>,
    },
    /// Parameters of a statement.
    Bind {
        portal: String,
        statement: String,
        formats: Vec<i16>,
        values: Vec<Option<Bytes>>,
        results: Vec<i16>,
    },
    /// A request for the columns of an answer.
    Describe(Target, String),
    /// A request to run a portal, for so many rows at most; 0 is all.
    Execute { portal: String, max_rows: u32 },
    /// A request to forget a statement or a portal.
    Close(Target, String),
    /// A request to send what there is.
    Flush,
    /// The end of a series of messages.
    Sync,
    /// The end of the session.
    Terminate,
    /// A password, or a step of SASL.
    Password(Bytes),
    /// Data of a copy, or its end: there is none that takes any.
    Copy,
}

/// Parameters that a startup message may have.
const MAX_STARTUP_PARAMETERS: usize = 64;
const TLS_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// A body of which parts are taken from the front.
struct Body(Bytes);

fn malformed() -> PgError {
    PgError::fatal(
        code::PROTOCOL_VIOLATION,
        "a message ends too early or too late",
    )
}

impl Body {
    fn u8(&mut self) -> Result<u8, PgError> {
        self.0.try_get_u8().map_err(|_| malformed())
    }

    fn i16(&mut self) -> Result<i16, PgError> {
        self.0.try_get_i16().map_err(|_| malformed())
    }

    fn i32(&mut self) -> Result<i32, PgError> {
        self.0.try_get_i32().map_err(|_| malformed())
    }

    fn bytes(&mut self, len: usize) -> Result<Bytes, PgError> {
        match len <= self.0.len() {
            true => Ok(self.0.split_to(len)),
            false => Err(malformed()),
        }
    }

    /// Up to the next zero.
    fn text(&mut self) -> Result<String, PgError> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.bytes(end.ok_or_else(malformed)?)?;
        self.0.advance(1);
        match std::str::from_utf8(&text) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(PgError::new(
                code::NOT_IN_REPERTOIRE,
                format!("a text is not UTF-8, which is all that is understood: {error}"),
            )),
        }
    }

    /// A number of elements, of so many bytes each at least.
    fn count(&mut self, bytes_each: usize) -> Result<usize, PgError> {
        // Counts are unsigned, whatever the documentation calls them.
        let count = usize::from(self.i16()? as u16);
        match count.saturating_mul(bytes_each) <= self.0.len() {
            true => Ok(count),
            false => Err(malformed()),
        }
    }

    fn target(&mut self) -> Result<Target, PgError> {
        match self.u8()? {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            _ => Err(malformed()),
        }
    }

    fn end(&self) -> Result<(), PgError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(malformed()),
        }
    }
}

impl First {
    /// Reads the body of a first message, which has no type.
    pub fn decode(body: Bytes) -> Result<Self, PgError> {
        let mut body = Body(body);
        let version = body.i32()?;
        match version {
            TLS_REQUEST => body.end().map(|()| First::Tls),
            GSS_REQUEST => body.end().map(|()| First::Gss),
            CANCEL_REQUEST => {
                let (pid, key) = (body.i32()?, body.i32()?);
                body.end()?;
                Ok(First::Cancel { pid, key })
            }
            _ if version >> 16 == 3 => {
                let mut parameters = Vec::new();
                loop {
                    let name = body.text()?;
                    if name.is_empty() {
                        break;
                    }
                    if parameters.len() == MAX_STARTUP_PARAMETERS {
                        return Err(PgError::fatal(
                            code::PROTOCOL_VIOLATION,
                            format!("more than {MAX_STARTUP_PARAMETERS} startup parameters"),
                        ));
                    }
                    parameters.push((name, body.text()?));
                }
                body.end()?;
                let is_newer = version & 0xffff > 0;
                Ok(First::Startup {
                    is_newer,
                    parameters,
                })
            }
            _ => Err(PgError::fatal(
                code::UNSUPPORTED,
                format!(
                    "protocol {}.{} is not spoken here, only 3.0",
                    version >> 16,
                    version & 0xffff
                ),
            )),
        }
    }
}

impl Message {
    /// Reads the body of a message of a type.
    pub fn decode(tag: u8, body: Bytes) -> Result<Self, PgError> {
        let mut body = Body(body);
        let message = match tag {
            b'Q' => Message::Query(body.text()?),
            b'P' => {
                let (name, query) = (body.text()?, body.text()?);
                let count = body.count(4)?;
                let types = (0..count).map(|_| body.i32().map(|oid| oid as u32));
                let types = types.collect::<Result<_, _>>()?;
                Message::Parse { name, query, types }
            }
            b'B' => {
                let (portal, statement) = (body.text()?, body.text()?);
                let count = body.count(2)?;
                let formats = (0..count).map(|_| body.i16()).collect::<Result<_, _>>()?;
                let count = body.count(4)?;
                let values = (0..count).map(|_| match usize::try_from(body.i32()?) {
                    Ok(len) => body.bytes(len).map(Some),
                    // A length of -1 is NULL.
                    Err(_) => Ok(None),
                });
                let values = values.collect::<Result<_, _>>()?;
                let count = body.count(2)?;
                let results = (0..count).map(|_| body.i16()).collect::<Result<_, _>>()?;
                Message::Bind {
                    portal,
                    statement,
                    formats,
                    values,
                    results,
                }
            }
            b'D' => Message::Describe(body.target()?, body.text()?),
            b'E' => Message::Execute {
                portal: body.text()?,
                max_rows: u32::try_from(body.i32()?).unwrap_or(0),
            },
            b'C' => Message::Close(body.target()?, body.text()?),
            b'H' => Message::Flush,
            b'S' => Message::Sync,
            b'X' => Message::Terminate,
            b'p' => return Ok(Message::Password(body.0)),
            b'd' | b'c' | b'f' => return Ok(Message::Copy),
            _ => {
                return Err(PgError::fatal(
                    code::PROTOCOL_VIOLATION,
                    format!("messages of type {tag} are not known"),
                ));
            }
        };
        body.end()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests;
