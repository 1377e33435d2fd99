use super::super::simulation::{Faults, Simulation, frame as numbered, ids, ms};
use super::super::{Truncator, WalMetrics};
use super::*;

const OLD: WriterId = WriterId([1; 16]);
const US: WriterId = WriterId([2; 16]);

/// An object of a test: which frames it has (none: a fence), what it says of the objects before it
/// (of groups nothing, if not [`Told`]), and how it is spoilt.
#[derive(Clone, Copy)]
enum Object {
    Sound(&'static [u64]),
    Told(&'static [u64], u64),
    Mark(u64),
    Cut(usize),
    Damaged,
}
use Object::{Cut, Damaged, Mark, Sound, Told};

fn bytes(position: WalPosition, object: Object) -> Bytes {
    let (kind, numbers, durable_end): (_, &[u64], _) = match object {
        Sound([]) => (ObjectKind::Fence, &[], position.seq),
        Told([], end) => (ObjectKind::Fence, &[], end),
        Mark(end) => (ObjectKind::Mark, &[], end),
        Sound(numbers) => (ObjectKind::Group, numbers, 0),
        Told(numbers, end) => (ObjectKind::Group, numbers, end),
        Cut(_) | Damaged => (ObjectKind::Group, &[77], 0),
    };
    let header = ObjectHeader {
        kind,
        writer: OLD,
        epoch: position.epoch,
        seq: position.seq,
        durable_end,
        order: 0,
    };
    let frames: Vec<Frame> = numbers.iter().map(|&id| numbered(id)).collect();
    let sound = frame::encode(&header, &frames).unwrap();
    match object {
        Sound(_) | Told(..) | Mark(_) => sound,
        Cut(len) => sound.slice(..len),
        Damaged => {
            let mut bytes = sound.to_vec();
            let middle = bytes.len() - 10;
            bytes[middle] ^= 1;
            bytes.into()
        }
    }
}

fn key(epoch: u64, seq: u64) -> String {
    keys::wal_object("n", epoch, seq)
}

fn simulation(objects: &[(u64, u64, Object)]) -> Simulation {
    let mut simulation = Simulation::new(1);
    for &(epoch, seq, object) in objects {
        let (store, bytes) = (
            simulation.store.clone(),
            bytes(WalPosition { epoch, seq }, object),
        );
        simulation
            .finish(async move { store.put_if_absent(&key(epoch, seq), bytes).await.unwrap() });
    }
    simulation
}

type Replayed = Result<(Vec<(u64, u64, Vec<u64>)>, ReplayReport), ReplayError>;

fn replay_from(simulation: &mut Simulation, covered: WalPosition, new_epoch: u64) -> Replayed {
    replay(simulation, covered, new_epoch, false)
}

fn replay(
    simulation: &mut Simulation,
    covered: WalPosition,
    new_epoch: u64,
    accept_lost: bool,
) -> Replayed {
    let (store, clock) = (simulation.store.clone(), Arc::new(simulation.clock.clone()));
    let task = async move {
        let options = ReplayOptions {
            patience: ms(60_000),
            accept_lost,
            ..ReplayOptions::default()
        };
        let mut replay = Replay::open(store, "n", covered, new_epoch, US, options, clock).await?;
        let mut groups = Vec::new();
        while let Some(group) = replay.next().await? {
            groups.push((group.position.epoch, group.position.seq, ids(&group.frames)));
        }
        Ok((groups, replay.report().clone()))
    };
    simulation.finish(task).0
}

fn at(epoch: u64, seq: u64) -> WalPosition {
    WalPosition { epoch, seq }
}

fn exists(simulation: &mut Simulation, epoch: u64, seq: u64) -> bool {
    let store = simulation.store.clone();
    simulation
        .finish(async move { store.get(&key(epoch, seq)).await.is_ok() })
        .0
}

#[test]
fn replays_what_is_not_covered_in_order() {
    let check = |objects: &[(u64, u64, Object)],
                 covered: WalPosition,
                 new_epoch: u64,
                 expected: &[u64],
                 fences: &[(u64, u64)]| {
        let mut simulation = simulation(objects);
        // The second replay finds the fences of the first.
        for _ in 0..2 {
            let (groups, report) = replay_from(&mut simulation, covered, new_epoch).unwrap();
            let found: Vec<u64> = groups.into_iter().flat_map(|(_, _, ids)| ids).collect();
            assert_eq!(found, expected);
            assert_eq!(
                report
                    .epochs
                    .iter()
                    .map(|range| (range.epoch, range.end))
                    .collect::<Vec<_>>(),
                fences
            );
            for &(epoch, seq) in fences {
                assert!(exists(&mut simulation, epoch, seq), "fence {epoch}/{seq}");
            }
        }
    };
    check(&[], at(0, 0), 1, &[], &[]);
    // A process that wrote nothing is fenced as well.
    check(&[], at(0, 0), 3, &[], &[(1, 0), (2, 0)]);
    check(
        &[(1, 0, Sound(&[1, 2])), (1, 1, Sound(&[3]))],
        at(0, 0),
        2,
        &[1, 2, 3],
        &[(1, 2)],
    );
    check(
        &[(1, 0, Sound(&[1])), (1, 1, Sound(&[2]))],
        at(1, 1),
        2,
        &[2],
        &[(1, 2)],
    );
    check(&[(1, 0, Sound(&[1]))], at(1, 1), 2, &[], &[(1, 1)]);
    let lives = [
        (1, 0, Sound(&[1])),
        (1, 1, Sound(&[])),
        (3, 0, Sound(&[2])),
        (3, 1, Sound(&[3])),
    ];
    check(&lives, at(1, 0), 4, &[1, 2, 3], &[(1, 1), (2, 0), (3, 2)]);
    check(&lives, at(3, 1), 4, &[3], &[(3, 2)]);
}

#[test]
fn objects_after_a_gap_are_reported_and_not_replayed() {
    let mut simulation = simulation(&[
        (1, 0, Sound(&[1])),
        (1, 2, Sound(&[2])),
        (1, 15, Sound(&[3])),
        (2, 0, Sound(&[4])),
    ]);
    for _ in 0..2 {
        let (groups, report) = replay_from(&mut simulation, at(0, 0), 3).unwrap();
        assert_eq!(groups, [(1, 0, vec![1]), (2, 0, vec![4])]);
        assert_eq!(report.orphans, [key(1, 2), key(1, 15)]);
    }
}

#[test]
fn what_may_have_been_acknowledged_is_never_skipped() {
    let check = |objects: &[(u64, u64, Object)], new_epoch: u64, expected: &str| {
        let mut simulation = simulation(objects);
        for _ in 0..2 {
            let error = replay_from(&mut simulation, at(0, 0), new_epoch)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    };
    let first = (1, 0, Sound(&[1]));
    check(
        &[first, (1, 1, Damaged), (1, 2, Sound(&[2]))],
        2,
        "0001 cannot be read: it is damaged",
    );
    check(
        &[first, (1, 1, Damaged)],
        2,
        "0001 cannot be read: it is damaged",
    );
    check(
        &[first, (1, 1, Cut(20)), (1, 2, Sound(&[2]))],
        2,
        "0001 cannot be read: it ends after 20",
    );
    check(
        &[first, (1, 1, Cut(20)), (1, 3, Sound(&[2]))],
        2,
        "0001 cannot be read: it ends after 20",
    );
    check(&[first, (1, 17, Sound(&[2]))], 2, "00001 is missing");
    check(&[(2, 0, Sound(&[1]))], 2, "another process took over");
    check(&[(3, 0, Sound(&[]))], 2, "another process took over");
}

#[test]
fn a_torn_last_object_is_reported_and_its_number_stays_taken() {
    for len in [0, 20, 70] {
        let mut simulation =
            simulation(&[(1, 0, Sound(&[1])), (1, 1, Cut(len)), (2, 0, Sound(&[2]))]);
        for _ in 0..2 {
            let (groups, report) = replay_from(&mut simulation, at(0, 0), 3).unwrap();
            assert_eq!(groups, [(1, 0, vec![1]), (2, 0, vec![2])]);
            assert_eq!(report.torn, [key(1, 1)]);
            assert!(exists(&mut simulation, 1, 1) && exists(&mut simulation, 1, 2));
        }
    }
}

const ALL: [(u64, u64, Object); 8] = [
    (1, 0, Told(&[1], 0)),
    (1, 1, Told(&[2], 1)),
    (1, 2, Told(&[3], 1)),
    (1, 3, Told(&[4], 2)),
    (1, 4, Told(&[5], 4)),
    (1, 5, Mark(5)),
    (1, 6, Told(&[6], 6)),
    (1, 7, Mark(7)),
];

/// [`ALL`] with some objects replaced, and others of later epochs behind them.
fn changed(replaced: &[(u64, Option<Object>)], more: &[(u64, u64, Object)]) -> Simulation {
    let mut objects = ALL.to_vec();
    for &(seq, object) in replaced {
        objects.retain(|&(_, other, _)| other != seq);
        objects.extend(object.map(|object| (1, seq, object)));
    }
    objects.extend(more);
    simulation(&objects)
}

#[test]
fn what_later_objects_prove_is_missed() {
    // The object that is lost, the one that proves it, and what is left.
    let check = |replaced: &[(u64, Option<Object>)],
                 more: &[(u64, u64, Object)],
                 loss: &str,
                 (lost, proof): (u64, u64),
                 left: &[u64]| {
        let mut simulation = changed(replaced, more);
        let was_there = exists(&mut simulation, 1, lost);
        for _ in 0..2 {
            let error = replay_from(&mut simulation, at(0, 0), 3).unwrap_err();
            let text = error.to_string();
            let ReplayError::Lost {
                key: named,
                proof: found,
                ..
            } = error
            else {
                panic!("{text}")
            };
            assert!(text.contains(loss), "{text}");
            assert_eq!((named, found.key), (key(1, lost), key(1, proof)));
            assert_eq!(
                exists(&mut simulation, 1, lost),
                was_there,
                "nothing is put in its place"
            );
        }
        for _ in 0..2 {
            let (groups, report) = replay(&mut simulation, at(0, 0), 3, true).unwrap();
            let found: Vec<u64> = groups.into_iter().flat_map(|(_, _, ids)| ids).collect();
            assert_eq!(found, left);
            assert!(report.lost.contains(&key(1, lost)));
        }
        // Its fence does not hide it.
        let error = replay_from(&mut simulation, at(0, 0), 3).unwrap_err();
        assert!(matches!(error, ReplayError::Lost { .. }), "{error}");
        // What segments cover is not missed.
        if let Err(error) = replay_from(&mut simulation, at(1, lost + 1), 3) {
            assert!(!error.to_string().contains(&key(1, lost)), "{error}");
        }
    };
    check(&[(0, None)], &[], "is missing", (0, 7), &[2, 3, 4, 5, 6]);
    check(&[(3, None)], &[], "is missing", (3, 7), &[1, 2, 3, 5, 6]);
    // A mark is as good as a group.
    check(&[(5, None)], &[], "is missing", (5, 7), &[1, 2, 3, 4, 5, 6]);
    // The last group, by its mark.
    check(&[(6, None)], &[], "is missing", (6, 7), &[1, 2, 3, 4, 5]);
    check(
        &[(6, Some(Cut(70)))],
        &[],
        "was cut",
        (6, 7),
        &[1, 2, 3, 4, 5],
    );
    check(
        &[(3, Some(Cut(0)))],
        &[],
        "was cut",
        (3, 7),
        &[1, 2, 3, 5, 6],
    );
    // By what is in flight behind it.
    let in_flight = [(5, None), (6, None), (7, None), (3, None)];
    check(&in_flight, &[], "is missing", (3, 4), &[1, 2, 3, 5]);
    // By a fence, and with a fence in its place.
    let fenced = [(7, Some(Sound(&[]))), (6, None)];
    check(
        &fenced,
        &[(2, 0, Sound(&[9]))],
        "is missing",
        (6, 7),
        &[1, 2, 3, 4, 5, 9],
    );
    let hidden = [(3, Some(Sound(&[])))];
    check(
        &hidden,
        &[],
        "with a fence in its place",
        (3, 7),
        &[1, 2, 3, 5, 6],
    );
    // Several: the first is named.
    let several = [(1, None), (2, Some(Cut(30))), (4, None)];
    check(&several, &[], "is missing", (1, 7), &[1, 4, 6]);
}

#[test]
fn what_was_in_flight_is_not_missed() {
    let check = |replaced: &[(u64, Option<Object>)], expected: &[u64], fence: u64| {
        let mut simulation = changed(replaced, &[]);
        for _ in 0..2 {
            let (groups, report) = replay_from(&mut simulation, at(0, 0), 2).unwrap();
            let found: Vec<u64> = groups.into_iter().flat_map(|(_, _, ids)| ids).collect();
            assert_eq!(found, expected);
            assert_eq!(report.lost, [""; 0]);
            assert!(exists(&mut simulation, 1, fence));
        }
    };
    check(&[], &[1, 2, 3, 4, 5, 6], 8);
    // Nothing says that the last group was acknowledged.
    check(&[(7, None)], &[1, 2, 3, 4, 5, 6], 7);
    check(&[(7, None), (6, None)], &[1, 2, 3, 4, 5], 6);
    check(&[(7, None), (6, Some(Cut(70)))], &[1, 2, 3, 4, 5], 7);
    // Group 3 says that 1 was durable, and no more.
    let ends = [(4, None), (5, None), (6, None), (7, None)];
    check(&[&ends[..], &[(2, None)]].concat(), &[1, 2], 2);
    // An object that ended early, and the fence that passed over it.
    let torn = [(6, Some(Cut(70))), (7, Some(Told(&[], 6)))];
    check(&torn, &[1, 2, 3, 4, 5], 7);
}

#[test]
fn damaged_objects_are_passed_over_where_that_is_accepted() {
    let check = |replaced: &[(u64, Option<Object>)], left: &[u64], lost: &[u64]| {
        let mut simulation = changed(replaced, &[]);
        replay_from(&mut simulation, at(0, 0), 2).unwrap_err();
        let (groups, report) = replay(&mut simulation, at(0, 0), 2, true).unwrap();
        let found: Vec<u64> = groups.into_iter().flat_map(|(_, _, ids)| ids).collect();
        let keys: Vec<String> = lost.iter().map(|&seq| key(1, seq)).collect();
        assert_eq!((found.as_slice(), report.lost), (left, keys));
    };
    check(&[(2, Some(Damaged))], &[1, 2, 4, 5, 6], &[2]);
    check(&[(7, Some(Damaged))], &[1, 2, 3, 4, 5, 6], &[7]);
    // Nothing says that it was acknowledged, but something is behind it.
    let cut = [(5, Some(Cut(70))), (6, Some(Told(&[6], 4))), (7, None)];
    check(&cut, &[1, 2, 3, 4, 5, 6], &[5]);
    let cut = [(5, Some(Cut(70))), (6, Some(Damaged)), (7, None)];
    check(&cut, &[1, 2, 3, 4, 5], &[5, 6]);
}

#[test]
fn an_object_under_a_wrong_key_is_named() {
    let mut simulation = simulation(&[]);
    let (store, object) = (simulation.store.clone(), bytes(at(1, 5), Sound(&[1])));
    simulation.finish(async move { store.put_if_absent(&key(1, 0), object).await.unwrap() });
    let error = replay_from(&mut simulation, at(0, 0), 2).unwrap_err();
    assert!(
        matches!(error, ReplayError::Misplaced { found, .. } if found == at(1, 5)),
        "{error}"
    );
}

#[test]
fn waits_for_a_store_that_is_not_up_yet_but_not_for_ever() {
    let check = |faults: Faults, seconds: u64, works: bool| {
        let mut simulation = simulation(&[(1, 0, Sound(&[1]))]);
        simulation.set_faults(faults);
        let (store, clock) = (simulation.store.clone(), Arc::new(simulation.clock.clone()));
        let done = Arc::new(parking_lot::Mutex::new(None));
        let slot = Arc::clone(&done);
        simulation.spawn(async move {
            let options = ReplayOptions {
                patience: ms(60_000),
                ..ReplayOptions::default()
            };
            let first = match Replay::open(store, "n", at(0, 0), 2, US, options, clock).await {
                Ok(mut replay) => replay
                    .next()
                    .await
                    .map(|group| group.map(|group| ids(&group.frames))),
                Err(error) => Err(error),
            };
            *slot.lock() = Some(first);
        });
        simulation.run_for(ms(seconds * 1000));
        simulation.set_faults(Faults::default());
        simulation.run_for(ms(1000));
        match done.lock().take().expect("it ended") {
            Ok(first) => assert!(works && first == Some(vec![1]), "{faults:?}"),
            Err(error) => assert!(!works, "{faults:?}: {error}"),
        };
    };
    check(
        Faults {
            error: 1.0,
            ..Faults::default()
        },
        30,
        true,
    );
    check(
        Faults {
            unreadable: true,
            ..Faults::default()
        },
        30,
        true,
    );
    check(
        Faults {
            error: 1.0,
            ..Faults::default()
        },
        90,
        false,
    );
    check(
        Faults {
            unreadable: true,
            ..Faults::default()
        },
        90,
        false,
    );
}

#[test]
fn who_is_overtaken_while_it_replays_says_so() {
    let check = |overtaken: bool, expected: &str| {
        let mut simulation = simulation(&[(1, 0, Sound(&[1])), (1, 1, Sound(&[2]))]);
        let (store, clock) = (simulation.store.clone(), Arc::new(simulation.clock.clone()));
        let open = move |store, epoch| {
            Replay::open(
                store,
                "n",
                at(0, 0),
                epoch,
                US,
                ReplayOptions::default(),
                clock.clone(),
            )
        };
        let ended = async move {
            let mut older = open(store.clone(), 2).await.unwrap();
            if overtaken {
                let mut newer = open(store.clone(), 3).await.unwrap();
                while newer.next().await.unwrap().is_some() {}
            }
            store.delete(&key(1, 0)).await.unwrap();
            older.next().await.map(|_| ()).unwrap_err().to_string()
        };
        let error = simulation.finish(ended).0;
        assert!(error.contains(expected), "{error}");
    };
    check(
        true,
        "another process took over this node: wal/n/0000000002/00000000000000000000 is there",
    );
    check(
        false,
        "wal/n/0000000001/00000000000000000000 does not exist",
    );
}

#[test]
fn truncating_leaves_fences_and_what_is_not_covered() {
    let mut simulation = simulation(&[
        (1, 0, Sound(&[1])),
        (1, 1, Sound(&[2])),
        (2, 0, Cut(9)),
        (4, 0, Sound(&[3])),
        (4, 1, Sound(&[4])),
    ]);
    let (_, report) = replay_from(&mut simulation, at(0, 0), 4)
        .map_err(|error| error.to_string())
        .unwrap_or_default();
    assert!(
        report.epochs.is_empty(),
        "epoch 4 is in use: it must be a process of epoch 5 that replays"
    );
    let (_, report) = replay_from(&mut simulation, at(0, 0), 5).unwrap();
    let left = |simulation: &mut Simulation| -> Vec<(u64, u64)> {
        let all = (1..6).flat_map(|epoch| (0..3).map(move |seq| (epoch, seq)));
        all.filter(|&(epoch, seq)| exists(simulation, epoch, seq))
            .collect()
    };
    let all = [
        (1, 0),
        (1, 1),
        (1, 2),
        (2, 0),
        (2, 1),
        (3, 0),
        (4, 0),
        (4, 1),
        (4, 2),
    ];
    assert_eq!(left(&mut simulation), all);
    let mut truncator = Truncator::new(
        simulation.store.clone(),
        "n",
        at(5, 0),
        &report,
        Arc::new(WalMetrics::default()),
    );
    let mut truncate = |simulation: &mut Simulation, covered| {
        let mut own = std::mem::replace(
            &mut truncator,
            Truncator::new(
                simulation.store.clone(),
                "n",
                at(5, 0),
                &ReplayReport::default(),
                Arc::default(),
            ),
        );
        truncator = simulation
            .finish(async move {
                own.truncate(covered).await;
                own
            })
            .0;
    };
    simulation.set_faults(Faults {
        error: 1.0,
        ..Faults::default()
    });
    truncate(&mut simulation, at(4, 1));
    simulation.set_faults(Faults::default());
    assert_eq!(left(&mut simulation), all, "nothing could be deleted");
    truncate(&mut simulation, at(4, 1));
    assert_eq!(
        left(&mut simulation),
        [(1, 2), (2, 0), (2, 1), (3, 0), (4, 1), (4, 2)]
    );
    truncate(&mut simulation, at(5, 0));
    assert_eq!(
        left(&mut simulation),
        [(1, 2), (2, 0), (2, 1), (3, 0), (4, 2)]
    );
}

#[test]
fn sweeping_finds_what_a_killed_process_left() {
    let mut simulation = simulation(&[
        (1, 0, Sound(&[1])),
        (1, 1, Sound(&[])),
        (1, 3, Sound(&[9])),
        (2, 0, Cut(9)),
        (2, 1, Sound(&[])),
        (3, 0, Sound(&[2])),
        (3, 1, Mark(1)),
        (3, 2, Sound(&[])),
        (4, 0, Mark(0)),
        (4, 1, Sound(&[3])),
    ]);
    let store = simulation.store.clone();
    let (deleted, _) =
        simulation.finish(async move { Truncator::sweep(&store, "n", at(4, 1)).await.unwrap() });
    assert_eq!(deleted, 5);
    let all = (1..5).flat_map(|epoch| (0..4).map(move |seq| (epoch, seq)));
    let left: Vec<(u64, u64)> = all
        .filter(|&(epoch, seq)| exists(&mut simulation, epoch, seq))
        .collect();
    assert_eq!(left, [(1, 1), (2, 0), (2, 1), (3, 2), (4, 1)]);
}
