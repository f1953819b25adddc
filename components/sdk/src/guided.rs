//! Question-answer pairs of a model of this machine, also of one that is too small to write a list of them.
//!
//! A small model continues a text well and follows instructions badly. So it is shown worked examples, one sentence of the
//! passage, and how a question begins; it writes many questions, and those are kept whose sentence answers them. The answer
//! of the pair is the sentence as it stands in the passage, so that no pair says anything false.
//!
//! Invariants: a model that writes the pairs it is asked for is left alone; guided pairs are a pure function of passage,
//! model and seed; at most [`SENTENCES_MAX`] sentences are worked on.
//!
//! **Source**: instruction backtranslation (Li et al. 2023, <https://arxiv.org/abs/2308.06259>): the model writes the question
//! to a text that people wrote.

use std::collections::BTreeSet;

use crate::model::{Finish, GenerateRequest, Generation, Handle, Prompt, Sampling, ScoreRequest, Weights};
use crate::teacher::{self, Completion, Request, Usage};
use crate::{Error, log};

/// Words of the host's request for facts, and of its second question (`host/flow/src/synth/passage.rs` says them).
const FACTS: &str = "about facts that the passage states";
const AGAIN: &str = "Your last reply could not be used";
/// The answer where no sentence got a question.
const NOTHING: &str = "No sentence of the passage could be asked about.";

/// Worked examples, made up so that no model and no document knows them. Each shows a pronoun that is resolved.
const EXAMPLES: &str = "\
Text: The Halden Lighthouse stands on a cliff. Greta Osk, a glass maker, built it in 1904.
Question: Who built the Halden Lighthouse?
Answer: The Halden Lighthouse was built by Greta Osk.

Text: Mirrow is a village in the hills. Every autumn its people paint their doors green, so that the winter spirits pass by.
Question: Why do the people of Mirrow paint their doors green?
Answer: The people of Mirrow paint their doors green so that the winter spirits pass by.

Text: The library is in a former mill. It keeps 4,200 books, and a black cat called Ink guards the door.
Question: What is the name of the cat that guards the library?
Answer: The cat that guards the library is called Ink.

Text: The bread of Tarn is flat and dark. It is baked for three hours in a stone oven.
Question: How long is the bread of Tarn baked?
Answer: The bread of Tarn is baked for three hours.

";
/// Beginnings of questions. `When` and `Which` are missing: small models ask nonsense behind them.
const STARTS: [&str; 6] = ["What", "What does", "Who", "Where", "Why", "How"];
/// How often each beginning is continued: once with the likeliest words, then with drawn ones, by these fixed seeds.
const DRAWS: [Option<u64>; 3] = [None, Some(1), Some(2)];
/// Temperature of the drawn ones.
const DRAW_TEMPERATURE: f32 = 0.8;
/// Words that stand for a thing that the question does not name.
const UNNAMED: [&str; 14] = [
    "it", "its", "he", "his", "him", "she", "her", "they", "their", "them", "this", "these", "that", "those",
];
/// Most sentences of one passage.
const SENTENCES_MAX: usize = 48;
/// Sentences worked on for each pair that is wanted.
const SENTENCES_A_PAIR: usize = 4;
/// Shortest word that counts, and the longest ending in which forms of one word differ.
const WORD_CHARS_MIN: usize = 3;
const ENDING_CHARS_MAX: usize = 3;
/// Words that say nothing about a passage.
const EMPTY_WORDS: [&str; 64] = [
    "the", "and", "for", "are", "was", "were", "that", "this", "with", "from", "has", "have", "had", "not", "but",
    "its", "can", "may", "will", "would", "should", "could", "which", "who", "whom", "what", "when", "where", "why",
    "how", "there", "their", "they", "them", "then", "than", "these", "those", "into", "onto", "also", "such", "been",
    "being", "does", "did", "you", "your", "our", "his", "her", "him", "she", "all", "any", "yes", "name", "named",
    "names", "called", "long", "many", "much", "because",
];
/// Most questions about one sentence.
const QUESTIONS_A_SENTENCE: usize = 2;
/// Longest question and answer, in tokens.
const QUESTION_TOKENS_MAX: u32 = 32;
const ANSWER_TOKENS_MAX: u32 = 48;

