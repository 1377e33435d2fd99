//! Values of several Arrow types as the one that both forms write.

use arrow::array::Array;
use arrow::array::cast::AsArray;
use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
    Decimal256Type, DecimalType, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, IntervalDayTimeType, IntervalMonthDayNanoType,
    IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

use super::number::write_decimal;
use super::time::{Interval, microseconds};
use crate::pg::error::{PgError, code};

type Values<'a, T> = Box<dyn Fn(usize) -> T + 'a>;

const DAY_MS: i64 = 86_400_000;

fn unknown(array: &dyn Array) -> PgError {
    let message = format!("values of type {} cannot be shown", array.data_type());
    PgError::new(code::UNSUPPORTED, message)
}

/// Decimal numbers as text.
pub(super) fn decimals(
    array: &dyn Array,
) -> Result<Box<dyn Fn(usize, &mut Vec<u8>) + '_>, PgError> {
    fn of<T: DecimalType>(array: &dyn Array, scale: i8) -> Box<dyn Fn(usize, &mut Vec<u8>) + '_>
    where
        T::Native: std::fmt::Display,
    {
        let array = array.as_primitive::<T>();
        Box::new(move |row, out| write_decimal(&array.value(row).to_string(), scale, out))
    }
    Ok(match array.data_type() {
        DataType::Decimal32(_, scale) => of::<Decimal32Type>(array, *scale),
        DataType::Decimal64(_, scale) => of::<Decimal64Type>(array, *scale),
        DataType::Decimal128(_, scale) => of::<Decimal128Type>(array, *scale),
        DataType::Decimal256(_, scale) => of::<Decimal256Type>(array, *scale),
        _ => return Err(unknown(array)),
    })
}

/// Days since 1970.
pub(super) fn days(array: &dyn Array) -> Result<Values<'_, i64>, PgError> {
    Ok(match array.data_type() {
        DataType::Date32 => {
            let array = array.as_primitive::<Date32Type>();
            Box::new(move |row| i64::from(array.value(row)))
        }
        DataType::Date64 => {
            let array = array.as_primitive::<Date64Type>();
            Box::new(move |row| array.value(row).div_euclid(DAY_MS))
        }
        _ => return Err(unknown(array)),
    })
}

/// Microseconds since midnight.
pub(super) fn clocks(array: &dyn Array) -> Result<Values<'_, i64>, PgError> {
    fn of<'a, T: ArrowPrimitiveType>(
        array: &'a dyn Array,
        to_us: impl Fn(i64) -> i64 + 'a,
    ) -> Values<'a, i64>
    where
        T::Native: Into<i64>,
    {
        let array = array.as_primitive::<T>();
        Box::new(move |row| to_us(array.value(row).into()))
    }
    Ok(match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            of::<Time32SecondType>(array, |value| value.saturating_mul(1_000_000))
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            of::<Time32MillisecondType>(array, |value| value.saturating_mul(1000))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            of::<Time64MicrosecondType>(array, |value| value)
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            of::<Time64NanosecondType>(array, |value| value.div_euclid(1000))
        }
        _ => return Err(unknown(array)),
    })
}

/// Microseconds since 1970.
pub(super) fn timestamps(array: &dyn Array) -> Result<Values<'_, Result<i64, PgError>>, PgError> {
    fn of<T: ArrowPrimitiveType<Native = i64>>(
        array: &dyn Array,
        per_second: i64,
    ) -> Values<'_, Result<i64, PgError>> {
        let array = array.as_primitive::<T>();
        Box::new(move |row| microseconds(array.value(row), per_second))
    }
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => of::<TimestampSecondType>(array, 1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            of::<TimestampMillisecondType>(array, 1000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            of::<TimestampMicrosecondType>(array, 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            of::<TimestampNanosecondType>(array, 1_000_000_000)
        }
        _ => return Err(unknown(array)),
    })
}

/// Lengths of time.
pub(super) fn intervals(
    array: &dyn Array,
) -> Result<Values<'_, Result<Interval, PgError>>, PgError> {
    fn durations<T: ArrowPrimitiveType<Native = i64>>(
        array: &dyn Array,
        factor: i64,
        divisor: i64,
    ) -> Values<'_, Result<Interval, PgError>> {
        let array = array.as_primitive::<T>();
        Box::new(move |row| {
            let us = array.value(row).div_euclid(divisor).checked_mul(factor);
            let us =
                us.ok_or_else(|| PgError::new(code::DATETIME_OVERFLOW, "interval out of range"))?;
            Ok(Interval {
                months: 0,
                days: 0,
                us,
            })
        })
    }
    Ok(match array.data_type() {
        DataType::Duration(TimeUnit::Second) => {
            durations::<DurationSecondType>(array, 1_000_000, 1)
        }
        DataType::Duration(TimeUnit::Millisecond) => {
            durations::<DurationMillisecondType>(array, 1000, 1)
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            durations::<DurationMicrosecondType>(array, 1, 1)
        }
        DataType::Duration(TimeUnit::Nanosecond) => {
            durations::<DurationNanosecondType>(array, 1, 1000)
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let array = array.as_primitive::<IntervalYearMonthType>();
            Box::new(move |row| {
                Ok(Interval {
                    months: array.value(row),
                    days: 0,
                    us: 0,
                })
            })
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let array = array.as_primitive::<IntervalDayTimeType>();
            Box::new(move |row| {
                let value = array.value(row);
                Ok(Interval {
                    months: 0,
                    days: value.days,
                    us: i64::from(value.milliseconds) * 1000,
                })
            })
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let array = array.as_primitive::<IntervalMonthDayNanoType>();
            Box::new(move |row| {
                let value = array.value(row);
                Ok(Interval {
                    months: value.months,
                    days: value.days,
                    us: value.nanoseconds.div_euclid(1000),
                })
            })
        }
        _ => return Err(unknown(array)),
    })
}

/// Bytes.
pub(super) fn bytes<'a>(
    array: &'a dyn Array,
) -> Result<Box<dyn Fn(usize) -> &'a [u8] + 'a>, PgError> {
    Ok(match array.data_type() {
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            Box::new(move |row| array.value(row))
        }
        DataType::LargeBinary => {
            let array = array.as_binary::<i64>();
            Box::new(move |row| array.value(row))
        }
        DataType::BinaryView => {
            let array = array.as_binary_view();
            Box::new(move |row| array.value(row))
        }
        DataType::FixedSizeBinary(_) => {
            let array = array.as_fixed_size_binary();
            Box::new(move |row| array.value(row))
        }
        _ => return Err(unknown(array)),
    })
}
