use proptest::prelude::*;

use super::*;
use crate::model::STALE_NAN_BITS;

fn split(values: &[Option<f64>]) -> Decimals {
    Decimals::split(
        &Float64Array::from(values.to_vec()),
        std::iter::once(0..values.len()),
    )
}

fn bits(values: &Float64Array) -> Vec<Option<u64>> {
    values.iter().map(|value| value.map(f64::to_bits)).collect()
}

/// Mantissa and scale of each of the values; `None` where one is kept as a float.
fn check(values: &[f64], expected: &[Option<(i64, i8)>]) {
    let decimals = split(&values.iter().copied().map(Some).collect::<Vec<_>>());
    decimals.check().unwrap();
    let found: Vec<_> = decimals
        .mantissa
        .iter()
        .zip(&decimals.scale)
        .map(|(mantissa, scale)| mantissa.zip(scale))
        .collect();
    assert_eq!(found, expected, "{values:?}");
    let joined = decimals.join().unwrap();
    assert_eq!(
        bits(&joined),
        values
            .iter()
            .map(|value| Some(value.to_bits()))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_run_has_the_smallest_scale_that_its_values_need() {
    check(
        &[1.5, 2.25, 3.0],
        &[Some((150, 2)), Some((225, 2)), Some((300, 2))],
    );
    check(
        &[1.0, -4096.0, 0.0],
        &[Some((1, 0)), Some((-4096, 0)), Some((0, 0))],
    );
    // With so many digits the mantissas of the others would be too large.
    check(&[0.1, 0.7, 1e-22], &[None, None, Some((1, 22))]);
    check(&[1e-22], &[Some((1, 22))]);
    check(&[0.1 + 0.2], &[None]);
    check(
        &[9_007_199_254_740_991.0],
        &[Some((9_007_199_254_740_991, 0))],
    );
    check(
        &[
            9_007_199_254_740_992.0,
            1e300,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
        ],
        &[None; 5],
    );
    check(
        &[
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::from_bits(STALE_NAN_BITS),
            7.5,
        ],
        &[None, None, None, None, Some((75, 1))],
    );
    check(&[-0.0], &[None]);
}

#[test]
fn a_few_odd_values_stay_floats_and_many_keep_the_run_whole() {
    let mut values: Vec<f64> = (0..100).map(|i| f64::from(i) / 10.0).collect();
    values[50] = 1.0 / 3.0;
    values[51] = -0.0;
    // One value with more digits does not give all others more.
    values[52] = 0.123456789;
    let expected: Vec<_> = (0..100)
        .map(|i| (!(50..=52).contains(&i)).then_some((i, 1)))
        .collect();
    check(&values, &expected);
    for value in &mut values[60..70] {
        *value = (*value).sqrt() + 1e-3 / 7.0;
    }
    check(&values, &[None; 100]);
}

#[test]
fn each_run_has_its_own_scale_and_nulls_stay() {
    let values = [
        Some(1.0),
        None,
        Some(2.0),
        Some(0.5),
        None,
        Some(0.25),
        Some(0.1 + 0.2),
    ];
    let decimals = Decimals::split(&Float64Array::from(values.to_vec()), [0..3, 3..6, 6..7]);
    let scales: Vec<_> = decimals.scale.iter().collect();
    assert_eq!(
        scales,
        [Some(0), None, Some(0), Some(2), None, Some(2), None]
    );
    let whole_as_floats = decimals.clone().with_whole_as_floats().unwrap();
    assert_eq!(
        whole_as_floats.scale.iter().collect::<Vec<_>>(),
        [None, None, None, Some(2), None, Some(2), None]
    );
    let floats = decimals.clone().with_all_as_floats().unwrap();
    assert_eq!(floats.mantissa.null_count(), 7);
    for decimals in [decimals, whole_as_floats, floats] {
        decimals.check().unwrap();
        assert_eq!(decimals.join().unwrap().iter().collect::<Vec<_>>(), values);
    }
}

#[test]
fn columns_that_no_writer_makes_are_refused() {
    let check = |rest: Option<f64>, mantissa: Option<i64>, scale: Option<i8>, words: &str| {
        let decimals = Decimals {
            rest: vec![rest].into(),
            mantissa: vec![mantissa].into(),
            scale: vec![scale].into(),
        };
        let error = decimals.join().unwrap_err();
        assert!(error.contains(words), "{error} lacks {words}");
    };
    check(None, Some(1), None, "without a scale");
    check(None, None, Some(1), "without a mantissa");
    check(Some(1.0), Some(1), Some(0), "both a value and a mantissa");
    check(None, Some(1 << 53), Some(0), "mantissa 9007199254740992");
    check(
        None,
        Some(i64::MIN),
        Some(0),
        "mantissa -9223372036854775808",
    );
    check(None, Some(1), Some(23), "scale 23");
    check(None, Some(1), Some(-1), "scale -1");
}

fn value() -> impl Strategy<Value = Option<f64>> {
    let decimal = (any::<i64>(), 0..40u32, 0..=25i32)
        .prop_map(|(digits, shift, scale)| (digits >> shift) as f64 / 10f64.powi(scale));
    let text = (any::<i32>(), 0..=17u32)
        .prop_map(|(whole, digits)| format!("{whole}e-{digits}").parse().unwrap());
    let odd = prop::sample::select(vec![
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        1e22,
        1e23,
    ]);
    let nan = (0..1u64 << 52, any::<bool>()).prop_map(|(payload, sign)| {
        f64::from_bits((0x7ff << 52) | payload | (u64::from(sign) << 63))
    });
    prop_oneof![
        4 => decimal.prop_map(Some),
        4 => text.prop_map(Some),
        2 => any::<i64>().prop_map(|whole| Some(whole as f64)),
        2 => any::<u64>().prop_map(|bits| Some(f64::from_bits(bits))),
        1 => odd.prop_map(Some),
        1 => nan.prop_map(Some),
        1 => Just(None),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_bit_survives(values in prop::collection::vec(value(), 0..40), cut in 0..40usize) {
        let array = Float64Array::from(values);
        let cut = cut.min(array.len());
        let decimals = Decimals::split(&array, [0..cut, cut..array.len()]);
        prop_assert_eq!(decimals.check(), Ok(()));
        for decimals in [decimals.clone().with_whole_as_floats().unwrap(), decimals.clone().with_all_as_floats().unwrap(), decimals] {
            prop_assert_eq!(bits(&decimals.join().unwrap()), bits(&array));
        }
    }

    /// What a run of one value leaves as a float is no decimal that could be split.
    #[test]
    fn decimals_of_up_to_fifteen_digits_are_split(digits in 0..1_000_000_000_000_000i64, scale in 0..=22usize, negative in any::<bool>()) {
        let digits = if negative && digits > 0 { -digits } else { digits };
        let value = digits as f64 / POWERS[scale];
        let decimals = split(&[Some(value)]);
        prop_assert_eq!(decimals.mantissa.null_count(), 0);
        prop_assert!(decimals.scale.value(0) as usize <= scale);
        prop_assert_eq!(bits(&decimals.join().unwrap()), vec![Some(value.to_bits())]);
    }
}
