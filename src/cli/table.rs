//! Listings: aligned columns for people, JSON for scripts.

use serde::Serialize;

use super::exit::{Exit, Failure};
use crate::base::Printable;

/// Rows of text under a heading.
pub(crate) struct Table<const COLUMNS: usize> {
    heading: [&'static str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) fn new(heading: [&'static str; COLUMNS]) -> Self {
        Self { heading, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        // What stands in a cell may come from a stranger; a terminal must not obey it.
        self.rows.push(cells.map(|cell| Printable::text(&cell).to_string()));
    }

    /// Prints the table, or `nothing` if it has no rows.
    pub(crate) fn print(&self, nothing: &str) {
        if self.rows.is_empty() {
            println!("{nothing}");
            return;
        }
        print!("{self}");
    }
}

impl<const COLUMNS: usize> std::fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let heading = self.heading.map(str::to_owned);
        let mut widths = [0; COLUMNS];
        for row in self.rows.iter().chain([&heading]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in [&heading].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    println!("{}", text.map_err(|error| Failure::new(Exit::Software, error))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_escapes_are_shown() {
        let mut table = Table::new(["NAME", "WHAT"]);
        table.row(["grün".to_owned(), "a\x1b[31m".to_owned()]);
        table.row(["long name".to_owned(), "b".to_owned()]);
        let expected = "NAME       WHAT\ngrün       a\\u{1b}[31m\nlong name  b\n";
        assert_eq!(table.to_string(), expected);
    }
}
