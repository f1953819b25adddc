//! The rows of the commands that mine, synthesize, and move what they staged.

use dlm_testkit::chat_server::{Answer, ChatServer, ChatSettings, Protocol};

use super::{Table, changes, check, check_by, hides, seen, shows};
use crate::lab::{ID, Lab};
use crate::staging::{stage, stage_preference};

pub const TABLES: &[&Table] = &[
    &MINE,
    &PREFERENCE_APPLY,
    &PREFERENCE_REVERT,
    &PREFERENCE_LIST,
    &INSTRUCTIONS,
    &SYNTH_APPLY,
    &SYNTH_REVERT,
    &SYNTH_LIST,
    &SYNTH_DROP,
];

/// A judge of the lab's own, which likes what is long.
const MINED: &str = "a.dlm --judge cli:./judge.sh";
const MINED_VERBOSE: &str = "a.dlm --judge cli:./judge.sh -v";

pub const MINE: Table = (
    "preference mine",
    &[
        shows("--samples", MINED_VERBOSE, "--samples 2", "judge.sh 3 runs"),
        shows("--judge", "a.dlm --samples 2", "--judge nobody", "nobody"),
        shows("--threshold", MINED, "--threshold 1000", "below_threshold"),
        shows(
            "--max-pairs",
            "two.dlm --judge cli:./judge.sh",
            "--max-pairs 1",
            "preference mine plan: 1 add",
        ),
        shows("--temp", MINED, "--temp 0", "`--temp 0` gives the same answer"),
        shows("--top-p", MINED_VERBOSE, "--top-p 0.00001", "judge.sh 2 runs"),
        shows("--backend", MINED, "--backend mlx", "MLX"),
        shows("--backend", MINED_VERBOSE, "--backend pytorch", "(given by --backend)"),
        shows("--adapter", MINED, "--adapter x", "has no `training.adapters`"),
        changes("--seed", MINED, "--seed 9"),
        hides(
            "--include-probes",
            "probe.dlm --judge cli:./judge.sh",
            "--include-probes",
            "no question was asked",
        ),
        shows(
            "--keep-going",
            "a.dlm --judge cli:./broken.sh",
            "--keep-going",
            "judge_failed",
        ),
        shows("--apply", MINED, "--apply", "preference: wrote 1 section(s)"),
        shows("--json", MINED, "--json", "\"judge\": \"cli:"),
        shows("--grant", MINED, "--grant cli=nonsense", "nonsense"),
        shows("--deny", MINED, "--deny cli=nonsense", "nonsense"),
        shows("--sandbox", MINED, "--sandbox", "nothing is granted"),
        shows("--plugin-opt", MINED, "--plugin-opt cli.x=1", "has no setting"),
    ],
);

const PREFERENCE_APPLY: Table = ("preference apply", &[shows("--json", "s.dlm", "--json", "\"path\"")]);
const PREFERENCE_REVERT: Table = (
    "preference revert",
    &[shows("--json", "s.dlm", "--json", "\"removed\"")],
);
const PREFERENCE_LIST: Table = ("preference list", &[shows("--json", "s.dlm", "--json", "\"applied\"")]);
const SYNTH_APPLY: Table = (
    "synth apply",
    &[
        shows("--json", "s.dlm", "--json", "\"path\""),
        shows(
            "--inline",
            "s.dlm",
            "--inline",
            "Some prose.\n\n::instruction::\n<!-- dlm-auto-synth",
        ),
    ],
);
const SYNTH_REVERT: Table = ("synth revert", &[shows("--json", "s.dlm", "--json", "\"removed\"")]);
const SYNTH_LIST: Table = ("synth list", &[shows("--json", "s.dlm", "--json", "\"applied\"")]);
const SYNTH_DROP: Table = ("synth drop", &[shows("--json", "s.dlm", "--json", "\"dropped\"")]);

/// `SERVER` stands for the address of a server that answers every request with two pairs.
const ASKED: &str = "a.dlm --teacher vllm-server:SERVER --filter none";

