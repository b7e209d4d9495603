//! Where the story is told: plain lines, a little colour on a terminal, nothing that a log could not hold.

use std::io::{IsTerminal, Write};

/// The stage. Lines that can't be written are dropped: a closed pipe must not end the platform.
#[derive(Debug)]
pub struct Stage {
    is_coloured: bool,
    chapter: u32,
}

impl Stage {
    /// A stage on standard output.
    pub fn new() -> Stage {
        let is_plain = std::env::var_os("NO_COLOR").is_some();
        Stage { is_coloured: std::io::stdout().is_terminal() && !is_plain, chapter: 0 }
    }

    /// A new chapter.
    pub fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        let text = format!("{}. {title}", self.chapter);
        self.line("");
        self.line(&self.paint("1", &text));
    }

    /// Something happened.
    pub fn say(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// Something was checked and holds.
    pub fn holds(&self, text: &str) {
        let mark = self.paint("32", "ok");
        self.line(&format!("   {mark} {text}"));
    }

    /// A table: the first column to the left, the others to the right.
    pub fn table(&self, head: &[&str], rows: &[Vec<String>]) {
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
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Default for Stage {
    fn default() -> Self {
        Stage::new()
    }
}
