//! Tables for a terminal: columns as wide as their longest cell, and lines that fit.

use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
const GAP: &str = "   ";
/// A cut column keeps at least so much.
const LEAST: usize = 8;

/// Rows under a heading.
pub struct Table {
    rows: Vec<Vec<String>>,
}

// === impl Table ===

impl Table {
    pub fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// A row has as many cells as the heading.
    pub fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The table as text. With a `width`, the widest columns are cut until a line fits.
    pub fn text(&self, width: Option<usize>) -> String {
        let columns = self.rows[0].len();
        let widest = |column: usize| self.rows.iter().map(|row| row[column].width()).max();
        let mut widths: Vec<usize> = (0..columns).map(|at| widest(at).unwrap_or(0)).collect();
        if let Some(width) = width {
            cut(&mut widths, width.saturating_sub(GAP.len() * (columns - 1)));
        }
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width));
            text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
            text.push('\n');
        }
        text
    }
}

/// The columns of the terminal, if standard output is one.
pub fn terminal_width() -> Option<usize> {
    let output = std::io::stdout();
    if !output.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(output).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn cut(widths: &mut [usize], most: usize) {
    while widths.iter().sum::<usize>() > most {
        match widths.iter_mut().max() {
            Some(widest) if *widest > LEAST => *widest -= 1,
            _ => return,
        }
    }
}

/// Exactly so wide: filled with spaces, or cut with an ellipsis.
fn padded(cell: &str, width: usize) -> String {
    let own = cell.width();
    if own <= width {
        return format!("{cell}{}", " ".repeat(width - own));
    }
    let mut kept = String::new();
    for character in cell.chars() {
        if kept.width() + character.width().unwrap_or(0) + 1 > width {
            break;
        }
        kept.push(character);
    }
    kept.push('…');
    let missing = width - kept.width();
    kept.push_str(&" ".repeat(missing));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_and_lines_fit() {
        let mut table = Table::new(&["HOST", "STATE"]);
        table.add(vec!["a-very-long-name.shop.example".to_owned(), "asleep".to_owned()]);
        table.add(vec!["b.例え".to_owned(), "awake".to_owned()]);
        assert_eq!(
            table.text(None),
            "HOST                            STATE\n\
             a-very-long-name.shop.example   asleep\n\
             b.例え                          awake\n"
        );
        let cut = table.text(Some(25));
        assert_eq!(
            cut,
            "HOST               STATE\na-very-long-nam…   asleep\nb.例え             awake\n"
        );
        assert!(table.text(Some(4)).lines().all(|line| line.width() <= 2 * LEAST + GAP.len()));
    }
}
