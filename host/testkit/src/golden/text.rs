//! The golden numbers about text: ids, renderings, rows. All are exact; a deviation counts the cases that differ.

use std::path::Path;

use dlm_model::chat::{Ending, Message, Thinking};
use dlm_model::gguf::GgufFile;
use dlm_model::text::TextModel;
use serde_json::Value;

use super::{CaseResult, GoldenError, malformed, model_failed, read_json};

/// Runs `tokenizer.json`, `chat_template.json` and `sft_rows.json` of a directory, those that exist, on the GGUF base
/// that they were computed from.
///
/// **Errors:** files that are missing or malformed, a base whose tokenizer cannot be rebuilt.
pub fn run_text_cases(dir: &Path, base: &Path) -> Result<Vec<CaseResult>, GoldenError> {
    let file = GgufFile::open(base).map_err(|error| model_failed(base, error))?;
    let mut text = TextModel::from_gguf(&file, None).map_err(|error| model_failed(base, error))?;
    // The reference takes special tokens in turns for tokens.
    text.reads_markup = true;
    let mut results = Vec::new();
    type Run = fn(&Path, &TextModel) -> Result<Vec<CaseResult>, GoldenError>;
    let runs: [(&str, Run); 3] = [
        ("tokenizer.json", run_tokenizer_case),
        ("chat_template.json", run_chat_template_case),
        ("sft_rows.json", run_rows_case),
    ];
    for (name, run) in runs {
        let path = dir.join(name);
        if path.exists() {
            results.extend(run(&path, &text)?);
        }
    }
    Ok(results)
}

/// Runs `golden.json` of a directory that holds a tokenizer only, such as `arch/tokenizer`.
///
/// **Errors:** files that are missing or malformed.
pub fn run_tokenizer_dir(dir: &Path) -> Result<Vec<CaseResult>, GoldenError> {
    let mut text = TextModel::from_dir(dir, None).map_err(|error| model_failed(dir, error))?;
    text.reads_markup = true;
    let path = dir.join("golden.json");
    let golden = read_json(&path)?;
    let mut encode = Tally::new("tokenizer ids and text");
    for case in list(&path, &golden, "encode")? {
        let expected = ids(&path, &case["ids"])?;
        let input = string(&path, &case["text"])?;
        let found = text
            .tokenizer
            .encode(input)
            .map_err(|error| model_failed(&path, error))?;
        let decoded = text
            .tokenizer
            .decode_all(&expected)
            .map_err(|error| model_failed(&path, error))?;
        encode.count(found == expected && decoded == string(&path, &case["decoded"])?);
    }
    let mut chat = Tally::new("conversations as text and ids");
    for case in list(&path, &golden, "chat")? {
        chat.count(renders(&path, &text, case)?);
    }
    Ok(vec![encode.result(), chat.result()])
}

/// Runs a `tokenizer.json`: ids, text with and without special tokens, and the same text streamed.
///
/// **Errors:** a malformed file.
pub fn run_tokenizer_case(path: &Path, text: &TextModel) -> Result<Vec<CaseResult>, GoldenError> {
    let golden = read_json(path)?;
    let failed = |error| model_failed(path, error);
    let mut encode = Tally::new("tokenizer.json: ids");
    let mut decode = Tally::new("tokenizer.json: text");
    let mut stream = Tally::new("tokenizer.json: text streamed");
    for case in list(path, &golden, "cases")? {
        let expected = ids(path, &case["ids"])?;
        let plain = string(path, &case["decoded_skip_special"])?;
        encode.count(text.tokenizer.encode(string(path, &case["text"])?).map_err(failed)? == expected);
        let whole = text.tokenizer.decode_all(&expected).map_err(failed)?;
        let skipped = text.tokenizer.decode(&expected).map_err(failed)?;
        decode.count(whole == string(path, &case["decoded"])? && skipped == plain);
        let mut decoder = text.tokenizer.stream();
        let mut streamed = String::new();
        for id in &expected {
            streamed.push_str(&decoder.push(*id).map_err(failed)?);
        }
        streamed.push_str(&decoder.finish().map_err(failed)?);
        stream.count(streamed == plain);
    }
    Ok(vec![encode.result(), decode.result(), stream.result()])
}

/// Runs a `chat_template.json`: the template itself, and its renderings as text and ids.
///
/// **Errors:** a malformed file.
pub fn run_chat_template_case(path: &Path, text: &TextModel) -> Result<Vec<CaseResult>, GoldenError> {
    let golden = read_json(path)?;
    let mut template = Tally::new("chat_template.json: the template");
    let source = text.template.as_ref().map(|template| template.source());
    template.count(source == Some(string(path, &golden["chat_template"])?));
    let mut rendered = Tally::new("chat_template.json: text and ids");
    for case in list(path, &golden, "cases")? {
        rendered.count(renders(path, text, case)?);
    }
    Ok(vec![template.result(), rendered.result()])
}

