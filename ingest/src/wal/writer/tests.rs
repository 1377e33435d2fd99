use tidelake_catalog::keys;

use super::super::frame::{self, ObjectHeader, ObjectKind};
use super::super::simulation::{Faults, Simulation, frame, ids, ms};
use super::super::{FIRST_SEQ, WalPosition};
use super::*;

const START: WalPosition = WalPosition {
    epoch: 1,
    seq: FIRST_SEQ,
};
const US: WriterId = WriterId([1; 16]);

/// Nobody else writes.
fn alone() -> Orders {
    let environment = tidelake_catalog::Environment::simulated(1, 1_790_000_000_000);
    Orders {
        clock: Arc::new(crate::write_clock::WriteClock::new(&environment, "n")),
        peers: Arc::new(crate::write_clock::NoPeers),
    }
}

type Applied = Arc<Mutex<Vec<(u64, Vec<u64>)>>>;

/// A writer on a simulated store, and what its sink got by sequence.
fn writer(simulation: &Simulation, options: WalOptions) -> (WalWriter<u64>, Applied) {
    let applied = Applied::default();
    let sink = {
        let applied = Arc::clone(&applied);
        move |position: WalPosition, _: u64, payloads: Vec<u64>| {
            applied.lock().push((position.seq, payloads))
        }
    };
    let clock = Arc::new(simulation.clock.clone());
    let (writer, task) = WalWriter::prepare(
        simulation.store.clone(),
        "n",
        START,
        US,
        options,
        alone(),
        sink,
        clock,
    );
    simulation.spawn(task);
    (writer, applied)
}

fn append(
    writer: &WalWriter<u64>,
    id: u64,
) -> impl Future<Output = Result<WalPosition, WalError>> + Send + 'static {
    let writer = writer.clone();
    async move { writer.append(frame(id), id).await }
}

fn unavailable<T>(result: Result<T, WalError>) -> bool {
    matches!(result, Err(WalError::Unavailable { .. }))
}

