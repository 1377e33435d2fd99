//! Large writes keep no connection waiting that is not theirs.
use std::time::{Duration, Instant};

use crate::place::Place;
use crate::protobuf::snappy;
use crate::server::Server;

/// Samples of a body: empty ones, of two bytes each.
const SAMPLES: usize = 4_000_000;
/// Far longer than a health check takes, and far shorter than it takes to parse such a body without
/// optimisation.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A write request of one series whose samples are empty.
fn empty_samples(k: u8) -> Vec<u8> {
    let label = |name: &[u8], value: &[u8]| {
        let lengths = (name.len() as u8, value.len() as u8);
        let mut label = vec![0x0a, lengths.0];
        label.extend_from_slice(name);
        label.extend_from_slice(&[0x12, lengths.1]);
        label.extend_from_slice(value);
        [&[0x0a, label.len() as u8], &label[..]].concat()
    };
    let mut series = label(b"__name__", b"empty");
    series.extend_from_slice(&label(b"k", &[k]));
    series.extend_from_slice(&[0x12, 0].repeat(SAMPLES));
    let mut body = vec![0x0a];
    let mut length = series.len();
    while length > 127 {
        body.push(length as u8 | 0x80);
        length >>= 7;
    }
    body.push(length as u8);
    body.extend_from_slice(&series);
    snappy(&body)
}

#[tokio::test]
async fn health_checks_and_small_requests_do_not_wait_for_large_writes() {
    let mut server = Server::start(&Place::Memory).await;
    let client = server.client();
    let writes: Vec<_> = (b'a'..b'e')
        .map(|k| {
            let client = client.clone();
            tokio::spawn(async move { client.try_write_protobuf(empty_samples(k)).await })
        })
        .collect();
    let (mut checks, mut longest) = (0, Duration::ZERO);
    while !writes.iter().all(tokio::task::JoinHandle::is_finished) {
        for path in ["/health", "/metrics"] {
            let begun = Instant::now();
            client.get(path, &[]).await.expect(200);
            longest = longest.max(begun.elapsed());
        }
        assert_eq!(client.promql("1 + 1", "0").await.len(), 2);
        checks += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for write in writes {
        let reply = write.await.expect("no panic").expect("an answer");
        // Four of them may fill the buffer.
        assert!([204, 503].contains(&reply.status), "{}", reply.text());
    }
    assert!(
        longest < PATIENCE,
        "{longest:?} for the longest of {checks}"
    );
    assert!(checks > 1);
    assert!(server.is_running(), "{}", server.log());
}
