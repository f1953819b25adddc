//! The rows of the commands that make, train, ask and export a model.

use super::{Table, check, hides, shows};
use crate::lab::Lab;

pub const TABLES: &[&Table] = &[
    &INIT, &TRAIN, &RESUMED, &PROMPT, &SCORE, &EXPORT, &CHECK, &SHOW, &MIGRATE, &DOCTOR, &METRICS, &ADD, &LIST,
    &DETAIL, &TEMPLATES,
];

const INIT: Table = (
    "init",
    &[
        shows("--base", "n.dlm", "--base tiny", "base:  tiny"),
        shows(
            "--template",
            "n.dlm --base tiny",
            "--template changelog",
            "from:  template `changelog`",
        ),
        shows(
            "--skip-export-probes",
            "n.dlm --base tiny",
            "--skip-export-probes",
            "/init.json",
        ),
        shows(
            "--i-accept-license",
            "n.dlm --base gemma-2-2b-it",
            "--i-accept-license",
            "license accepted: Gemma",
        ),
        shows("--force", "a.dlm --base tiny", "--force", "init: wrote a.dlm"),
        shows("--grant", GALLERY, "--grant bundled=nonsense", "nonsense"),
        shows("--deny", GALLERY, "--deny bundled=nonsense", "nonsense"),
        shows(
            "--sandbox",
            "n.dlm --base tiny --template https:x",
            "--sandbox",
            "not granted",
        ),
        shows("--plugin-opt", GALLERY, "--plugin-opt bundled.x=1", "has no setting"),
    ],
);
const GALLERY: &str = "n.dlm --base tiny --template changelog";

const DRY: &str = "a.dlm --dry-run";
const SHORT: &str = "a.dlm --max-steps 2";

const TRAIN: Table = (
    "train",
    &[
        shows("--fresh", "a.dlm --resume", "--fresh", "cannot be used with"),
        shows("--seed", DRY, "--seed 7", "7  (given by --seed)"),
        shows("--max-steps", DRY, "--max-steps 3", "3  (given by --max-steps)"),
        hides(
            "--phase",
            "preferences.dlm --dry-run",
            "--phase sft",
            "dpo, sigmoid loss",
        ),
        shows(
            "--phase",
            "preferences.dlm --dry-run",
            "--phase preference",
            "none was trained yet",
        ),
        hides("--no-mined", "mined.dlm --dry-run", "--no-mined", "dpo, sigmoid loss"),
        hides("--dry-run", SHORT, "--dry-run", "sft: v0001"),
        shows("--json", DRY, "--json", "\"lora_r\": {"),
        shows(
            "--i-accept-license",
            "gated.dlm",
            "--i-accept-license",
            "is not in the cache",
        ),
        shows(
            "--ignore-lock",
            SHORT,
            "--ignore-lock --update-lock",
            "cannot be used with",
        ),
        hides("--ignore-lock", SHORT, "--ignore-lock", "/dlm.lock"),
        shows(
            "--skip-export-probes",
            "odd.dlm --dry-run",
            "--skip-export-probes",
            "lora_r  ",
        ),
        shows("--no-cache", DRY, "--no-cache", "off  (given by --no-cache)"),
        shows("--anchors", DRY, "--anchors off", "off  (given by --anchors)"),
        shows("--augment", DRY, "--augment off", "off  (given by --augment)"),
        shows("--noise", DRY, "--noise off", "off  (given by --noise)"),
        shows("--simd", DRY, "--simd scalar", "scalar  (given by --simd)"),
    ],
);

/// On a document that was trained before, with a lock that drifted and a metrics database that cannot be written.
const RESUMED: Table = (
    "train",
    &[
        shows("--resume", "a.dlm --dry-run", "--resume", "resume: "),
        shows("--strict-lock", "a.dlm --seed 9 --dry-run", "--strict-lock", "exit 1"),
        hides(
            "--update-lock",
            "a.dlm --seed 9 --dry-run",
            "--update-lock",
            "seed changed",
        ),
        shows("--strict-metrics", SHORT, "--strict-metrics", "exit 1"),
    ],
);

const ASK: &str = "a.dlm What? --max-tokens 3 --temp 0";

