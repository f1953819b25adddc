//! The whole help tree, as one snapshot: a flag that appears, vanishes or changes its words is seen in review.

use crate::lab::Lab;

/// Subcommands as clap lists them under `Commands:`.
fn subcommands(help: &str) -> Vec<String> {
    let after = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = after.lines().take_while(|line| !line.trim().is_empty());
    // A wrapped description is indented deeper than a name.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        // It prints what `--help` prints.
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn walk(lab: &Lab, path: &[String], out: &mut String) {
    let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
    arguments.push("--help");
    let ran = lab.run(&arguments).ok();
    assert_eq!(ran.err, "", "help is a result");
    out.push_str(&format!("$ dlm {}\n{}\n", arguments.join(" "), ran.out));
    for name in subcommands(&ran.out) {
        walk(lab, &[path, &[name]].concat(), out);
    }
}

#[test]
fn the_whole_tree() {
    let mut out = String::new();
    walk(&Lab::new(), &[], &mut out);
    insta::with_settings!({prepend_module_to_snapshot => false, snapshot_path => "../snapshots"}, {
        insta::assert_snapshot!("help", out);
    });
}
