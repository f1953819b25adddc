//! The chat template that Ollama gets: derived from what the base's own template renders, and compared with it in whole
//! conversations before anything is registered.
//!
//! Invariants: a Modelfile whose template says something else than the model was trained with is refused; which tokens or
//! words stand in the base's template decides nothing.

use std::path::Path;

use dlm_core::go_template::{self, Turn, literal};
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::target::{
    ExportTarget, PreparedTarget, Stage, TargetInfo, TargetPlan, TargetRegistration, TargetSmoke,
};
use dlm_core::{FailureKind, Subject};
use dlm_model::chat::{Ending, Message, Thinking};
use dlm_model::text::TextModel;

/// The option by which the target gets the derived template.
pub(super) const TEMPLATE_OPTION: &str = "template";
/// The largest Modelfile that is read back.
const MODELFILE_BYTES_MAX: u64 = 4 << 20;

/// The conversations that are compared. Their texts are words that no template writes.
const CONVERSATIONS: [&[Turn<'static>]; 6] = [
    &[("user", "Uqua")],
    &[("system", "Sqsa"), ("user", "Uqua")],
    &[("user", "Uqua"), ("assistant", "Aqaa"), ("user", "Uqub")],
    &[
        ("system", "Sqsa"),
        ("user", "Uqua"),
        ("assistant", "Aqaa"),
        ("user", "Uqub"),
    ],
    &[
        ("user", "Uqua"),
        ("assistant", "Aqaa"),
        ("user", "Uqub"),
        ("assistant", "Aqab"),
        ("user", "Uquc"),
    ],
    &[("system", "Sqsa {{ x }}\nSqsb"), ("user", "Uqua\n\nUqub")],
];

/// What the base's own template renders, without the token that Ollama puts in front by itself.
fn rendered(text: &TextModel, turns: &[Turn<'_>], ending: Ending) -> Option<String> {
    let message = |(role, content): &Turn<'_>| match *role {
        "system" => Message::system(*content),
        "user" => Message::user(*content),
        _ => Message::assistant(*content),
    };
    let messages: Vec<Message> = turns.iter().map(message).collect();
    let whole = text.render(&messages, ending, Thinking::default()).ok()?;
    let specials = &text.tokenizer.specials;
    let added = specials
        .bos
        .filter(|_| specials.add_bos)
        .and_then(|id| text.tokenizer.token(id));
    let own = added.and_then(|bos| whole.strip_prefix(bos.as_str()).map(str::to_owned));
    Some(own.unwrap_or(whole))
}

/// Derives the Go template of a base from its renderings; nothing where they have no common frame.
pub(super) fn derive(text: &TextModel) -> Option<String> {
    let frame = Frame::of(text)?;
    let written = frame.go();
    compare(text, &written).ok().map(|_| written)
}

/// What stands around the texts of a conversation.
struct Frame {
    /// Before the first question without a system text, and before and after that text where there is one.
    opening: String,
    system: (String, String),
    /// Before every later question, and after each.
    user: (String, String),
    assistant: (String, String),
    /// Before the answer that is asked for.
    prompt: String,
}

impl Frame {
    fn of(text: &TextModel) -> Option<Frame> {
        let [one, both, three] = [CONVERSATIONS[0], &CONVERSATIONS[2][..2], CONVERSATIONS[2]];
        let single = rendered(text, one, Ending::Complete)?;
        let asked = rendered(text, one, Ending::GenerationPrompt)?;
        let (opening, after_question) = single.split_once("Uqua")?;
        let prompt = asked.strip_prefix(&single)?;
        let answered = rendered(text, both, Ending::Complete)?;
        let (_, after_answer) = answered.split_once("Aqaa")?;
        let long = rendered(text, three, Ending::Complete)?;
        let (_, rest) = long.split_once("Uqua")?;
        let (to_answer, rest) = rest.split_once("Aqaa")?;
        let (to_question, end) = rest.split_once("Uqub")?;
        let system = match rendered(text, &[("system", "Sqsa"), ("user", "Uqua")], Ending::Complete) {
            Some(with) => {
                let (before, rest) = with.split_once("Sqsa")?;
                let (between, _) = rest.split_once("Uqua")?;
                (before.to_owned(), between.to_owned())
            }
            None => return None,
        };
        Some(Frame {
            opening: opening.to_owned(),
            system,
            user: (to_question.strip_prefix(after_answer)?.to_owned(), end.to_owned()),
            assistant: (
                to_answer.strip_prefix(after_question)?.to_owned(),
                after_answer.to_owned(),
            ),
            prompt: prompt.to_owned(),
        })
    }

    /// The frame as a Go template. A system text with a block of its own stands in front of all messages, one that is folded
    /// into the first question inside it.
    fn go(&self) -> String {
        let l = |text: &str| literal(text);
        let (before, between) = (&self.system.0, &self.system.1);
        let own = between
            .strip_suffix(self.user.0.as_str())
            .zip(self.opening.strip_suffix(self.user.0.as_str()));
        let (head, open) = match own {
            Some((after, without)) if !between.is_empty() => (
                format!(
                    "{{{{ if .System }}}}{}{{{{ .System }}}}{}{{{{ else }}}}{}{{{{ end }}}}",
                    l(before),
                    l(after),
                    l(without)
                ),
                l(&self.user.0),
            ),
            _ => (
                "{{ $first := true }}".to_owned(),
                format!(
                    "{{{{ if $first }}}}{{{{ if $.System }}}}{}{{{{ $.System }}}}{}{{{{ else }}}}{}{{{{ end }}}}{{{{ else }}}}{}\
                     {{{{ end }}}}{{{{ $first = false }}}}",
                    l(before),
                    l(between),
                    l(&self.opening),
                    l(&self.user.0)
                ),
            ),
        };
        let head = head.replace("{{ else }}{{ end }}", "{{ end }}");
        format!(
            "{head}{{{{ range .Messages }}}}{{{{ if eq .Role \"user\" }}}}{open}{{{{ .Content }}}}{}{{{{ else if eq .Role \"assistant\" }}}}{}\
             {{{{ .Content }}}}{}{{{{ end }}}}{{{{ end }}}}{}",
            l(&self.user.1),
            l(&self.assistant.0),
            l(&self.assistant.1),
            l(&self.prompt)
        )
    }
}

/// Compares a Go template with the base's own in every conversation that the base's own takes; says in how many.
fn compare(text: &TextModel, go: &str) -> Result<usize, String> {
    let mut compared = 0;
    for turns in CONVERSATIONS {
        let Some(expected) = rendered(text, turns, Ending::GenerationPrompt) else {
            continue;
        };
        let found = go_template::render(go, turns).map_err(|error| error.to_string())?;
        if found != expected {
            let roles: Vec<&str> = turns.iter().map(|(role, _)| *role).collect();
            return Err(format!(
                "for the turns {}, it gives {found:?}, and the model was trained on {expected:?}",
                roles.join(", ")
            ));
        }
        compared += 1;
    }
    match compared {
        0 => Err("the base's own template renders no conversation".to_owned()),
        compared => Ok(compared),
    }
}

/// A target whose Modelfile is held against the base's own template before it is registered.
pub(super) struct CheckedTarget<'a> {
    inner: &'a mut dyn ExportTarget,
    text: &'a TextModel,
    directory: &'a Path,
    /// False for other targets than Ollama, which get the base's own template.
    is_checked: bool,
    /// The target wrote its files, and they are the right ones.
    pub is_prepared: bool,
    /// In how many conversations the two templates say the same; nothing before `prepare`, and without a template.
    pub compared: Option<usize>,
}

