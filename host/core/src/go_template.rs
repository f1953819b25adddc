//! The part of Go's template language that chat templates of Ollama are written in, rendered as Ollama renders it.
//!
//! Invariants: what is not known is an error and never left out; rendering ends, for a loop runs over the messages alone and
//! loops do not nest. Ollama passes every message in `.Messages`, system ones included, and the joined system text again
//! in `.System`.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::vec::IntoIter;

/// A template that cannot be read or rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GoTemplateError {
    #[error("an action `{0}` does not end")]
    Open(String),
    #[error("`{0}` has no beginning")]
    NoBeginning(String),
    #[error("`{0}` has no end")]
    NoEnd(&'static str),
    #[error("the expression `{0}` is not one that chat templates use")]
    Expression(String),
    #[error("`{0}` stands where no message is in scope")]
    NoMessage(String),
}

/// One turn: its role and its text.
pub type Turn<'a> = (&'a str, &'a str);

#[derive(Debug)]
enum Node {
    Text(String),
    Print(Vec<String>),
    Set(String, Vec<String>),
    /// Conditions with their bodies, in order; the last may be without one.
    If(Vec<(Option<Vec<String>>, Vec<Node>)>),
    Range(Vec<Node>),
}

enum Part {
    Text(String),
    Action(Vec<String>),
}

/// Writes a text so that it is no template code.
pub fn literal(text: &str) -> String {
    text.replace("{{", "{{ \"{{\" }}")
}

/// Splits a template into texts and the words of its actions.
fn lex(source: &str) -> Result<Vec<Part>, GoTemplateError> {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some((text, after)) = rest.split_once("{{") {
        parts.push(Part::Text(text.to_owned()));
        let (words, length) = words(after)?;
        parts.push(Part::Action(words));
        rest = &after[length..];
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

/// The words of an action, and its bytes up to and with its end.
fn words(action: &str) -> Result<(Vec<String>, usize), GoTemplateError> {
    let open = || GoTemplateError::Open(action.chars().take(40).collect());
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        let rest = &action[at..];
        let first = rest.chars().next().ok_or_else(open)?;
        let length = match first {
            _ if rest.starts_with("}}") => return Ok((words, at + 2)),
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '"' => rest[1..].find('"').ok_or_else(open)? + 2,
            '(' | ')' => 1,
            _ => {
                let ends = |c: char| c.is_whitespace() || "()\"}".contains(c);
                rest.find(ends).filter(|length| *length > 0).ok_or_else(open)?
            }
        };
        words.push(rest[..length].to_owned());
        at += length;
    }
}

type Parts = Peekable<IntoIter<Part>>;

/// Reads nodes up to `else` or `end`, which is given back.
fn parse(parts: &mut Parts, is_looping: bool) -> Result<(Vec<Node>, Vec<String>), GoTemplateError> {
    let mut nodes = Vec::new();
    while let Some(part) = parts.next() {
        let words = match part {
            Part::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Part::Action(words) => words,
        };
        let unknown = || GoTemplateError::Expression(words.join(" "));
        match words.first().map(String::as_str) {
            Some("else" | "end") => return Ok((nodes, words)),
            Some("range") => {
                if is_looping || words[1..] != [".Messages"] {
                    return Err(unknown());
                }
                let (body, end) = parse(parts, true)?;
                if end != ["end"] {
                    return Err(GoTemplateError::NoEnd("range"));
                }
                nodes.push(Node::Range(body));
            }
            Some("if") => nodes.push(branches(words[1..].to_vec(), parts, is_looping)?),
            Some(name) if words.get(1).is_some_and(|word| word == ":=" || word == "=") => {
                nodes.push(Node::Set(name.to_owned(), words[2..].to_vec()));
            }
            Some(_) => nodes.push(Node::Print(words)),
            None => return Err(unknown()),
        }
    }
    Ok((nodes, Vec::new()))
}

fn branches(condition: Vec<String>, parts: &mut Parts, is_looping: bool) -> Result<Node, GoTemplateError> {
    let mut list = Vec::new();
    let mut condition = Some(condition);
    loop {
        let (body, end) = parse(parts, is_looping)?;
        list.push((condition, body));
        match end.as_slice() {
            [end] if end == "end" => return Ok(Node::If(list)),
            [word] if word == "else" => condition = None,
            [word, second, rest @ ..] if word == "else" && second == "if" => condition = Some(rest.to_vec()),
            [] => return Err(GoTemplateError::NoEnd("if")),
            other => return Err(GoTemplateError::Expression(other.join(" "))),
        }
    }
}

/// A message in scope, the system text, and the variables.
struct Scope<'a> {
    messages: &'a [Turn<'a>],
    current: Option<Turn<'a>>,
    system: &'a str,
    variables: BTreeMap<String, String>,
}

