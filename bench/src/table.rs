//! Tables and bars, as text for a terminal and as Markdown. It knows how figures look, not where they come from.

use std::fmt::Write as _;

/// Everything measured in one run.
pub(crate) struct Report {
    machine: Vec<String>,
    tables: Vec<Table>,
    bars: Vec<Bar>,
}

/// One section's figures.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// How the figures came about, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// A figure and what it must not exceed.
pub(crate) struct Bar {
    pub(crate) what: String,
    /// Absent when agimo was not measured.
    pub(crate) figure: Option<f64>,
    pub(crate) limit: f64,
    pub(crate) unit: &'static str,
}

// === impl Report ===

impl Report {
    /// Begins a report and prints what it was measured on.
    pub(crate) fn new(machine: Vec<String>) -> Self {
        for line in &machine {
            println!("{line}");
        }
        Self { machine, tables: Vec::new(), bars: Vec::new() }
    }

    /// Adds a table and prints it at once.
    pub(crate) fn add(&mut self, table: Table) {
        println!("\n{}\n\n{}", table.title, table.grid());
        for note in &table.notes {
            println!("{note}");
        }
        self.tables.push(table);
    }

    pub(crate) fn bar(&mut self, bar: Bar) {
        self.bars.push(bar);
    }

    pub(crate) fn print_bars(&self) {
        println!("\nBars\n\n{}", self.bars_table().grid());
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = "# Results\n\n".to_owned();
        for line in &self.machine {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "- {line}");
        }
        for table in self.tables.iter().chain([&self.bars_table()]) {
            let _ = write!(text, "\n## {}\n\n{}", table.title, table.grid());
            for note in &table.notes {
                let _ = write!(text, "\n{note}\n");
            }
        }
        text
    }

    fn bars_table(&self) -> Table {
        let row = |bar: &Bar| {
            let (figure, verdict) = match bar.figure {
                None => ("-".to_owned(), "not measured"),
                Some(figure) if figure <= bar.limit => (bar.amount(figure), "met"),
                Some(figure) => (bar.amount(figure), "MISSED"),
            };
            vec![
                bar.what.clone(),
                figure,
                format!("<= {}", bar.amount(bar.limit)),
                verdict.to_owned(),
            ]
        };
        Table {
            title: "Bars".to_owned(),
            columns: ["", "figure", "bar", ""].map(str::to_owned).to_vec(),
            rows: self.bars.iter().map(row).collect(),
            notes: Vec::new(),
        }
    }
}

// === impl Table ===

impl Table {
    /// The table with aligned columns; Markdown that also reads well on a terminal.
    fn grid(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.columns]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let rule = widths.iter().enumerate().map(|(column, &width)| {
            // Figures stand to the right, names to the left.
            if column == 0 {
                "-".repeat(width.max(3))
            } else {
                format!("{}:", "-".repeat(width.max(3) - 1))
            }
        });
        let mut text = line(&self.columns, &widths);
        text += &line(&rule.collect::<Vec<_>>(), &widths);
        for row in &self.rows {
            text += &line(row, &widths);
        }
        text
    }
}

// === impl Bar ===

impl Bar {
    fn amount(&self, figure: f64) -> String {
        format!("{figure:.2}{}{}", if self.unit.is_empty() { "" } else { " " }, self.unit)
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut text = "|".to_owned();
    for (column, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        let width = width.max(3);
        let _ = if column == 0 {
            write!(text, " {cell:<width$} |")
        } else {
            write!(text, " {cell:>width$} |")
        };
    }
    text.push('\n');
    text
}

/// The middle of the values, or the mean of the two in the middle; not a number when there are none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
