use proptest::prelude::*;

use super::super::testing::{Message, text_value};
use super::*;

fn m() -> Message {
    Message::default()
}

/// A request of one metric whose data are in a field.
fn request(kind: usize, name: &str, points: Vec<Message>, temporality: u64) -> Vec<u8> {
    let data = points
        .into_iter()
        .fold(m(), |data, point| data.message(1, point));
    let data = data.varint(2, temporality).varint(3, 1);
    let metric = m().text(1, name).message(kind, data);
    let resource = m().message(1, m().text(1, "service.name").message(2, text_value("n")));
    let of_resource = m().message(1, resource).message(2, m().message(2, metric));
    m().message(1, of_resource).into_bytes()
}

fn number(time: u64, value: f64) -> Message {
    m().fixed64(2, time - 10).fixed64(3, time).double(4, value)
}

impl Accumulator {
    fn rewritten_at(
        &self,
        database: &str,
        body: &[u8],
        now_ms: i64,
    ) -> Result<Option<Accumulated>, AccumulateError> {
        let mut memory = MemoryBudget::unlimited().empty(Share::Parsing);
        self.rewrite(database, body, now_ms, 32 << 20, &mut memory)
    }

    fn rewritten(&self, database: &str, body: &[u8]) -> Option<Accumulated> {
        self.rewritten_at(database, body, 0).unwrap()
    }
}

fn accumulator() -> Accumulator {
    Accumulator::new(&MemoryBudget::unlimited())
}

/// Fields of the points of an answer, sorted.
fn points(body: &[u8], kind: u32) -> Vec<Vec<String>> {
    let inner = |body: &[u8], path: &[u32]| -> Vec<Vec<u8>> {
        path.iter().fold(vec![body.to_vec()], |bodies, wanted| {
            let mut found = Vec::new();
            for body in bodies {
                let mut fields = Fields::new(&body);
                while let Some((number, value)) = fields.next().unwrap() {
                    if number == *wanted {
                        found.push(value.bytes("").unwrap().to_vec());
                    }
                }
            }
            found
        })
    };
    let temporality = inner(body, &[1, 2, 2, kind]).into_iter().all(|data| {
        let mut fields = Fields::new(&data);
        let mut found = 0;
        while let Some((number, value)) = fields.next().unwrap() {
            if number == 2 {
                found = value.varint("").unwrap();
            }
        }
        found == CUMULATIVE
    });
    assert!(temporality);
    inner(body, &[1, 2, 2, kind, 1])
        .iter()
        .map(|point| {
            let mut fields = Fields::new(point);
            let mut texts = Vec::new();
            while let Some((number, value)) = fields.next().unwrap() {
                use crate::protobuf::Value;
                texts.push(match value {
                    Value::Fixed64(bits) if bits >> 52 != 0 => {
                        format!("{number}: {:?}", f64::from_bits(bits))
                    }
                    Value::Fixed64(bits) => format!("{number}: {bits}"),
                    Value::Varint(value) => format!("{number}: {value}"),
                    Value::Bytes(bytes) => format!("{number}: {bytes:?}"),
                    Value::Fixed32(_) => unreachable!("no field is of 32 bits"),
                });
            }
            texts.sort();
            texts
        })
        .collect()
}

#[track_caller]
fn check(accumulator: &Accumulator, kind: u32, body: Vec<u8>, expected: &[&[&str]]) {
    let done = accumulator.rewritten("d", &body).unwrap();
    assert_eq!(points(&done.body, kind), expected, "{:?}", done.errors);
}

