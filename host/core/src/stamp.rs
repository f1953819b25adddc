//! Points in time as the store writes them: whole UTC seconds, formatted in the few fixed shapes of the file formats.
//!
//! Invariants: never reads a clock; the caller passes Unix milliseconds in.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const NAIVE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
const COMPACT: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]");

/// First and last second that the four-digit-year formats can hold.
const SECONDS_MIN: i64 = -62_167_219_200;
const SECONDS_MAX: i64 = 253_402_300_799;

/// A UTC time in whole seconds, written without a zone: `2026-04-19T18:30:14`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(i64);

/// A text that is not a time of the form `2026-04-19T18:30:14`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a UTC time like `2026-04-19T18:30:14` (no zone, no fraction)")]
pub struct StampError {
    /// What was read.
    pub found: String,
}

impl Stamp {
    /// Takes Unix milliseconds and drops the fraction; times outside the years 0 to 9999 are clamped to that range.
    pub fn from_unix_ms(unix_ms: i64) -> Self {
        Self(unix_ms.div_euclid(1000).clamp(SECONDS_MIN, SECONDS_MAX))
    }

    /// Seconds since the Unix epoch.
    pub fn unix_seconds(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(self) -> i64 {
        self.0 * 1000
    }

    /// `2026-04-19T18:30:14`, the form of the manifest and the run log.
    pub fn naive(self) -> String {
        self.format(NAIVE)
    }

    /// `2026-04-19T18:30:14Z`, the form of `dlm.lock` and the metrics database.
    pub fn zoned(self) -> String {
        format!("{}Z", self.naive())
    }

    /// `20260419T183014`, the form of log file names.
    pub fn compact(self) -> String {
        self.format(COMPACT)
    }

    /// Reads the naive form.
    ///
    /// **Errors** when the text has a zone, a fraction or is no time at all.
    pub fn parse_naive(text: &str) -> Result<Self, StampError> {
        PrimitiveDateTime::parse(text, NAIVE)
            .map(|time| Self(time.assume_utc().unix_timestamp()))
            .map_err(|_| StampError { found: text.to_owned() })
    }

    /// Reads the zoned form; `Z` and nothing else.
    ///
    /// **Errors** as [`Stamp::parse_naive`].
    pub fn parse_zoned(text: &str) -> Result<Self, StampError> {
        match text.strip_suffix('Z') {
            Some(naive) => Self::parse_naive(naive),
            None => Err(StampError { found: text.to_owned() }),
        }
    }

    fn format(self, form: &[BorrowedFormatItem<'_>]) -> String {
        OffsetDateTime::from_unix_timestamp(self.0)
            .expect("a stamp lies in the years 0 to 9999")
            .format(form)
            .expect("every component of the form exists")
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.naive())
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.naive())
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Stamp::parse_naive(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_one_moment() {
        let stamp = Stamp::from_unix_ms(1_776_623_414_999);
        assert_eq!(stamp.naive(), "2026-04-19T18:30:14");
        assert_eq!(stamp.zoned(), "2026-04-19T18:30:14Z");
        assert_eq!(stamp.compact(), "20260419T183014");
        assert_eq!(Stamp::parse_naive("2026-04-19T18:30:14"), Ok(stamp));
        assert_eq!(Stamp::parse_zoned("2026-04-19T18:30:14Z"), Ok(stamp));
        assert_eq!(Stamp::from_unix_ms(-1).naive(), "1969-12-31T23:59:59");
    }

    #[test]
    fn clamps_to_what_can_be_written() {
        assert_eq!(Stamp::from_unix_ms(i64::MAX).naive(), "9999-12-31T23:59:59");
        assert_eq!(Stamp::from_unix_ms(i64::MIN).naive(), "0000-01-01T00:00:00");
    }

    #[test]
    fn refuses_zones_fractions_and_nonsense() {
        for bad in [
            "2026-04-19T18:30:14Z",
            "2026-04-19T18:30:14.5",
            "2026-04-19 18:30:14",
            "2026-13-19T18:30:14",
            "",
        ] {
            assert!(Stamp::parse_naive(bad).is_err(), "{bad}");
        }
        assert!(Stamp::parse_zoned("2026-04-19T18:30:14").is_err());
        assert!(Stamp::parse_zoned("2026-04-19T18:30:14+00:00").is_err());
    }
}
