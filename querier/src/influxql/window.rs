//! Windows of `GROUP BY time()`.

use chrono::{Offset, TimeZone};
use chrono_tz::Tz;

use super::condition::{MAX_TIME, MIN_TIME};

/// How times are cut into windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Windows {
    /// Length of a window in ns, above 0.
    pub every: i64,
    /// Ns that windows begin after multiples of their length.
    pub offset: i64,
    /// The zone whose local time they are multiples of.
    pub zone: Option<Tz>,
}

impl Windows {
    /// What the clocks of the zone are ahead of UTC at a time, in ns.
    pub fn zone_offset(&self, time: i64) -> i64 {
        self.zone.map_or(0, |zone| {
            let utc = chrono::DateTime::from_timestamp_nanos(time).naive_utc();
            let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
            i64::from(offset) * 1_000_000_000
        })
    }

    /// The window of a time: when it begins, and when the next does. Days in which the clocks of
    /// the zone change are longer or shorter, as long as windows are longer than the change.
    pub fn of(&self, time: i64) -> (i64, i64) {
        let time = time.saturating_sub(self.offset);
        let zone = self.zone_offset(time);
        let into = time.wrapping_add(zone).rem_euclid(self.every);
        let mut start = match time.checked_sub(into) {
            Some(start) if start > MIN_TIME => start,
            _ => MIN_TIME,
        };
        let mut end = match time.checked_add(self.every - into) {
            Some(end) if end < MAX_TIME => end,
            _ => MAX_TIME,
        };
        if self.zone.is_some() {
            let moved = zone - self.zone_offset(start);
            if moved != 0 && moved.abs() < self.every {
                start = start.saturating_add(moved);
            }
            let end_offset = self.zone_offset(end);
            let moved = zone - end_offset;
            // Clocks that go back make this window longer; those that go forward make the window
            // shorter in which they do.
            if moved != 0
                && moved.abs() < self.every
                && (moved > 0 || self.zone_offset(end.saturating_add(moved)) == end_offset)
            {
                end = end.saturating_add(moved);
            }
        }
        let back = |bound: i64| match bound {
            MIN_TIME | MAX_TIME => bound,
            bound => bound.saturating_add(self.offset),
        };
        (back(start), back(end))
    }

    /// The beginnings of windows from one on, forwards or backwards, without end.
    pub fn from(&self, start: i64, ascending: bool) -> impl Iterator<Item = i64> + use<> {
        let windows = *self;
        let (mut next, mut offset) = (Some(start), windows.zone_offset(start));
        std::iter::from_fn(move || {
            let this = next?;
            let step = if ascending {
                windows.every
            } else {
                -windows.every
            };
            next = this.checked_add(step).map(|mut time| {
                if windows.zone.is_some() {
                    let now = windows.zone_offset(time.saturating_sub(1));
                    let moved = offset - now;
                    if moved != 0 && moved.abs() < windows.every {
                        time = time.saturating_add(moved);
                    }
                    offset = now;
                }
                time
            });
            Some(this)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;
    /// 2021-03-28T00:00:00Z: in Berlin clocks go forward an hour later.
    const FORWARD: i64 = 1_616_889_600_000_000_000;
    /// 2021-10-31T00:00:00Z: in Berlin clocks go back an hour later.
    const BACK: i64 = 1_635_638_400_000_000_000;

    fn days(zone: Option<Tz>) -> Windows {
        Windows {
            every: 24 * HOUR,
            offset: 0,
            zone,
        }
    }

    #[test]
    fn windows_are_multiples_of_their_length() {
        let windows = Windows {
            every: 10,
            offset: 3,
            zone: None,
        };
        let check = |time, expected| assert_eq!(windows.of(time), expected, "{time}");
        check(3, (3, 13));
        check(12, (3, 13));
        check(13, (13, 23));
        check(-7, (-7, 3));
        check(-8, (-17, -7));
        let (start, end) = windows.of(i64::MIN + 5);
        assert_eq!((start, end < 0), (MIN_TIME, true));
        assert_eq!(windows.of(i64::MAX - 2).1, MAX_TIME);
    }

    #[test]
    fn days_in_which_clocks_change_have_23_or_25_hours() {
        let windows = days(Some(chrono_tz::Europe::Berlin));
        let (start, end) = windows.of(FORWARD + 5 * HOUR);
        assert_eq!((start, end), (FORWARD - HOUR, FORWARD + 22 * HOUR));
        let (start, end) = windows.of(BACK + 5 * HOUR);
        assert_eq!((start, end), (BACK - 2 * HOUR, BACK + 23 * HOUR));
        // And they follow each other.
        let starts: Vec<i64> = windows.from(FORWARD - 25 * HOUR, true).take(4).collect();
        let expected = [-25, -1, 22, 46].map(|hour| FORWARD + hour * HOUR);
        assert_eq!(starts, expected);
    }

    #[test]
    fn windows_go_backwards_too() {
        let windows = days(None);
        let starts: Vec<i64> = windows.from(FORWARD, false).take(3).collect();
        assert_eq!(starts, [FORWARD, FORWARD - 24 * HOUR, FORWARD - 48 * HOUR]);
    }
}
