//! kill -9 at random moments, again and again on the same data.
//!
//! `TIDELAKE_TEST_SEED` replays the choices of a run (not the timing of the machine),
//! `TIDELAKE_CRASH_ROUNDS` asks for more rounds.
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client::Client;
use crate::ledger::{End, Ledger};
use crate::place::Place;
use crate::server::{Server, start_and_kill};
use crate::{files, on_durable_places};

on_durable_places!(kill_9, super::nothing_acknowledged_is_lost);

const WRITERS: usize = 6;
const ROUNDS: u32 = 6;

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
    )
}

async fn nothing_acknowledged_is_lost(place: &Place) {
    let seed = from_environment("TIDELAKE_TEST_SEED").unwrap_or_else(rand::random);
    eprintln!("TIDELAKE_TEST_SEED={seed}");
    let rounds = from_environment("TIDELAKE_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let mut random = StdRng::seed_from_u64(seed);
    let mut ledger = Ledger::new(WRITERS, random.random());
    let mut server = Server::start(place).await;
    for round in 1..=rounds {
        let before = ledger.kept();
        write_and_kill(&mut server, &mut ledger, &mut random).await;
        while random.random_bool(0.3) {
            start_and_kill(place, Duration::from_millis(random.random_range(0..400))).await;
        }
        // Some lives also flush by themselves.
        let interval = random.random_range(100..2_000).to_string();
        server = Server::start_with(place, &["--flush-interval-ms", &interval]).await;
        let client = server.client();
        if random.random_bool(0.5) {
            ledger.send_again(&client).await;
        }
        ledger
            .check_queries(&client, &format!("seed {seed}, round {round}"))
            .await;
        assert!(
            ledger.kept() > before,
            "nothing was written in round {round}"
        );
    }
    let client = server.client();
    client.flush().await;
    client.compact().await;
    ledger
        .check_queries(&client, &format!("seed {seed}, merged"))
        .await;
    ledger.check(
        &files::points(place).await,
        &format!("seed {seed}, Parquet files"),
    );
    eprintln!("{} points in {rounds} rounds", ledger.kept());
}

/// Kills the server while all writers write and segments are written and merged.
async fn write_and_kill(server: &mut Server, ledger: &mut Ledger, random: &mut StdRng) {
    let client = server.client();
    let life = Duration::from_millis(random.random_range(50..900));
    let disturbances: Vec<(u64, bool)> = (0..64)
        .map(|_| (random.random_range(0..150), random.random_bool(0.7)))
        .collect();
    let disturbing = tokio::spawn(disturb(client.clone(), disturbances));
    let kill = async {
        tokio::time::sleep(life).await;
        server.kill();
    };
    let (ends, ()) = tokio::join!(ledger.write_until_refused(&client), kill);
    disturbing.abort();
    for end in ends {
        assert!(
            matches!(end, End::Broken(_)),
            "refused before the end: {end:?}"
        );
    }
}

/// Flushes and merges at random moments.
async fn disturb(client: Client, moments: Vec<(u64, bool)>) {
    for (pause_ms, is_flush) in moments {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let path = if is_flush {
            "/admin/flush"
        } else {
            "/admin/compact"
        };
        // The last one is cut off.
        if client
            .try_send("POST", path, &[], &[], "")
            .await
            .is_ok_and(|reply| reply.status != 204)
        {
            panic!("{path} failed");
        }
    }
}
