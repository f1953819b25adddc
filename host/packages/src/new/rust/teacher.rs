//! {{does}}.

wit_bindgen::generate!({ path: "wit", world: "{{world}}" });

use dlm::plugin::log::{self, Level};
use dlm::plugin::types::{Error, Identity};
use exports::dlm::plugin::teacher::{Completion, Guest, Info, Request, Usage};

struct Plugin;

impl Guest for Plugin {
    /// Called once for each worker, before anything else.
    fn open(argument: String) -> Result<Info, Error> {
        // A panic explains itself in the log.
        std::panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string(), &[])));
        if !argument.is_empty() {
            return Err(Error::InvalidInput(format!("`{{name}}` takes no argument, found `{argument}`")));
        }
        Ok(Info {
            identity: Identity {
                name: "{{name}}".to_owned(),
                detail: None,
            },
            supports_seed: false,
            max_concurrency: 1,
        })
    }

    /// One answer to one prompt: `wit/teacher.wit` says what is asked and what is expected.
    fn complete(request: Request) -> Result<Completion, Error> {
        let pairs: Vec<String> = sentences(passage(&request.user))
            .take(count(&request.user))
            .map(pair)
            .collect();
        Ok(Completion {
            text: format!("[{}]", pairs.join(", ")),
            truncated: false,
            usage: Usage {
                prompt_tokens: 0,
                completion_tokens: 0,
                requests: 1,
            },
        })
    }
}

/// What stands between the lines `[CODE]` and `[/CODE]`.
fn passage(asked: &str) -> &str {
    let mut rest = asked;
    while let Some((line, after)) = rest.split_once('\n') {
        let code = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
        if let Some(end) = code.and_then(|code| after.find(&format!("\n[/{code}]"))) {
            return &after[..end];
        }
        rest = after;
    }
    asked
}

/// How many pairs are wanted: the first number of the question.
fn count(asked: &str) -> usize {
    let mut numbers = asked.split(|c: char| !c.is_ascii_digit());
    let first = numbers.find(|number| !number.is_empty());
    first.and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// The words of each sentence that has a beginning and an end.
fn sentences(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.split_inclusive(['.', '!', '?'])
        .map(|sentence| without_headings(sentence).split_whitespace().collect())
        .filter(|words: &Vec<&str>| words.len() >= 4)
}

/// What follows the lines of headings.
fn without_headings(text: &str) -> &str {
    let mut rest = text.trim_start();
    while rest.starts_with('#') {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    }
    rest
}

/// One pair, as an object in JSON.
fn pair(words: Vec<&str>) -> String {
    let start = words[..words.len() / 2].join(" ");
    let question = quoted(&format!("Complete the sentence: {start} …"));
    let answer = quoted(&words.join(" "));
    ["{\"question\": ", &question, ", \"answer\": ", &answer, "}"].concat()
}

/// A text in JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control < ' ' => quoted.push_str(&format!("\\u{:04x}", control as u32)),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

export!(Plugin);
