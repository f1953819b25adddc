//! The three commands that are run: `ollama --version`, `ollama create`, `ollama run`.

use dlm_plugin::process::{self, Argument, Command, Finished};
use dlm_plugin::target::SmokeReport;
use dlm_plugin::{Error, text};

const PROGRAM: &str = "ollama";
/// The first version that takes a LoRA adapter as GGUF beside its base.
const VERSION_MIN: [u32; 3] = [0, 4, 2];
const VERSION_TIMEOUT_MS: u32 = 10_000;
/// Creating copies the weights into Ollama's own store.
const CREATE_TIMEOUT_MS: u32 = 600_000;
const SMOKE_TIMEOUT_MS: u32 = 120_000;
const SHOWN_CHARS: usize = 200;

/// The runtime's version, refused when it is too old.
pub fn version() -> Result<String, Error> {
    process::which(PROGRAM)?;
    let finished = run(vec![text_argument("--version")], VERSION_TIMEOUT_MS)?;
    let said = format!(
        "{}\n{}",
        String::from_utf8_lossy(&finished.stdout),
        String::from_utf8_lossy(&finished.stderr)
    );
    let Some((version, parts)) = first_version(&said) else {
        return Err(Error::Unavailable(format!(
            "`ollama --version` names no version: `{}`",
            text::first_line(&said, SHOWN_CHARS).unwrap_or_default()
        )));
    };
    if parts < VERSION_MIN {
        return Err(Error::Unavailable(format!(
            "ollama {version} is too old, at least {}.{}.{} is needed; upgrade it or pass --skip-ollama",
            VERSION_MIN[0], VERSION_MIN[1], VERSION_MIN[2]
        )));
    }
    Ok(version)
}

/// Registers the model that the Modelfile describes.
pub fn create(name: &str, modelfile: &str) -> Result<(), Error> {
    let arguments = vec![
        text_argument("create"),
        text_argument(name),
        text_argument("-f"),
        Argument::OutputPath(modelfile.to_owned()),
    ];
    let finished = run(arguments, CREATE_TIMEOUT_MS)?;
    if finished.status == 0 {
        return Ok(());
    }
    let said = text::last_lines(&String::from_utf8_lossy(&finished.stderr), 5);
    let message = format!("exit status {}: {said}", finished.status);
    Err(Error::rejected(finished.status, message))
}

/// Asks the created model one question.
pub fn ask(name: &str) -> Result<SmokeReport, Error> {
    let arguments = vec![text_argument("run"), text_argument(name), text_argument("Hello.")];
    let finished = run(arguments, SMOKE_TIMEOUT_MS)?;
    if finished.status != 0 {
        return Ok(SmokeReport {
            ok: false,
            detail: format!(
                "`ollama run` ended with exit status {}: {}",
                finished.status,
                text::last_lines(&String::from_utf8_lossy(&finished.stderr), 5)
            ),
        });
    }
    Ok(
        match text::first_line(&String::from_utf8_lossy(&finished.stdout), SHOWN_CHARS) {
            Some(line) => SmokeReport { ok: true, detail: line },
            None => SmokeReport {
                ok: false,
                detail: "the answer is blank".to_owned(),
            },
        },
    )
}

fn text_argument(text: &str) -> Argument {
    Argument::Text(text.to_owned())
}

fn run(arguments: Vec<Argument>, timeout_ms: u32) -> Result<Finished, Error> {
    process::run(&Command {
        program: PROGRAM.to_owned(),
        arguments,
        env: Vec::new(),
        secret_env: Vec::new(),
        stdin: Vec::new(),
        timeout_ms: Some(timeout_ms),
    })
}

/// The first `d.d.d` of a text.
fn first_version(text: &str) -> Option<(String, [u32; 3])> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .find_map(|word| {
            let numbers: Vec<u32> = word.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
            let parts = [*numbers.first()?, *numbers.get(1)?, *numbers.get(2)?];
            Some((format!("{}.{}.{}", parts[0], parts[1], parts[2]), parts))
        })
}
