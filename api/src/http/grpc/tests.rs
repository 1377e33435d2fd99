//! Calls without a connection.
use std::io::Write;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Empty, HandshakeRequest};
use axum::http::{StatusCode, Uri};
use flate2::Compression;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::config::Config;
use crate::http::router::router;
use crate::node::backend::Backend;
use crate::service::context::Principal;

const LIMIT: usize = 1000;

async fn app() -> Arc<App> {
    let app = App::new(Config {
        max_body_bytes: LIMIT,
        ..Config::default()
    });
    app.service.attach(Backend::in_memory().await);
    app
}

/// A message that says what came.
#[derive(Clone, PartialEq, prost::Message)]
struct Seen {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    #[prost(string, tag = "2")]
    encoding: String,
}

async fn seen(call: UnaryCall) -> Result<Seen, ServiceError> {
    match &call.message.bytes[..] {
        b"overload" => Err(ServiceError::unavailable("come again")),
        b"sleep" => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Err(ServiceError::bad_request("it was not stopped"))
        }
        bytes => Ok(Seen {
            bytes: bytes.to_vec(),
            encoding: format!("{:?}", call.encoding),
        }),
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flag], &length.to_be_bytes()[..], message].concat()
}

async fn call(body: impl Into<Body>, headers: &[(&str, &str)]) -> Response {
    let app = app().await;
    let mut request = Request::builder()
        .method("POST")
        .uri("/test.Test/Seen")
        .version(Version::HTTP_2)
        .extension(RequestContext::new(Principal::Anyone));
    let content = [("content-type", "application/grpc")];
    let given = headers.iter().any(|(name, _)| *name == "content-type");
    for (name, value) in headers.iter().chain(content.iter().filter(|_| !given)) {
        request = request.header(*name, *value);
    }
    let router = unary("/test.Test/Seen", seen).with_state(app.clone());
    let response = router
        .oneshot(request.body(body.into()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.headers().contains_key(ACCEPT_ENCODING), {
        response.status() == StatusCode::OK
    });
    response
}

async fn message_of(response: Response) -> Seen {
    assert_eq!(response.status(), StatusCode::OK);
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()[STATUS], "0");
    Seen::decode(&collected.to_bytes()[PREFIX_BYTES..]).unwrap()
}

#[track_caller]
fn refused(response: &Response, code: tonic::Code, text: &str) {
    assert_eq!(response.status(), StatusCode::OK);
    let status = tonic::Status::from_header_map(response.headers()).expect("a status");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "{}", status.message());
}

