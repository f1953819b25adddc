//! Hostile plugins through the binary: templates that reach outside, texts that a terminal would obey, files that are swapped
//! between their check and their use. Beside each the same plugin behaving.

use std::fs;
use std::os::unix::fs::symlink;

use dlm_packages::Kind;

use crate::guest::{Chosen, Leaf, argument, component_that, contract, guest, honest, judge};
use crate::lab::Lab;

/// What a gallery says of its one template, and brings with it.
#[derive(Clone)]
struct Gallery {
    /// Name, title, summary, base and revision.
    meta: [String; 5],
    document: String,
    files: Vec<String>,
}

const HEAD: &str = "---\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: smollm2-135m\n";

impl Gallery {
    fn of(front: &str, body: &str) -> Gallery {
        Gallery {
            meta: ["mine", "Mine", "All mine", "smollm2-135m", "1"].map(str::to_owned),
            document: format!("{HEAD}{front}---\n\n{body}\n"),
            files: Vec::new(),
        }
    }

    fn with_files(files: &[&str]) -> Gallery {
        Gallery {
            files: files.iter().map(|name| (*name).to_owned()).collect(),
            ..Gallery::of("", "Some prose.")
        }
    }

    /// The location that makes the guest answer so: one template in `list`, the same in `fetch`.
    fn location(&self) -> String {
        let mut texts = vec!["hostile".to_owned()];
        texts.extend(self.meta.iter().chain(&self.meta).cloned());
        texts.push(self.document.clone());
        texts.extend(self.files.iter().cloned());
        let mut texts = texts.into_iter();
        let mut pairs = 0;
        argument(Kind::Templates, &[], &mut |leaf| match leaf {
            Leaf::Text => Chosen::Text(texts.next().unwrap().into_bytes()),
            // Tags and prompts.
            Leaf::List(8) => Chosen::Count(0),
            // Durations in `list` and in `fetch`, then the files.
            Leaf::List(16) => {
                pairs += 1;
                Chosen::Count(if pairs == 3 {
                    u32::try_from(self.files.len()).unwrap()
                } else {
                    0
                })
            }
            other => honest(Kind::Templates, other, false),
        })
    }
}

/// A lab in which the source `hostile` is installed.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("hostile.wasm", guest(Kind::Templates));
    lab.run(&["plugin", "install", "hostile.wasm"]).ok();
    lab
}

fn configure(lab: &Lab, location: &str) {
    lab.write(
        "home/config.toml",
        format!("[template-sources.hostile]\nlocation = \"{location}\"\n"),
    );
}

/// Starts a document from a gallery, in a directory of its own.
fn init(lab: &Lab, gallery: &Gallery) -> crate::lab::Ran {
    configure(lab, &gallery.location());
    fs::create_dir_all(lab.path("new")).unwrap();
    lab.run(&["init", "new/a.dlm", "--template", "hostile:mine"])
}

#[track_caller]
fn refused(lab: &Lab, gallery: &Gallery, parts: &[&str]) {
    let ran = init(lab, gallery).exits(1).says(parts);
    assert!(!ran.err.contains("panicked") && is_inert(&ran.err), "{}", ran.err);
    assert_eq!(lab.files("new"), [], "{parts:?}");
    assert_eq!(lab.files("home/store"), [], "{parts:?}");
    assert_eq!(lab.files("user"), [], "{parts:?}");
}

fn is_inert(text: &str) -> bool {
    !text.contains(|c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c))
}

#[test]
fn a_template_that_behaves_starts_a_document() {
    let lab = lab();
    let gallery = Gallery::with_files(&["notes/a.txt", "figure.png"]);
    init(&lab, &gallery)
        .ok()
        .says(&["init: wrote new/a.dlm", "template `mine` of `hostile`"]);
    let names: Vec<String> = lab.files("new").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a.dlm", "figure.png", "notes/a.txt"]);
    assert_eq!(fs::read(lab.path("new/notes/a.txt")).unwrap(), [1]);
    assert!(lab.read("new/a.dlm").ends_with("Some prose.\n"));
    assert!(
        !lab.read("new/a.dlm").contains("01HZ4X7TGZM3J1A2B3C4D5E6F7"),
        "it has an id of its own"
    );
}

#[test]
fn a_template_cannot_grant_or_set_anything() {
    let lab = lab();
    for front in [
        "plugins:\n  hostile:\n    grants: ['exec:sh **']\n",
        "grants: ['exec:sh **']\n",
        "plugin: hostile\n",
        "judge: 'cli:sh -c id'\n",
        "training:\n  judge: 'cli:sh'\n",
        "template-sources:\n  hostile: {location: x}\n",
    ] {
        let key = front.trim_start_matches("training:\n  ").split(':').next().unwrap();
        refused(
            &lab,
            &Gallery::of(front, "Prose."),
            &["template `mine` of `hostile` is refused", key],
        );
    }
}

