//! A histogram between two samples.

use tidelake_catalog::model::Histogram;

use super::arithmetic::{add, multiply, subtract};
use super::{Incompatible, reset};

/// Which steps of an interpolation had to reconcile custom bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reconciled {
    pub subtraction: bool,
    pub addition: bool,
}

/// The histogram at `time`, on the line between two samples. A counter that was reset in between is
/// taken to have begun at zero.
pub(crate) fn interpolate(
    before: (i64, &Histogram),
    after: (i64, &Histogram),
    time: i64,
    is_counter: bool,
) -> Result<(Histogram, Reconciled), Incompatible> {
    let none = Reconciled::default();
    if time == before.0 {
        return Ok((before.1.clone(), none));
    }
    if time == after.0 {
        return Ok((after.1.clone(), none));
    }
    let fraction = (time - before.0) as f64 / (after.0 - before.0) as f64;
    if is_counter && reset::detect(after.1, before.1) {
        let mut begun = after.1.clone();
        multiply(&mut begun, fraction);
        return Ok((begun, none));
    }
    let (mut rise, subtracted) = subtract(after.1, before.1)?;
    multiply(&mut rise, fraction);
    let (result, added) = add(&rise, before.1)?;
    Ok((
        result,
        Reconciled {
            subtraction: subtracted.reconciled,
            addition: added.reconciled,
        },
    ))
}