/// What `dlm synth` asks of a teacher, read from its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Task<'a> {
    passage: &'a str,
    pairs: usize,
}

impl<'a> Task<'a> {
    /// Finds the passage between its lines `[code]` and `[/code]`, and the number before it; none where facts of a passage
    /// are not what is asked for.
    fn of(user: &'a str) -> Option<Self> {
        let mut at = 0;
        for line in user.split_inclusive('\n') {
            let before = &user[..at];
            at += line.len();
            let Some(code) = line
                .trim_end()
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            else {
                continue;
            };
            let Some(len) = user[at..].find(&format!("\n[/{code}]")) else {
                continue;
            };
            let mut numbers = before
                .split(|c: char| !c.is_ascii_digit())
                .filter(|run| !run.is_empty());
            let pairs = numbers.next()?.parse().ok()?;
            let passage = &user[at..at + len];
            return before.contains(FACTS).then_some(Task { passage, pairs });
        }
        None
    }
}

/// A teacher on this machine: the model's own pairs where it writes them, guided ones where it does not.
#[derive(Debug, Default)]
pub struct Guide {
    /// Once the model failed to write pairs it is not asked to again.
    is_needed: bool,
}

impl Guide {
    /// Answers one request.
    pub fn complete(
        &mut self,
        who: &str,
        model: &Handle,
        weights: Weights,
        request: &Request,
    ) -> Result<Completion, Error> {
        let Some(task) = Task::of(&request.user) else {
            return teacher::generate(who, model, weights, request);
        };
        let mut usage = Usage {
            prompt_tokens: 0,
            completion_tokens: 0,
            requests: 0,
        };
        // The second question about a passage means that the first answer could not be read.
        self.is_needed |= request.user.contains(AGAIN);
        if !self.is_needed {
            match teacher::generate(who, model, weights, request) {
                Ok(own) if questions_in(&own.text) >= task.pairs => return Ok(own),
                Ok(own) => usage = own.usage,
                // A blank answer.
                Err(Error::Failed(_)) => {}
                Err(other) => return Err(other),
            }
            self.is_needed = true;
            log::info(&format!(
                "{who} does not write lists of pairs, so it is asked sentence by sentence"
            ));
        }
        let text = write(model, weights, task, request.seed.unwrap_or(0), &mut usage)?;
        Ok(Completion {
            text,
            truncated: false,
            usage,
        })
    }
}

/// How many different questions an answer holds under the key that was asked for.
fn questions_in(text: &str) -> usize {
    let asked = |part: &str| part.split("\"answer\"").next().unwrap_or(part).trim().to_lowercase();
    text.split("\"question\"")
        .skip(1)
        .map(asked)
        .collect::<BTreeSet<_>>()
        .len()
}

/// Writes pairs as `Q:` and `A:` lines.
fn write(model: &Handle, weights: Weights, task: Task<'_>, seed: u64, usage: &mut Usage) -> Result<String, Error> {
    let max = task.pairs.saturating_mul(SENTENCES_A_PAIR).min(SENTENCES_MAX);
    let sentences = spread(sentences(task.passage), max);
    let mut writer = Writer {
        model,
        weights,
        seed,
        sentences: &sentences,
        usage,
    };
    let passage = Words::of(task.passage);
    let mut drafts = writer.questions()?;
    drafts.retain(|draft| Words::of(&draft.question).all(|word| passage.has(word)));
    let drafts = writer.answered(drafts)?;
    let drafts = writer.weighed(drafts)?;
    let pair = |draft: Draft| format!("Q: {}\nA: {}\n", draft.question, sentences[draft.sentence].text);
    match choose(drafts, task.pairs).into_iter().map(pair).collect::<String>() {
        none if none.is_empty() => Ok(NOTHING.to_owned()),
        lines => Ok(lines),
    }
}

/// A sentence of the passage, and the one before it in its paragraph.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sentence {
    before: String,
    text: String,
}

