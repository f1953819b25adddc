//! `dlm migrate`.

use crate::lab::{ID, Lab};

fn old(lab: &Lab) -> String {
    let text = format!(
        "---\n# mine\ndlm_id: {ID}\nbase_model: smollm2-135m\ntraining:\n  dpo:\n    enabled: true\n---\n\nbody\n"
    );
    lab.write("a.dlm", &text);
    text
}

#[test]
fn a_dry_run_prints_the_frontmatter_and_writes_nothing() {
    let lab = Lab::new();
    let text = old(&lab);
    let ran = lab
        .run(&["migrate", "a.dlm", "--dry-run"])
        .ok()
        .says(&["dry-run: a.dlm would migrate v1 → v2 → "]);
    assert!(
        ran.out.starts_with("---\n# mine\n") && ran.out.ends_with("---\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("dlm_version: 15") && ran.out.contains("  preference:"),
        "{}",
        ran.out
    );
    assert_eq!(lab.read("a.dlm"), text);
}

#[test]
fn the_document_is_migrated_with_a_backup_once() {
    let lab = Lab::new();
    let text = old(&lab);
    let ran = lab
        .run(&["migrate", "a.dlm"])
        .ok()
        .says(&["backup:  a.dlm.bak\n", "migrated: a.dlm v1 → "]);
    assert_eq!(ran.out, "");
    assert_eq!(lab.read("a.dlm.bak"), text);
    lab.run(&["migrate", "a.dlm"])
        .ok()
        .says(&["migrate: a.dlm already at v15 (no migrations needed)."]);
    assert!(!lab.path("a.dlm.bak.1").exists() && !lab.path("home").exists());
    // Killed between backup and document: the backup is there, and is enough.
    lab.write("a.dlm", &text);
    lab.run(&["migrate", "a.dlm"]).ok().says(&["backup:  a.dlm.bak\n"]);
    assert!(!lab.path("a.dlm.bak.1").exists());
}

#[test]
fn no_backup_leaves_none() {
    let lab = Lab::new();
    old(&lab);
    lab.run(&["migrate", "a.dlm", "--no-backup"]).ok();
    assert!(!lab.path("a.dlm.bak").exists());
    assert!(lab.read("a.dlm").contains("dlm_version: 15"));
}

#[test]
fn broken_and_newer_documents_are_refused_under_migrate() {
    let lab = Lab::new();
    let text = old(&lab);
    lab.write("a.dlm", text.replace("base_model", "dlm_version: 99\nbase_model"));
    let ran = lab.run(&["migrate", "a.dlm"]).exits(1).says(&["VersionError"]);
    assert!(ran.err.starts_with("migrate: a.dlm:4:1: "), "{}", ran.err);
    lab.write("a.dlm", "nothing");
    assert!(
        lab.run(&["migrate", "a.dlm"])
            .exits(1)
            .err
            .starts_with("migrate: a.dlm:1:1: ")
    );
    assert!(
        lab.run(&["migrate", "none.dlm"])
            .exits(1)
            .err
            .starts_with("migrate: none.dlm does not exist")
    );
}