#[test]
fn numbers_are_summed_up_since_the_first() {
    let sums = accumulator();
    let send = |time: u64, value: f64| request(7, "c", vec![number(time, value)], DELTA);
    check(&sums, 7, send(100, 2.0), &[&["2: 90", "3: 100", "4: 2.0"]]);
    check(&sums, 7, send(110, 3.0), &[&["2: 90", "3: 110", "4: 5.0"]]);
    // Sent again, it is not added again.
    check(&sums, 7, send(110, 3.0), &[&["2: 90", "3: 110", "4: 5.0"]]);
    check(&sums, 7, send(120, 0.5), &[&["2: 90", "3: 120", "4: 5.5"]]);
    let old = sums.rewritten("d", &send(105, 9.0)).unwrap();
    assert_eq!(old.refused, 1);
    assert!(
        old.errors[0].contains("metric \"c\": a delta is older"),
        "{:?}",
        old.errors
    );
    check(&sums, 7, send(130, 1.0), &[&["2: 90", "3: 130", "4: 6.5"]]);
    // Another database, name or attribute is another series.
    let other = sums.rewritten("e", &send(100, 7.0)).unwrap();
    assert_eq!(points(&other.body, 7), [["2: 90", "3: 100", "4: 7.0"]]);
    let attribute = |key: &str| m().text(1, key).message(2, text_value("x"));
    let two = |first: &str, second: &str, time: u64| {
        let point = number(time, 1.0);
        let point = point
            .message(7, attribute(first))
            .message(7, attribute(second));
        request(7, "c", vec![point], DELTA)
    };
    let value = |body: Vec<u8>| {
        let done = sums.rewritten("d", &body).unwrap();
        points(&done.body, 7)[0]
            .iter()
            .find(|text| text.starts_with("4"))
            .cloned()
    };
    assert_eq!(value(two("a", "b", 200)).as_deref(), Some("4: 1.0"));
    // The order of attributes means nothing.
    assert_eq!(value(two("b", "a", 210)).as_deref(), Some("4: 2.0"));
    // An end is an end.
    let end = request(7, "c", vec![number(140, 0.0).varint(8, 1)], DELTA);
    check(&sums, 7, end, &[&["2: 130", "3: 140", "4: 0", "8: 1"]]);
    check(&sums, 7, send(150, 1.0), &[&["2: 140", "3: 150", "4: 1.0"]]);
}

#[test]
fn integers_stay_integers_as_long_as_they_can() {
    let sums = accumulator();
    let send = |time: u64, value: i64| {
        let point = m().fixed64(3, time).fixed64(6, value as u64);
        request(7, "c", vec![point], DELTA)
    };
    check(
        &sums,
        7,
        send(1, (1 << 51) - 1),
        &[&["3: 1", "6: 2251799813685247"]],
    );
    check(&sums, 7, send(2, 1), &[&["3: 2", "6: 2251799813685248"]]);
    let float = request(7, "c", vec![m().fixed64(3, 3).double(4, 0.5)], DELTA);
    check(&sums, 7, float, &[&["3: 3", "4: 2251799813685248.5"]]);
}

#[test]
fn histograms_are_added_bucket_by_bucket() {
    let sums = accumulator();
    let send = |time: u64, counts: &[u64], bound: f64| {
        let packed: Vec<u8> = counts.iter().flat_map(|n| n.to_le_bytes()).collect();
        let point = m()
            .fixed64(3, time)
            .fixed64(4, counts.iter().sum())
            .double(5, 1.5);
        let point = point
            .bytes(6, &packed)
            .bytes(7, &bound.to_le_bytes())
            .double(11, 0.1);
        request(9, "h", vec![point], DELTA)
    };
    let bound = format!("7: {:?}", 1.0f64.to_le_bytes());
    let counts = |a: u64, b: u64| format!("6: {:?}", [a.to_le_bytes(), b.to_le_bytes()].concat());
    let (first, second) = (counts(1, 2), counts(4, 2));
    check(
        &sums,
        9,
        send(1, &[1, 2], 1.0),
        &[&["3: 1", "4: 3", "5: 1.5", &first, &bound]],
    );
    check(
        &sums,
        9,
        send(2, &[3, 0], 1.0),
        &[&["3: 2", "4: 6", "5: 3.0", &second, &bound]],
    );
    // With other bounds it begins anew.
    let bound = format!("7: {:?}", 2.0f64.to_le_bytes());
    check(
        &sums,
        9,
        send(3, &[1, 2], 2.0),
        &[&["3: 3", "4: 3", "5: 1.5", &first, &bound]],
    );
}

