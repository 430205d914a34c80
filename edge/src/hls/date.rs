//! Dates as playlists write them.

use std::fmt;

/// A wall clock time, shown as ISO 8601 with ms, UTC: `2026-11-24T13:37:00.250Z`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Date {
    micros: u64,
}

impl Date {
    /// From µs since the Unix epoch.
    pub(super) fn from_micros(micros: u64) -> Date {
        Date { micros }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.micros / 1_000;
        let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
        let (year, month, day) = civil(days);
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (second, ms) = (of_day / 1_000 % 60, of_day % 1_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
        )
    }
}

/// Year, month and day of a day after 1970-01-01 (Howard Hinnant, "chrono-compatible low-level
/// date algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153; // March is 0
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (1_795_527_420_250_999, "2026-11-24T13:37:00.250Z"),
            (1_735_689_599_999_999, "2024-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Date::from_micros(micros).to_string(), text);
        }
        // No input is too large.
        assert!(Date::from_micros(u64::MAX).to_string().ends_with('Z'));
    }
}
