//! Formats results and performance targets as tables, for a terminal and as Markdown.

use std::fmt::Write as _;

/// The results of one run.
pub(crate) struct Report {
    machine: Vec<String>,
    tables: Vec<Table>,
    targets: Vec<Target>,
}

/// The results of one section.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// How the values were measured.
    pub(crate) notes: Vec<String>,
}

/// A performance target: a measured value and its limit.
pub(crate) struct Target {
    pub(crate) name: String,
    /// `None` if agimo was not measured.
    pub(crate) measured: Option<f64>,
    /// The largest value that meets the target.
    pub(crate) limit: f64,
    pub(crate) unit: &'static str,
}

// === impl Report ===

impl Report {
    /// Starts a report and prints the description of the machine.
    pub(crate) fn new(machine: Vec<String>) -> Self {
        for line in &machine {
            println!("{line}");
        }
        Self { machine, tables: Vec::new(), targets: Vec::new() }
    }

    /// Adds a table and prints it.
    pub(crate) fn add(&mut self, table: Table) {
        println!("\n{}\n\n{}", table.title, table.to_markdown());
        for note in &table.notes {
            println!("{note}");
        }
        self.tables.push(table);
    }

    pub(crate) fn add_target(&mut self, target: Target) {
        self.targets.push(target);
    }

    pub(crate) fn print_targets(&self) {
        println!("\nPerformance targets\n\n{}", self.targets_table().to_markdown());
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = "# Results\n\n".to_owned();
        for line in &self.machine {
            // Writing to a String does not fail.
            let _ = writeln!(text, "- {line}");
        }
        for table in self.tables.iter().chain([&self.targets_table()]) {
            let _ = write!(text, "\n## {}\n\n{}", table.title, table.to_markdown());
            for note in &table.notes {
                let _ = write!(text, "\n{note}\n");
            }
        }
        text
    }

    fn targets_table(&self) -> Table {
        let row = |target: &Target| {
            let (measured, verdict) = match target.measured {
                None => ("-".to_owned(), "not measured"),
                Some(value) if value <= target.limit => (target.format(value), "met"),
                Some(value) => (target.format(value), "MISSED"),
            };
            vec![
                target.name.clone(),
                measured,
                format!("<= {}", target.format(target.limit)),
                verdict.to_owned(),
            ]
        };
        Table {
            title: "Performance targets".to_owned(),
            columns: ["", "measured", "target", ""].map(str::to_owned).to_vec(),
            rows: self.targets.iter().map(row).collect(),
            notes: Vec::new(),
        }
    }
}

// === impl Table ===

impl Table {
    /// The table in Markdown with aligned columns.
    fn to_markdown(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.columns]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let separator = widths.iter().enumerate().map(|(column, &width)| {
            // Values are right-aligned, names are left-aligned.
            if column == 0 {
                "-".repeat(width.max(3))
            } else {
                format!("{}:", "-".repeat(width.max(3) - 1))
            }
        });
        let mut text = row_line(&self.columns, &widths);
        text += &row_line(&separator.collect::<Vec<_>>(), &widths);
        for row in &self.rows {
            text += &row_line(row, &widths);
        }
        text
    }
}

// === impl Target ===

impl Target {
    fn format(&self, value: f64) -> String {
        format!("{value:.2}{}{}", if self.unit.is_empty() { "" } else { " " }, self.unit)
    }
}

fn row_line(cells: &[String], widths: &[usize]) -> String {
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

/// The median; for an even number of values, the mean of the middle two; NaN if there are no values.
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
    fn median_of_odd_even_and_no_values() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
