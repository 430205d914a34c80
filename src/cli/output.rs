//! Answers as JSON or as tables.

use std::{
    io::{ErrorKind, Write, stdout},
    time::Duration,
};

use serde_json::Value;

use super::Format;
use crate::failure::{Failure, Outcome};

/// A column: its heading and where its value is, as a JSON pointer (RFC 6901).
pub type Column = (&'static str, &'static str);

/// Prints to standard output; a reader that went away (`| head`) is no failure.
pub fn print(text: &str) -> Outcome {
    match stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::failed(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// A list of objects.
pub fn list(format: Format, items: &[Value], columns: &[Column]) -> Outcome {
    if format == Format::Json {
        return json(&Value::Array(items.to_vec()));
    }
    let mut rows = vec![columns.iter().map(|(name, _)| (*name).to_owned()).collect()];
    rows.extend(items.iter().map(|item| {
        let cells = columns.iter();
        cells
            .map(|(_, pointer)| cell(item.pointer(pointer)))
            .collect::<Vec<String>>()
    }));
    print(&table(&rows))
}

/// One object: JSON, or a line for each of its values.
pub fn object(format: Format, item: &Value) -> Outcome {
    if format == Format::Json {
        return json(item);
    }
    let mut rows = Vec::new();
    flatten("", item, &mut rows);
    print(&table(&rows))
}

/// As it is.
pub fn json(value: &Value) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    print(&format!("{text}\n"))
}

/// The items of an answer: the answer itself, or its one array.
pub fn items(answer: Value) -> Vec<Value> {
    match answer {
        Value::Array(items) => items,
        Value::Object(fields) => fields
            .into_iter()
            .find_map(|(_, value)| match value {
                Value::Array(items) => Some(items),
                _ => None,
            })
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// A value in a table.
pub fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(float) if number.is_f64() => {
                let text = format!("{float:.3}");
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
            _ => number.to_string(),
        },
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) if items.iter().all(|item| !item.is_object()) => {
            let cells: Vec<String> = items.iter().map(|item| cell(Some(item))).collect();
            cells.join(", ")
        }
        Some(Value::Array(items)) => items.len().to_string(),
        Some(other) => other.to_string(),
    }
}

/// Nodes of a path in their order.
pub fn arrows(nodes: &Value) -> String {
    let nodes: Vec<&str> = nodes
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if nodes.is_empty() {
        "nothing".to_owned()
    } else {
        nodes.join(" → ")
    }
}

/// A moment, Unix ms, as people write it: UTC (RFC 3339).
pub fn clock(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days to a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// A length of time with its unit: 300ms, 90s, 1.5s, 30m, 8h.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c != '.' && !c.is_ascii_digit());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("write it with its unit: 300ms, 90s, 30m or 8h".to_owned()),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .ok_or_else(|| format!("{number:?} is no number"))
}

/// A length of time as it can be typed, in the largest unit that needs no fraction.
pub fn short_duration(ms: u64) -> String {
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fits = units
        .iter()
        .find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    fits.map_or_else(
        || format!("{ms}ms"),
        |(unit, name)| format!("{}{name}", ms / unit),
    )
}

/// A number of bytes, maybe with its unit of 1,024, its square or its cube: 65536, 64k, 2M, 1G.
pub fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return Err("write it as 65536, 64k, 2M or 1G".to_owned()),
    };
    let number = number.parse::<u64>().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("{text:?} is no number of bytes"))
}

/// The same, as it can be typed.
pub fn short_size(bytes: u64) -> String {
    let units = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "k")];
    let fits = units
        .iter()
        .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    fits.map_or_else(
        || bytes.to_string(),
        |(unit, name)| format!("{}{name}", bytes / unit),
    )
}

fn flatten(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    let under = |name: &str| {
        if prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{prefix}.{name}")
        }
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&under(name), value, rows);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&under(&index.to_string()), item, rows);
            }
        }
        other => rows.push(vec![prefix.to_owned(), cell(Some(other))]),
    }
}

/// Columns as wide as their widest cell, two spaces apart.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let padding = width - cell.chars().count() + 2;
            line.extend(std::iter::repeat_n(' ', padding));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_line_up() {
        let rows = [
            vec!["ID".to_owned(), "UP".to_owned()],
            vec!["hk-relay-1".to_owned(), "yes".to_owned()],
        ];
        assert_eq!(table(&rows), "ID          UP\nhk-relay-1  yes\n");
    }

    #[test]
    fn moments_are_utc() {
        assert_eq!(clock(0), "1970-01-01T00:00:00Z");
        // 2000-02-29 and the second before 2026-01-01.
        assert_eq!(clock(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(clock(1_767_225_599_000), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("8h"), Ok(Duration::from_secs(28_800)));
        assert!(duration("300").is_err());
        assert!(duration("fast").is_err());
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn sizes_and_times_are_told_as_they_are_typed() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1_000),
            ("64k", 65_536),
            ("2M", 2 << 20),
            ("1G", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes));
            assert_eq!(short_size(bytes), text);
        }
        for odd in ["", "k", "1.5M", "-1", "64kb", "99999999999G"] {
            assert!(size(odd).is_err(), "{odd}");
        }
        for (ms, text) in [
            (0, "0ms"),
            (1_500, "1500ms"),
            (90_000, "90s"),
            (86_400_000, "24h"),
        ] {
            assert_eq!(short_duration(ms), text);
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        }
    }

    #[test]
    fn cells_are_for_people() {
        assert_eq!(cell(None), "-");
        assert_eq!(cell(Some(&json!(true))), "yes");
        assert_eq!(cell(Some(&json!(38.500_04))), "38.5");
        assert_eq!(cell(Some(&json!(["a", "b"]))), "a, b");
        assert_eq!(cell(Some(&json!([{}, {}]))), "2");
        assert_eq!(items(json!({"nodes": [1]})), [json!(1)]);
        let mut rows = Vec::new();
        flatten("", &json!({"a": {"b": 1}, "c": [{"d": 2}]}), &mut rows);
        assert_eq!(rows, [["a.b", "1"], ["c.0.d", "2"]]);
    }
}
