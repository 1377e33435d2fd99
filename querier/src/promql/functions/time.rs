//! Parts of a UTC date, for any number of seconds since 1970 (calendar libraries end at some year).

const SECONDS_PER_DAY: i64 = 86_400;

/// The function of a name.
pub(crate) fn by_name(name: &str) -> Option<fn(i64) -> f64> {
    Some(match name {
        "minute" => |seconds| (seconds.rem_euclid(3600) / 60) as f64,
        "hour" => |seconds| (seconds.rem_euclid(SECONDS_PER_DAY) / 3600) as f64,
        "day_of_week" => |seconds| (seconds.div_euclid(SECONDS_PER_DAY) + 4).rem_euclid(7) as f64,
        "day_of_month" => |seconds| date(seconds).2 as f64,
        "day_of_year" => day_of_year,
        "days_in_month" => |seconds| {
            let (year, month, _) = date(seconds);
            days_in_month(year, month) as f64
        },
        "month" => |seconds| date(seconds).1 as f64,
        "year" => |seconds| date(seconds).0 as f64,
        _ => return None,
    })
}

/// Year, month and day of the proleptic Gregorian calendar.
fn date(seconds: i64) -> (i64, i64, i64) {
    // Counted from the first of March of the year 0, so that the leap day is the last of a year.
    let days = seconds.div_euclid(SECONDS_PER_DAY) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

fn day_of_year(seconds: i64) -> f64 {
    let (year, month, day) = date(seconds);
    ((1..month).map(|month| days_in_month(year, month)).sum::<i64>() + day) as f64
}
