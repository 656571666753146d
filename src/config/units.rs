//! Durations and sizes with their units: `"20s"`, `"35 MB"`.
//!
//! Sizes count as mail servers do: a KB has 1,024 octets, and KiB means the same.

use std::time::Duration;

/// Reads a number and one of the units `ms`, `s`, `m`, `min` and `h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let millis = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "s" | "sec" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Reads a number and one of the units `B`, `KB`, `MB` and `GB` (or `KiB`, `MiB`, `GiB`).
pub(super) fn octets(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let octets: u64 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" | "kib" => 1 << 10,
        "mb" | "mib" => 1 << 20,
        "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(octets)
}

/// A duration in the unit that suits it.
pub(super) fn show_duration(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis % 60_000 == 0 && millis > 0 => format!("{}m", millis / 60_000),
        millis if millis % 1_000 == 0 => format!("{}s", millis / 1_000),
        millis => format!("{millis}ms"),
    }
}

/// A size in the unit that suits it.
pub(super) fn show_octets(octets: u64) -> String {
    for (unit, size) in [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)] {
        if octets >= size && octets.is_multiple_of(size) {
            return format!("{} {unit}", octets / size);
        }
    }
    format!("{octets} B")
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("20s", Some(20_000)),
            ("20 s", Some(20_000)),
            ("1500ms", Some(1_500)),
            ("2m", Some(120_000)),
            ("2 min", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("0s", Some(0)),
            ("20", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("20  s", None),
            ("20s ", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
            ("", None),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("35 MB", Some(36_700_160)),
            ("35MiB", Some(36_700_160)),
            ("64kb", Some(65_536)),
            ("1 GB", Some(1 << 30)),
            ("512 B", Some(512)),
            ("35", None),
            ("35 M", None),
            ("3.5 MB", None),
            ("18446744073709551615 GB", None),
            ("", None),
        ] {
            assert_eq!(octets(text), expected, "{text:?}");
        }
    }

    #[test]
    fn both_read_back_what_is_shown() {
        for millis in [1, 999, 1_000, 90_000, 120_000] {
            let value = Duration::from_millis(millis);
            assert_eq!(duration(&show_duration(value)), Some(value));
        }
        for value in [1, 1_023, 1_024, 36_700_160, 157_286_400, 35_882_577, 1 << 30] {
            assert_eq!(octets(&show_octets(value)), Some(value));
        }
    }
}