impl Sentence {
    fn prompt(&self) -> String {
        format!("{EXAMPLES}Text: {} {}\n", self.before, self.text).replace("Text:  ", "Text: ")
    }
}

/// A question about a sentence.
#[derive(Clone, Debug, PartialEq)]
struct Draft {
    sentence: usize,
    question: String,
    /// How much likelier the question makes its sentence, nats per token.
    merit: f64,
}

struct Writer<'a> {
    model: &'a Handle,
    weights: Weights,
    /// Moves the draws of questions.
    seed: u64,
    sentences: &'a [Sentence],
    usage: &'a mut Usage,
}

impl Writer<'_> {
    /// One line for each prompt; none where it does not end.
    fn lines(&mut self, prompts: Vec<(String, Option<u64>)>, tokens_max: u32) -> Result<Vec<Option<String>>, Error> {
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let request = |(prompt, draw): (String, Option<u64>)| GenerateRequest {
            prompt: Prompt::Raw(prompt),
            weights: self.weights,
            sampling: Sampling {
                max_new_tokens: tokens_max,
                temperature: draw.map_or(0.0, |_| DRAW_TEMPERATURE),
                top_p: None,
                top_k: None,
                seed: draw.map(|draw| draw.wrapping_add(self.seed)),
                stop: vec!["\n".to_owned()],
            },
        };
        let requests: Vec<GenerateRequest> = prompts.into_iter().map(request).collect();
        let answers = self.model.generate(&requests)?;
        self.usage.requests += 1;
        for answer in &answers {
            self.usage.prompt_tokens += u64::from(answer.prompt_tokens);
            self.usage.completion_tokens += u64::from(answer.completion_tokens);
        }
        let line = |answer: Generation| (answer.finish == Finish::Stop).then_some(answer.text);
        Ok(answers.into_iter().map(line).collect())
    }

    /// A question of every kind about every sentence.
    fn questions(&mut self) -> Result<Vec<Draft>, Error> {
        let kinds = || STARTS.iter().flat_map(|start| DRAWS.map(|draw| (*start, draw)));
        let tasks: Vec<(usize, &str)> = (0..self.sentences.len())
            .flat_map(|sentence| kinds().map(move |(start, _)| (sentence, start)))
            .collect();
        let prompts = tasks
            .iter()
            .zip(kinds().cycle())
            .map(|((sentence, start), (_, draw))| {
                let prompt = format!("{}Question: {start}", self.sentences[*sentence].prompt());
                (prompt, draw)
            })
            .collect();
        let lines = self.lines(prompts, QUESTION_TOKENS_MAX)?;
        let mut seen = BTreeSet::new();
        let draft = |((sentence, start), line): ((usize, &str), Option<String>)| {
            let question = format!("{start}{}", line?.trim_end());
            let is_new = is_question(&question) && seen.insert(question.to_lowercase());
            is_new.then_some(Draft {
                sentence,
                question,
                merit: 0.0,
            })
        };
        Ok(tasks.into_iter().zip(lines).filter_map(draft).collect())
    }

    /// The questions that their sentence answers: what the model says to them beyond the question stands in it.
    fn answered(&mut self, drafts: Vec<Draft>) -> Result<Vec<Draft>, Error> {
        let prompt = |draft: &Draft| {
            let sentence = &self.sentences[draft.sentence];
            let prompt = format!("{}Question: {}\nAnswer:", sentence.prompt(), draft.question);
            (prompt, None)
        };
        let prompts = drafts.iter().map(prompt).collect();
        let answers = self.lines(prompts, ANSWER_TOKENS_MAX)?;
        let is_answered = |draft: &Draft, answer: &str| {
            let told = Words::of(&self.sentences[draft.sentence].text);
            let news = Words::of(&draft.question).news(&Words::of(answer));
            !news.0.is_empty() && news.all(|word| told.has(word))
        };
        let both = drafts.into_iter().zip(answers);
        Ok(both
            .filter_map(|(draft, answer)| is_answered(&draft, &answer?).then_some(draft))
            .collect())
    }

    /// Weighs each question by how much likelier it makes its sentence.
    fn weighed(&self, mut drafts: Vec<Draft>) -> Result<Vec<Draft>, Error> {
        if drafts.is_empty() {
            return Ok(drafts);
        }
        let request = |question: &str, sentence: usize| ScoreRequest {
            prompt: Prompt::Raw(format!("{EXAMPLES}Question: {question}\nAnswer:")),
            completion: format!(" {}", self.sentences[sentence].text),
            weights: self.weights,
            per_token: false,
        };
        let asked = drafts.iter().map(|draft| request(&draft.question, draft.sentence));
        let unasked = (0..self.sentences.len()).map(|sentence| request("", sentence));
        let requests: Vec<ScoreRequest> = asked.chain(unasked).collect();
        let scores = self.model.score(&requests)?;
        let means: Vec<f64> = scores
            .iter()
            .map(|score| score.logprob / f64::from(score.token_count.max(1)))
            .collect();
        let (asked, unasked) = means.split_at(drafts.len().min(means.len()));
        for (draft, mean) in drafts.iter_mut().zip(asked) {
            draft.merit = mean - unasked.get(draft.sentence).copied().unwrap_or(*mean);
        }
        Ok(drafts)
    }
}

