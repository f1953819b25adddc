//! Sizes and durations as people read them: three digits and a unit, the same everywhere in the program.

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;
const GIB: f64 = 1024.0 * MIB;
const TIB: f64 = 1024.0 * GIB;

/// `512 bytes`, `12.5 KiB`, `96 MiB`, `1.25 GiB`: three digits, whole amounts without decimals.
pub fn size(bytes: u64) -> String {
    let amount = bytes as f64;
    match amount {
        _ if bytes == 1 => "1 byte".to_owned(),
        _ if amount < KIB => format!("{bytes} bytes"),
        _ if amount < MIB => format!("{} KiB", three_digits(amount / KIB)),
        _ if amount < GIB => format!("{} MiB", three_digits(amount / MIB)),
        _ if amount < TIB => format!("{} GiB", three_digits(amount / GIB)),
        _ => format!("{} TiB", three_digits(amount / TIB)),
    }
}

/// `35 µs`, `120 ms`, `9.5 s`, `1 min 5 s`, `2 h 1 min`: seconds are whole from a minute on, and left out from an hour on.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 59.95 {
        return match seconds {
            0.0 => "0 s".to_owned(),
            _ if seconds < 0.000_999_5 => format!("{} µs", three_digits(seconds * 1e6)),
            _ if seconds < 0.999_5 => format!("{} ms", three_digits(seconds * 1e3)),
            _ => format!("{} s", three_digits(seconds)),
        };
    }
    let total = seconds.round() as u64;
    let (hours, minutes, rest) = (total / 3600, total / 60 % 60, total % 60);
    match (hours, minutes, rest) {
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, rest) => format!("{minutes} min {rest} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Three digits of a number from 0 to 1023, without the zeros that say nothing.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Returns a count with its noun, in the plural where it is not 1.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_binary_unit() {
        let cases: [(u64, &str); 13] = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1 << 10, "1 KiB"),
            (1536, "1.5 KiB"),
            (64 << 10, "64 KiB"),
            (5 << 20, "5 MiB"),
            (270_000_000, "257 MiB"),
            (512 << 20, "512 MiB"),
            (1 << 30, "1 GiB"),
            (3_000_000_000, "2.79 GiB"),
            (24 << 30, "24 GiB"),
            (3 << 40, "3 TiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_grow_from_microseconds_to_hours() {
        let cases = [
            (-1.0, "0 s"),
            (0.0, "0 s"),
            (0.000_035, "35 µs"),
            (0.012_34, "12.3 ms"),
            (0.999_9, "1 s"),
            (9.5, "9.5 s"),
            (42.04, "42 s"),
            (59.96, "1 min"),
            (65.2, "1 min 5 s"),
            (3600.0, "1 h"),
            (7265.0, "2 h 1 min"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }
}
