//! Where the buckets of exponential schemas end: to the last bit as Prometheus has it, whose table
//! is not everywhere the nearest number to the power of two.

use std::sync::LazyLock;

/// By what bounds grow from bucket to bucket, of schemas 0 to 8: two to the power of 1, 1/2, 1/4
/// and so on, as Prometheus' table was made.
#[allow(
    clippy::approx_constant,
    reason = "the last digit is not that of the nearest number, see above"
)]
const GROWTH: [f64; 9] = [
    2.0,
    1.414213562373095,
    1.189207115002721,
    1.0905077326652577,
    1.0442737824274138,
    1.0218971486541166,
    1.0108892860517005,
    1.0054299011128027,
    1.0027112750502025,
];

/// The bounds from 1 on and below 2 of each schema: every other one is that of the schema before,
/// the others grow from the one before.
static BOUNDS: LazyLock<Vec<Vec<f64>>> = LazyLock::new(|| {
    let mut all = vec![vec![1.0]];
    for growth in GROWTH.iter().skip(1) {
        let coarser: &[f64] = all.last().map_or(&[], Vec::as_slice);
        let finer = coarser
            .iter()
            .flat_map(|bound| [*bound, bound * growth])
            .collect();
        all.push(finer);
    }
    all
});

/// The upper bound of bucket `index` of positive values in an exponential schema. The last bucket
/// of every schema ends at the largest number, since only infinities are beyond it.
pub fn exponential_bound(schema: i32, index: i64) -> f64 {
    let (fraction, exponent) = match usize::try_from(schema) {
        // Negative schemas have a bound at some powers of two only.
        Err(_) => (
            1.0,
            index.saturating_mul(1i64 << schema.unsigned_abs().min(40)),
        ),
        Ok(schema) => {
            // What is finer than any schema that there is cannot come from a sender, and is
            // computed as it would be.
            let Some(bounds) = BOUNDS.get(schema) else {
                return (index as f64 * f64::from(-(schema as i32)).exp2()).exp2();
            };
            let fraction = bounds
                .get(index.rem_euclid(bounds.len() as i64) as usize)
                .copied()
                .unwrap_or(1.0);
            (fraction, index.div_euclid(bounds.len() as i64))
        }
    };
    if exponent == 1024 && fraction == 1.0 {
        f64::MAX
    } else {
        times_power(fraction, exponent)
    }
}

/// `fraction` times two to the power of `exponent`, rounded once.
fn times_power(fraction: f64, exponent: i64) -> f64 {
    let power = |exponent: i64| f64::from_bits(((exponent + 1023) as u64) << 52);
    match exponent {
        -1022..=1023 => fraction * power(exponent),
        1024.. => f64::INFINITY,
        ..-1100 => 0.0,
        // The first factor is exact, the second rounds to what small numbers can say.
        _ => fraction * power(-1000) * power(exponent + 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(
        clippy::approx_constant,
        reason = "the last digit is not that of the nearest number"
    )]
    fn bounds_are_those_of_prometheus() {
        let check = |schema: i32, index: i64, expected: f64| {
            let got = exponential_bound(schema, index);
            assert_eq!(got.to_bits(), expected.to_bits(), "{schema} {index}: {got}");
        };
        check(0, 0, 1.0);
        check(0, 10, 1024.0);
        check(-1, 1, 4.0);
        check(-4, 1, 65_536.0);
        check(-4, -1, 1.0 / 65_536.0);
        // As a real one prints them.
        check(1, 1, 1.414213562373095);
        check(1, -1, 0.7071067811865475);
        check(1, -3, 0.35355339059327373);
        check(3, 1, 1.0905077326652577);
        check(8, 256, 2.0);
        // Both ends.
        check(0, 1024, f64::MAX);
        check(8, 1024 * 256, f64::MAX);
        check(-4, 64, f64::MAX);
        check(0, 1025, f64::INFINITY);
        check(0, -1074, 5e-324);
        check(0, -1075, 0.0);
        check(0, i64::MIN, 0.0);
        check(-1, i64::MAX, f64::INFINITY);
    }

    #[test]
    fn bounds_grow() {
        for schema in 0..=8 {
            let bounds: Vec<f64> = (-600..600)
                .map(|index| exponential_bound(schema, index))
                .collect();
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{schema}");
            let exact = |index: i64| (index as f64 / f64::from(1 << schema)).exp2();
            assert!(
                (-600i64..600)
                    .zip(&bounds)
                    .all(|(index, bound)| (bound / exact(index) - 1.0).abs() < 1e-15),
                "{schema}"
            );
        }
    }
}
