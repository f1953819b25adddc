//! Reads a teacher's answer: strict JSON first, then whatever small models make of it.
//!
//! Invariants: the first reading that yields a pair is taken; a bad item costs itself, not the answer; work is linear in
//! the answer but for a bounded number of tries.

use serde_json::Value;

/// Longest answer that is read; far more than any that was asked for.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// How many places in an answer are tried as the beginning of JSON.
const STARTS_MAX: usize = 512;
/// Names that teachers give the two halves of a pair.
const QUESTION_KEYS: [&str; 5] = ["question", "q", "prompt", "instruction", "input"];
const ANSWER_KEYS: [&str; 5] = ["answer", "a", "response", "output", "completion"];
/// Keys under which teachers wrap the list.
const LIST_KEYS: [&str; 4] = ["pairs", "data", "questions", "items"];

/// The pairs of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub pairs: Vec<(String, String)>,
    /// Items that were no pair.
    pub dropped: usize,
}

/// Reads the pairs of an answer.
///
/// **Errors**: no pair at all; the complaint is meant for the teacher.
pub(crate) fn parse(text: &str) -> Result<Answer, String> {
    if text.len() > ANSWER_BYTES_MAX {
        return Err(format!(
            "it has {} bytes, at most {ANSWER_BYTES_MAX} are read",
            text.len()
        ));
    }
    let bare = without_code_fence(text.trim());
    if let Ok(Value::Array(items)) = serde_json::from_str(bare)
        && let Some(answer) = of_items(&items)
    {
        return Ok(answer);
    }
    let plain = without_code_fence(without_thoughts(bare).trim());
    let repaired = repair(plain);
    let readings = [
        embedded_list(plain),
        single_objects(plain),
        embedded_list(&repaired),
        single_objects(&repaired),
        labeled(plain),
    ];
    readings.into_iter().flatten().next().ok_or_else(|| complaint(plain))
}

fn complaint(text: &str) -> String {
    if text.trim().is_empty() {
        return "it was empty".to_owned();
    }
    match serde_json::from_str::<Value>(text) {
        Err(error) => format!("it is not JSON ({error})"),
        Ok(_) => "it holds no object with texts under the keys \"question\" and \"answer\"".to_owned(),
    }
}

/// Strips one surrounding code fence.
fn without_code_fence(text: &str) -> &str {
    let Some(rest) = text.strip_prefix("```") else {
        return text;
    };
    let Some((label, rest)) = rest.split_once('\n') else {
        return text;
    };
    let is_label = label.trim().chars().all(char::is_alphanumeric);
    match is_label {
        // A cut answer has no closing fence.
        true => rest.trim_end().strip_suffix("```").unwrap_or(rest).trim(),
        false => text,
    }
}

/// Drops a leading block of reasoning, also one whose opening tag the template swallowed.
fn without_thoughts(text: &str) -> &str {
    match text.rsplit_once("</think>") {
        Some((_, rest)) => rest,
        None => text,
    }
}

/// The first list of pairs anywhere in the text, bare or under a known key.
fn embedded_list(text: &str) -> Option<Answer> {
    starts(text, &['[', '{']).find_map(|at| match first_value(&text[at..])?.0 {
        Value::Array(items) => of_items(&items),
        Value::Object(map) => {
            let (_, list) = map
                .iter()
                .find(|(key, _)| LIST_KEYS.contains(&key.to_lowercase().as_str()))?;
            of_items(list.as_array()?)
        }
        _ => None,
    })
}

/// Complete objects that are pairs, one after the other: JSON lines, and lists that were cut.
fn single_objects(text: &str) -> Option<Answer> {
    let mut answer = Answer::default();
    let mut after = 0;
    for at in starts(text, &['{']) {
        if at < after {
            continue;
        }
        let Some((value, length)) = first_value(&text[at..]) else {
            continue;
        };
        match pair(&value) {
            Some(pair) => answer.pairs.push(pair),
            None => answer.dropped += 1,
        }
        after = at + length;
    }
    (!answer.pairs.is_empty()).then_some(answer)
}

