//! `dlm score`: files of questions that say nothing, and texts longer than the model's context.

use crate::lab::Lab;

#[test]
fn questions_that_any_answer_or_none_fits_are_refused_with_their_place() {
    let lab = Lab::new();
    lab.trainable();
    for (file, place) in [
        (
            r#"{"pairs": [{"question": "What?", "accept": []}]}"#,
            "`pairs[0].accept`",
        ),
        (
            r#"{"pairs": [{"question": "What?", "accept": ["x"]}], "general": [{"question": "Who?", "accept": ["x", " ?"]}]}"#,
            "`general[0].accept`",
        ),
        (
            r#"{"pairs": [{"question": " ", "accept": ["x"]}]}"#,
            "`pairs[0].question`",
        ),
    ] {
        lab.write("q.json", file);
        lab.run(&["score", "a.dlm", "--questions", "q.json", "--base-only"])
            .exits(1)
            .says(&["q.json", place]);
    }
}

#[test]
fn a_text_is_read_in_parts_of_the_context() {
    let lab = Lab::new();
    lab.trainable();
    let loss = |words: usize| {
        lab.write("t.txt", "word ".repeat(words));
        let report = lab.json(&["score", "a.dlm", "--text", "t.txt", "--base-only", "--json"]);
        report["text_loss"].as_f64().unwrap()
    };
    // Far beyond the tiny model's context: in one row it would take minutes.
    let (short, long) = (loss(40), loss(20_000));
    assert!(
        short.is_finite() && long.is_finite() && (short - long).abs() < 3.0,
        "{short} {long}"
    );
}
