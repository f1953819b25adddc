//! Frames of the dialects, through templates written for these tests in the manner of each family, and what templates
//! expect of their environment. The expected texts are those of `spec/bases.md` section 8.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use dlm_core::base::TemplateDialect;
use dlm_model::chat::{ChatTemplate, Ending, Message, Thinking, TokenTexts, detect_dialect, dialect_facts};

fn template(source: &str) -> ChatTemplate {
    let tokens = TokenTexts {
        bos: "<bos>".to_owned(),
        eos: "</s>".to_owned(),
        ..TokenTexts::default()
    };
    ChatTemplate::new("test", source, tokens, None).unwrap()
}

fn conversation() -> Vec<Message> {
    vec![
        Message::system("Be brief."),
        Message::user("Hi"),
        Message::assistant("Hello."),
        Message::user("Bye"),
    ]
}

#[track_caller]
fn check(source: &str, dialect: TemplateDialect, expected: &str) {
    let template = template(source);
    assert_eq!(template.dialect(), Some(dialect));
    let text = template
        .render(&conversation(), Ending::GenerationPrompt, Thinking::TemplateDefault)
        .unwrap();
    assert_eq!(text, expected);
}

const GEMMA: &str = "{{ bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}
{%- for m in messages %}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}
    {%- set who = 'model' if m.role == 'assistant' else m.role %}
    {{- '<start_of_turn>' ~ who ~ '\n' ~ m.content | trim ~ '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";

#[test]
fn gemma_folds_the_system_text_into_the_first_user_turn() {
    check(
        GEMMA,
        TemplateDialect::Gemma2,
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n\
         <start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
    );
    let twice = [Message::system("One."), Message::system("Two."), Message::user("Hi")];
    let text = template(GEMMA)
        .render(&twice, Ending::Complete, Thinking::TemplateDefault)
        .unwrap();
    assert_eq!(text, "<bos><start_of_turn>user\nOne.\n\nTwo.\n\nHi<end_of_turn>\n");
    let refused = template(GEMMA).render(&[Message::assistant("a")], Ending::Complete, Thinking::TemplateDefault);
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("`test`") && error.contains("turns must alternate"),
        "{error}"
    );
}

#[test]
fn llama3_prints_the_pinned_date() {
    check(
        "{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{%- set today = strftime_now('%d %b %Y') if strftime_now is defined else 'no clock' %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ' + today }}
{{- '\n\n' + system_message + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
",
        TemplateDialect::Llama3,
        "<bos><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\
         Today Date: 26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user<|end_header_id|>\
         \n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    );
}

#[test]
fn phi_and_olmo_frames() {
    let frame = |after_role: &str, before_next: &str| {
        format!(
            "{{% for message in messages %}}{{{{ '<|' + message['role'] + '|>{after_role}' + message['content'] + \
             '<|end|>{before_next}' }}}}{{% endfor %}}{{% if add_generation_prompt %}}{{{{ '<|assistant|>{after_role}' \
             }}}}{{% endif %}}"
        )
    };
    check(
        &frame("\\n", "\\n"),
        TemplateDialect::Phi3,
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\nBye<|end|>\n\
         <|assistant|>\n",
    );
    check(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|assistant|>\n' + m.content + \
         eos_token + '\n' }}{% else %}{{ '<|' + m.role + '|>\n' + m.content + '\n' }}{% endif %}\
         {# <|user|> #}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        TemplateDialect::Olmo2,
        "<bos><|system|>\nBe brief.\n<|user|>\nHi\n<|assistant|>\nHello.</s>\n<|user|>\nBye\n<|assistant|>\n",
    );
}

#[test]
fn mistral_and_smollm3_frames() {
    check(
        "{{ bos_token }}{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}\
         {% set ns.system = m.content + '\n\n' %}{% elif m.role == 'user' %}{{ '[INST] ' + ns.system + m.content + \
         ' [/INST]' }}{% set ns.system = '' %}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
        TemplateDialect::Mistral,
        "<bos>[INST] Be brief.\n\nHi [/INST] Hello.</s>[INST] Bye [/INST]",
    );
    let smollm3 = "{%- macro turn(role, text) -%}<|im_start|>{{ role }}\n{{ text }}<|im_end|>\n{%- endmacro -%}
## Metadata, {{ strftime_now('%d %B %Y') }}, Reasoning Mode: {{ '/no_think' if enable_thinking is defined and not \
                   enable_thinking else '/think' }}
{% for m in messages %}
    {%- if m.role == 'assistant' %}
        {%- generation %}
        {{- turn(m.role, m.content) }}
        {%- endgeneration %}
    {%- else %}
        {{- turn(role=m.role, text=m.content) }}
    {%- endif %}
    {{- '\n' }}
{%- endfor %}
";
    let template = template(smollm3);
    assert_eq!(template.dialect(), Some(TemplateDialect::SmolLm3));
    let turns = conversation();
    let text = |thinking| template.render(&turns[1..3], Ending::Complete, thinking).unwrap();
    let on = text(Thinking::TemplateDefault);
    assert!(
        on.starts_with("## Metadata, 26 July 2024, Reasoning Mode: /think\n<|im_start|>user\nHi<|im_end|>"),
        "{on}"
    );
    assert!(on.ends_with("<|im_start|>assistant\nHello.<|im_end|>\n"), "{on}");
    assert!(text(Thinking::Off).contains("/no_think") && text(Thinking::On).contains("/think"));
}

#[test]
fn blocks_leave_no_blanks_and_python_methods_work() {
    let source = "{% for m in messages %}
    {% if m.content.startswith('H') %}
{{ m.content.split('i')[-1] }}|{{ m.get('absent', 'none') }}|{{ m.content.strip() | upper }}|{{ m.content[::-1] }}
    {% endif %}
{% endfor %}
";
    let text = template(source).render(
        &[Message::user("Hi"), Message::user("no")],
        Ending::Complete,
        Thinking::TemplateDefault,
    );
    assert_eq!(text.unwrap(), "|none|HI|iH\n");
}

#[test]
fn json_is_written_as_python_writes_it() {
    let source =
        "{{ messages[0] | tojson }} {{ [1, 2.5, none, true, '<é&\\'>'] | tojson }} {{ {'a': []} | tojson(indent=2) }}";
    let text = template(source)
        .render(&[Message::user("q")], Ending::Complete, Thinking::TemplateDefault)
        .unwrap();
    assert_eq!(
        text,
        "{\"role\": \"user\", \"content\": \"q\"} [1, 2.5, null, true, \"<é&'>\"] {\n  \"a\": []\n}"
    );
}

#[test]
fn templates_that_run_away_or_do_not_compile_are_refused() {
    let render = |source: &str| {
        let text = template(source).render(&conversation(), Ending::Complete, Thinking::TemplateDefault);
        text.unwrap_err().to_string()
    };
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    assert!(render(endless).contains("fuel"), "{}", render(endless));
    assert!(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").contains("`test`"));
    assert!(render("{{ messages.absent.more }}").contains("`test`"));
    assert!(render("{% include 'passwords' %}").contains("`test`"));
    let nested =
        "{% set ns = namespace(x=[1]) %}{% for i in range(65) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson }}";
    assert!(render(nested).contains("nested too deeply"), "{}", render(nested));
    let wordy = "{% for i in range(9999) %}{{ 'a' * 1000 }}{% endfor %}";
    assert!(render(wordy).contains("it writes 9999000 bytes"), "{}", render(wordy));
    let flat = nested.replace("65", "60");
    template(&flat)
        .render(&conversation(), Ending::Complete, Thinking::TemplateDefault)
        .unwrap();
    let broken = ChatTemplate::new("test", "{% if %}", TokenTexts::default(), None);
    assert!(
        broken
            .unwrap_err()
            .to_string()
            .starts_with("compile the chat template of `test`")
    );
    let long = ChatTemplate::new("test", "x".repeat(2 << 20), TokenTexts::default(), None);
    assert!(long.unwrap_err().to_string().contains("the limit is"));
}

#[test]
fn every_dialect_stops_at_its_end_of_turn() {
    for dialect in [
        TemplateDialect::ChatMl,
        TemplateDialect::Qwen3Thinking,
        TemplateDialect::Gemma2,
        TemplateDialect::SmolLm3,
        TemplateDialect::Olmo2,
        TemplateDialect::Llama3,
        TemplateDialect::Phi3,
        TemplateDialect::Phi4Mini,
        TemplateDialect::Mistral,
        TemplateDialect::PaliGemma,
        TemplateDialect::Qwen2Audio,
        TemplateDialect::Qwen2Vl,
        TemplateDialect::InternVl2,
    ] {
        let facts = dialect_facts(dialect);
        assert!(facts.stops.contains(&facts.end_of_turn), "{}", dialect.name());
    }
    assert_eq!(detect_dialect("{{ messages }}"), None);
}
