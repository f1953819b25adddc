//! Reports as text. One file per command; JSON comes from the reports themselves.

pub mod align;
pub mod base;
pub mod check;
pub mod doctor;
pub mod plugin;
pub mod show;
pub mod used;

/// `1.5 KB`: 1024 steps, one decimal, bytes without.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `135 M`, `1.5 B`.
pub fn parameters(count: u64) -> String {
    let millions = count as f64 / 1e6;
    if millions < 1000.0 {
        format!("{millions:.0} M")
    } else {
        format!("{:.1} B", millions / 1000.0)
    }
}

/// Puts rows under a header, every column as wide as its widest cell.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut out = line(header.to_vec());
    for row in rows {
        out.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KB"),
            (5 << 20, "5.0 MB"),
            (3 << 40, "3.0 TB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn counts_of_parameters() {
        assert_eq!(
            (parameters(134_515_008), parameters(46_700_000_000)),
            ("135 M".into(), "46.7 B".into())
        );
    }

    #[test]
    fn columns_line_up_without_blanks_at_the_end() {
        let rows = [
            vec!["long name".to_owned(), "1".to_owned()],
            vec!["b".to_owned(), String::new()],
        ];
        assert_eq!(table(&["name", "n"], &rows), "name       n\nlong name  1\nb\n");
    }
}