const INSTRUCTIONS: Table = (
    "synth instructions",
    &[
        shows("--teacher", "a.dlm --filter none", "--teacher nobody", "nobody"),
        changes("--per-section", ASKED, "--per-section 2"),
        shows("--strategy", ASKED, "--strategy expansion", "strategy=expansion"),
        hides(
            "--filter",
            "a.dlm --teacher vllm-server:SERVER",
            "--filter none",
            "judge passed",
        ),
        shows(
            "--threshold",
            "a.dlm --teacher vllm-server:SERVER",
            "--threshold 1000",
            "threshold 1000",
        ),
        shows("--max-pairs", ASKED, "--max-pairs 1", "over_max_pairs"),
        shows("--max-new-tokens", ASKED, "--max-new-tokens 99", "\"max_tokens\":99"),
        shows("--temp", ASKED, "--temp 0.5", "\"temperature\":0.5"),
        shows("--top-p", ASKED, "--top-p 0.5", "\"top_p\":0.5"),
        shows("--seed", ASKED, "--seed 7", "\"seed\":7"),
        shows("--adapter", ASKED, "--adapter x", "a.dlm has no `training.adapters`"),
        shows("--apply", ASKED, "--apply", "synth: wrote 2 section(s)"),
        shows(
            "--inline",
            "a.dlm --teacher vllm-server:SERVER --filter none --apply",
            "--inline",
            "Some prose.\n\n::instruction::\n### Q\nWho rings the bell?",
        ),
        shows("--dry-run", ASKED, "--dry-run", "synth: dry run: 2 pair(s)"),
        shows("--json", ASKED, "--json", "\"teacher\": \"vllm-server"),
        shows("--grant", ASKED, "--grant vllm-server=nonsense", "nonsense"),
        shows("--deny", ASKED, "--deny vllm-server=nonsense", "nonsense"),
        shows("--sandbox", ASKED, "--sandbox", "nothing is granted"),
        shows("--plugin-opt", ASKED, "--plugin-opt vllm-server.x=1", "has no setting"),
    ],
);

const PAIRS: &str = r#"[{"question": "Who rings the bell?", "answer": "The keeper rings it."},
    {"question": "When does the bell ring?", "answer": "It rings at noon."}]"#;

/// Runs a line beside a server of its own; what it was asked is seen too.
fn taught(lab: &Lab, line: &str) -> String {
    let answer = Answer::Text(PAIRS.to_owned());
    let server = ChatServer::answering(ChatSettings::new(Protocol::Vllm), move |_| answer.clone()).unwrap();
    let url = server.url();
    let mut text = seen(lab, &line.replace("SERVER", &url)).replace(&url, "SERVER");
    for question in server.questions() {
        text.push_str(&format!("ASKED {}\n", question.body));
    }
    // Kept answers are named by what was asked, which has the address.
    let is_named = |line: &&str| line.starts_with("FILE ") || line.contains("synth_at") || line.contains("requests");
    text.lines()
        .filter(|line| !is_named(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn mine() {
    let lab = Lab::new();
    lab.trainable();
    let text = lab.read("a.dlm");
    let id = |last: char| format!("01HF7YAT0004106R0430MG200{last}");
    lab.write("two.dlm", text.replace(ID, &id('1')) + "\n### Q\nWho?\n\n### A\nAnn.\n");
    lab.write(
        "probe.dlm",
        text.replace(ID, &id('2')).replace("### Q\n", "### Q !probe\n"),
    );
    for document in ["a.dlm", "two.dlm", "probe.dlm"] {
        lab.run(&["train", document, "--max-steps", "2", "--threads", "1"]).ok();
    }
    for (name, body) in [
        ("judge.sh", "read -r asked\necho \"{\\\"score\\\": ${#asked}}\""),
        ("broken.sh", "exit 3"),
    ] {
        lab.script(name, body);
    }
    // Compiled once, for all copies.
    lab.run(&["preference", "mine", "a.dlm", "--judge", "cli:./broken.sh"]);
    check_by(&MINE, &|line| {
        let text = seen(&lab.copy(), line);
        // When a section was mined, and how long a plugin took, differs from run to run.
        let is_timed = |line: &&str| line.starts_with("FILE ") || line.contains("mined_at");
        text.lines()
            .filter(|line| !is_timed(line))
            .map(|line| format!("{line}\n"))
            .collect()
    });
}

#[test]
fn move_what_is_staged() {
    let lab = Lab::new();
    lab.document();
    std::fs::rename(lab.path("a.dlm"), lab.path("s.dlm")).unwrap();
    stage_preference(&lab);
    // Made from the prose of the document.
    let provenance = r#""auto_synth": true, "synth_teacher": "openai:x", "synth_strategy": "extraction",
        "synth_at": "2026-04-19T18:30:14Z", "source_section_id": "dd2f4e53501d4a34""#;
    stage(&lab, "synth", "instruction", r"### Q\nWho?\n### A\nMe.", provenance);
    for table in [
        &PREFERENCE_APPLY,
        &PREFERENCE_REVERT,
        &PREFERENCE_LIST,
        &SYNTH_APPLY,
        &SYNTH_REVERT,
        &SYNTH_LIST,
        &SYNTH_DROP,
    ] {
        check(&lab, table);
    }
}

#[test]
fn synthesize() {
    let lab = Lab::new();
    lab.trainable();
    taught(
        &lab,
        "synth instructions a.dlm --teacher vllm-server:SERVER --filter none --dry-run",
    );
    check_by(&INSTRUCTIONS, &|line| taught(&lab.copy(), line));
}