#[test]
fn fences_of_a_template_do_not_break_out() {
    let lab = lab();
    for (body, part) in [
        ("::grant::\nexec:sh **", "grant"),
        ("::plugin name=\"x\"::\ntext", "plugin"),
        ("Prose.\n::image::", "needs attributes"),
    ] {
        refused(
            &lab,
            &Gallery::of("", body),
            &["template `mine` of `hostile` is refused", part],
        );
    }
    // A second head is prose, not a head.
    let twice = Gallery::of("", "---\nbase_model: hf:org/other\nplugins: {}\n---\n\nMore.");
    init(&lab, &twice).ok();
    assert_eq!(lab.json(&["show", "new/a.dlm", "--json"])["base_model"], "smollm2-135m");
    let (head, _) = twice.document.split_at(twice.document.len() / 2);
    let cut = Gallery {
        document: head.split("---\n\n").next().unwrap().to_owned(),
        ..twice.clone()
    };
    fs::remove_dir_all(lab.path("new")).unwrap();
    fs::remove_dir_all(lab.path("home/store")).unwrap();
    refused(&lab, &cut, &["template `mine` of `hostile` is refused"]);
}

#[test]
fn a_template_stays_in_its_directory() {
    let lab = lab();
    for path in ["/etc", "../x", "a/../../x", "~/x", "C:\\x"] {
        let sources = format!("training:\n  sources:\n    - path: '{path}'\n");
        refused(
            &lab,
            &Gallery::of(&sources, "Prose."),
            &["`training.sources` names", "is refused"],
        );
        let image = format!("::image path=\"{path}\"::");
        refused(&lab, &Gallery::of("", &image), &["the section names", "is refused"]);
    }
    for name in [
        "../x",
        "/tmp/x",
        "a/../../x",
        "C:\\x",
        "a\\b",
        "CON",
        "x.",
        ".git/config",
        ".dlm/plugins/x.wasm",
        "dlm.toml",
        "DLM.toml",
        "\u{202e}x",
        "a\u{1b}[2Jb",
        "",
    ] {
        refused(&lab, &Gallery::with_files(&[name]), &[]);
    }
    refused(&lab, &Gallery::with_files(&["a", "A"]), &["twice"]);
    refused(&lab, &Gallery::with_files(&["a", "a/b"]), &["is a directory too"]);
    refused(
        &lab,
        &Gallery::with_files(&["a.dlm"]),
        &["is another document; a template brings one"],
    );
}

#[test]
fn a_template_writes_through_no_link_and_over_no_file() {
    let lab = lab();
    fs::create_dir_all(lab.path("outside")).unwrap();
    lab.write("outside/a.txt", "old");
    fs::create_dir_all(lab.path("new")).unwrap();
    symlink(lab.path("outside"), lab.path("new/notes")).unwrap();
    init(&lab, &Gallery::with_files(&["notes/a.txt"]))
        .exits(1)
        .says(&["new/notes/a.txt exists already"]);
    init(&lab, &Gallery::with_files(&["notes/b.txt"]))
        .exits(1)
        .says(&["new/notes is in the way"]);
    symlink(lab.path("outside/c.txt"), lab.path("new/c.txt")).unwrap();
    init(&lab, &Gallery::with_files(&["c.txt"]))
        .exits(1)
        .says(&["new/c.txt exists already"]);
    assert_eq!(lab.files("outside"), [("a.txt".to_owned(), b"old".to_vec())]);
    assert!(!lab.path("new/a.dlm").exists());
}

