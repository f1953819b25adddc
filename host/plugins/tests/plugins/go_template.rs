//! Ollama's templates, rendered by a small interpreter of the part of Go's template language that they use, and compared
//! with the exact texts of the specification.
//!
//! Like Ollama, it passes every message in `.Messages` and the joined system text again in `.System`.

use std::collections::BTreeMap;

use crate::targets::template;

#[derive(Debug)]
enum Node {
    Text(String),
    Print(Vec<String>),
    Set(String, Vec<String>),
    /// Conditions with their bodies, in order; the last may be without one.
    If(Vec<(Option<Vec<String>>, Vec<Node>)>),
    Range(Vec<Node>),
}

/// Splits a template into texts and the words of its actions.
fn lex(source: &str) -> Vec<Result<String, Vec<String>>> {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some((text, after)) = rest.split_once("{{ ") {
        parts.push(Ok(text.to_owned()));
        // A quoted brace is the only place where an action holds another one.
        let (action, after) = match after.strip_prefix("\"{{\" }}") {
            Some(after) => ("\"{{\"", after),
            None => after.split_once(" }}").expect("an action ends"),
        };
        let spaced = action.replace('(', " ( ").replace(')', " ) ");
        parts.push(Err(spaced.split_whitespace().map(str::to_owned).collect()));
        rest = after;
    }
    parts.push(Ok(rest.to_owned()));
    parts
}

type Parts = std::iter::Peekable<std::vec::IntoIter<Result<String, Vec<String>>>>;

/// Reads nodes up to `else` or `end`, which is given back.
fn parse(parts: &mut Parts) -> (Vec<Node>, Vec<String>) {
    let mut nodes = Vec::new();
    while let Some(part) = parts.next() {
        let words = match part {
            Ok(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Err(words) => words,
        };
        match words[0].as_str() {
            "else" | "end" => return (nodes, words),
            "range" => {
                assert_eq!(words[1..], [".Messages"]);
                let (body, end) = parse(parts);
                assert_eq!(end, ["end"]);
                nodes.push(Node::Range(body));
            }
            "if" => nodes.push(branches(words[1..].to_vec(), parts)),
            name if words.get(1).is_some_and(|word| word == ":=" || word == "=") => {
                nodes.push(Node::Set(name.to_owned(), words[2..].to_vec()));
            }
            _ => nodes.push(Node::Print(words)),
        }
    }
    (nodes, Vec::new())
}

fn branches(condition: Vec<String>, parts: &mut Parts) -> Node {
    let mut list = Vec::new();
    let mut condition = Some(condition);
    loop {
        let (body, end) = parse(parts);
        list.push((condition, body));
        match end.as_slice() {
            [end] if end == "end" => return Node::If(list),
            [_] => condition = None,
            [_, _if, rest @ ..] => condition = Some(rest.to_vec()),
            [] => panic!("an `if` ends"),
        }
    }
}

/// A message in scope, the system text, and the variables.
struct Scope<'a> {
    messages: &'a [(&'a str, &'a str)],
    current: Option<(&'a str, &'a str)>,
    system: &'a str,
    variables: BTreeMap<String, String>,
}

impl Scope<'_> {
    /// The value of an expression as text; empty and `false` are not true.
    fn value(&self, words: &[String]) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let truth = |is_true: bool| if is_true { "true" } else { "false" }.to_owned();
        let one = |word: &str| self.value(&[word.to_owned()]);
        match words.as_slice() {
            [".System"] => {
                assert!(self.current.is_none(), "inside `range`, `.` is a message");
                self.system.to_owned()
            }
            ["$.System"] => self.system.to_owned(),
            [".Role"] => self.current.unwrap().0.to_owned(),
            [".Content"] => self.current.unwrap().1.to_owned(),
            ["true" | "false"] => words[0].to_owned(),
            [name] if name.starts_with('$') => self.variables[*name].clone(),
            [text] if text.starts_with('"') => text.trim_matches('"').to_owned(),
            ["eq", a, b] => truth(one(a) == one(b)),
            ["not", a] => truth(!is_true(&one(a))),
            ["and", a, "(", inner @ .., ")"] => {
                let inner: Vec<String> = inner.iter().map(|word| (*word).to_owned()).collect();
                truth(is_true(&one(a)) && is_true(&self.value(&inner)))
            }
            other => panic!("the interpreter does not know {other:?}"),
        }
    }

    fn render(&mut self, nodes: &[Node], out: &mut String) {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Print(words) => out.push_str(&self.value(words)),
                Node::Set(name, words) => {
                    let value = self.value(words);
                    self.variables.insert(name.clone(), value);
                }
                Node::If(branches) => {
                    let taken = branches
                        .iter()
                        .find(|(condition, _)| condition.as_ref().is_none_or(|words| is_true(&self.value(words))));
                    if let Some((_, body)) = taken {
                        self.render(body, out);
                    }
                }
                Node::Range(body) => {
                    for message in self.messages {
                        self.current = Some(*message);
                        self.render(body, out);
                    }
                    self.current = None;
                }
            }
        }
    }
}

fn is_true(value: &str) -> bool {
    !value.is_empty() && value != "false"
}

/// Renders a conversation as Ollama would.
fn render(body: &str, messages: &[(&str, &str)]) -> String {
    let (nodes, end) = parse(&mut lex(body).into_iter().peekable());
    assert!(end.is_empty(), "{end:?} without an `if`");
    let systems = messages.iter().filter(|(role, _)| *role == "system");
    let system = systems.map(|(_, content)| *content).collect::<Vec<_>>().join("\n\n");
    let mut scope = Scope {
        messages,
        current: None,
        system: &system,
        variables: BTreeMap::new(),
    };
    let mut out = String::new();
    scope.render(&nodes, &mut out);
    out
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
