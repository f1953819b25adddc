//! The question that is put to the user where a plugin needs what it was not granted.

use dlm_core::inert::inert_line;
use dlm_packages::ask;
use dlm_plugins::GrantQuestion;

/// Longest reason that is shown, in bytes; it is the author's text.
const REASON_BYTES_MAX: usize = 200;

/// Two lines: what is asked for and why, then the question.
pub fn question(asked: &GrantQuestion) -> String {
    let capability = inert_line(&asked.capability);
    let mut words = vec![inert_line(&dlm_core::inert::cut(&asked.reason, REASON_BYTES_MAX))];
    words.extend(ask::remark(&asked.capability).map(str::to_owned));
    words.retain(|text| !text.is_empty());
    let about = match words.is_empty() {
        true => String::new(),
        false => format!(" ({})", words.join("; ")),
    };
    format!(
        "{} `{}` {} needs {capability}{about}\nGrant {capability} for this run? [y/N] ",
        asked.kind,
        inert_line(&asked.plugin),
        inert_line(&asked.version),
    )
}

#[cfg(test)]
mod tests {
    use dlm_packages::Kind;

    use super::*;

    #[test]
    fn what_the_author_wrote_cannot_move_the_question() {
        let asked = GrantQuestion {
            kind: Kind::Judge,
            plugin: "rubric".to_owned(),
            version: "1.2.0".to_owned(),
            capability: "exec:git status".to_owned(),
            reason: format!("\u{1b}[2J looks\n{}", "x".repeat(1000)),
        };
        let text = question(&asked);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].len() < 400 && !text.contains('\u{1b}'), "{text:?}");
        assert!(lines[0].contains("runs outside the sandbox as you"), "{text}");
        assert_eq!(lines[1], "Grant exec:git status for this run? [y/N] ");
    }
}
