//! Every limit on a document, at the limit and one past it.

use std::time::{Duration, Instant};

use dlm_doc::{FINDINGS_MAX, Limits, check, parse, parse_with, render};

use super::{ID, errors, parsed, with_body};

/// Longest that a hostile file of a megabyte may take, in a build without optimization on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(20);

fn head(yaml: &str) -> String {
    format!("---\n{ID}base_model: a\n{yaml}---\n")
}

/// Parses with limits that hold, then with one that is one less, and compares what is said then.
fn check_limit(text: &str, fits: &Limits, short: &Limits, says: &str) {
    let found = parse_with(text, fits);
    let is_limited = |message: &str| message.contains("more than") || message.contains("deeper than");
    if let Err(errors) = found {
        assert!(
            !errors.errors.iter().any(|error| is_limited(&error.message)),
            "{errors}"
        );
    }
    let errors = parse_with(text, short).expect_err(says);
    assert!(
        errors.errors.iter().any(|error| error.message.contains(says)),
        "{says}\n{errors}"
    );
}

#[test]
fn sizes_of_document_frontmatter_and_section() {
    let text = with_body("Alpha.\n");
    let with = |change: fn(&mut Limits, usize), value: usize| {
        let mut limits = Limits::default();
        change(&mut limits, value);
        limits
    };
    let document: fn(&mut Limits, usize) = |limits, value| limits.document_bytes_max = value;
    let bytes = text.len();
    check_limit(
        &text,
        &with(document, bytes),
        &with(document, bytes - 1),
        "document has",
    );
    let frontmatter: fn(&mut Limits, usize) = |limits, value| limits.frontmatter_bytes_max = value;
    let bytes = format!("{ID}base_model: a\n").len() - 1;
    let (fits, short) = (with(frontmatter, bytes + 1), with(frontmatter, bytes - 1));
    check_limit(&text, &fits, &short, "frontmatter has");
    let section: fn(&mut Limits, usize) = |limits, value| limits.section_bytes_max = value;
    check_limit(&text, &with(section, 6), &with(section, 5), "section has 6 bytes");
}

#[test]
fn depth_values_and_bytes_of_the_frontmatter() {
    let with = |depth: usize, values: usize, bytes: usize| Limits {
        yaml_depth_max: depth,
        yaml_values_max: values,
        yaml_bytes_max: bytes,
        ..Limits::default()
    };
    let any = usize::MAX;
    let text = head("x: [[[1]]]\n");
    check_limit(
        &text,
        &with(4, any, any),
        &with(3, any, any),
        "nested deeper than 3 levels",
    );
    // The top, two keys with values, then a key, a list and three numbers.
    let text = head("x: [1, 2, 3]\n");
    check_limit(&text, &with(64, 10, any), &with(64, 9, any), "more than 9 values");
    let all = "dlm_id01HZ4X7TGZM3J1A2B3C4D5E6F7base_modelax".len();
    // The text behind the anchor, what is kept of it, and its copy.
    let text = head("x: [&a 'four', *a]\n");
    let (fits, short) = (with(64, any, all + 12), with(64, any, all + 11));
    check_limit(&text, &fits, &short, "bytes of text after aliases were expanded");
}

#[test]
fn an_alias_of_much_text_is_refused_before_it_is_copied() {
    let yaml = format!("x: &a '{}'\ny: [{}]\n", "t".repeat(400_000), "*a, ".repeat(80_000));
    let started = Instant::now();
    let errors = errors(&head(&yaml));
    assert!(
        errors.first().message.contains("bytes of text after aliases"),
        "{errors}"
    );
    assert!(errors.first().hint.is_some());
    assert!(started.elapsed() < TIME_MAX, "{:?}", started.elapsed());
}

#[test]
fn many_keys_take_linear_time_and_a_hundred_are_told() {
    let yaml: String = (0..60_000).map(|n| format!("k{n}: 1\n")).collect();
    let text = head(&yaml[..yaml.len().min(900_000)]);
    let text = format!("{}\n---\n", text.trim_end_matches("---\n").rsplit_once('\n').unwrap().0);
    let started = Instant::now();
    // Past the limit on values it says that; below it every key is judged.
    let errors = errors(&text);
    assert!(errors.first().message.contains("more than 100000 values"), "{errors}");
    let yaml: String = (0..40_000).map(|n| format!("k{n}: 1\n")).collect();
    let text = head(&yaml);
    let errors = self::errors(&text);
    assert_eq!(errors.first().problems.len(), FINDINGS_MAX);
    let shown = render::render_errors(None, &text, &errors);
    assert!(shown.contains("and 39900 more problems\n"), "{shown}");
    assert!(started.elapsed() < TIME_MAX, "{:?}", started.elapsed());
}

#[test]
fn keys_on_one_line_and_the_same_key_take_linear_time() {
    let started = Instant::now();
    let keys: String = (0..40_000).map(|n| format!("k{n}: 1, ")).collect();
    let text = head(&format!("x: {{{keys}}}\n"));
    let shown = render::render_errors(None, &text, &errors(&text));
    assert!(shown.contains("x: unknown key"), "{shown}");
    let text = head(&format!("training: {{{keys}}}\n"));
    let shown = render::render_errors(None, &text, &errors(&text));
    assert!(shown.contains("and 39900 more problems\n"), "{shown}");
    let same = head(&"twice: 1\n".repeat(40_000));
    let shown = render::render_errors(None, &same, &errors(&same));
    assert!(
        shown.contains("key `twice` is written twice, first on line 4"),
        "{shown}"
    );
    assert!(shown.contains("and 39899 more errors\n"), "{shown}");
    assert!(started.elapsed() < TIME_MAX, "{:?}", started.elapsed());
}

#[test]
fn mistakes_of_the_body_are_told_a_hundred_at_a_time() {
    for (count, rest) in [
        (FINDINGS_MAX, None),
        (FINDINGS_MAX + 1, Some("and 1 more error\n")),
        (5000, Some("and 4900 more errors\n")),
    ] {
        let text = with_body(&"::teach::\n".repeat(count));
        let errors = errors(&text);
        assert_eq!(
            (errors.errors.len(), errors.errors.count()),
            (count.min(FINDINGS_MAX), count)
        );
        let shown = render::render_errors(None, &text, &errors);
        assert_eq!(
            shown.lines().last().map(|line| line.starts_with("and ")),
            Some(rest.is_some()),
            "{shown}"
        );
        assert!(rest.is_none_or(|rest| shown.ends_with(rest)), "{shown}");
    }
    let text = with_body(&":: prose ::\n".repeat(FINDINGS_MAX + 2));
    let parsed = parsed(&text);
    let shown = render::render_warnings(None, &text, &parsed.warnings);
    assert!(shown.ends_with("and 2 more warnings\n"), "{shown}");
    let text = with_body(&"::instruction::\n### Q\nWho?\n".repeat(FINDINGS_MAX + 3));
    let report = check(text.as_bytes(), &Limits::default());
    assert_eq!((report.problems.len(), report.problems.more()), (FINDINGS_MAX, 3));
    assert!(render::render_problems(None, &text, &report.problems).ends_with("and 3 more problems\n"));
    assert_eq!(report.to_json()["problems_more"], 3);
    assert!(parse(&text).is_ok());
}
