//! `Handshake`: clients that have a user and a password exchange them for a token. The password is
//! the token here, and the user may be any.
use arrow_flight::{BasicAuth, HandshakeRequest, HandshakeResponse};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use futures::{StreamExt, stream};
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::Answers;
use crate::http::app::App;
use crate::http::authenticate;
use crate::service::error::{Code, ServiceError};

/// The token of a client that shows none, where none is needed.
const NOTHING: &str = "none";

pub async fn answer(
    app: &App,
    request: Request<Streaming<HandshakeRequest>>,
) -> Result<Response<Answers<HandshakeResponse>>, Status> {
    let headers: HeaderMap = request.metadata().clone().into_headers();
    let secret = match headers.get(AUTHORIZATION) {
        // It was checked on the way.
        Some(header) => authenticate::in_header(header)?.map(String::from),
        None => {
            let secret = in_message(request.into_inner()).await?;
            if app.service.config.auth {
                app.service.authenticate(secret.as_deref())?;
            }
            secret
        }
    };
    let secret = secret.unwrap_or_else(|| NOTHING.to_owned());
    let bearer = MetadataValue::try_from(format!("Bearer {secret}"));
    let bearer = bearer.map_err(|_| {
        ServiceError::new(
            Code::Unauthenticated,
            "the password must be a token, which is ASCII",
        )
    })?;
    let answer = HandshakeResponse {
        protocol_version: 0,
        payload: secret.into(),
    };
    let answers: Answers<_> = stream::iter([Ok(answer)]).boxed();
    let mut response = Response::new(answers);
    response.metadata_mut().insert("authorization", bearer);
    Ok(response)
}

/// The password in the first message.
async fn in_message(
    mut requests: Streaming<HandshakeRequest>,
) -> Result<Option<String>, ServiceError> {
    let bad = |error: &dyn std::fmt::Display| {
        let message = format!("a handshake needs a user and a password: {error}");
        ServiceError::new(Code::Unauthenticated, message)
    };
    let first = requests.message().await.map_err(|error| bad(&error))?;
    let payload = first.map(|request| request.payload).unwrap_or_default();
    let basic = BasicAuth::decode(payload).map_err(|error| bad(&error))?;
    Ok((!basic.password.is_empty()).then_some(basic.password))
}
