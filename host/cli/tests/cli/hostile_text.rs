//! Tokenizers and chat templates that crash, hang or fill the memory: refused by a trial in a process of its own, in bounded
//! time; the program that asked goes on.

use serde_json::{Value, json};

use crate::lab::{Lab, Ran};

/// Ends of templates that are none of the attack.
const FRAME: &str = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.tiny_model();
    lab
}

fn add(lab: &Lab) -> Ran {
    let ran = lab.run(&["base", "add", "x", "--from", "model"]);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    ran
}

fn refused(lab: &Lab, what: &str) -> String {
    let ran = add(lab).exits(1);
    assert!(
        ran.err.contains("base: model cannot be used as a base: "),
        "{what}:\n{}",
        ran.err
    );
    assert_eq!(lab.files("home/bases"), [], "{what}");
    ran.err
}

#[test]
fn templates_that_bomb_are_refused() {
    let lab = lab();
    let doubled = format!("{{% set s = 'a' * 16 %}}{}{FRAME}", "{% set s = s ~ s %}".repeat(40));
    let nested = "{% set ns = namespace(x=[1]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson }}";
    let shown = nested.replace("|tojson", "");
    let bombs = [
        ("text", doubled.as_str(), "more memory than it may"),
        (
            "list",
            "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = (ns.x + ns.x)|list %}{% endfor %}{{ ns.x }}",
            "more memory than it may",
        ),
        (
            "steps",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "",
        ),
        ("depth of json", nested, ""),
        ("depth of text", &shown, ""),
        ("macro", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ""),
    ];
    for (name, template, says) in bombs {
        lab.write("model/chat_template.jinja", template);
        let said = refused(&lab, name);
        assert!(said.contains(says), "{name}: {said}");
    }
    for (name, source) in [
        ("not", format!("{{{{ {} x }}}}", "not ".repeat(50_000))),
        ("minus", format!("{{{{ {}1 }}}}", "-".repeat(200_000))),
    ] {
        lab.write("model/chat_template.jinja", source + FRAME);
        // A template that is deep and harmless is no fault; dlm stays alive.
        let ran = add(&lab);
        assert!([0, 1].contains(&ran.code), "{name}: {}", ran.err);
        lab.run(&["base", "remove", "x", "--force"]);
    }
}

#[test]
fn a_template_that_waits_with_its_bomb_ends_in_a_message() {
    let lab = lab();
    let bomb = "{% set s = 'a' * 16 %}".to_owned() + &"{% set s = s ~ s %}".repeat(40);
    lab.write(
        "model/chat_template.jinja",
        format!("{{% if 'boom' in messages[-1]['content'] %}}{bomb}{{% endif %}}{FRAME}"),
    );
    lab.trainable_from("model");
    lab.run(&["prompt", "a.dlm", "hello", "--base-only", "--max-tokens", "2"])
        .ok();
    lab.run(&["prompt", "a.dlm", "boom", "--base-only"])
        .exits(1)
        .says(&["base_model: the chat template of the base takes more memory than it may"]);
}

/// The tokenizer with a value at a place.
fn changed(sound: &Value, pointer: &str, value: Value) -> String {
    let mut tokenizer = sound.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    tokenizer.pointer_mut(parent).unwrap()[key] = value;
    tokenizer.to_string()
}

#[test]
fn tokenizers_that_crash_or_bomb_are_refused() {
    let lab = lab();
    let sound: Value = serde_json::from_str(&lab.read("model/tokenizer.json")).unwrap();
    let grows = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(100)});
    let cases = [
        (
            "/model/continuing_subword_prefix",
            json!("x".repeat(100)),
            "does not begin with the model's prefix",
        ),
        (
            "/model/vocab",
            json!({"a": 4_000_000_000_u64}),
            "ids end below 16777216",
        ),
        (
            "/normalizer",
            json!({"type": "Sequence", "normalizers": vec![grows; 20]}),
            "more memory than it may",
        ),
        (
            "/post_processor",
            json!({"type": "BertProcessing", "sep": ["a", 99_999_999], "cls": ["a", 1]}),
            "writes the token 99999999",
        ),
    ];
    for (pointer, value, says) in cases {
        lab.write("model/tokenizer.json", changed(&sound, pointer, value));
        let said = refused(&lab, pointer);
        assert!(said.contains(says), "{pointer}: {said}");
    }
    // A table that the library reads past its end: a panic there is an error here.
    let table = json!({"type": "Precompiled", "precompiled_charsmap": "EAAAAP////////////////////9hYmMA"});
    lab.write("model/tokenizer.json", changed(&sound, "/normalizer", table));
    let said = refused(&lab, "precompiled");
    assert!(
        said.contains("the library that reads it fails: index out of bounds"),
        "{said}"
    );
}

#[test]
fn a_verdict_is_kept_by_the_bytes_that_were_tried() {
    let lab = lab();
    add(&lab).ok();
    let kept = || lab.files("home/cache/text");
    let first = kept();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].1, br#"{"flaw":null}"#);
    // Another base of the same bytes is not tried again: the kept word decides.
    lab.write(&format!("home/cache/text/{}", first[0].0), r#"{"flaw":"a kept word"}"#);
    assert!(refused_again(&lab).contains("a kept word"));
    // Other bytes are.
    lab.write("model/chat_template.jinja", format!("{FRAME} "));
    lab.run(&["base", "add", "y", "--from", "model"]).ok();
    assert_eq!(kept().len(), 2);
    // What is no record is made again.
    lab.write(&format!("home/cache/text/{}", first[0].0), "no json");
    std::fs::remove_file(lab.path("model/chat_template.jinja")).unwrap();
    lab.run(&["base", "add", "z", "--from", "model"]).ok();
    assert!(kept().contains(&first[0]));
}

fn refused_again(lab: &Lab) -> String {
    lab.run(&["base", "add", "again", "--from", "model"]).exits(1).err
}
