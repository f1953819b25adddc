//! Ollama's Go templates, one per dialect.
//!
//! Ollama passes every message in `.Messages`, system ones included, and the joined system text again in `.System`. The
//! templates print system text from `.System` alone and skip system messages, so that nothing is printed twice. Ollama
//! adds the beginning-of-text token itself, so only OLMo-2, whose tokenizer does not add one, prints it. The text is taken
//! literally: a final newline here is a final newline in the prompt.

use dlm_plugin::Error;
use dlm_plugin::target::Chat;

/// The option in which the host gives a template that it derived from the base's own.
pub const OPTION: &str = "template";

/// The frame of a dialect that has a system block of its own.
struct Frame {
    /// Before everything.
    head: &'static str,
    system: (&'static str, &'static str),
    user: (&'static str, &'static str),
    assistant: (&'static str, &'static str),
    /// Before the answer.
    prompt: &'static str,
    /// Printed at the head of the system block unless the plan has its own.
    preamble: &'static str,
    /// Between the preamble and the text, when there is text.
    joint: &'static str,
    /// True when the system block is there even with no system text.
    is_system_always: bool,
}

const CHATML: Frame = Frame {
    head: "",
    system: ("<|im_start|>system\n", "<|im_end|>\n"),
    user: ("<|im_start|>user\n", "<|im_end|>\n"),
    assistant: ("<|im_start|>assistant\n", "<|im_end|>\n"),
    prompt: "<|im_start|>assistant\n",
    preamble: "",
    joint: "",
    is_system_always: false,
};

const SMOLLM3: Frame = Frame {
    system: ("<|im_start|>system\n", "\n\n<|im_end|>\n"),
    is_system_always: true,
    ..CHATML
};

const OLMO2: Frame = Frame {
    head: "<|endoftext|>",
    system: ("<|system|>\n", "\n"),
    user: ("<|user|>\n", "\n"),
    assistant: ("<|assistant|>\n", "<|endoftext|>\n"),
    prompt: "<|assistant|>\n",
    preamble: "",
    joint: "",
    is_system_always: false,
};

const LLAMA3: Frame = Frame {
    head: "",
    system: ("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
    user: ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
    assistant: ("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    prompt: "<|start_header_id|>assistant<|end_header_id|>\n\n",
    preamble: "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
    joint: "",
    is_system_always: true,
};

const PHI3: Frame = Frame {
    head: "",
    system: ("<|system|>\n", "<|end|>\n"),
    user: ("<|user|>\n", "<|end|>\n"),
    assistant: ("<|assistant|>\n", "<|end|>\n"),
    prompt: "<|assistant|>\n",
    preamble: "",
    joint: "",
    is_system_always: false,
};

const PHI4MINI: Frame = Frame {
    head: "",
    system: ("<|system|>", "<|end|>"),
    user: ("<|user|>", "<|end|>"),
    assistant: ("<|assistant|>", "<|end|>"),
    prompt: "<|assistant|>",
    preamble: "Your name is Phi, an AI math expert developed by Microsoft.",
    joint: " ",
    is_system_always: true,
};

/// The frame of a dialect without a system role: its text goes before the first user turn's, a blank line between.
struct Folded {
    user: (&'static str, &'static str),
    assistant: (&'static str, &'static str),
    prompt: &'static str,
}

const GEMMA2: Folded = Folded {
    user: ("<start_of_turn>user\n", "<end_of_turn>\n"),
    assistant: ("<start_of_turn>model\n", "<end_of_turn>\n"),
    prompt: "<start_of_turn>model\n",
};

const MISTRAL: Folded = Folded {
    user: ("[INST] ", " [/INST]"),
    assistant: (" ", "</s>"),
    prompt: "",
};

/// Writes the Go template of the chat's dialect.
pub fn body(chat: &Chat) -> Result<String, Error> {
    let Some(family) = chat.family.as_deref() else {
        return Err(unknown("the base's chat template belongs to no known dialect"));
    };
    match family {
        "chatml" | "qwen3thinking" => Ok(framed(&CHATML, chat)),
        "smollm3" if chat.preamble.is_none() => Err(unknown("the plan has no metadata block for SmolLM3")),
        "smollm3" => Ok(framed(&SMOLLM3, chat)),
        "olmo2" => Ok(framed(&OLMO2, chat)),
        "llama3" => Ok(framed(&LLAMA3, chat)),
        "phi3" => Ok(framed(&PHI3, chat)),
        "phi4mini" => Ok(framed(&PHI4MINI, chat)),
        "gemma2" => Ok(folded(&GEMMA2)),
        "mistral" => Ok(folded(&MISTRAL)),
        other => Err(unknown(&format!(
            "no ollama template is known for the dialect `{other}`"
        ))),
    }
}

fn unknown(why: &str) -> Error {
    Error::Unsupported(format!("{why}; pass --no-template to let ollama choose one"))
}

fn framed(frame: &Frame, chat: &Chat) -> String {
    let preamble = chat.preamble.as_deref().unwrap_or(frame.preamble);
    let (before, after) = frame.system;
    let text = match &chat.default_system {
        Some(default) => format!(
            "{}{{{{ if .System }}}}{{{{ .System }}}}{{{{ else }}}}{}{{{{ end }}}}",
            frame.joint,
            escaped(default)
        ),
        None => format!("{{{{ if .System }}}}{}{{{{ .System }}}}{{{{ end }}}}", frame.joint),
    };
    let block = format!("{before}{}{text}{after}", escaped(preamble));
    let system = if frame.is_system_always || chat.default_system.is_some() {
        block
    } else {
        format!("{{{{ if .System }}}}{before}{{{{ .System }}}}{after}{{{{ end }}}}")
    };
    let user = format!("{}{{{{ .Content }}}}{}", frame.user.0, frame.user.1);
    format!(
        "{}{system}{}{}",
        frame.head,
        turns(&user, frame.assistant),
        frame.prompt
    )
}

fn folded(frame: &Folded) -> String {
    let user = format!(
        "{}{{{{ if and $.System (not $folded) }}}}{{{{ $.System }}}}\n\n{{{{ end }}}}{{{{ $folded = true }}}}{{{{ .Content }}}}{}",
        frame.user.0, frame.user.1
    );
    format!(
        "{{{{ $folded := false }}}}{}{}",
        turns(&user, frame.assistant),
        frame.prompt
    )
}

fn turns(user: &str, assistant: (&str, &str)) -> String {
    format!(
        "{{{{ range .Messages }}}}{{{{ if eq .Role \"user\" }}}}{user}{{{{ else if eq .Role \"assistant\" }}}}{}{{{{ .Content }}}}{}{{{{ end }}}}{{{{ end }}}}",
        assistant.0, assistant.1
    )
}

/// Keeps a text from being read as template code.
fn escaped(text: &str) -> String {
    text.replace("{{", "{{ \"{{\" }}")
}