impl Scope<'_> {
    /// The value of an expression as text; empty and `false` are not true.
    fn value(&self, words: &[String]) -> Result<String, GoTemplateError> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let unknown = || GoTemplateError::Expression(words.join(" "));
        let truth = |is_true: bool| if is_true { "true" } else { "false" }.to_owned();
        let one = |word: &str| self.value(&[word.to_owned()]);
        let field = |word: &str| self.current.ok_or_else(|| GoTemplateError::NoMessage(word.to_owned()));
        Ok(match words.as_slice() {
            // Inside `range`, `.` is a message, which has no system text.
            [".System"] if self.current.is_none() => self.system.to_owned(),
            ["$.System"] => self.system.to_owned(),
            [word @ ".Role"] => field(word)?.0.to_owned(),
            [word @ ".Content"] => field(word)?.1.to_owned(),
            ["true" | "false"] => words[0].to_owned(),
            [name] if name.starts_with('$') => self.variables.get(*name).cloned().ok_or_else(unknown)?,
            [text] if text.starts_with('"') => text.trim_matches('"').to_owned(),
            ["eq", a, b] => truth(one(a)? == one(b)?),
            ["not", a] => truth(!is_true(&one(a)?)),
            ["and", a, "(", inner @ .., ")"] => {
                let inner: Vec<String> = inner.iter().map(|word| (*word).to_owned()).collect();
                truth(is_true(&one(a)?) && is_true(&self.value(&inner)?))
            }
            ["and", a, b] => truth(is_true(&one(a)?) && is_true(&one(b)?)),
            _ => return Err(unknown()),
        })
    }

    fn render(&mut self, nodes: &[Node], out: &mut String) -> Result<(), GoTemplateError> {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Print(words) => out.push_str(&self.value(words)?),
                Node::Set(name, words) => {
                    let value = self.value(words)?;
                    self.variables.insert(name.clone(), value);
                }
                Node::If(branches) => {
                    for (condition, body) in branches {
                        let is_taken = match condition {
                            Some(words) => is_true(&self.value(words)?),
                            None => true,
                        };
                        if is_taken {
                            self.render(body, out)?;
                            break;
                        }
                    }
                }
                Node::Range(body) => {
                    for message in self.messages {
                        self.current = Some(*message);
                        self.render(body, out)?;
                    }
                    self.current = None;
                }
            }
        }
        Ok(())
    }
}

fn is_true(value: &str) -> bool {
    !value.is_empty() && value != "false"
}

/// Renders a conversation as Ollama would.
///
/// **Errors:** anything that is not of the part of the language that chat templates use.
/// **Source:** Ollama's `template/template.go`; Go's `text/template`.
pub fn render(source: &str, messages: &[Turn<'_>]) -> Result<String, GoTemplateError> {
    let (nodes, end) = parse(&mut lex(source)?.into_iter().peekable(), false)?;
    if !end.is_empty() {
        return Err(GoTemplateError::NoBeginning(end.join(" ")));
    }
    let systems = messages.iter().filter(|(role, _)| *role == "system");
    let system = systems.map(|(_, content)| *content).collect::<Vec<_>>().join("\n\n");
    let mut scope = Scope {
        messages,
        current: None,
        system: &system,
        variables: BTreeMap::new(),
    };
    let mut out = String::new();
    scope.render(&nodes, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURNS: [Turn<'static>; 3] = [("system", "S"), ("user", "U"), ("assistant", "A")];

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(render(source, &TURNS).as_deref(), Ok(expected), "{source}");
    }

    #[test]
    fn conditions_loops_and_variables() {
        check("{{ if .System }}<{{ .System }}>{{ else }}none{{ end }}", "<S>");
        check(
            "{{ range .Messages }}{{ .Role }}={{.Content}};{{ end }}",
            "system=S;user=U;assistant=A;",
        );
        check(
            "{{ $first := true }}{{ range .Messages }}{{ if eq .Role \"user\" }}{{ if and $.System $first }}{{ $.System }}\
             {{ end }}{{ $first = false }}u{{ else if eq .Role \"assistant\" }}{{ if not $first }}a{{ end }}{{ end }}{{ end }}",
            "Sua",
        );
        check("{{ if and .System (not .System) }}x{{ end }}y", "y");
        check(&literal("a {{ b }}"), "a {{ b }}");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [
            "{{ .Prompt }}",
            "{{ if .System",
            "{{ if .System }}x",
            "{{ end }}",
            "{{ range .Tools }}x{{ end }}",
            "{{ range .Messages }}{{ range .Messages }}{{ end }}{{ end }}",
            "{{ range .Messages }}{{ .System }}{{ end }}",
            "{{ .Content }}",
            "{{ $x }}",
            "{{ }}",
        ] {
            assert!(render(bad, &TURNS).is_err(), "{bad}");
        }
    }
}
