//! SCRAM-SHA-256 (RFC 5802, RFC 7677): a client proves that it has the secret of a token without
//! sending it, and the server that it knows the token.
//!
//! The catalog has the keys that follow from a secret, not the secret: these keys are compared.
//! With TLS the proof is bound to the certificate (RFC 5929, `tls-server-end-point`), so that a
//! server in between cannot pass it on.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use tidelake_catalog::model::ScramVerifier;

use super::error::{PgError, code};

/// The mechanism without and with binding.
pub const PLAIN: &str = "SCRAM-SHA-256";
pub const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Bytes of the server's part of the nonce.
const NONCE_BYTES: usize = 18;
/// Characters of a client's nonce.
const MAX_NONCE_CHARS: usize = 512;
const BINDING: &str = "tls-server-end-point";

/// What a proof is bound to: the hash of the server's certificate.
pub type Binding = Vec<u8>;

/// An exchange after its first message.
#[derive(Debug)]
pub struct Exchange {
    verifier: ScramVerifier,
    /// What the client's last message must repeat: the header of its first, and the binding.
    bound: String,
    nonce: String,
    /// The first messages of both, as they are signed.
    messages: String,
    /// What the server answers first.
    pub answer: String,
}

fn malformed(what: &str) -> PgError {
    PgError::fatal(
        code::PROTOCOL_VIOLATION,
        format!("a message of SCRAM is not as RFC 5802 has it: {what}"),
    )
}

/// A random nonce.
pub fn nonce() -> Result<String, PgError> {
    let mut bytes = [0; NONCE_BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| PgError::fatal(code::INTERNAL, "the system gives no random numbers"))?;
    Ok(STANDARD.encode(bytes))
}

impl Exchange {
    /// Reads the client's first message. `binding` is there if the mechanism with binding is
    /// offered, and `is_bound` if the client chose it.
    pub fn begin(
        message: &[u8],
        verifier: ScramVerifier,
        server_nonce: &str,
        binding: Option<&Binding>,
        is_bound: bool,
    ) -> Result<Self, PgError> {
        let message = std::str::from_utf8(message).map_err(|_| malformed("not UTF-8"))?;
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("no header"));
        };
        let bound_to = match (flag.strip_prefix("p="), binding) {
            (Some(BINDING), Some(binding)) if is_bound => binding.as_slice(),
            (Some(_), _) => return Err(malformed("an unknown channel binding")),
            (None, _) if is_bound => return Err(malformed("no channel binding")),
            // The client could bind, and did not see that the server can, too: a server in between
            // has taken the offer out.
            (None, Some(_)) if flag == "y" => {
                return Err(PgError::fatal(
                    code::UNAUTHENTICATED,
                    "the client did not see that channel binding is offered",
                ));
            }
            (None, _) if flag == "y" || flag == "n" => &[],
            (None, _) => return Err(malformed("an unknown flag")),
        };
        if !(identity.is_empty() || identity.starts_with("a=")) {
            return Err(malformed("an unknown header"));
        }
        let mut fields = bare.split(',');
        // The name is that of the startup message, as PostgreSQL has it.
        if !fields.next().is_some_and(|field| field.starts_with("n=")) {
            return Err(malformed("no name"));
        }
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| (1..=MAX_NONCE_CHARS).contains(&nonce.len()));
        let nonce = format!(
            "{}{server_nonce}",
            nonce.ok_or_else(|| malformed("no nonce"))?
        );
        let answer = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(&verifier.salt),
            verifier.iterations
        );
        let mut bound = format!("{flag},{identity},").into_bytes();
        bound.extend_from_slice(bound_to);
        Ok(Self {
            bound: STANDARD.encode(bound),
            messages: format!("{bare},{answer}"),
            nonce,
            answer,
            verifier,
        })
    }

    /// Checks the client's proof; the answer is the server's. `None` if it is wrong.
    pub fn finish(self, message: &[u8]) -> Result<Option<String>, PgError> {
        let message = std::str::from_utf8(message).map_err(|_| malformed("not UTF-8"))?;
        let (before, proof) = message
            .rsplit_once(",p=")
            .ok_or_else(|| malformed("no proof"))?;
        let mut fields = before.split(',');
        let (bound, nonce) = (fields.next(), fields.next());
        if bound.and_then(|field| field.strip_prefix("c=")) != Some(self.bound.as_str()) {
            return Err(PgError::fatal(
                code::UNAUTHENTICATED,
                "the channel binding of the client is that of another connection",
            ));
        }
        if nonce.and_then(|field| field.strip_prefix("r=")) != Some(self.nonce.as_str()) {
            return Err(malformed("another nonce"));
        }
        let proof = STANDARD
            .decode(proof)
            .map_err(|_| malformed("a proof in no base64"))?;
        let signed = format!("{},{before}", self.messages);
        let sign = |key: &[u8]| hmac::sign(&hmac::Key::new(HMAC_SHA256, key), signed.as_bytes());
        let signature = sign(&self.verifier.stored_key);
        if proof.len() != signature.as_ref().len() {
            return Err(malformed("a proof of another length"));
        }
        let key: Vec<u8> = proof
            .iter()
            .zip(signature.as_ref())
            .map(|(proof, sign)| proof ^ sign)
            .collect();
        let stored = digest::digest(&digest::SHA256, &key);
        // In constant time.
        let differing = stored
            .as_ref()
            .iter()
            .zip(&self.verifier.stored_key)
            .fold(0, |differing, (one, other)| differing | (one ^ other));
        if differing != 0 {
            return Ok(None);
        }
        let answer = sign(&self.verifier.server_key);
        Ok(Some(format!("v={}", STANDARD.encode(answer))))
    }
}