#[tokio::test]
async fn a_message_is_handed_on_as_received() {
    let check = async |body: Vec<u8>, headers: &[(&str, &str)], bytes: &[u8], encoding: &str| {
        let seen = message_of(call(body, headers).await).await;
        assert_eq!((&seen.bytes[..], &seen.encoding[..]), (bytes, encoding));
    };
    check(framed(0, b"abc"), &[], b"abc", "Identity").await;
    check(framed(0, b""), &[], b"", "Identity").await;
    let full = vec![b'x'; LIMIT];
    check(framed(0, &full), &[], &full, "Identity").await;
    let gzip = ("grpc-encoding", "gzip");
    check(framed(1, b"zip"), &[gzip], b"zip", "Gzip").await;
    // A message may be uncompressed all the same.
    check(framed(0, b"zip"), &[gzip], b"zip", "Identity").await;
    let typed = ("content-type", "application/grpc+proto; a=b");
    check(framed(0, b"abc"), &[typed], b"abc", "Identity").await;
    // In pieces.
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        framed(0, b"abc").into_iter().map(|b| Ok(vec![b])).collect();
    let body = Body::from_stream(futures::stream::iter(pieces));
    assert_eq!(message_of(call(body, &[]).await).await.bytes, b"abc");
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    use tonic::Code::{InvalidArgument, ResourceExhausted, Unimplemented};
    let check = async |body: &[u8], headers: &[(&str, &str)], code, text: &str| {
        refused(&call(body.to_vec(), headers).await, code, text);
    };
    check(b"", &[], InvalidArgument, "no message").await;
    check(b"\0\0\0", &[], InvalidArgument, "ended").await;
    check(&framed(0, b"abc")[..7], &[], InvalidArgument, "ended").await;
    check(&framed(7, b"abc"), &[], InvalidArgument, "flag").await;
    check(&framed(1, b"abc"), &[], InvalidArgument, "no grpc-encoding").await;
    let large = framed(0, &[0; LIMIT + 1]);
    check(&large, &[], ResourceExhausted, "max_body_bytes").await;
    check(
        b"\0\xff\xff\xff\xff",
        &[],
        ResourceExhausted,
        "max_body_bytes",
    )
    .await;
    let deflate = ("grpc-encoding", "deflate");
    check(b"", &[deflate], Unimplemented, "\"deflate\"").await;
    for timeout in ["", "S", "1", "123456789S", "-1S", "1x", "1.5S"] {
        check(
            b"",
            &[("grpc-timeout", timeout)],
            InvalidArgument,
            "grpc-timeout",
        )
        .await;
    }
    let web = ("content-type", "application/grpc-web+proto");
    assert_eq!(call(Body::empty(), &[web]).await.status().as_u16(), 415);
    let json = ("content-type", "application/json");
    assert_eq!(call(Body::empty(), &[json]).await.status().as_u16(), 415);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_no_longer_waits_is_told_so() {
    let response = call(framed(0, b"sleep"), &[("grpc-timeout", "50m")]).await;
    refused(&response, tonic::Code::DeadlineExceeded, "did not wait");
    let response = call(framed(0, b"abc"), &[("grpc-timeout", "99999999H")]).await;
    assert_eq!(message_of(response).await.bytes, b"abc");
}

#[tokio::test]
async fn an_overload_says_when_to_come_again() {
    let response = call(framed(0, b"overload"), &[]).await;
    refused(&response, tonic::Code::Unavailable, "come again");
    let status = tonic::Status::from_header_map(response.headers()).unwrap();
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(details.contains("type.googleapis.com/google.rpc.RetryInfo"));
    // One second: a delay of two bytes in a field of four.
    assert!(
        status.details().ends_with(b"\x12\x04\x0a\x02\x08\x01"),
        "{details:?}"
    );
}

#[tokio::test]
async fn memory_of_messages_is_counted_and_given_back() {
    let app = App::new(Config::default());
    let used = app.service.memory.used();
    let mut messages = Messages::new(app.clone(), Body::from(framed(0, &[1; 100_000])));
    let message = messages.next().await.unwrap().unwrap();
    assert!(app.service.memory.used() >= used + 100_000);
    drop((message, messages));
    assert_eq!(app.service.memory.used(), used);
    // What is announced and does not come takes nothing.
    let announced = Body::from(b"\0\0\x90\0\0".to_vec());
    let mut messages = Messages::new(app.clone(), announced);
    assert!(messages.next().await.unwrap().is_err());
    assert!(app.service.memory.used() < used + 100_000);
}

#[tokio::test]
async fn services_get_messages_uncompressed_and_no_bombs() {
    let app = app().await;
    let bodies = |payload: Vec<u8>, encoding| {
        let zipped = match encoding {
            ContentEncoding::Zstd => zstd(&payload),
            _ => gzip(&payload),
        };
        let messages = Messages::new(app.clone(), Body::from(framed(1, &zipped)));
        messages.decompressed(Some(encoding)).0
    };
    for encoding in [ContentEncoding::Gzip, ContentEncoding::Zstd] {
        let body = bodies(vec![7; LIMIT], encoding);
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes, framed(0, &[7; LIMIT]));
        let bomb = bodies(vec![7; 1 << 20], encoding).collect().await;
        assert_eq!(bomb.unwrap_err().code(), tonic::Code::ResourceExhausted);
    }
    let broken = Messages::new(app.clone(), Body::from(framed(1, b"abc")));
    let broken = broken.decompressed(Some(ContentEncoding::Gzip)).0.collect();
    assert_eq!(
        broken.await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes, in whatever pieces, is messages within the limit or an error, and all memory
    /// is given back.
    #[test]
    fn any_bytes_are_messages_or_an_error(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        lengths in prop::collection::vec(0u8..40, 0..8),
        pieces in prop::collection::vec(1usize..50, 1..20),
        encoding in prop_oneof![
            Just(None), Just(Some(ContentEncoding::Gzip)), Just(Some(ContentEncoding::Zstd)),
        ],
    ) {
        // Some of it looks like messages.
        let mut at = 0;
        for length in lengths {
            if let Some(prefix) = bytes.get_mut(at..at + PREFIX_BYTES) {
                prefix.copy_from_slice(&[length & 1, 0, 0, 0, length]);
            }
            at += PREFIX_BYTES + usize::from(length);
        }
        let mut left = &bytes[..];
        let mut sent = Vec::new();
        for piece in pieces.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (piece, rest) = left.split_at(left.len().min(*piece));
            sent.push(Ok::<_, std::io::Error>(piece.to_vec()));
            left = rest;
        }
        let app = App::new(Config { max_body_bytes: 30, ..Config::default() });
        let used = app.service.memory.used();
        let body = Body::from_stream(futures::stream::iter(sent));
        let messages = Messages::new(app.clone(), body);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (body, held) = messages.decompressed(encoding);
            if let Ok(all) = body.collect().await {
                let all = all.to_bytes();
                assert!(all.len() <= bytes.len() * (30 + PREFIX_BYTES));
            }
            drop(held);
        });
        prop_assert_eq!(app.service.memory.used(), used);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn answers_are_compressed_for_clients_that_want_it() {
    let check = |accepted: &str, sent, expected: Option<&str>| {
        let accepted = HeaderValue::from_str(accepted).unwrap();
        let chosen = answer_encoding(&accepted, sent);
        assert_eq!(
            chosen.as_ref().map(|value| value.to_str().unwrap()),
            expected
        );
    };
    let all = "identity, deflate, gzip";
    check(all, None, None);
    check(all, Some(ContentEncoding::Gzip), Some("gzip"));
    check("identity", Some(ContentEncoding::Gzip), None);
    check("gzip,zstd", None, Some("zstd"));
    check("", None, None);
}