#[test]
fn what_has_no_deltas_is_left_as_it_is() {
    let sums = accumulator();
    for temporality in [0, CUMULATIVE] {
        let body = request(7, "c", vec![number(100, 1.0)], temporality);
        assert!(sums.rewritten("d", &body).is_none());
    }
    let gauge = request(5, "g", vec![number(100, 1.0)], DELTA);
    assert!(sums.rewritten("d", &gauge).is_none());
    assert!(sums.rewritten_at("d", b"\x0a\x05", 0).is_err());
}

#[test]
fn sums_are_bounded_by_memory() {
    let memory = Arc::new(MemoryBudget::new(16 << 20));
    let sums = Accumulator::new(&memory);
    let points = (0..60_000u64)
        .map(|place| {
            let attribute = m().text(1, "k").message(2, m().varint(3, place));
            number(100, 1.0).message(7, attribute)
        })
        .collect();
    let done = sums
        .rewritten("d", &request(7, "c", points, DELTA))
        .unwrap();
    assert!(
        done.refused > 0 && done.refused < 60_000,
        "{}",
        done.refused
    );
    assert!(done.errors[0].contains("no memory"), "{:?}", done.errors);
    // Those that are idle make room.
    let later = request(7, "other", vec![number(100, 1.0)], DELTA);
    let done = sums.rewritten_at("d", &later, IDLE_MS).unwrap().unwrap();
    assert_eq!(done.refused, 0);
}

fn exponential(time: u64, scale: i32, offset: i32, counts: &[u64]) -> Message {
    let zigzag = |value: i32| u64::from((value << 1 ^ value >> 31) as u32);
    let packed: Vec<u8> = counts
        .iter()
        .flat_map(|&count| m().varint(1, count).into_bytes().split_off(1))
        .collect();
    m().fixed64(3, time)
        .fixed64(4, counts.iter().sum())
        .double(5, 1.0)
        .varint(6, zigzag(scale))
        .message(8, m().varint(1, zigzag(offset)).bytes(2, &packed))
}

/// Scale, and index and count of each bucket that is not empty.
fn buckets(body: &[u8]) -> (i32, Vec<(i64, u64)>) {
    let mut found = (0, Vec::new());
    let mut at = body.to_vec();
    for number in [1, 2, 2, 10, 1] {
        at = find(&at, number).unwrap().to_vec();
    }
    let mut fields = Fields::new(&at);
    while let Some((number, value)) = fields.next().unwrap() {
        match number {
            6 => found.0 = crate::protobuf::zigzag(value.varint("").unwrap()) as i32,
            8 => {
                let (mut offset, mut counts) = (0, Vec::new());
                let mut fields = value.message("").unwrap();
                while let Some((number, value)) = fields.next().unwrap() {
                    match number {
                        1 => offset = crate::protobuf::zigzag(value.varint("").unwrap()),
                        _ => value.varints("", |count| counts.push(count)).unwrap(),
                    }
                }
                let indexed = counts.into_iter().enumerate();
                found.1 = indexed
                    .filter(|(_, count)| *count > 0)
                    .map(|(place, count)| (offset + place as i64, count))
                    .collect();
            }
            _ => {}
        }
    }
    found
}