/// A verifier that no secret fits, for names that no token has. It is the same at each try, so that
/// it does not tell which names there are.
pub fn no_verifier(key: &hmac::Key, name: &str, iterations: u32) -> ScramVerifier {
    let salt = hmac::sign(key, name.as_bytes());
    ScramVerifier {
        iterations,
        salt: salt.as_ref().iter().take(16).copied().collect(),
        // No key with this hash is known.
        stored_key: [0; 32],
        server_key: [0; 32],
    }
}

/// What proofs are bound to: the hash of a certificate by the function that its signature uses.
/// `None` if that is not known.
pub fn binding(certificate: &[u8]) -> Option<Binding> {
    let function = match signature_algorithm(certificate)? {
        // SHA-256 is used in the place of MD5 and SHA-1 as well.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, kind] => match kind {
            4 | 5 | 11 => &digest::SHA256,
            12 => &digest::SHA384,
            13 => &digest::SHA512,
            _ => return None,
        },
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => &digest::SHA256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, kind] => match kind {
            2 => &digest::SHA256,
            3 => &digest::SHA384,
            4 => &digest::SHA512,
            _ => return None,
        },
        _ => return None,
    };
    Some(digest::digest(function, certificate).as_ref().to_vec())
}

/// The number of the algorithm that signed a certificate: in DER the first of the second part.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = der(certificate, 0x30)?;
    let (_, rest) = der(certificate, 0x30)?;
    let (algorithm, _) = der(rest, 0x30)?;
    der(algorithm, 0x06).map(|(number, _)| number)
}

/// The content of an element of DER, and what follows it.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = bytes else {
        return None;
    };
    if *first != tag {
        return None;
    }
    let (length, rest) = match *length {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let digits = usize::from(long & 0x7f);
            let (digits, rest) = rest.split_at_checked(digits)?;
            if digits.len() > 4 {
                return None;
            }
            let length = digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit));
            (length, rest)
        }
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};

    use super::*;

    /// The example of RFC 7677, section 3.
    fn verifier() -> ScramVerifier {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let mut salted = [0; 32];
        let rounds = NonZeroU32::new(4096).unwrap();
        pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, &salt, b"pencil", &mut salted);
        let key = |name: &[u8]| hmac::sign(&hmac::Key::new(HMAC_SHA256, &salted), name);
        let stored = digest::digest(&digest::SHA256, key(b"Client Key").as_ref());
        ScramVerifier {
            iterations: 4096,
            salt,
            stored_key: stored.as_ref().try_into().unwrap(),
            server_key: key(b"Server Key").as_ref().try_into().unwrap(),
        }
    }

    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn begin(first: &[u8], binding: Option<&Binding>, is_bound: bool) -> Result<Exchange, PgError> {
        Exchange::begin(first, verifier(), SERVER_NONCE, binding, is_bound)
    }

    #[test]
    fn the_exchange_is_that_of_the_rfc() {
        let exchange = begin(FIRST, None, false).unwrap();
        assert_eq!(
            exchange.answer,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let answer = exchange.finish(LAST.as_bytes()).unwrap();
        let expected = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(answer.as_deref(), Some(expected));
    }

    #[test]
    fn wrong_proofs_and_bindings_are_refused() {
        let finish = |last: &str| begin(FIRST, None, false).unwrap().finish(last.as_bytes());
        assert_eq!(finish(&LAST.replace("p=dHzb", "p=aHzb")), Ok(None));
        assert!(finish(&LAST.replace("biws", "eSws")).is_err());
        assert!(finish(&LAST.replace("r=rO", "r=rX")).is_err());
        assert!(finish("c=biws,r=x").is_err());
        assert!(finish(&LAST.replace("AndVQ=", "")).is_err());
        let other = no_verifier(&hmac::Key::new(HMAC_SHA256, b"k"), "user", 4096);
        let exchange = Exchange::begin(FIRST, other, SERVER_NONCE, None, false).unwrap();
        assert_eq!(exchange.finish(LAST.as_bytes()), Ok(None));

        let binding = vec![1, 2, 3];
        // A client that could bind must have seen that the server can.
        assert!(begin(b"y,,n=,r=a", Some(&binding), false).is_err());
        assert!(begin(b"y,,n=,r=a", None, false).is_ok());
        assert!(begin(b"n,,n=,r=a", Some(&binding), false).is_ok());
        assert!(begin(b"n,,n=,r=a", Some(&binding), true).is_err());
        assert!(begin(b"p=tls-unique,,n=,r=a", Some(&binding), true).is_err());
        assert!(begin(b"p=tls-server-end-point,,n=,r=a", None, true).is_err());
        let bound = begin(b"p=tls-server-end-point,,n=,r=a", Some(&binding), true).unwrap();
        let header = b"p=tls-server-end-point,,\x01\x02\x03";
        assert_eq!(bound.bound, STANDARD.encode(header));
        for bad in [
            &b""[..],
            b"n",
            b"n,,",
            b"n,,n=a",
            b"n,,n=a,r=",
            b"x,,n=a,r=b",
            b"\xff,,",
        ] {
            assert!(begin(bad, None, false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn certificates_of_any_bytes() {
        assert_eq!(binding(b""), None);
        assert_eq!(binding(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(binding(&[0x30, 0xff]), None);
        let number = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
        let algorithm = [&[0x30, number.len() as u8], &number[..]].concat();
        let body = [&[0x30, 0x00][..], &algorithm].concat();
        let certificate = [&[0x30, body.len() as u8], &body[..]].concat();
        assert_eq!(binding(&certificate).map(|hash| hash.len()), Some(32));
    }
}
