//! `dlm templates`.

use dlm_flow::templates::TemplateRow;

use super::{one_line, table};
use crate::console::Console;

/// The templates of a source that match the query, if one was given.
pub fn list(rows: &[TemplateRow], source: &str, query: Option<&str>, is_json: bool, console: &Console) {
    match rows {
        rows if is_json => console.json(&rows),
        [] => console.info(&match query {
            Some(query) => format!("templates: nothing in `{source}` matches `{query}`\n  see all: dlm templates list"),
            None => format!("templates: `{source}` has none"),
        }),
        rows => console.result(&text(rows)),
    }
}

fn text(rows: &[TemplateRow]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| vec![row.name.clone(), one_line(&row.title), one_line(&row.recommended_base)])
        .collect();
    table(&["name", "title", "base"], &cells)
}