#[test]
fn exponential_histograms_are_added_at_the_lower_scale() {
    let sums = accumulator();
    let send = |time: u64, scale: i32, offset: i32, counts: &[u64]| {
        let body = request(
            10,
            "e",
            vec![exponential(time, scale, offset, counts)],
            DELTA,
        );
        buckets(&sums.rewritten("d", &body).unwrap().body)
    };
    assert_eq!(send(1, 3, 4, &[1, 2, 0]), (3, vec![(4, 1), (5, 2)]));
    assert_eq!(send(2, 3, -2, &[5]), (3, vec![(-2, 5), (4, 1), (5, 2)]));
    assert_eq!(send(3, 2, 2, &[1, 1]), (2, vec![(-1, 5), (2, 4), (3, 1)]));
    assert_eq!(
        send(4, 5, 8, &[1]),
        (2, vec![(-1, 5), (1, 1), (2, 4), (3, 1)])
    );
    // Far apart, they are scaled down until 160 buckets hold them.
    let (scale, found) = send(5, 2, 1000, &[1]);
    assert_eq!((scale, found), (-1, vec![(-1, 5), (0, 6), (125, 1)]));
}

proptest! {
    #[test]
    fn no_observation_is_lost(
        points in prop::collection::vec(
            (-10i32..20, any::<i32>(), prop::collection::vec(0u64..4, 0..200)),
            1..6,
        ),
    ) {
        let sums = accumulator();
        let mut total = 0;
        for (place, (scale, offset, counts)) in points.into_iter().enumerate() {
            total += counts.iter().sum::<u64>();
            let point = exponential(place as u64 + 1, scale, offset, &counts);
            let body = request(10, "e", vec![point], DELTA);
            let done = sums.rewritten("d", &body).unwrap();
            let (_, found) = buckets(&done.body);
            prop_assert_eq!(found.iter().map(|(_, count)| count).sum::<u64>(), total);
            prop_assert!(found.len() <= 160);
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = accumulator().rewritten_at("d", &body, 0);
    }
}

/// A point with one bucket, whose sum has as many as there may be.
fn wide(time: u64, offset: i64) -> Message {
    let zigzag = |value: i64| (value << 1 ^ value >> 63) as u64;
    let buckets = m().varint(1, zigzag(offset)).varint(2, 1);
    m().fixed64(3, time).fixed64(4, 1).message(8, buckets)
}

#[test]
fn sums_of_few_bytes_have_a_limit() {
    let points = (0..10_000).map(|at| wide(1 + at, at as i64 % 160));
    let body = request(10, "h", points.collect(), DELTA);
    let all = accumulator().rewritten("d", &body).unwrap();
    assert!(all.body.len() > 10 * body.len());
    let budget = Arc::new(MemoryBudget::new(1 << 30));
    let rewrite = |limit: usize, memory: &mut Reservation| {
        accumulator().rewrite("d", &body, 0, limit, memory)
    };
    let mut memory = budget.empty(Share::Parsing);
    let done = rewrite(32 << 20, &mut memory).unwrap().unwrap();
    assert!(memory.bytes() >= done.body.len());
    let long = rewrite(4 * body.len(), &mut memory).unwrap_err();
    assert!(long.to_string().contains("too long"), "{long}");
    let budget = Arc::new(MemoryBudget::new(1 << 20));
    let none = rewrite(32 << 20, &mut budget.empty(Share::Parsing)).unwrap_err();
    assert!(matches!(none, AccumulateError::OutOfMemory(_)), "{none}");
}

#[test]
fn buckets_that_change_are_counted() {
    let memory = Arc::new(MemoryBudget::new(256 << 20));
    let sums = Accumulator::new(&memory);
    let histogram = |time: u64, buckets: usize| {
        let counts = vec![0; 8 * buckets];
        m().fixed64(3, time).bytes(6, &counts)
    };
    let mut refused = 0;
    for at in 0..64u64 {
        let name = format!("h{at}");
        for (time, buckets) in [(1, 1), (2, 1 << 20)] {
            let body = request(9, &name, vec![histogram(time, buckets)], DELTA);
            refused += sums.rewritten("d", &body).unwrap().refused;
        }
    }
    assert!(refused > 0 && memory.used() < 256 << 20, "{refused}");
}