fn starts<'a>(text: &'a str, openers: &'static [char]) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(openers).map(|(at, _)| at).take(STARTS_MAX)
}

/// The value at the beginning of a text and how many bytes it takes.
fn first_value(text: &str) -> Option<(Value, usize)> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = stream.next()?.ok()?;
    Some((value, stream.byte_offset()))
}

fn of_items(items: &[Value]) -> Option<Answer> {
    let pairs: Vec<(String, String)> = items.iter().filter_map(pair).collect();
    let dropped = items.len() - pairs.len();
    (!pairs.is_empty()).then_some(Answer { pairs, dropped })
}

fn pair(value: &Value) -> Option<(String, String)> {
    let map = value.as_object()?;
    let find = |names: &[&str]| {
        names.iter().find_map(|name| {
            let (_, value) = map.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
            let text = value.as_str()?.trim();
            (!text.is_empty()).then(|| text.to_owned())
        })
    };
    Some((find(&QUESTION_KEYS)?, find(&ANSWER_KEYS)?))
}

/// Escapes raw line ends in strings and drops commas before a closing bracket, from the first bracket on.
fn repair(text: &str) -> String {
    let text = &text[text.find(['[', '{']).unwrap_or(text.len())..];
    let mut out = String::with_capacity(text.len() + 16);
    let (mut is_string, mut is_escaped) = (false, false);
    for (at, letter) in text.char_indices() {
        if is_string {
            match letter {
                _ if is_escaped => out.push(letter),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                control if control < ' ' => {}
                other => out.push(other),
            }
            is_string = is_escaped || letter != '"';
            is_escaped = !is_escaped && letter == '\\';
            continue;
        }
        let next = text[at + letter.len_utf8()..].trim_start().chars().next();
        if letter == ',' && matches!(next, None | Some(']' | '}')) {
            continue;
        }
        is_string = letter == '"';
        out.push(letter);
    }
    out
}

/// `1. Q: …` or `Question: …` lines with their `A:` or `Answer:` lines; lines without a label go on with the one before.
fn labeled(text: &str) -> Option<Answer> {
    let mut answer = Answer::default();
    let (mut question, mut reply) = (None::<String>, None::<String>);
    let mut close = |question: &mut Option<String>, reply: &mut Option<String>| match (question.take(), reply.take()) {
        (Some(q), Some(a)) if !q.trim().is_empty() && !a.trim().is_empty() => {
            answer.pairs.push((q.trim().to_owned(), a.trim().to_owned()));
        }
        (None, None) => {}
        _ => answer.dropped += 1,
    };
    for line in text.lines() {
        match label(line) {
            Some((true, rest)) => {
                close(&mut question, &mut reply);
                question = Some(rest.to_owned());
            }
            Some((false, rest)) => reply = Some(rest.to_owned()),
            None => {
                if let Some(open) = reply.as_mut().or(question.as_mut()) {
                    open.push('\n');
                    open.push_str(line.trim_end());
                }
            }
        }
    }
    close(&mut question, &mut reply);
    (!answer.pairs.is_empty()).then_some(answer)
}

