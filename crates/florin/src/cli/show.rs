//! How answers are printed: JSON for machines, aligned text for people. It never leaves out what was answered without saying so.

use crate::failure::Failure;
use serde_json::Value;
use std::io::Write;

/// Writes a line.
///
/// # Errors
/// `output_failed`.
pub(crate) fn line(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    writeln!(out, "{text}").map_err(|fault| Failure::new("output_failed", "the output can't be written").because(fault))
}

/// Prints a record: one field a line.
pub(crate) fn record(out: &mut dyn Write, json: bool, value: &Value) -> Result<(), Failure> {
    if json {
        return line(out, &value.to_string());
    }
    let Some(fields) = value.as_object() else { return line(out, &word(value)) };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        line(out, &format!("{name:width$}  {}", word(value)))?;
    }
    Ok(())
}

/// Prints a page of records as a table of some of their fields, or all of it as JSON.
pub(crate) fn table(out: &mut dyn Write, json: bool, page: &Value, columns: &[&str]) -> Result<(), Failure> {
    table_by(out, json, page, columns, "--after")
}

/// As [`table`], of a list that goes on by another option.
pub(crate) fn table_by(
    out: &mut dyn Write,
    json: bool,
    page: &Value,
    columns: &[&str],
    option: &str,
) -> Result<(), Failure> {
    if json {
        return line(out, &page.to_string());
    }
    let items: &[Value] = page.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice);
    rows(out, items, columns)?;
    match page.get("next").and_then(Value::as_str) {
        Some(next) => line(out, &format!("more follow: {option} {next}")),
        None => Ok(()),
    }
}

/// Prints records as a table of some of their fields.
pub(crate) fn rows(out: &mut dyn Write, items: &[Value], columns: &[&str]) -> Result<(), Failure> {
    if items.is_empty() {
        return line(out, "none");
    }
    let cells: Vec<Vec<String>> = items
        .iter()
        .map(|item| columns.iter().map(|column| word(item.get(*column).unwrap_or(&Value::Null))).collect())
        .collect();
    let width = |index: usize| {
        let longest = cells.iter().map(|row: &Vec<String>| row[index].chars().count()).max().unwrap_or(0);
        longest.max(columns[index].len())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let join = |words: Vec<&str>| {
        let padded: Vec<String> = words.iter().zip(&widths).map(|(word, width)| format!("{word:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    line(out, &join(columns.to_vec()))?;
    cells.iter().try_for_each(|row| line(out, &join(row.iter().map(String::as_str).collect())))
}

/// A value in one line; nothing that a terminal would take for a command.
fn word(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    text.chars().filter(|character| !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn printed(print: impl Fn(&mut Vec<u8>) -> Result<(), Failure>) -> String {
        let mut out = Vec::new();
        print(&mut out).expect("memory takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn records_and_tables_are_aligned_and_harmless() {
        let record_text =
            printed(|out| record(out, false, &json!({ "id": "a\u{1b}[31m", "amount": "1.0", "none": null })));
        expect![[r"
            amount  1.0
            id      a[31m
        "]]
        .assert_eq(&record_text);
        let page = json!({ "items": [{ "id": "x", "n": 10 }, { "id": "longer" }], "next": "longer" });
        expect![[r"
            id      n
            x       10
            longer  -
            more follow: --after longer
        "]]
        .assert_eq(&printed(|out| table(out, false, &page, &["id", "n"])));
        let below = printed(|out| table_by(out, false, &page, &["id"], "--below"));
        assert!(below.ends_with("more follow: --below longer\n"), "{below}");
        assert_eq!(printed(|out| table(out, true, &page, &["id"])), format!("{page}\n"));
        assert_eq!(printed(|out| table(out, false, &json!({ "items": [] }), &["id"])), "none\n");
    }
}