const PROMPT: Table = (
    "prompt",
    &[
        shows(
            "--max-tokens",
            "a.dlm What? --temp 0 -v",
            "--max-tokens 2",
            "2  (given by --max-tokens)",
        ),
        shows(
            "--temp",
            "a.dlm What? --max-tokens 2 -v",
            "--temp 0",
            "0  (given by --temp)",
        ),
        shows(
            "--top-p",
            "a.dlm What? --max-tokens 2 -v",
            "--top-p 0.5",
            "0.5  (given by --top-p)",
        ),
        shows(
            "--seed",
            "a.dlm What? --max-tokens 2 -v",
            "--seed 5",
            "5  (given by --seed)",
        ),
        hides(
            "--base-only",
            "a.dlm What? --max-tokens 3 --temp 0 -v",
            "--base-only",
            "adapter: ",
        ),
        shows("--adapter", ASK, "--adapter x", "a.dlm has no `training.adapters`"),
        shows(
            "--adapter",
            "several.dlm What?",
            "--adapter x",
            "adapter `x` is not declared",
        ),
        shows(
            "--gate",
            "several.dlm What?",
            "--gate off",
            "adapter `t` of several.dlm was not trained yet",
        ),
        shows(
            "--adapter-dir",
            "untrained.dlm What? --max-tokens 2 --temp 0 -v",
            "--adapter-dir bare",
            "bare/adapter_config.json",
        ),
        shows("--gate", ASK, "--gate auto", "`--gate auto` is only valid"),
        shows("--gate", ASK, "--gate off", "`--gate off` is only valid"),
        shows(
            "--backend",
            "a.dlm What? --max-tokens 2 --temp 0 -v",
            "--backend pytorch",
            "(given by --backend)",
        ),
        shows("--backend", ASK, "--backend mlx", "Apple Silicon"),
    ],
);

const SCORE: Table = (
    "score",
    &[
        shows(
            "--questions",
            "a.dlm --text a.dlm",
            "--questions q.json",
            "0 of 1 accepted",
        ),
        shows(
            "--text",
            "a.dlm --questions q.json",
            "--text a.dlm",
            "mean loss on the text",
        ),
        hides(
            "--base-only",
            "untrained.dlm --text a.dlm",
            "--base-only",
            "no adapter was trained yet",
        ),
        shows(
            "--adapter",
            "several.dlm --text a.dlm",
            "--adapter u",
            "adapter `u` of several.dlm was not trained yet",
        ),
        shows(
            "--adapter-dir",
            "untrained.dlm --text a.dlm",
            "--adapter-dir bare",
            "bare/adapter_config.json",
        ),
        shows("--json", "a.dlm --text a.dlm", "--json", "{\n"),
    ],
);

const SERVED: &str = "a.dlm --target llama-server --quant F16 --no-smoke";
const VLLM: &str = "a.dlm --target vllm --no-smoke";