/// Whether a line begins a question (`true`) or an answer, and what follows the label.
fn label(line: &str) -> Option<(bool, &str)> {
    let marks = |c: char| c.is_whitespace() || "*#->.)(_".contains(c) || c.is_ascii_digit();
    let text = line.trim_start_matches(marks);
    let (word, rest) = text.split_once(':')?;
    let word = word.trim_end_matches(|c: char| marks(c)).to_lowercase();
    let is_question = match word.as_str() {
        "q" | "question" => true,
        "a" | "answer" => false,
        _ => return None,
    };
    Some((is_question, rest.trim_start_matches(['*', '_', ' ', '\t'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, pairs: &[(&str, &str)], dropped: usize) {
        let expected = Answer {
            pairs: pairs.iter().map(|(q, a)| ((*q).to_owned(), (*a).to_owned())).collect(),
            dropped,
        };
        assert_eq!(parse(text), Ok(expected), "{text}");
    }

    #[test]
    fn a_huge_answer_is_not_searched() {
        let huge = "[\"".repeat(1 << 20);
        assert_eq!(
            parse(&huge),
            Err("it has 2097152 bytes, at most 262144 are read".to_owned())
        );
    }

    #[test]
    fn strict_lists_with_and_without_a_fence() {
        check(r#"[{"question": "q", "answer": " a "}]"#, &[("q", "a")], 0);
        check(
            "```json\n[{\"question\": \"q\", \"answer\": \"a\"}]\n```",
            &[("q", "a")],
            0,
        );
        check("```\n[{\"question\": \"q\", \"answer\": \"a\"}]", &[("q", "a")], 0);
    }

    #[test]
    fn one_bad_item_of_five_costs_itself() {
        let good = |n: u32| format!(r#"{{"question": "q{n}", "answer": "a{n}"}}"#);
        let text = format!(
            "[{}, {}, {{\"question\": \"x\"}}, {}, {}]",
            good(1),
            good(2),
            good(3),
            good(4)
        );
        check(&text, &[("q1", "a1"), ("q2", "a2"), ("q3", "a3"), ("q4", "a4")], 1);
        check(
            r#"[{"question": "q", "answer": 5}, {"question": "q", "answer": "a"}, "x"]"#,
            &[("q", "a")],
            2,
        );
    }

    #[test]
    fn thoughts_talk_and_wrappers_are_passed_over() {
        check(
            "<think>[1] maybe {so}</think>Sure! Here: [{\"q\": \"q\", \"a\": \"a\"}] Enjoy.",
            &[("q", "a")],
            0,
        );
        check(
            "plan...</think>\n```json\n{\"pairs\": [{\"Prompt\": \"q\", \"Response\": \"a\"}]}\n```",
            &[("q", "a")],
            0,
        );
        check(r#"{"data": [{"instruction": "q", "output": "a"}]}"#, &[("q", "a")], 0);
        check("See [1].\n[{\"question\": \"q\", \"answer\": \"a\"}]", &[("q", "a")], 0);
    }

    #[test]
    fn lines_of_objects_and_lists_that_were_cut() {
        check(
            "{\"question\": \"q\", \"answer\": \"a\"}\n{\"question\": \"r\", \"answer\": \"b\"}",
            &[("q", "a"), ("r", "b")],
            0,
        );
        check(
            "[{\"question\": \"q\", \"answer\": \"a\"}, {\"question\": \"r\", \"ans",
            &[("q", "a")],
            0,
        );
        check("{\"question\": \"q\", \"answer\": \"a\"}", &[("q", "a")], 0);
    }

    #[test]
    fn commas_and_raw_line_ends_are_repaired() {
        check(
            "[{\"question\": \"q\", \"answer\": \"a\nb\t\\\"c\\\\\",},]",
            &[("q", "a\nb\t\"c\\")],
            0,
        );
        check("So: {\"question\": \"q,]\", \"answer\": \"a\",}", &[("q,]", "a")], 0);
    }

    #[test]
    fn numbered_and_labeled_lists() {
        check(
            "1. Q: q?\n   A: a.\n2. Q: r?\n   A: b,\nand more.",
            &[("q?", "a."), ("r?", "b,\nand more.")],
            0,
        );
        check("**Question 1:** q?\n**Answer:** a.", &[("q?", "a.")], 0);
        check("question: q?\nANSWER: a\nQuestion: lost", &[("q?", "a")], 1);
    }

    #[test]
    fn what_holds_no_pair_is_complained_about() {
        for (text, part) in [
            ("", "empty"),
            ("I cannot do that.", "not JSON"),
            ("[]", "no object"),
            (r#"[{"question": "", "answer": "a"}]"#, "no object"),
            ("{\"question\": [", "not JSON"),
        ] {
            let complaint = parse(text).unwrap_err();
            assert!(complaint.contains(part), "{text}: {complaint}");
        }
    }

    #[test]
    fn hostile_answers_end_soon() {
        for text in [
            "[".repeat(100_000),
            "{\"a\":".repeat(50_000),
            "\"".repeat(99_999),
            "Q:\nA:\n".repeat(20_000),
        ] {
            assert!(parse(&text).is_err());
        }
    }
}