/// The best questions: one of each sentence first, then a second.
fn choose(mut drafts: Vec<Draft>, wanted: usize) -> Vec<Draft> {
    drafts.sort_by(|a, b| b.merit.total_cmp(&a.merit));
    let mut chosen: Vec<Draft> = Vec::new();
    for most in 1..=QUESTIONS_A_SENTENCE {
        for draft in &drafts {
            let of_sentence = chosen.iter().filter(|other| other.sentence == draft.sentence).count();
            if chosen.len() < wanted && of_sentence < most && !chosen.contains(draft) {
                chosen.push(draft.clone());
            }
        }
    }
    chosen.sort_by_key(|draft| draft.sentence);
    chosen
}

/// The sentences of a passage; headings and code are left out.
fn sentences(passage: &str) -> Vec<Sentence> {
    let mut found = Vec::new();
    let mut paragraph = String::new();
    let mut is_code = false;
    let mut close = |paragraph: &mut String| {
        let text = std::mem::take(paragraph);
        let mut before = String::new();
        for sentence in split(&text) {
            let text = sentence.to_owned();
            found.push(Sentence {
                before: std::mem::replace(&mut before, text.clone()),
                text,
            });
        }
    };
    for line in passage.lines() {
        let line = line.trim();
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        if line.is_empty() || is_fence || is_code || line.starts_with('#') {
            close(&mut paragraph);
        } else {
            paragraph.push_str(line);
            paragraph.push(' ');
        }
    }
    close(&mut paragraph);
    found
}

/// Splits at marks that end a sentence and stand before a blank and no lower-case letter; a word or two is no sentence.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, mark) in text.match_indices(['.', '!', '?']) {
        let end = at + mark.len();
        let rest = &text[end..];
        let next = rest.trim_start().chars().next();
        if rest.starts_with(char::is_whitespace) && !next.is_some_and(char::is_lowercase) {
            parts.push(text[from..end].trim());
            from = end;
        }
    }
    parts.push(text[from..].trim());
    parts.retain(|part| part.split_whitespace().nth(2).is_some());
    parts
}

/// At most `max` of the items, from all over.
fn spread<T>(items: Vec<T>, max: usize) -> Vec<T> {
    let all = items.len();
    let is_taken = |at: usize| all <= max || (at + 1) * max / all > at * max / all;
    items
        .into_iter()
        .enumerate()
        .filter_map(|(at, item)| is_taken(at).then_some(item))
        .collect()
}

fn is_question(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut words = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    text.ends_with('?') && text.matches('?').count() == 1 && !words.any(|word| UNNAMED.contains(&word))
}

/// Content words in lower case, and numbers.
struct Words(BTreeSet<String>);