const EXPORT: Table = (
    "export",
    &[
        shows(
            "--target",
            "a.dlm --skip-ollama --quant F16",
            "--target llama-server",
            "llama-server_launch.sh",
        ),
        shows(
            "--quant",
            "a.dlm --target llama-server --no-smoke",
            "--quant F16",
            "base.F16.gguf",
        ),
        shows("--merged", SERVED, "--merged", "merged.F16.gguf"),
        shows(
            "--dequantize",
            SERVED,
            "--dequantize",
            "`--dequantize` without `--merged`",
        ),
        shows(
            "--dequantize",
            "a.dlm --target llama-server --quant F16 --no-smoke --merged",
            "--dequantize",
            "trained on unquantized weights",
        ),
        shows(
            "--adapter-dir",
            "untrained.dlm --target llama-server",
            "--adapter-dir bare",
            "bare/adapter_config.json",
        ),
        shows(
            "--adapter-mix",
            SERVED,
            "--adapter-mix t:1",
            "`--adapter-mix` is only valid",
        ),
        shows(
            "--adapter-mix",
            "several.dlm --target llama-server",
            "--adapter-mix t",
            "`t` has no weight",
        ),
        shows(
            "--adapter-mix-method",
            "several.dlm --target llama-server",
            "--adapter-mix-method svd",
            "--adapter-mix <SPEC>",
        ),
        shows("--name", VLLM, "--name shelf", "--served-model-name shelf"),
        shows("--no-template", VLLM, "--no-template", "has no use for --no-template"),
        hides(
            "--skip-ollama",
            "a.dlm --quant F16",
            "--skip-ollama",
            "the program `ollama` is not installed",
        ),
        shows(
            "--no-smoke",
            "a.dlm --target llama-server --quant F16",
            "--no-smoke",
            "smoke: not run: --no-smoke",
        ),
        shows(
            "--imatrix",
            "a.dlm --target llama-server --quant Q4_K_M --no-smoke",
            "--imatrix a.dlm",
            "importance matrix: `a.dlm`",
        ),
        shows(
            "--no-imatrix",
            "a.dlm --target llama-server --quant F16 --no-smoke -v",
            "--no-imatrix",
            "(given by --no-imatrix)",
        ),
        shows(
            "--no-draft",
            "a.dlm --target llama-server --quant F16 --no-smoke -v",
            "--no-draft",
            "(given by --no-draft)",
        ),
        shows(
            "--draft",
            "a.dlm --target llama-server --quant F16 --no-smoke -v",
            "--draft me/small",
            "me/small  (given by --draft)",
        ),
        shows("--emit-sway-json", SERVED, "--emit-sway-json", "sway.yaml"),
        shows("--dry-run", SERVED, "--dry-run", "nothing was exported"),
        shows("--quant-report", SERVED, "--quant-report", "perplexity"),
        shows("--adapter", SERVED, "--adapter x", "a.dlm has no `training.adapters`"),
        shows(
            "--adapter",
            "several.dlm --target llama-server",
            "--adapter x",
            "adapter `x` is not declared",
        ),
        shows("--json", SERVED, "--json", "\"quant\": \"F16\""),
        shows("--grant", SERVED, "--grant llama-server=nonsense", "nonsense"),
        shows("--deny", SERVED, "--deny llama-server=nonsense", "nonsense"),
        shows(
            "--sandbox",
            "a.dlm --target llama-server --quant F16",
            "--sandbox",
            "not granted",
        ),
        shows(
            "--plugin-opt",
            SERVED,
            "--plugin-opt llama-server.x=1",
            "has no setting",
        ),
    ],
);

const CHECK: Table = ("check", &[shows("--json", "a.dlm", "--json", "\"dlm_id\"")]);
const SHOW: Table = (
    "show",
    &[
        shows("--json", "a.dlm", "--json", "\"dlm_id\""),
        shows(
            "--verify",
            "a.dlm",
            "--verify",
            "every file that has a digest is what was written",
        ),
    ],
);
const MIGRATE: Table = (
    "migrate",
    &[
        shows("--dry-run", "old.dlm", "--dry-run", "dry-run: "),
        hides("--no-backup", "old.dlm", "--no-backup", "old.dlm.bak"),
    ],
);
const DOCTOR: Table = (
    "doctor",
    &[
        shows("--base", "", "--base tiny", "local:tiny: "),
        shows("--json", "", "--json", "\"capabilities\""),
    ],
);
const METRICS: Table = (
    "metrics show",
    &[
        shows("--json", "a.dlm", "--json", "\"runs\""),
        shows("--csv", "a.dlm", "--csv", "run_id,phase"),
        hides("--run-id", "a.dlm", "--run-id 1", "run_id=2"),
        hides("--phase", "a.dlm", "--phase cpt", "run_id=2"),
        shows("--since", "a.dlm", "--since 1w", "1w"),
        hides("--limit", "a.dlm", "--limit 1", "run_id=1 "),
    ],
);
const ADD: Table = (
    "base add",
    &[shows("--from", "other", "--from model", "base: added other")],
);
const LIST: Table = ("base list", &[shows("--json", "", "--json", "\"registry\"")]);
const DETAIL: Table = ("base show", &[shows("--json", "tiny", "--json", "\"record\"")]);
const TEMPLATES: Table = (
    "templates list",
    &[
        shows("--source", "", "--source nowhere", "nowhere"),
        shows("--json", "", "--json", "\"domain_tags\""),
        shows("--refresh", "", "--refresh", "no upstream gallery yet"),
        shows("--accept-unsigned", "--refresh", "--accept-unsigned", "signed or not"),
        shows("--grant", "", "--grant bundled=nonsense", "nonsense"),
        shows("--deny", "", "--deny bundled=nonsense", "nonsense"),
        shows("--sandbox", "--source https", "--sandbox", "not granted"),
        shows("--plugin-opt", "", "--plugin-opt bundled.x=1", "has no setting"),
    ],
);

