//! Tables in Markdown.

use std::fmt::Write as _;

/// Appends a table, the first of `rows` as its head. Columns are as wide as their widest field.
pub fn markdown(text: &mut String, rows: &[Vec<String>]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        for (field, &width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {field:>width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "|{:->1$}:", "", width + 1);
            }
            text.push_str("|\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_field() {
        let mut text = String::new();
        let rows = [["cell", "x"], ["a", "10.0"]].map(|row| row.map(str::to_owned).to_vec());
        markdown(&mut text, &rows);
        assert_eq!(text, "| cell |    x |\n|-----:|-----:|\n|    a | 10.0 |\n");
    }
}
