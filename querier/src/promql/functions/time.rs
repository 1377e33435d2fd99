//! Parts of a UTC date, for any number of seconds since 1970 (calendar libraries end at some year).

const SECONDS_PER_DAY: i128 = 86_400;

/// Seconds from the day at which the calendar of Prometheus begins (in the year -292277022400) to
/// 1970.
const CALENDAR_SECONDS: i64 = (730_692_556 * 146_097 + 719_468) * 86_400;

/// A sample as seconds since 1970, as Prometheus takes it on the machines that it mostly runs on:
/// what is no number or beyond 64 bits is the least number, and what lies before the calendar
/// begins is counted on from its end.
pub(crate) fn seconds(value: f64) -> i128 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let seconds = if (-LIMIT..LIMIT).contains(&value) {
        value as i64
    } else {
        i64::MIN
    };
    i128::from(seconds.wrapping_add(CALENDAR_SECONDS) as u64) - i128::from(CALENDAR_SECONDS)
}

/// `minute`
pub(super) fn minute(seconds: i128) -> f64 {
    (seconds.rem_euclid(3600) / 60) as f64
}

/// `hour`
pub(super) fn hour(seconds: i128) -> f64 {
    (seconds.rem_euclid(SECONDS_PER_DAY) / 3600) as f64
}

/// `day_of_week`: 0 on Sundays.
pub(super) fn day_of_week(seconds: i128) -> f64 {
    (seconds.div_euclid(SECONDS_PER_DAY) + 4).rem_euclid(7) as f64
}

/// `day_of_month`
pub(super) fn day_of_month(seconds: i128) -> f64 {
    date(seconds).2 as f64
}

/// `days_in_month`
pub(super) fn days_of_month(seconds: i128) -> f64 {
    let (year, month, _) = date(seconds);
    days_in_month(year, month) as f64
}

/// `month`
pub(super) fn month(seconds: i128) -> f64 {
    date(seconds).1 as f64
}

/// `year`
pub(super) fn year(seconds: i128) -> f64 {
    date(seconds).0 as f64
}

/// Year, month and day of the proleptic Gregorian calendar.
fn date(seconds: i128) -> (i128, i128, i128) {
    // Counted from the first of March of the year 0, so that the leap day is the last of a year.
    let days = seconds.div_euclid(SECONDS_PER_DAY) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year_of_era + era * 400 + i128::from(month <= 2), month, day)
}

fn is_leap(year: i128) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i128, month: i128) -> i128 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// `day_of_year`
pub(super) fn day_of_year(seconds: i128) -> f64 {
    let (year, month, day) = date(seconds);
    ((1..month)
        .map(|month| days_in_month(year, month))
        .sum::<i128>()
        + day) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_dates() {
        let check = |value: f64, expected: [f64; 8]| {
            let parts: [fn(i128) -> f64; 8] = [
                year,
                month,
                day_of_month,
                day_of_week,
                day_of_year,
                days_of_month,
                hour,
                minute,
            ];
            let got = parts.map(|part| part(seconds(value)));
            assert_eq!(got, expected, "{value}");
        };
        check(0.0, [1970.0, 1.0, 1.0, 4.0, 1.0, 31.0, 0.0, 0.0]);
        check(-0.5, [1970.0, 1.0, 1.0, 4.0, 1.0, 31.0, 0.0, 0.0]);
        check(
            951_825_599.9,
            [2000.0, 2.0, 29.0, 2.0, 60.0, 29.0, 11.0, 59.0],
        );
        check(
            -62_167_219_201.0,
            [-1.0, 12.0, 31.0, 5.0, 365.0, 31.0, 23.0, 59.0],
        );
        // What a Prometheus on x86-64 answers.
        check(
            -9.2233719e18,
            [-292_277_018_321.0, 10.0, 29.0, 0.0, 302.0, 31.0, 16.0, 0.0],
        );
        for odd in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e300,
            -1e300,
            9.3e18,
        ] {
            check(
                odd,
                [292_277_026_596.0, 12.0, 4.0, 0.0, 339.0, 31.0, 15.0, 30.0],
            );
        }
    }
}