impl<'a> CheckedTarget<'a> {
    /// Wraps the target of that name, which writes into `directory`.
    pub(super) fn new(inner: &'a mut dyn ExportTarget, name: &str, text: &'a TextModel, directory: &'a Path) -> Self {
        CheckedTarget {
            inner,
            text,
            directory,
            is_checked: name == "ollama",
            is_prepared: false,
            compared: None,
        }
    }
}

impl ExportTarget for CheckedTarget<'_> {
    fn info(&self) -> &TargetInfo {
        self.inner.info()
    }

    fn prepare(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<PreparedTarget, PluginFailure> {
        let prepared = self.inner.prepare(plan, stage)?;
        let entry = prepared.entry.as_deref().map(|name| self.directory.join(name));
        let Some(path) = entry.filter(|_| self.is_checked && plan.chat.as_ref().is_some_and(|chat| chat.is_written))
        else {
            self.is_prepared = !stage.is_draft;
            return Ok(prepared);
        };
        let written =
            dlm_files::read_text_required(&path, MODELFILE_BYTES_MAX).map_err(|e| refused(e.to_string(), &[]))?;
        let what = |why: String| {
            let hint = "leave the template to Ollama: `--no-template`; or serve the export with `--target llama-server`, which runs the base's own";
            refused(
                format!("the template of the {} is not the base's own: {why}", name_of(&path)),
                &[hint],
            )
        };
        let body = template_of(&written).ok_or_else(|| what("there is none".to_owned()))?;
        self.compared = Some(compare(self.text, body).map_err(what)?);
        self.is_prepared = !stage.is_draft;
        Ok(prepared)
    }

    fn install(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<Option<TargetRegistration>, PluginFailure> {
        self.inner.install(plan, stage)
    }

    fn smoke(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<TargetSmoke, PluginFailure> {
        self.inner.smoke(plan, stage)
    }
}

fn refused(message: String, hints: &[&str]) -> PluginFailure {
    PluginFailure {
        code: "export::template",
        subject: Subject::Export,
        kind: FailureKind::Runtime,
        message,
        hints: hints.iter().map(|hint| (*hint).to_owned()).collect(),
        detail: None,
    }
}

/// A file without the directory that it is written in, which is not the one that it will lie in.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The body of the template of a Modelfile.
fn template_of(modelfile: &str) -> Option<&str> {
    let (_, rest) = modelfile.split_once("\nTEMPLATE \"\"\"")?;
    rest.split_once("\"\"\"\n").map(|(body, _)| body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text model with the tiny tokenizer and a chat template.
    fn text(template: &str) -> TextModel {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/arch/tokenizer/tokenizer.json");
        std::fs::copy(tokenizer, dir.path().join("tokenizer.json")).unwrap();
        std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
        TextModel::from_dir(dir.path(), None).unwrap()
    }

    const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if \
        add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    /// Frames of the families, in the manner of each.
    #[test]
    fn frames_are_derived_whatever_words_they_are_made_of() {
        let default_system = format!(
            "{{% if messages[0].role != 'system' %}}<|im_start|>system\nBe kind.<|im_end|>\n{{% endif %}}{CHATML}"
        );
        let zephyr = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}\
            <|assistant|>\n{% endif %}";
        let llama2 = "{% if messages[0].role == 'system' %}{% set s = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}\
            {% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}\
            {% if m.role == 'user' %}[INST] {{ s if loop.first else '' }}{{ m.content }} [/INST]{% else %} {{ m.content }} </s>\
            {% endif %}{% endfor %}";
        let dated = "<|im_start|>system\n## Metadata\nDate {{ strftime_now('%d %B') }}{{ '{{' }}\n{% if messages[0].role == 'system' %}\
            {{ messages[0].content }}{% set rest = messages[1:] %}{% else %}None{% set rest = messages %}{% endif %}\n\n<|im_end|>\n\
            {% for m in rest %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}\
            <|im_start|>assistant\n{% endif %}";
        for (template, must) in [
            (CHATML, "im_start"),
            (&default_system, "Be kind."),
            (zephyr, "<|user|>"),
            (llama2, "<<SYS>>"),
            (dated, "26 July"),
        ] {
            let text = text(template);
            let go = derive(&text).unwrap_or_else(|| panic!("{template}"));
            assert!(go.contains(must), "{go}");
            assert_eq!(compare(&text, &go), Ok(CONVERSATIONS.len()));
        }
    }

    #[test]
    fn a_frame_that_a_conversation_contradicts_is_not_derived() {
        // Mistral's later templates put the system text into the last question.
        let last = "{% for m in messages %}{% if m.role == 'user' %}[INST] {% if loop.last and messages[0].role == 'system' %}\
            {{ messages[0].content }}\n\n{% endif %}{{ m.content }} [/INST]{% elif m.role == 'assistant' %} {{ m.content }}</s>\
            {% endif %}{% endfor %}";
        assert_eq!(derive(&text(last)), None);
        let refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}<|im_start|>";
        assert_eq!(derive(&text(refusing)), None);
    }

    #[test]
    fn another_familys_template_is_found_out() {
        let go = derive(&text(CHATML)).unwrap();
        let relative = text(&CHATML.replace("{{ m.role }}\n", "{{ m.role }}\n\n"));
        let why = compare(&relative, &go).unwrap_err();
        assert!(why.contains("for the turns user") && why.contains("im_start"), "{why}");
        assert!(compare(&relative, "{{ .Prompt }}").unwrap_err().contains(".Prompt"));
    }

    #[test]
    fn the_body_is_found_in_its_modelfile() {
        assert_eq!(
            template_of("FROM x\n\nTEMPLATE \"\"\"a\nb\"\"\"\n\nSYSTEM x\n"),
            Some("a\nb")
        );
        assert_eq!(template_of("FROM x\n"), None);
    }
}
