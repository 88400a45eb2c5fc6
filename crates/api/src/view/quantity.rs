//! Money and instants in JSON.

use std::{borrow::Cow, fmt};

use market::{Money, Rate, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of dollars, or a price per hour or GiB: `{"micros": "1320000", "display": "$1.320000"}`.
///
/// Only `micros` is read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MoneyView(pub Money);

impl From<Money> for MoneyView {
    fn from(money: Money) -> Self {
        Self(money)
    }
}

impl From<Rate> for MoneyView {
    fn from(rate: Rate) -> Self {
        Self(Money::from_micros(rate.micros_per_hour()))
    }
}

impl fmt::Display for MoneyView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An amount of dollars, or a price per hour or GiB.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Money")]
struct MoneyJson {
    /// Micro-dollars, exact, in decimal digits.
    #[schemars(regex(pattern = r"^[0-9]{1,20}$"))]
    micros: String,
    /// The same, to read.
    #[serde(default)]
    display: String,
}

impl JsonSchema for MoneyView {
    fn schema_name() -> Cow<'static, str> {
        MoneyJson::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        MoneyJson::json_schema(generator)
    }
}

impl JsonSchema for TimeView {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl Serialize for MoneyView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        MoneyJson {
            micros: self.0.micros().to_string(),
            display: self.0.to_string(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MoneyView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = MoneyJson::deserialize(deserializer)?;
        let micros = json
            .micros
            .parse()
            .map_err(|_| de::Error::custom("micros is no decimal u64"))?;
        Ok(Self(Money::from_micros(micros)))
    }
}

/// An instant: RFC 3339 in UTC with exactly three decimals, as `2026-11-23T18:00:00.123Z`.
///
/// Instants beyond the year 9999 (a free lease is funded for ever) are written as the last instant of that year.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeView(pub Timestamp);

/// 9999-12-31T23:59:59.999Z, the last instant that RFC 3339 can write.
const LAST_MS: u64 = 253_402_300_799_999;
const DAY_MS: u64 = 86_400_000;

impl TimeView {
    /// Reads RFC 3339 text in UTC with zero to three decimals; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
        let plain =
            (1..=3).contains(&fraction.len()) && fraction.bytes().all(|c| c.is_ascii_digit());
        let valid = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !(plain && valid) {
            return None;
        }
        let ms: u64 = format!("{fraction:0<3}").parse().ok()?;
        let days =
            days_before_year(year) + (1..month).map(|m| days_in(year, m)).sum::<u64>() + day - 1;
        let secs = days * 86_400 + hour * 3_600 + minute * 60 + second;
        Some(Self(Timestamp::from_unix_millis(secs * 1_000 + ms)))
    }
}

/// Returns the numbers of a text such as `2026-11-23`, each with exactly so many digits.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut out = [0; 3];
    for (to, digits) in out.iter_mut().zip(digits) {
        let part = parts
            .next()
            .filter(|p| p.len() == digits && p.bytes().all(|c| c.is_ascii_digit()))?;
        *to = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days from 1970-01-01 to the first day of `year`, which is 1970 or later.
const fn days_before_year(year: u64) -> u64 {
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400;
    // 477 leap years lie before 1970.
    (year - 1970) * 365 + leaps - 477
}

impl From<Timestamp> for TimeView {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl fmt::Display for TimeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.unix_millis().min(LAST_MS);
        let days = ms / DAY_MS;
        // 400 years have 146,097 days: the first guess is at most a year off.
        let mut year = 1970 + days * 400 / 146_097;
        while days_before_year(year) > days {
            year -= 1;
        }
        while days_before_year(year + 1) <= days {
            year += 1;
        }
        let mut day = days - days_before_year(year);
        let mut month = 1;
        while day >= days_in(year, month) {
            day -= days_in(year, month);
            month += 1;
        }
        let (secs, ms) = (ms % DAY_MS / 1_000, ms % 1_000);
        let (hour, minute, second) = (secs / 3_600, secs / 60 % 60, secs % 60);
        write!(
            f,
            "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z",
            day + 1
        )
    }
}

impl Serialize for TimeView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("no RFC 3339 instant in UTC"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_round_trip_at_the_corners_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400_001, "2100-03-01T00:00:00.001Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            let view = TimeView(Timestamp::from_unix_millis(ms));
            assert_eq!(view.to_string(), text);
            assert_eq!(TimeView::parse(text), Some(view));
        }
    }

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        for day in 0..146_097u64 {
            let view = TimeView(Timestamp::from_unix_millis(day * DAY_MS + 1));
            assert_eq!(TimeView::parse(&view.to_string()), Some(view), "day {day}");
        }
    }

    #[test]
    fn an_instant_beyond_the_calendar_is_its_last() {
        assert_eq!(
            TimeView(Timestamp::MAX).to_string(),
            "9999-12-31T23:59:59.999Z"
        );
    }

    #[test]
    fn malformed_instants_are_refused() {
        for text in [
            "",
            "Z",
            "T",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.1234Z",
            "2026-01-01T00:00:00.Z",
            "1969-12-31T00:00:00Z",
            "+026-01-01T00:00:00Z",
            "2026-1-01T00:00:00Z",
            "2026-01-01-01T00:00:00Z",
            "2026-01-01T00:00:00+00:00",
        ] {
            assert_eq!(TimeView::parse(text), None, "{text}");
        }
    }

    #[test]
    fn money_is_exact_in_json() {
        let view = MoneyView(Money::from_micros(u64::MAX));
        let json = serde_json::to_string(&view).unwrap();
        assert_eq!(
            json,
            r#"{"micros":"18446744073709551615","display":"$18446744073709.551615"}"#
        );
        assert_eq!(serde_json::from_str::<MoneyView>(&json).unwrap(), view);
        assert!(serde_json::from_str::<MoneyView>(r#"{"micros":"-1"}"#).is_err());
    }
}
