//! Where the story is told: plain lines, a little colour on a terminal, nothing that a log could not hold; or JSON, an object a line.

use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// How the story is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Coloured,
    Json,
}

/// The stage. Lines that can't be written are dropped: a closed pipe must not end the platform.
#[derive(Debug, Clone)]
pub struct Stage {
    form: Form,
    chapter: u32,
}

impl Stage {
    /// A stage on standard output, for people: with colour where that is a terminal.
    pub fn new() -> Stage {
        let is_plain = std::env::var_os("NO_COLOR").is_some() || !std::io::stdout().is_terminal();
        Stage { form: if is_plain { Form::Plain } else { Form::Coloured }, chapter: 0 }
    }

    /// A stage on standard output, for machines. Each line is an object, whose `kind` is `text`, `chapter` (with `number`),
    /// `event`, `holds` or `table` (with `columns` and `rows`).
    pub fn json() -> Stage {
        Stage { form: Form::Json, chapter: 0 }
    }

    /// A new chapter.
    pub fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        if self.form == Form::Json {
            return write_line(&json!({ "kind": "chapter", "number": self.chapter, "text": title }).to_string());
        }
        write_line("");
        write_line(&self.paint("1", &format!("{}. {title}", self.chapter)));
    }

    /// Something happened.
    pub fn say(&self, text: &str) {
        self.tell("event", text, &format!("   {text}"));
    }

    /// Something was checked and holds.
    pub fn holds(&self, text: &str) {
        self.tell("holds", text, &format!("   {} {text}", self.paint("32", "ok")));
    }

    /// A table: the first column to the left, the others to the right.
    pub fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        if self.form == Form::Json {
            return write_line(&json!({ "kind": "table", "columns": head, "rows": rows }).to_string());
        }
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([head[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ")
        };
        self.say(&self.paint("2", &line(head.to_vec())));
        rows.iter().for_each(|row| self.say(&line(row.iter().map(String::as_str).collect())));
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        self.tell("text", text, text);
    }

    fn tell(&self, kind: &str, text: &str, line: &str) {
        match self.form {
            Form::Json => write_line(&json!({ "kind": kind, "text": Value::from(text.trim()) }).to_string()),
            Form::Plain | Form::Coloured => write_line(line),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.form {
            Form::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
            Form::Plain | Form::Json => text.to_owned(),
        }
    }
}

fn write_line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

impl Default for Stage {
    fn default() -> Self {
        Stage::new()
    }
}