#[test]
fn no_text_of_a_plugin_is_obeyed_by_the_terminal() {
    let lab = lab();
    let harmful = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}31m\r\nfake: line";
    let mut gallery = Gallery::of("", "Prose.");
    for place in 1..5 {
        gallery.meta[place] = harmful.to_owned();
    }
    configure(&lab, &gallery.location());
    let listed = lab.run(&["templates", "list", "--source", "hostile"]).ok();
    assert!(
        is_inert(&listed.out) && is_inert(&listed.err),
        "{}{}",
        listed.out,
        listed.err
    );
    assert!(
        !listed.out.lines().any(|line| line.starts_with("fake")),
        "{}",
        listed.out
    );
    let json = lab
        .run(&["templates", "list", "--source", "hostile", "--json"])
        .ok()
        .out;
    assert!(is_inert(&json), "{json}");
    let ran = init(&lab, &gallery).ok();
    assert!(is_inert(&ran.err) && is_inert(&ran.out), "{}", ran.err);
    // The name decides what is written where, so a harmful one is refused.
    gallery.meta[0] = harmful.to_owned();
    configure(&lab, &gallery.location());
    let ran = lab.run(&["templates", "list", "--source", "hostile"]).exits(1);
    assert!(
        is_inert(&ran.err) && ran.err.contains("is not a template name"),
        "{}",
        ran.err
    );
    // Its errors, each case of the contract, with the exit code of its class.
    for case in 0..12 {
        let mut is_first = true;
        let location = argument(Kind::Templates, &[], &mut |leaf| match leaf {
            Leaf::Case(2) if std::mem::take(&mut is_first) => Chosen::Bits(1),
            Leaf::Case(12) => Chosen::Bits(case),
            Leaf::Text => Chosen::Text(harmful.as_bytes().to_vec()),
            other => honest(Kind::Templates, other, true),
        });
        configure(&lab, &location);
        let code = match case {
            0 | 1 => 2,
            8 => 130,
            _ => 1,
        };
        let ran = lab.run(&["templates", "list", "--source", "hostile"]).exits(code);
        assert!(is_inert(&ran.err), "{case}: {:?}", ran.err);
        let json = lab
            .run(&["templates", "list", "--source", "hostile", "--json"])
            .exits(code)
            .out;
        assert!(is_inert(&json), "{case}: {json:?}");
    }
}

#[test]
fn an_installed_plugin_that_was_swapped_does_not_run() {
    let lab = lab();
    let gallery = Gallery::of("", "Prose.");
    configure(&lab, &gallery.location());
    let list = || lab.run(&["templates", "list", "--source", "hostile"]);
    assert!(list().ok().out.contains("mine"));
    let path = lab.path("home/plugins/hostile/0.0.1/plugin.wasm");
    let good = fs::read(&path).unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    let swaps: [(&str, &dyn Fn()); 4] = [
        ("in place, with its old time", &|| {
            fs::write(&path, &other).unwrap();
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }),
        ("by another file", &|| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, &other).unwrap();
        }),
        ("by a link", &|| {
            fs::remove_file(&path).unwrap();
            symlink(lab.write("other.wasm", &other), &path).unwrap();
        }),
        ("by a cut", &|| fs::write(&path, &good[..good.len() / 2]).unwrap()),
    ];
    for (what, swap) in swaps {
        swap();
        list()
            .exits(1)
            .says(&["is not the file that was trusted", "dlm plugin inspect"]);
        let _gone = fs::remove_file(&path);
        fs::write(&path, &good).unwrap();
        assert!(list().ok().out.contains("mine"), "{what}");
    }
}

/// A judge made of text, which promises to be deterministic.
fn judge_that(declared: &str, score: &str) -> Vec<u8> {
    let text = judge("1.0.0", declared, "", score);
    component_that(
        &contract(None),
        Kind::Judge,
        "judge-plugin",
        &text,
        ",\"deterministic\":true",
    )
}

#[test]
fn a_judge_that_breaks_its_promises_fails_its_test() {
    let lab = Lab::new();
    let case = r#"{ "kind": "judge", "call": { "score": [ { "prompt": "Q", "candidates": ["a", "b"] } ] },
                   "expect": { "verdicts": [ { "scores": [0.0, 0.0] } ] } }"#;
    lab.write("case.json", case);
    let test = |bytes: Vec<u8>| {
        lab.write("hostile.wasm", bytes);
        lab.run(&["plugin", "test", "./hostile.wasm", "--case", "case.json"])
    };
    let good = test(judge_that("", "")).ok();
    assert!(good.out.contains("ok     case: the same answer again"), "{}", good.out);

    // One more with every call.
    let declared = "(global $calls (mut i32) (i32.const 0))";
    let score = "(f64.store (i32.const 168) (f64.convert_i32_u (global.get $calls)))
                 (global.set $calls (i32.add (global.get $calls) (i32.const 1)))";
    let changing = test(judge_that(declared, score)).exits(1);
    let told = "the second call of one instance gives another answer";
    assert!(changing.out.contains(told), "{}", changing.out);

    for (score, part) in [
        (
            "(f64.store (i32.const 160) (f64.const nan))",
            "the score NaN is not finite",
        ),
        (
            "(f64.store (i32.const 168) (f64.const -inf))",
            "the score -inf is not finite",
        ),
        (
            "(i32.store (i32.const 148) (i32.const 1))",
            "it gave 1 scores for 2 candidates",
        ),
        (
            "(i32.store (i32.const 136) (i32.const 0))",
            "it gave 0 verdicts for 1 items",
        ),
        ("unreachable", "crashed in `score`"),
    ] {
        let ran = test(judge_that("", score)).exits(1);
        assert!(
            ran.out.contains(part) && !ran.err.contains("panicked"),
            "{part}: {}",
            ran.out
        );
    }
}