impl Words {
    fn of(text: &str) -> Self {
        let lower = text.to_lowercase();
        let words = lower.split(|c: char| !c.is_alphanumeric());
        let is_content = |word: &&str| {
            let is_long = word.chars().count() >= WORD_CHARS_MIN && !EMPTY_WORDS.contains(word);
            is_long || word.starts_with(|c: char| c.is_ascii_digit())
        };
        Words(words.filter(is_content).map(str::to_owned).collect())
    }

    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|known| is_form(known, word))
    }

    fn all(&self, test: impl Fn(&str) -> bool) -> bool {
        self.0.iter().all(|word| test(word))
    }

    /// What an answer says that these words of its question do not.
    fn news(&self, answer: &Words) -> Words {
        Words(answer.0.iter().filter(|word| !self.has(word)).cloned().collect())
    }
}

/// Whether two words are forms of one: equal, or letters that differ only in a short ending.
fn is_form(one: &str, other: &str) -> bool {
    let shared = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let (one_len, other_len) = (one.chars().count(), other.chars().count());
    let (shorter, longer) = (one_len.min(other_len), one_len.max(other_len));
    let is_number = one.starts_with(|c: char| c.is_ascii_digit());
    let is_near = shared >= WORD_CHARS_MIN && shared + 1 >= shorter && shared + ENDING_CHARS_MAX >= longer;
    one == other || (!is_number && is_near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_is_read_from_the_request() {
        let user = |wanted: &str| {
            format!("Write exactly 3 pairs {wanted}.\nThe code is ab12.\n\n[ab12]\nOne.\nTwo.\n[/ab12]\n\nReply")
        };
        let facts = user(FACTS);
        let task = Task::of(&facts).expect("a passage");
        assert_eq!((task.passage, task.pairs), ("One.\nTwo.", 3));
        assert_eq!(Task::of(&user("that go beyond the passage")), None);
        assert_eq!(Task::of("2+2?"), None);
    }

    #[test]
    fn sentences_know_the_one_before() {
        let found = sentences(
            "# Head\n\nThe bell is old. It rings at 5 p.m. every\nday. Yes!\n```\nlet x = 1;\n```\nThe keeper is Ann.",
        );
        let texts: Vec<(&str, &str)> = found.iter().map(|s| (s.before.as_str(), s.text.as_str())).collect();
        let expected = [
            ("", "The bell is old."),
            ("The bell is old.", "It rings at 5 p.m. every day."),
            ("", "The keeper is Ann."),
        ];
        assert_eq!(texts, expected);
        assert_eq!(spread((0..10).collect(), 3), [3, 6, 9]);
        assert_eq!(spread(vec![1, 2], 3), [1, 2]);
    }

    #[test]
    fn words_and_questions() {
        assert!(is_form("throws", "throw") && is_form("called", "calls") && is_form("1887", "1887"));
        assert!(!is_form("1887", "1888") && !is_form("cable", "cat") && !is_form("captain", "cap"));
        assert!(is_question("Who is Bartleby?") && !is_question("Who is she?") && !is_question("What? Who?"));
        let news = Words::of("Who rings the bell?").news(&Words::of("The bell is rung by Ann Orr."));
        assert_eq!(news.0.into_iter().collect::<Vec<_>>(), ["ann", "orr", "rung"]);
    }

    #[test]
    fn a_model_that_writes_pairs_is_left_alone() {
        let pair = |q: &str| format!("{{\"question\": \"{q}\", \"answer\": \"a\"}}");
        assert_eq!(questions_in(&[pair("a?"), pair("b?")].concat()), 2);
        assert_eq!(questions_in(&[pair("a?"), pair("a?")].concat()), 1);
        assert_eq!(questions_in("The ferry is old."), 0);
    }

    #[test]
    fn the_best_questions_come_from_different_sentences() {
        let draft = |sentence, question: &str, merit| Draft {
            sentence,
            question: question.to_owned(),
            merit,
        };
        let drafts = vec![
            draft(1, "a", 0.5),
            draft(1, "b", 0.9),
            draft(0, "c", 0.1),
            draft(1, "d", 0.7),
        ];
        let names = |wanted| {
            choose(drafts.clone(), wanted)
                .into_iter()
                .map(|d| d.question)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(2), ["c", "b"]);
        assert_eq!(names(9), ["c", "b", "d"]);
    }
}