#[tokio::test]
async fn refusals_on_the_way_are_statuses() {
    let app = App::new(Config {
        auth: true,
        ..Config::default()
    });
    app.service.attach(Backend::in_memory().await);
    let mut client =
        FlightServiceClient::with_origin(router(app.clone()), Uri::from_static("http://localhost"));
    let refused = client.list_actions(Empty {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused:?}");
    let requests = futures::stream::iter([HandshakeRequest::default()]);
    let refused = client.handshake(requests).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused:?}");
    // A page of another origin, and a name that was made to mean this machine.
    let open = App::new(Config::default());
    open.service.attach(Backend::in_memory().await);
    for (name, value) in [("origin", "http://evil.example"), ("host", "evil.example")] {
        let request = Request::post("/arrow.flight.protocol.FlightService/ListActions")
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header(name, value)
            .header("host", "localhost");
        let response = router(open.clone()).oneshot(request.body(Body::empty()).unwrap());
        let code = tonic::Code::PermissionDenied;
        super::tests::refused(&response.await.unwrap(), code, "allowed_hosts");
    }
    let unknown = Request::post("/nothing.Service/Method")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("host", "localhost");
    let unknown = router(open)
        .oneshot(unknown.body(Body::empty()).unwrap())
        .await;
    super::tests::refused(&unknown.unwrap(), tonic::Code::Unimplemented, "nothing at");
}
