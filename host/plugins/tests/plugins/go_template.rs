//! The templates that the target `ollama` writes for a dialect, compared with the exact texts of the specification.

use dlm_core::go_template;

use crate::targets::template;

/// Renders a conversation as Ollama would.
fn render(body: &str, messages: &[(&str, &str)]) -> String {
    go_template::render(body, messages).unwrap()
}

const TURNS: [(&str, &str); 4] = [("system", "S"), ("user", "U1"), ("assistant", "A1"), ("user", "U2")];

/// Renders with and without the system message.
#[track_caller]
fn check(family: &str, preamble: Option<&str>, with_system: &str, without: &str) {
    let body = template(family, None, preamble);
    assert_eq!(render(&body, &TURNS), with_system, "{family}");
    assert_eq!(render(&body, &TURNS[1..]), without, "{family} without system");
}

#[test]
fn chatml_renders_exactly() {
    let turns = "<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nU2<|im_end|>\n\
                 <|im_start|>assistant\n";
    for family in ["chatml", "qwen3thinking"] {
        check(
            family,
            None,
            &format!("<|im_start|>system\nS<|im_end|>\n{turns}"),
            turns,
        );
    }
    let body = template("chatml", Some("default {{ x"), None);
    assert_eq!(
        render(&body, &TURNS[1..]),
        format!("<|im_start|>system\ndefault {{{{ x<|im_end|>\n{turns}")
    );
    assert_eq!(
        render(&body, &TURNS),
        format!("<|im_start|>system\nS<|im_end|>\n{turns}")
    );
    let head = "<|im_start|>system\n## Metadata\n\n## Custom Instructions\n\n";
    check(
        "smollm3",
        Some("## Metadata\n\n## Custom Instructions\n\n"),
        &format!("{head}S\n\n<|im_end|>\n{turns}"),
        &format!("{head}\n\n<|im_end|>\n{turns}"),
    );
}

#[test]
fn gemma2_and_mistral_fold_the_system_text_into_the_first_user_turn() {
    let rest = "<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n";
    check(
        "gemma2",
        None,
        &format!("<start_of_turn>user\nS\n\nU1{rest}"),
        &format!("<start_of_turn>user\nU1{rest}"),
    );
    let rest = " [/INST] A1</s>[INST] U2 [/INST]";
    check(
        "mistral",
        None,
        &format!("[INST] S\n\nU1{rest}"),
        &format!("[INST] U1{rest}"),
    );
}

#[test]
fn olmo2_llama3_and_the_phis_render_exactly() {
    let turns = "<|user|>\nU1\n<|assistant|>\nA1<|endoftext|>\n<|user|>\nU2\n<|assistant|>\n";
    check(
        "olmo2",
        None,
        &format!("<|endoftext|><|system|>\nS\n{turns}"),
        &format!("<|endoftext|>{turns}"),
    );
    let turn = |role: &str, text: &str| format!("<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>");
    let dated = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
    let turns = format!(
        "{}{}{}<|start_header_id|>assistant<|end_header_id|>\n\n",
        turn("user", "U1"),
        turn("assistant", "A1"),
        turn("user", "U2")
    );
    check(
        "llama3",
        None,
        &format!("{}{turns}", turn("system", &format!("{dated}S"))),
        &format!("{}{turns}", turn("system", dated)),
    );
    check(
        "llama3",
        Some(""),
        &format!("{}{turns}", turn("system", "S")),
        &format!("{}{turns}", turn("system", "")),
    );
    let turns = "<|user|>\nU1<|end|>\n<|assistant|>\nA1<|end|>\n<|user|>\nU2<|end|>\n<|assistant|>\n";
    check("phi3", None, &format!("<|system|>\nS<|end|>\n{turns}"), turns);
    let name = "<|system|>Your name is Phi, an AI math expert developed by Microsoft.";
    let turns = "<|end|><|user|>U1<|end|><|assistant|>A1<|end|><|user|>U2<|end|><|assistant|>";
    check("phi4mini", None, &format!("{name} S{turns}"), &format!("{name}{turns}"));
}