/// A document on the tiny base, and documents that ask for other things.
fn written() -> Lab {
    let lab = Lab::new();
    lab.trainable();
    let text = lab.read("a.dlm");
    let id = |last: char| format!("01HF7YAT0004106R0430MG200{last}");
    let other = |last: char| text.replace(crate::lab::ID, &id(last));
    let preferences = "\n::preference::\n### Prompt\nWhat?\n### Chosen\nThat.\n### Rejected\nThis.\n";
    lab.write("preferences.dlm", other('1') + preferences);
    let mined = "<!-- dlm-auto-mined: judge_name=\"sway\" judge_score_chosen=\"1.0\" judge_score_rejected=\"0.0\" \
                 mined_at=\"2026-04-19T18:30:14Z\" mined_run_id=\"1\" -->\n";
    let mined = preferences.replace("::preference::\n", &format!("::preference::\n{mined}"));
    lab.write("mined.dlm", other('7') + &mined);
    lab.write("gated.dlm", other('2').replace("tiny", "gemma-2-2b-it"));
    lab.write(
        "several.dlm",
        other('3').replace("\n---\n\n", "\ntraining: {adapters: {t: {}, u: {}}}\n---\n\n"),
    );
    lab.write("old.dlm", other('4').replace("dlm_version: 15", "dlm_version: 1"));
    lab.write("untrained.dlm", other('5'));
    std::fs::create_dir(lab.path("bin")).unwrap();
    lab.script("bin/llama-server", "exit 1");
    unlabeled(&lab);
    lab.write("odd.dlm", other('6').replace("tiny", "odd"));
    lab.write("q.json", r#"{"pairs": [{"question": "What?", "accept": ["That"]}]}"#);
    lab
}

/// Adds the base `odd`, which is like the tiny one and has a tokenizer that no GGUF file can say.
fn unlabeled(lab: &Lab) {
    std::fs::create_dir(lab.path("odd")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        std::fs::copy(lab.path("model").join(name), lab.path("odd").join(name)).unwrap();
    }
    let text = lab.read("model/tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_str(&text).unwrap();
    tokenizer["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "[0-9]+|[^0-9]"}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
    ]});
    lab.write("odd/tokenizer.json", tokenizer.to_string());
    lab.run(&["base", "add", "odd", "--from", "odd"]).ok();
}

/// A gallery at an address where nobody answers.
fn galleries(lab: &Lab) {
    std::fs::create_dir_all(lab.path("home")).unwrap();
    lab.write(
        "home/config.toml",
        "[template-sources.https]\nlocation = \"https://127.0.0.1:1/gallery/index.json\"\n",
    );
}

/// The same after two runs.
fn trained() -> Lab {
    let lab = written();
    for _ in 0..2 {
        lab.run(&["train", "a.dlm", "--max-steps", "2", "--threads", "1"]).ok();
    }
    lab
}

#[test]
fn init() {
    let lab = written();
    galleries(&lab);
    check(&lab, &INIT);
}

#[test]
fn train() {
    check(&written(), &TRAIN);
}

#[test]
fn train_again() {
    let lab = trained();
    let database = lab.store().join("metrics.sqlite");
    let damage = rusqlite::Connection::open(database).unwrap();
    damage
        .execute_batch("DROP TABLE steps; CREATE VIEW steps AS SELECT 1 AS run_id")
        .unwrap();
    drop(damage);
    check(&lab, &RESUMED);
}

#[test]
fn ask() {
    let lab = trained();
    check(&lab, &PROMPT);
    check(&lab, &SCORE);
}

#[test]
fn export() {
    check(&trained(), &EXPORT);
}

#[test]
fn the_rest() {
    let lab = trained();
    for table in [&CHECK, &SHOW, &MIGRATE, &DOCTOR, &METRICS, &ADD, &LIST, &DETAIL] {
        check(&lab, table);
    }
}

#[test]
fn templates() {
    let lab = Lab::new();
    galleries(&lab);
    check(&lab, &TEMPLATES);
}
