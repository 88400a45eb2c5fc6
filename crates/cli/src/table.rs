//! Tables without borders: capitals for headers, numbers to the right. A line that does not fit the terminal loses
//! columns by priority, and its end where that is not enough; it never wraps.

use crate::error::Result;
use crate::shape::{self, Shape, cell_key, csv_line};

/// Space between columns.
const GAP: usize = 2;

/// One column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its header, with the unit.
    pub(crate) head: &'static str,
    /// To which side its cells stand.
    pub(crate) side: Side,
    /// When it is dropped.
    pub(crate) keep: Keep,
}

/// To which side cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// When a column is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Keep {
    /// Never.
    Always,
    /// Where the line would not fit, the highest number first.
    Until(u8),
    /// Shown by `-o wide` only.
    Wide,
}

/// Makes a column of text.
pub(crate) const fn text(head: &'static str, keep: Keep) -> Column {
    Column {
        head,
        side: Side::Left,
        keep,
    }
}

/// Makes a column of numbers.
pub(crate) const fn number(head: &'static str, keep: Keep) -> Column {
    Column {
        head,
        side: Side::Right,
        keep,
    }
}

/// Rows under columns.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    names: Vec<String>,
    empty: String,
}

impl Table {
    /// Makes a table without rows; `empty` is said where it stays so: a sentence and the next command.
    pub(crate) fn new(columns: &'static [Column], empty: impl Into<String>) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
            names: Vec::new(),
            empty: empty.into(),
        }
    }

    /// Adds a row: its name for `-o name`, and one cell a column.
    pub(crate) fn row(&mut self, name: impl Into<String>, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "one cell a column");
        self.names.push(name.into());
        self.rows.push(cells);
    }

    /// Returns the rows' names.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Sorts, cuts and narrows the table.
    pub(crate) fn shape(&mut self, shape: &Shape) -> Result<()> {
        if let Some((name, descending)) = shape.order() {
            let at = self.column(name)?;
            let mut rows: Vec<(Vec<String>, String)> =
                self.rows.drain(..).zip(self.names.drain(..)).collect();
            rows.sort_by_cached_key(|(cells, _)| cell_key(&cells[at]));
            if descending {
                rows.reverse();
            }
            (self.rows, self.names) = rows.into_iter().unzip();
        }
        if let Some(limit) = shape.limit {
            self.rows.truncate(limit);
            self.names.truncate(limit);
        }
        if !shape.fields.is_empty() {
            let kept: Vec<usize> = shape
                .fields
                .iter()
                .map(|name| self.column(name))
                .collect::<Result<_>>()?;
            self.columns = kept
                .iter()
                .map(|at| Column {
                    // What was asked for is not dropped.
                    keep: Keep::Always,
                    ..self.columns[*at]
                })
                .collect();
            for row in &mut self.rows {
                *row = kept.iter().map(|at| row[*at].clone()).collect();
            }
        }
        Ok(())
    }

    fn column(&self, name: &str) -> Result<usize> {
        let names: Vec<String> = self.columns.iter().map(|c| field_name(c.head)).collect();
        let at = names.iter().position(|other| *other == field_name(name));
        at.ok_or_else(|| {
            let named = names
                .iter()
                .map(String::as_str)
                .filter(|name| !name.is_empty());
            shape::unknown(name, named)
        })
    }

    /// Returns all of it as CSV; the heads as the fields are called.
    pub(crate) fn csv(&self, headers: bool) -> String {
        let mut text = String::new();
        if headers {
            let names: Vec<String> = self.columns.iter().map(|c| field_name(c.head)).collect();
            text.push_str(&csv_line(names.iter().map(String::as_str)));
        }
        for row in &self.rows {
            let cells = row
                .iter()
                .map(|cell| if cell == "–" { "" } else { cell.as_str() });
            text.push_str(&csv_line(cells));
        }
        text
    }

    /// Returns what to say when there are no rows.
    pub(crate) fn empty(&self) -> &str {
        &self.empty
    }

    /// Returns the lines; where `width` is given, without columns that do not fit it.
    pub(crate) fn render(&self, width: Option<usize>, headers: bool) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let cells = self
                    .rows
                    .iter()
                    .filter_map(|row| row.get(at))
                    .map(|cell| measure(cell));
                let head = if headers {
                    measure(self.columns[at].head)
                } else {
                    0
                };
                cells.max().unwrap_or(0).max(head)
            })
            .collect();
        let shown = self.shown(&widths, width);
        let width = width.unwrap_or(usize::MAX);
        let mut out = String::new();
        if headers {
            let heads: Vec<String> = self.columns.iter().map(|c| c.head.to_owned()).collect();
            out.push_str(&shorten(&self.line(&heads, &widths, &shown), width));
            out.push('\n');
        }
        for row in &self.rows {
            out.push_str(&shorten(&self.line(row, &widths, &shown), width));
            out.push('\n');
        }
        out
    }

    /// Returns the columns to show, in order.
    fn shown(&self, widths: &[usize], width: Option<usize>) -> Vec<usize> {
        let Some(width) = width else {
            return (0..self.columns.len()).collect();
        };
        let mut shown: Vec<usize> = (0..self.columns.len())
            .filter(|at| self.columns[*at].keep != Keep::Wide)
            .collect();
        let total = |shown: &[usize]| {
            shown
                .iter()
                .map(|at| widths[*at] + GAP)
                .sum::<usize>()
                .saturating_sub(GAP)
        };
        while total(&shown) > width {
            let droppable = shown
                .iter()
                .copied()
                .filter(|at| self.columns[*at].keep != Keep::Always);
            let Some(worst) = droppable.max_by_key(|at| self.columns[*at].keep) else {
                break;
            };
            shown.retain(|at| *at != worst);
        }
        shown
    }

    fn line(&self, cells: &[String], widths: &[usize], shown: &[usize]) -> String {
        let mut line = String::new();
        for (place, at) in shown.iter().enumerate() {
            let cell = &cells[*at];
            let pad = " ".repeat(widths[*at].saturating_sub(measure(cell)));
            if place > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            match self.columns[*at].side {
                Side::Left => line.extend([cell, pad.as_str()]),
                Side::Right => line.extend([pad.as_str(), cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Returns how many columns a text takes. Names on the ledger are printable ASCII, and our words have no wide letters.
fn measure(text: &str) -> usize {
    text.chars().count()
}

/// Returns `text`, cut to `max` characters where it is longer.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    if measure(text) <= max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Returns what a column is called in `--fields` and `--sort`: its head in lower case, words joined by dashes.
fn field_name(head: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            ' '
        }
    };
    let words: String = head.chars().map(plain).collect();
    words.split_whitespace().collect::<Vec<_>>().join("-")
}

/// Adds a line to a text.
pub(crate) fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Returns lines of `name  value`, the names in one column.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs
        .iter()
        .map(|(name, _)| measure(name))
        .max()
        .unwrap_or(0);
    pairs
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect::<Vec<_>>()
        .concat()
}

#[cfg(test)]
mod tests {
    use super::{Keep, Shape, Table, number, pairs, text};

    const COLUMNS: &[super::Column] = &[
        text("OFFER", Keep::Always),
        number("$/GPU·H", Keep::Always),
        text("REGION", Keep::Until(1)),
        text("RUNTIME", Keep::Until(2)),
        text("DOMAIN", Keep::Wide),
    ];

    fn table() -> Table {
        let mut table = Table::new(COLUMNS, "nothing");
        let cells = |row: [&str; 5]| row.map(ToOwned::to_owned).to_vec();
        table.row(
            "off_1",
            cells(["off_1", "1.320", "eu-west", "embedded", "rack-1"]),
        );
        table.row(
            "off_22",
            cells(["off_22", "12.000", "–", "process", "rack-2"]),
        );
        table
    }

    #[test]
    fn columns_are_dropped_by_priority_and_never_wrapped() {
        let wide = "OFFER   $/GPU·H  REGION   RUNTIME   DOMAIN\n\
                    off_1     1.320  eu-west  embedded  rack-1\n\
                    off_22   12.000  –        process   rack-2\n";
        assert_eq!(table().render(None, true), wide);
        let medium = "OFFER   $/GPU·H  REGION   RUNTIME\n\
                      off_1     1.320  eu-west  embedded\n\
                      off_22   12.000  –        process\n";
        assert_eq!(table().render(Some(100), true), medium);
        let narrow = "OFFER   $/GPU·H\noff_1     1.320\noff_22   12.000\n";
        assert_eq!(table().render(Some(20), true), narrow);
        assert_eq!(
            table().render(Some(9), true),
            "OFFER   …\noff_1   …\noff_22  …\n",
            "what always stays is cut at the end"
        );
        assert_eq!(
            table().render(Some(20), false),
            "off_1    1.320\noff_22  12.000\n"
        );
    }

    #[test]
    fn table_is_sorted_cut_and_narrowed() {
        let mut table = table();
        let shape = Shape {
            fields: vec!["gpu-h".to_owned(), "OFFER".to_owned()],
            sort: Some("-$/GPU·H".to_owned()),
            limit: Some(1),
        };
        table.shape(&shape).unwrap();
        assert_eq!(table.render(Some(9), false), "12.000  …\n");
        assert_eq!(table.csv(true), "gpu-h,offer\n12.000,off_22\n");
        assert_eq!(table.names(), ["off_22"]);
        let wrong = Shape {
            sort: Some("offr".to_owned()),
            ..Shape::default()
        };
        let failure = table.shape(&wrong).unwrap_err();
        assert_eq!(failure.hints()[0], "did you mean: offer");
    }

    #[test]
    fn names_stand_in_one_column() {
        assert_eq!(
            pairs(&[("job", "a".into()), ("state", "b".into())]),
            "job    a\nstate  b\n"
        );
    }
}