#[test]
fn what_queues_up_during_a_put_is_the_next_group() {
    let mut simulation = Simulation::new(1);
    simulation.set_faults(Faults {
        delay_ms: 20,
        ..Faults::default()
    });
    let (writer, applied) = writer(&simulation, WalOptions::local());
    let first = writer.submit(frame(1), 1).unwrap();
    simulation.run_for(ms(0));
    let later: Vec<Ack> = (2..5)
        .map(|id| writer.submit(frame(id), id).unwrap())
        .collect();
    let (answers, _) =
        simulation.finish(async move { (first.await, futures::future::join_all(later).await) });
    assert_eq!(answers.0, Ok(START));
    assert_eq!(answers.1, vec![Ok(START.next()); 3]);
    assert_eq!(*applied.lock(), [(0, vec![1]), (1, vec![2, 3, 4])]);
    let store = simulation.store.clone();
    let (object, _) =
        simulation.finish(async move { store.get(&keys::wal_object("n", 1, 1)).await.unwrap() });
    let (header, frames) = frame::decode(&object).unwrap();
    assert_eq!((header.writer, header.epoch, header.seq), (US, 1, 1));
    assert_eq!(ids(&frames), [2, 3, 4]);
    assert_eq!(writer.metrics().frames.load(Ordering::Relaxed), 4);
    assert_eq!(writer.metrics().queued_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn groups_keep_the_interval_and_the_size() {
    let check = |group_frames: usize, submissions: u64, expected_ms: u64, expected_groups: u64| {
        let mut simulation = Simulation::new(1);
        let bytes = PreparedFrame::new(frame(0)).unwrap().encoded_len();
        let (writer, _) = writer(
            &simulation,
            WalOptions {
                group_bytes: bytes * group_frames,
                ..WalOptions::remote()
            },
        );
        simulation.finish(append(&writer, 0)).0.unwrap();
        let began = simulation.clock.now();
        let answers: Vec<Ack> = (0..submissions)
            .map(|id| writer.submit(frame(id), id).unwrap())
            .collect();
        let clock = simulation.clock.clone();
        let (end, _) = simulation.finish(async move {
            futures::future::try_join_all(answers).await.unwrap();
            clock.now()
        });
        // `finish` looks every 100 ms; the first group began at 0.
        assert_eq!(
            end.saturating_sub(began),
            ms(expected_ms),
            "{submissions} in groups of {group_frames}"
        );
        assert_eq!(
            writer.metrics().groups.load(Ordering::Relaxed),
            expected_groups + 1
        );
    };
    // One group at the end of the interval.
    check(10, 3, 150, 1);
    // Full ones go at once, the rest waits for the interval.
    check(10, 20, 0, 2);
    check(10, 21, 250, 3);
}

#[test]
fn too_much_is_refused_at_once_and_room_comes_back() {
    let mut simulation = Simulation::new(1);
    simulation.set_faults(Faults {
        delay_ms: 20,
        ..Faults::default()
    });
    let bytes = PreparedFrame::new(frame(0)).unwrap().encoded_len();
    let (writer, _) = writer(
        &simulation,
        WalOptions {
            queued_bytes: 2 * bytes,
            ..WalOptions::local()
        },
    );
    let first = writer.submit(frame(1), 1).unwrap();
    let _second = writer.submit(frame(2), 2).unwrap();
    let refused = writer.submit(frame(3), 3).err();
    assert_eq!(
        refused,
        Some(WalError::Overloaded {
            queued: 2 * bytes,
            limit: 2 * bytes
        })
    );
    simulation.finish(first).0.unwrap();
    writer.submit(frame(4), 4).unwrap();
}

#[test]
fn a_lost_answer_is_found_by_reading_back() {
    let mut simulation = Simulation::new(1);
    simulation.set_faults(Faults {
        lost_answer: 1.0,
        ..Faults::default()
    });
    let (writer, applied) = writer(&simulation, WalOptions::local());
    assert!(
        unavailable(simulation.finish(append(&writer, 1)).0),
        "the outcome is not known yet"
    );
    // The second try is told "exists already".
    simulation.set_faults(Faults::default());
    simulation.run_for(ms(1000));
    assert_eq!(
        *applied.lock(),
        [(0, vec![1])],
        "in the log, so it is in memory"
    );
    assert_eq!(simulation.finish(append(&writer, 2)).0, Ok(START.next()));
}

#[test]
fn a_log_that_is_closed_in_an_outage_says_so() {
    let failing = Faults {
        error: 1.0,
        ..Faults::default()
    };
    for (faults, is_open) in [(Faults::default(), false), (failing, true)] {
        let mut simulation = Simulation::new(1);
        let (writer, _) = writer(&simulation, WalOptions::remote());
        simulation.finish(append(&writer, 1)).0.unwrap();
        simulation.set_faults(faults);
        let (answer, _) = simulation.finish(append(&writer, 2));
        assert_eq!(unavailable(answer), is_open);
        let closed = writer.clone();
        simulation.finish(async move { closed.close().await });
        assert_eq!(writer.gave_up(), is_open);
    }
}

#[test]
fn an_outage_is_told_at_once_and_over_within_a_second() {
    let check = |options: WalOptions, faults: Faults| {
        let mut simulation = Simulation::new(1);
        let (writer, applied) = writer(&simulation, options);
        simulation.finish(append(&writer, 1)).0.unwrap();
        simulation.set_faults(faults);
        let (answer, took) = simulation.finish(append(&writer, 2));
        assert!(unavailable(answer) && took <= ms(250), "{took:?}");
        for id in 3..6 {
            assert!(
                unavailable(writer.submit(frame(id), id)),
                "refused without waiting"
            );
        }
        simulation.run_for(ms(60_000));
        assert!(matches!(
            *writer.state().borrow(),
            WalState::Unavailable { .. }
        ));
        simulation.set_faults(Faults::default());
        simulation.run_for(ms(1000));
        assert_eq!(*writer.state().borrow(), WalState::Open);
        simulation.finish(append(&writer, 6)).0.unwrap();
        assert_eq!(*applied.lock(), [(0, vec![1]), (1, vec![2]), (2, vec![6])]);
    };
    for options in [WalOptions::local(), WalOptions::remote()] {
        check(
            options.clone(),
            Faults {
                error: 1.0,
                ..Faults::default()
            },
        );
        check(
            options,
            Faults {
                full: true,
                ..Faults::default()
            },
        );
    }
}

#[test]
fn a_hanging_store_holds_nobody_longer_than_the_limit() {
    for options in [WalOptions::local(), WalOptions::remote()] {
        let mut simulation = Simulation::new(1);
        simulation.set_faults(Faults {
            hang: 1.0,
            ..Faults::default()
        });
        let (writer, applied) = writer(&simulation, options);
        let (answer, took) = simulation.finish(append(&writer, 1));
        assert!(unavailable(answer) && took <= ms(10_000), "{took:?}");
        assert!(
            unavailable(writer.submit(frame(2), 2)),
            "the next ones need not wait for it"
        );
        simulation.set_faults(Faults::default());
        simulation.run_for(ms(61_000));
        // Its mark may follow.
        assert_eq!(applied.lock().first(), Some(&(0, vec![1])));
        simulation.finish(append(&writer, 3)).0.unwrap();
    }
}

#[test]
fn a_later_group_waits_for_the_earlier_one() {
    let mut simulation = Simulation::new(1);
    let (writer, applied) = writer(
        &simulation,
        WalOptions {
            put_timeout: None,
            ..WalOptions::remote()
        },
    );
    simulation.set_faults(Faults {
        hang: 1.0,
        ..Faults::default()
    });
    let first = writer.submit(frame(1), 1).unwrap();
    simulation.run_for(ms(1));
    simulation.set_faults(Faults::default());
    let second = writer.submit(frame(2), 2).unwrap();
    simulation.run_for(ms(1000));
    let store = simulation.store.clone();
    simulation
        .finish(async move { store.get(&keys::wal_object("n", 1, 1)).await })
        .0
        .expect("the second is durable");
    assert_eq!(*applied.lock(), []);
    let (answers, _) = simulation.finish(futures::future::join(first, second));
    assert!(unavailable(answers.0) && unavailable(answers.1));
    simulation.run_for(ms(60_000));
    assert_eq!(*applied.lock(), [(0, vec![1]), (1, vec![2])]);
}

#[test]
fn a_stranger_under_our_key_ends_it() {
    let mut simulation = Simulation::new(1);
    let (writer, applied) = writer(&simulation, WalOptions::local());
    simulation.finish(append(&writer, 1)).0.unwrap();
    let fence = frame::encode_empty(&ObjectHeader {
        kind: ObjectKind::Fence,
        writer: WriterId([2; 16]),
        epoch: 1,
        seq: 1,
        durable_end: 1,
        order: 0,
    });
    let (store, key) = (simulation.store.clone(), keys::wal_object("n", 1, 1));
    let put_key = key.clone();
    simulation.finish(async move { store.put_if_absent(&put_key, fence).await.unwrap() });
    let fenced = WalError::Fenced {
        key: key.as_str().into(),
    };
    assert_eq!(simulation.finish(append(&writer, 2)).0, Err(fenced.clone()));
    assert_eq!(writer.submit(frame(3), 3).err(), Some(fenced));
    assert_eq!(
        *writer.state().borrow(),
        WalState::Fenced {
            key: key.as_str().into()
        }
    );
    assert_eq!(*applied.lock(), [(0, vec![1])]);
    let closing = writer.clone();
    simulation.finish(async move { closing.close().await });
}

#[test]
fn closing_answers_everybody_first() {
    let mut simulation = Simulation::new(1);
    let (writer, _) = writer(&simulation, WalOptions::remote());
    simulation.finish(append(&writer, 1)).0.unwrap();
    let waiting = writer.submit(frame(2), 2).unwrap();
    let closing = writer.clone();
    let (answer, _) =
        simulation.finish(async move { futures::future::join(closing.close(), waiting).await.1 });
    assert_eq!(answer, Ok(START.next()));
    assert_eq!(writer.submit(frame(3), 3).err(), Some(WalError::Closed));
}

#[test]
fn closing_does_not_wait_for_a_store_that_is_down() {
    let mut simulation = Simulation::new(1);
    simulation.set_faults(Faults {
        error: 1.0,
        ..Faults::default()
    });
    let (writer, _) = writer(&simulation, WalOptions::local());
    assert!(unavailable(simulation.finish(append(&writer, 1)).0));
    let closing = writer.clone();
    let ((), took) = simulation.finish(async move { closing.close().await });
    assert!(took <= ms(1000), "{took:?}");
}

/// Kinds, and how far each says that the log was durable, of the objects of the log.
fn headers(simulation: &mut Simulation) -> Vec<(ObjectKind, u64)> {
    let store = simulation.store.clone();
    let headers = async move {
        let mut headers = Vec::new();
        while let Ok(object) = store
            .get(&keys::wal_object("n", 1, headers.len() as u64))
            .await
        {
            let (header, _) = frame::decode(&object).unwrap();
            headers.push((header.kind, header.durable_end));
        }
        headers
    };
    simulation.finish(headers).0
}

#[test]
fn an_idle_log_gets_one_mark() {
    use ObjectKind::{Group, Mark};
    let mut simulation = Simulation::new(1);
    let (writer, applied) = writer(&simulation, WalOptions::local());
    simulation.run_for(ms(5000));
    assert_eq!(headers(&mut simulation), [], "nothing to tell");
    simulation.finish(append(&writer, 1)).0.unwrap();
    simulation.run_for(ms(800));
    simulation.finish(append(&writer, 2)).0.unwrap();
    simulation.run_for(ms(800));
    assert_eq!(headers(&mut simulation), [(Group, 0), (Group, 1)]);
    simulation.run_for(ms(60_000));
    assert_eq!(
        headers(&mut simulation),
        [(Group, 0), (Group, 1), (Mark, 2)]
    );
    simulation.finish(append(&writer, 3)).0.unwrap();
    // What segments cover needs no mark.
    writer.covered(WalPosition { epoch: 1, seq: 4 });
    simulation.run_for(ms(60_000));
    assert_eq!(headers(&mut simulation)[3..], [(Group, 3)]);
    simulation.finish(append(&writer, 4)).0.unwrap();
    let closing = writer.clone();
    simulation.finish(async move { closing.close().await });
    assert_eq!(headers(&mut simulation)[4..], [(Group, 4), (Mark, 5)]);
    // The sink follows the numbers.
    let seqs: Vec<(u64, usize)> = applied
        .lock()
        .iter()
        .map(|(seq, ids)| (*seq, ids.len()))
        .collect();
    assert_eq!(seqs, [(0, 1), (1, 1), (2, 0), (3, 1), (4, 1), (5, 0)]);
    assert_eq!(writer.metrics().groups.load(Ordering::Relaxed), 4);
}

#[test]
fn groups_in_flight_say_what_was_durable_when_they_were_composed() {
    let mut simulation = Simulation::new(1);
    simulation.set_faults(Faults {
        delay_ms: 400,
        ..Faults::default()
    });
    let options = WalOptions {
        min_interval: ms(10),
        ..WalOptions::remote()
    };
    let (writer, _) = writer(&simulation, options);
    let mut acks = Vec::new();
    for id in 0..12 {
        acks.push(writer.submit(frame(id), id).unwrap());
        simulation.run_for(ms(50));
    }
    simulation
        .finish(futures::future::try_join_all(acks))
        .0
        .unwrap();
    simulation.set_faults(Faults::default());
    let headers = headers(&mut simulation);
    let open: Vec<u64> = (0..)
        .zip(&headers)
        .map(|(seq, (_, end))| seq - end)
        .collect();
    assert!(open.iter().all(|&open| open < 4), "{open:?}");
    assert!(open.iter().any(|&open| open > 1), "{open:?}");
    assert!(headers.is_sorted_by_key(|&(_, end)| end), "{headers:?}");
}

#[test]
fn a_mark_that_fails_is_repeated_and_closing_does_not_wait_for_it() {
    let mut simulation = Simulation::new(1);
    let (writer, _) = writer(&simulation, WalOptions::local());
    simulation.finish(append(&writer, 1)).0.unwrap();
    let down = Faults {
        error: 1.0,
        ..Faults::default()
    };
    simulation.set_faults(down);
    simulation.run_for(ms(10_000));
    assert!(matches!(
        *writer.state().borrow(),
        WalState::Unavailable { .. }
    ));
    simulation.set_faults(Faults::default());
    simulation.run_for(ms(1000));
    assert_eq!(*writer.state().borrow(), WalState::Open);
    assert_eq!(headers(&mut simulation)[1..], [(ObjectKind::Mark, 1)]);
    for hang in [0.0, 1.0] {
        let mut simulation = Simulation::new(1);
        let (writer, _) = self::writer(&simulation, WalOptions::local());
        simulation.finish(append(&writer, 1)).0.unwrap();
        simulation.set_faults(Faults { hang, ..down });
        let ((), took) = simulation.finish(async move { writer.close().await });
        assert!(took <= ms(10_000), "{took:?}");
    }
}

/// The one test on a real folder with a real clock.
#[tokio::test]
async fn a_folder_takes_many_clients() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
    let applied = Applied::default();
    let sink = {
        let applied = Arc::clone(&applied);
        move |position: WalPosition, _: u64, payloads: Vec<u64>| {
            applied.lock().push((position.seq, payloads))
        }
    };
    let writer = WalWriter::start(store, "n", START, US, WalOptions::local(), alone(), sink);
    let appends = (0..200).map(|id| writer.append(frame(id), id));
    futures::future::try_join_all(appends).await.unwrap();
    writer.close().await;
    let applied = applied.lock();
    assert!(
        applied
            .iter()
            .map(|(seq, _)| *seq)
            .eq(0..applied.len() as u64)
    );
    assert!(
        applied
            .iter()
            .flat_map(|(_, ids)| ids.iter().copied())
            .eq(0..200)
    );
}
