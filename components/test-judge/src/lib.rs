//! A judge that does what a test tells it: the argument of `open` is `<function> <deed> [<detail>]`. Told nothing, it
//! scores an answer by its length in characters, which is also what the benchmark measures.

use std::hint::black_box;

use dlm_plugin::http::Request;
use dlm_plugin::judge::{Info, Item, Judge, Verdict};
use dlm_plugin::process::{self, Argument, Command};
use dlm_plugin::{Error, error, log, model, progress, run, secrets};

struct TestJudge {
    told: String,
    /// Items seen so far: what a judge that is not the same twice depends on.
    seen: u32,
}

impl Judge for TestJudge {
    fn open(argument: &str) -> Result<Self, Error> {
        let judge = TestJudge {
            told: argument.to_owned(),
            seen: 0,
        };
        if judge.is_told("open") {
            judge.act()?;
        }
        Ok(judge)
    }

    fn info(&self) -> Info {
        let mut info = Info::pointwise("test\u{1b}[31m-judge").detail("\u{202e}reversed");
        match self.told.as_str() {
            "info threshold" => info.suggested_threshold = f64::NAN,
            "info negative" => info.suggested_threshold = -1.0,
            "info batch" => info.max_batch = 0,
            "info one" => info.max_batch = 1,
            _ => {}
        }
        info
    }

    fn score(&mut self, item: &Item) -> Result<Verdict, Error> {
        self.seen += 1;
        let mut scores: Vec<f64> = item.candidates.iter().map(|text| text.chars().count() as f64).collect();
        if !self.is_told("score") {
            return Ok(Verdict::new(scores));
        }
        match self.deed() {
            ("nan", _) => scores.fill(f64::NAN),
            ("infinite", _) => scores.fill(f64::INFINITY),
            ("few", _) => drop(scores.pop()),
            ("many", _) => scores.push(0.0),
            ("differ", _) => scores.iter_mut().for_each(|score| *score += f64::from(self.seen)),
            ("escapes", text) => {
                let mut verdict = Verdict::new(scores);
                verdict.reasoning = Some(format!("\u{1b}]0;{text}\u{7}\u{202e}"));
                return Ok(verdict);
            }
            ("wild", _) if item.prompt.contains("crash") => panic!("told to: {}", item.prompt),
            ("wild", _) if item.prompt.contains("loop") => loop {
                black_box(0);
            },
            ("huge", _) => {
                let mut verdict = Verdict::new(scores);
                verdict.reasoning = Some("x".repeat(64 << 20));
                return Ok(verdict);
            }
            _ => self.act()?,
        }
        Ok(Verdict::new(scores))
    }

    fn score_all(&mut self, items: &[Item]) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = items
            .iter()
            .map(|item| self.score(item))
            .collect::<Result<Vec<_>, _>>()?;
        if self.told == "score verdicts" {
            verdicts.pop();
        }
        Ok(verdicts)
    }
}

impl TestJudge {
    fn is_told(&self, function: &str) -> bool {
        self.told.split(' ').next() == Some(function)
    }

    fn deed(&self) -> (&str, &str) {
        let mut words = self.told.splitn(3, ' ').skip(1);
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    fn act(&self) -> Result<(), Error> {
        let (deed, detail) = self.deed();
        match deed {
            "loop" => loop {
                black_box(0);
            },
            "loop-host" => loop {
                log::enabled(log::Level::Error);
            },
            "memory" => {
                let mut held: Vec<Vec<u8>> = Vec::new();
                loop {
                    held.push(black_box(vec![1; 1 << 20]));
                }
            }
            "panic" => panic!("told to: {detail}"),
            "unreachable" => std::process::abort(),
            "log" => (0..20_000).for_each(|_| log::write(log::Level::Warn, detail, &[])),
            "bars" => drop(
                (0..100_000)
                    .map(|_| progress::Bar::new("bar", None))
                    .collect::<Vec<_>>(),
            ),
            "current" => drop(model::current()?),
            "named" => drop(model::named(detail)?),
            "exec" => exec(detail)?,
            "http" => say(&format!("status {}", Request::get(detail).send()?.status)),
            "redirect" => say(&format!("status {}", Request::get(detail).redirects(5).send()?.status)),
            "secret" => drop(secrets::get(detail)?),
            "reveal" => say(&secrets::get(detail)?.reveal()?),
            "header" => send_secret(detail)?,
            "facts" => say(&format!("{:?}", run::get())),
            "fail" => return Err(error!(Failed, "\u{1b}]0;title\u{7}{detail}")),
            _ => {}
        }
        Ok(())
    }
}

fn say(text: &str) {
    log::write(log::Level::Warn, text, &[]);
}

fn exec(detail: &str) -> Result<(), Error> {
    let mut words = detail.split(' ').map(str::to_owned);
    let program = words.next().unwrap_or_default();
    let finished = process::run(&Command {
        program,
        arguments: words.map(Argument::Text).collect(),
        env: Vec::new(),
        secret_env: Vec::new(),
        stdin: Vec::new(),
        timeout_ms: Some(30_000),
    })?;
    say(&format!(
        "status {}: {}",
        finished.status,
        String::from_utf8_lossy(&finished.stdout)
    ));
    Ok(())
}

/// `NAME URL`: sends the secret as a header there, and tries to say it in every other way it has.
fn send_secret(detail: &str) -> Result<(), Error> {
    let (name, url) = detail.split_once(' ').unwrap_or((detail, ""));
    let secret = secrets::get(name)?;
    let answer = Request::get(url).secret("authorization", "Bearer ", &secret).send()?;
    say(&format!(
        "status {} {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    ));
    Ok(())
}

dlm_plugin::export_judge!(TestJudge);
