//! What a person may have meant by a word that is not known.

/// Most suggestions, and the most edits between what was typed and one.
const SUGGESTIONS_MAX: usize = 3;
const EDITS_MAX: usize = 2;

/// The names that are closest to what was typed, at most two edits away.
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| (edits(typed, name), name))
        .filter(|(edits, _)| *edits <= EDITS_MAX)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter()
        .map(|(_, name)| name.to_owned())
        .take(SUGGESTIONS_MAX)
        .collect()
}

/// `; did you mean a or b?`, or nothing.
pub fn did_you_mean(suggestions: &[String]) -> String {
    match suggestions {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

/// Edit distance: insertions, removals, replacements and swaps of neighbors.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut table: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let above = table[i][j + 1] + 1;
            let left = row[j] + 1;
            let mut least = above.min(left).min(table[i][j] + usize::from(x != y));
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(table[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        table.push(row);
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_close_is_suggested() {
        let names = ["sway", "self", "regex-buddy", "selfie"];
        assert_eq!(nearest("slef", names), ["self"]);
        assert_eq!(nearest("regex-budy", names), ["regex-buddy"]);
        assert_eq!(nearest("self", names), ["self", "selfie"]);
        assert_eq!(did_you_mean(&nearest("else", ["nothing"])), "");
        assert_eq!(did_you_mean(&["a".into(), "b".into()]), "; did you mean a or b?");
    }
}
