//! What a person may have meant by a word that is not known.

/// Most suggestions, and the most edits between what was typed and one.
const SUGGESTIONS_MAX: usize = 3;
const EDITS_MAX: usize = 2;
/// Characters of a word that are compared: what is typed has no limit, and the work grows with the square.
const COMPARED_CHARS: usize = 64;

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

/// Edits (insertions, removals, replacements) that turn one word into the other.
pub fn distance(a: &str, b: &str) -> usize {
    strsim::levenshtein(a, b)
}

/// As [`distance`], with a swap of neighbors as one edit; of longer words only the beginnings are compared.
fn edits(a: &str, b: &str) -> usize {
    let begin = |word: &str| word.chars().take(COMPARED_CHARS).collect::<String>();
    strsim::osa_distance(&begin(a), &begin(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_and_a_swap_is_one() {
        for (a, b, plain, swapped) in [
            ("", "abc", 3, 3),
            ("kitten", "sitting", 3, 3),
            ("same", "same", 0, 0),
            ("slef", "self", 2, 1),
            ("日本", "本日", 2, 1),
        ] {
            assert_eq!((distance(a, b), edits(a, b)), (plain, swapped), "{a} {b}");
        }
        assert_eq!(edits(&"a".repeat(65), &"a".repeat(64)), 0, "only the beginnings count");
    }

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
