//! Weekly times at which a workload is kept awake, in a time zone. Pure: the time is passed in.

use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A range of hours on some days of the week, such as `Mon-Fri 08:00-18:00 Europe/Berlin`.
#[derive(Clone, Debug)]
pub struct Schedule {
    days: Days,
    from: TimeOfDay,
    /// The next day's where it is not after `from`.
    to: TimeOfDay,
    zone: TimeZone,
    /// As it was written, which is also its identity.
    text: String,
}

/// The days of the week on which a range begins, Monday first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Days([bool; 7]);

/// Minutes since midnight, 24:00 included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TimeOfDay(u16);

const DAY_NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MIDNIGHT: TimeOfDay = TimeOfDay(24 * 60);
/// A range begins at the latest a week after the last one, and ends within a day.
const DAYS_AHEAD: i64 = 8;

/// Whether any of these keeps a workload awake.
pub fn is_any_active_at(schedules: &[Schedule], now: Timestamp) -> bool {
    schedules.iter().any(|schedule| schedule.is_active_at(now))
}

/// When any of these begins or ends next.
pub fn next_change(schedules: &[Schedule], now: Timestamp) -> Option<Timestamp> {
    schedules.iter().filter_map(|schedule| schedule.next_change(now)).min()
}

// === impl Schedule ===

impl Schedule {
    /// Parses days, hours and a zone of the IANA time zone database, separated by spaces.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [days, hours, zone] = words[..] else {
            return Err(
                "write days, hours and a time zone, such as \"Mon-Fri 08:00-18:00 Europe/Berlin\""
                    .to_owned(),
            );
        };
        let days = Days::parse(days).ok_or_else(|| {
            format!(
                "{days:?} is no day: write, for example, \"Mon-Fri\", \"Sat,Sun\" or \"Mon-Sun\""
            )
        })?;
        let range = hours.split_once('-');
        let range = range.and_then(|(from, to)| TimeOfDay::parse(from).zip(TimeOfDay::parse(to)));
        let (from, to) = range.filter(|(from, to)| *from < MIDNIGHT && from != to).ok_or_else(|| {
            format!("{hours:?} is no range of hours: write, for example, \"08:00-18:00\", or \"22:00-06:00\" over midnight")
        })?;
        let zone = TimeZone::get(zone).map_err(|_| {
            format!("{zone:?} is no time zone: write a name such as \"Europe/Berlin\" or \"UTC\" (IANA time zone database)")
        })?;
        Ok(Self { days, from, to, zone, text: words.join(" ") })
    }

    /// A range contains its first instant, and not its last.
    pub fn is_active_at(&self, now: Timestamp) -> bool {
        self.ranges(now).any(|(from, to)| from <= now && now < to)
    }

    /// When the schedule next begins or ends to apply.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.ranges(now).flat_map(|(from, to)| [from, to]);
        ends.filter(|at| *at > now).min()
    }

    /// The ranges from yesterday on, each as instants. What a change of the clock leaves out begins after it, and what it
    /// repeats begins at the first time (jiff, `Disambiguation::Compatible`).
    fn ranges(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let today = now.to_zoned(self.zone.clone()).date();
        let days = (-1..DAYS_AHEAD).filter_map(move |days| add_days(today, days));
        let days = days.filter(|date| self.days.contains(date.weekday()));
        days.filter_map(|date| {
            let last = if self.to > self.from { date } else { add_days(date, 1)? };
            Some((self.instant(date, self.from)?, self.instant(last, self.to)?))
        })
    }

    fn instant(&self, date: Date, time: TimeOfDay) -> Option<Timestamp> {
        let date = if time == MIDNIGHT { add_days(date, 1)? } else { date };
        let TimeOfDay(minutes) = time;
        let (hour, minute) = (minutes / 60 % 24, minutes % 60);
        let time = Time::new(hour.try_into().ok()?, minute.try_into().ok()?, 0, 0).ok()?;
        self.zone.to_timestamp(date.to_datetime(time)).ok()
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn add_days(date: Date, days: i64) -> Option<Date> {
    date.checked_add(Span::new().days(days)).ok()
}

// === impl Days ===

impl Days {
    /// Days and ranges of days in English, by their first three letters, separated by commas.
    fn parse(text: &str) -> Option<Self> {
        let day = |name: &str| {
            let name = name.to_ascii_lowercase();
            DAY_NAMES.iter().position(|known| *known == name)
        };
        let mut days = [false; 7];
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (day(first)?, day(last)?),
                None => (day(part)?, day(part)?),
            };
            // A range may pass the end of the week.
            let count = (last + 7 - first) % 7;
            (0..=count).for_each(|at| days[(first + at) % 7] = true);
        }
        Some(Self(days))
    }

    fn contains(self, day: Weekday) -> bool {
        self.0[day.to_monday_zero_offset() as usize]
    }
}

