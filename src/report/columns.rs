//! Markdown tables, line by line or whole.

/// A Markdown table whose columns are padded, so that it also reads well in a terminal: names and widths, of which the first
/// `left` are of words.
pub(super) struct Columns {
    pub(super) left: usize,
    pub(super) columns: Vec<(&'static str, usize)>,
}

impl Columns {
    /// A row; the first under the head.
    pub(super) fn next(&self, cells: &[String], first: bool) -> String {
        let head = if first { self.head() } else { String::new() };
        head + &self.line(cells.iter().map(String::as_str))
    }

    fn head(&self) -> String {
        let rule = |(i, (_, n)): (usize, &(&str, usize))| "-".repeat(n - 1) + if i < self.left { "-" } else { ":" };
        let rules: Vec<String> = self.columns.iter().enumerate().map(rule).collect();
        self.line(self.columns.iter().map(|(name, _)| *name)) + &self.line(rules.iter().map(String::as_str))
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a str>) -> String {
        let cell = |(i, (text, (_, width))): (usize, (&str, &(&str, usize)))| {
            let pad = " ".repeat(width.saturating_sub(text.chars().count()));
            if i < self.left { format!("{text}{pad}") } else { format!("{pad}{text}") }
        };
        let cells: Vec<String> = cells.zip(&self.columns).enumerate().map(cell).collect();
        format!("| {} |\n", cells.join(" | "))
    }
}

/// A whole table, as wide as its cells.
pub(super) fn table(head: &[&'static str], left: usize, rows: &[Vec<String>]) -> String {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).chain([head[i].len(), 3]).max().unwrap_or(3);
    let columns = Columns { left, columns: head.iter().enumerate().map(|(i, name)| (*name, width(i))).collect() };
    columns.head() + &rows.iter().map(|r| columns.line(r.iter().map(String::as_str))).collect::<String>()
}