/// Runs the ids of an `sft_rows.json`. Labels are the reference's, which trains on every token, and do not bind.
///
/// **Errors:** a malformed file.
pub fn run_rows_case(path: &Path, text: &TextModel) -> Result<Vec<CaseResult>, GoldenError> {
    let golden = read_json(path)?;
    let mut conversations = Tally::new("sft_rows.json: conversations");
    let mut prose = Tally::new("sft_rows.json: prose");
    let mut cut = Tally::new("sft_rows.json: cut rows");
    for (part, tally) in [
        ("conversation_first", None),
        ("conversation_first_max_length_16", Some(&mut cut)),
    ] {
        let length = golden[part]["max_length"].as_u64().unwrap_or(u64::MAX) as usize;
        let mut tally = tally;
        for row in list(path, &golden[part], "rows")? {
            let expected = ids(path, &row["ids"])?;
            let (mut found, is_prose) = row_ids(path, text, row)?;
            // In this part the reference ends no row with eos; prose rows of ours always do.
            if is_prose {
                found.pop();
            }
            found.truncate(length);
            let fits = found == expected;
            match (&mut tally, is_prose) {
                (Some(tally), _) => tally.count(fits),
                (None, true) => prose.count(fits),
                (None, false) => conversations.count(fits),
            }
        }
    }
    let mut with_eos = Tally::new("sft_rows.json: prose with eos");
    for row in list(path, &golden["prose_first"], "rows")? {
        if row["text"].is_string() {
            with_eos.count(row_ids(path, text, row)?.0 == ids(path, &row["ids"])?);
        }
    }
    Ok([conversations, prose, cut, with_eos]
        .into_iter()
        .map(Tally::result)
        .collect())
}

/// The ids of a row, and whether it is prose.
fn row_ids(path: &Path, text: &TextModel, row: &Value) -> Result<(Vec<u32>, bool), GoldenError> {
    let failed = |error| model_failed(path, error);
    if let Some(prose) = row["text"].as_str() {
        return Ok((text.prose_row(prose).map_err(failed)?.ids, true));
    }
    let messages = messages(path, &row["messages"])?;
    Ok((
        text.answer_row(&messages, Thinking::TemplateDefault)
            .map_err(failed)?
            .ids,
        false,
    ))
}

fn renders(path: &Path, text: &TextModel, case: &Value) -> Result<bool, GoldenError> {
    let failed = |error| model_failed(path, error);
    let prompt = case["add_generation_prompt"].as_bool() == Some(true);
    let ending = if prompt {
        Ending::GenerationPrompt
    } else {
        Ending::Complete
    };
    let messages = messages(path, &case["messages"])?;
    let rendered = text
        .render(&messages, ending, Thinking::TemplateDefault)
        .map_err(failed)?;
    let found = text
        .tokenizer
        .encode(&rendered)
        .map_err(|error| model_failed(path, error))?;
    Ok(rendered == string(path, &case["text"])? && found == ids(path, &case["ids"])?)
}

/// Counts the cases that differ. No case at all is a difference too.
struct Tally {
    name: &'static str,
    cases: usize,
    wrong: usize,
}

impl Tally {
    fn new(name: &'static str) -> Tally {
        Tally {
            name,
            cases: 0,
            wrong: 0,
        }
    }

    fn count(&mut self, is_right: bool) {
        self.cases += 1;
        self.wrong += usize::from(!is_right);
    }

    fn result(self) -> CaseResult {
        let wrong = if self.cases == 0 { 1 } else { self.wrong };
        CaseResult::new(format!("{} ({} cases)", self.name, self.cases), wrong as f64, 0.0)
    }
}

fn list<'v>(path: &Path, value: &'v Value, key: &str) -> Result<&'v [Value], GoldenError> {
    let list = value[key].as_array().map(Vec::as_slice);
    list.ok_or_else(|| malformed(path, format!("`{key}` is no list")))
}

fn string<'v>(path: &Path, value: &'v Value) -> Result<&'v str, GoldenError> {
    value
        .as_str()
        .ok_or_else(|| malformed(path, format!("{value} is no text")))
}

fn ids(path: &Path, value: &Value) -> Result<Vec<u32>, GoldenError> {
    serde_json::from_value(value.clone()).map_err(|error| malformed(path, error))
}

fn messages(path: &Path, value: &Value) -> Result<Vec<Message>, GoldenError> {
    serde_json::from_value(value.clone()).map_err(|error| malformed(path, error))
}