// === impl TimeOfDay ===

impl TimeOfDay {
    /// `HH:MM`, from 00:00 to 24:00.
    fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let is_number =
            |text: &str, most| text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(hours, 2) || !is_number(minutes, 2) || minutes.len() != 2 {
            return None;
        }
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        let time = Self(hours * 60 + minutes);
        (minutes < 60 && time <= MIDNIGHT).then_some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn is_active(schedule: &str, time: &str) -> bool {
        Schedule::parse(schedule).unwrap().is_active_at(at(time))
    }

    #[test]
    fn a_range_applies_on_its_days_in_its_zone() {
        // 2026-11-26 is a Thursday; Berlin is one hour ahead of UTC in winter.
        let office = "Mon-Fri 08:00-18:00 Europe/Berlin";
        for (time, expected) in [
            ("2026-11-26T06:59:59Z", false),
            ("2026-11-26T07:00:00Z", true),
            ("2026-11-26T16:59:59Z", true),
            ("2026-11-26T17:00:00Z", false),
            ("2026-11-28T10:00:00Z", false),
            // Two hours ahead in summer.
            ("2026-07-01T06:00:00Z", true),
        ] {
            assert_eq!(is_active(office, time), expected, "{time}");
        }
        let schedule = Schedule::parse(office).unwrap();
        let next = |time: &str| schedule.next_change(at(time)).unwrap().to_string();
        assert_eq!(next("2026-11-26T07:00:00Z"), "2026-11-26T17:00:00Z");
        assert_eq!(next("2026-11-27T17:00:00Z"), "2026-11-30T07:00:00Z", "over the weekend");
    }

    #[test]
    fn a_range_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let nights = "Fri 22:00-06:00 UTC";
        assert!(is_active(nights, "2026-11-28T05:59:59Z"), "Saturday morning");
        assert!(!is_active(nights, "2026-11-27T05:00:00Z"), "Friday morning");
        assert!(is_active("Sun-Mon 00:00-24:00 UTC", "2026-11-30T23:59:59Z"));
        assert!(!is_active("Sun-Mon 00:00-24:00 UTC", "2026-12-01T00:00:00Z"));
    }

    #[test]
    fn hours_that_a_change_of_the_clock_leaves_out_begin_after_it() {
        // In Berlin, 2026-03-29 has no time from 02:00 to 03:00, and 2026-10-25 has that hour twice.
        let early = Schedule::parse("Sun 02:30-04:00 Europe/Berlin").unwrap();
        assert!(early.is_active_at(at("2026-03-29T01:30:00Z")));
        assert!(!early.is_active_at(at("2026-03-29T02:00:00Z")));
        assert!(early.is_active_at(at("2026-10-25T00:30:00Z")), "the first 02:30");
        assert!(early.is_active_at(at("2026-10-25T02:59:59Z")));
    }

    #[test]
    fn a_wrong_schedule_says_what_to_write() {
        for (text, part) in [
            ("Mon-Fri 08:00-18:00", "write days, hours and a time zone"),
            ("Mo-Fr 08:00-18:00 UTC", "\"Mo-Fr\" is no day"),
            ("Mon 8-18 UTC", "\"8-18\" is no range of hours"),
            ("Mon 08:00-25:00 UTC", "is no range of hours"),
            ("Mon 08:00-08:00 UTC", "is no range of hours"),
            ("Mon 08:00-18:00 Berlin", "\"Berlin\" is no time zone"),
        ] {
            let problem = Schedule::parse(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn nothing_changes_before_the_next_change(
            days in prop::sample::subsequence(&DAY_NAMES[..], 1..7),
            from in 0u16..1440, length in 1u16..1440, second in 0i64..400_000_000, zone in prop::sample::select(&["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"][..]),
        ) {
            let to = (from + length) % 1440;
            let hours = format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60);
            let schedule = Schedule::parse(&format!("{} {hours} {zone}", days.join(","))).unwrap();
            let now = Timestamp::from_second(1_600_000_000 + second).unwrap();
            let next = schedule.next_change(now).unwrap();
            let (is_active, left) = (schedule.is_active_at(now), next.as_second() - now.as_second());
            prop_assert!(left > 0 && left <= 8 * 86_400);
            for part in 0..10 {
                let between = Timestamp::from_second(now.as_second() + left * part / 10).unwrap();
                prop_assert_eq!(schedule.is_active_at(between), is_active);
            }
        }
    }
}
