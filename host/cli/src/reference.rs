//! The pages of `docs/reference`, made from what the program itself uses: its clap definition, its frontmatter reader,
//! its exit codes and its store layout. `cargo xtask docs` writes them, and refuses when they are stale.
//!
//! Invariants: a page is a function of the program alone, never of the machine. Accepted values are not listed here: the
//! reader is given a wrong value and says what it expected.

mod capabilities;
mod cases;
mod frontmatter;
mod grammar;
mod plugin_toml;
mod store;

use std::process::ExitCode;

use clap::{Arg, Command};
use dlm_core::FailureKind;
use serde_json::{Map, Value};

use dlm_core::inert::Inert;

use crate::console::deliver;
use crate::unbuilt;

/// The word that prints every page, as JSON: file name to text. Not part of the surface; `cargo xtask docs` types it.
pub const COMMAND: &str = "__reference";

/// Prints every page.
pub fn print() -> ExitCode {
    let pages: Map<String, Value> = pages()
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.into()))
        .collect();
    deliver(&Inert::json(&format!("{}\n", Value::from(pages))));
    ExitCode::SUCCESS
}

fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("capabilities.md", capabilities::page()),
        ("case-files.md", cases::page()),
        ("commands.md", commands()),
        ("exit-codes.md", exit_codes()),
        ("frontmatter.md", frontmatter::page()),
        ("grammar.md", grammar::page()),
        ("plugin-toml.md", plugin_toml::page()),
        ("store.md", store::page()),
    ]
}

/// Every command with its arguments, in the order of the help.
fn commands() -> String {
    let mut root = crate::definition();
    root.build();
    let mut out = String::from(
        "# Commands\n\nWritten by `cargo xtask docs` out of the program's own definition; `dlm <command> --help` says the same.\n\n## Everywhere\n\n",
    );
    table(&root, &|arg| is_listed(arg), &mut out);
    for command in root.get_subcommands().filter(|c| is_described(c)) {
        describe(command, "dlm", &mut out);
    }
    // The last command may have no arguments and so no table.
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn describe(command: &Command, path: &str, out: &mut String) {
    let path = format!("{path} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    out.push_str(&format!("\n## {path}\n\n{about}.\n\n"));
    table(command, &|arg| is_listed(arg) && !arg.is_global_set(), out);
    for inner in command.get_subcommands().filter(|c| is_described(c)) {
        describe(inner, &path, out);
    }
}

/// `help` says what `--help` says, for every command once more.
fn is_described(command: &Command) -> bool {
    !command.is_hide_set() && command.get_name() != "help"
}

fn is_listed(arg: &Arg) -> bool {
    !arg.is_hide_set() && arg.get_id() != "help"
}

fn table(command: &Command, is_wanted: &dyn Fn(&Arg) -> bool, out: &mut String) {
    let wanted: Vec<&Arg> = command.get_arguments().filter(|arg| is_wanted(arg)).collect();
    if wanted.is_empty() {
        return;
    }
    out.push_str("| argument | meaning | values | default |\n|---|---|---|---|\n");
    for arg in wanted {
        let cells = [name(arg), help(arg), values(arg), default(arg)].map(|cell| cell.replace('|', "\\|"));
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

fn name(arg: &Arg) -> String {
    let placeholder = arg
        .get_value_names()
        .map(|names| names.join(" "))
        .unwrap_or_else(|| arg.get_id().to_string().to_uppercase());
    let value = if arg.get_action().takes_values() {
        format!(" <{placeholder}>")
    } else {
        String::new()
    };
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}{value}`"),
        (None, Some(long)) => format!("`--{long}{value}`"),
        (Some(short), None) => format!("`-{short}{value}`"),
        (None, None) if arg.is_required_set() => format!("`<{placeholder}>`"),
        (None, None) => format!("`[{placeholder}]`"),
    }
}

fn help(arg: &Arg) -> String {
    let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if arg.get_help_heading() == Some(unbuilt::HEADING) {
        format!("{text} (not built yet: refused with exit 2)")
    } else {
        text
    }
}

fn values(arg: &Arg) -> String {
    if !arg.get_action().takes_values() {
        return String::new();
    }
    let names: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|v| format!("`{}`", v.get_name()))
        .collect();
    names.join(", ")
}

fn default(arg: &Arg) -> String {
    if !arg.get_action().takes_values() {
        return String::new();
    }
    let values = arg
        .get_default_values()
        .iter()
        .map(|v| format!("`{}`", v.to_string_lossy()));
    values.collect::<Vec<_>>().join(", ")
}

fn exit_codes() -> String {
    let rows = [
        (0, "success, also when there was nothing to train"),
        (
            FailureKind::Runtime.exit_code(),
            "it could not be done: the document, the base, the store, the disk, memory, a license",
        ),
        (
            FailureKind::Misuse.exit_code(),
            "it was asked for wrongly: an unknown flag or value, flags that exclude each other, what is not built yet",
        ),
        (
            FailureKind::Interrupted.exit_code(),
            "Ctrl-C; `metrics watch` ends with 0 instead",
        ),
    ];
    let mut out =
        String::from("# Exit codes and streams\n\nWritten by `cargo xtask docs`.\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in rows {
        out.push_str(&format!("| {code} | {meaning} |\n"));
    }
    out.push_str(
        "\nResults go to stdout, everything else to stderr. A failure is one message, `subject: message`, with the next command to\n\
         type on an indented line below it; `--verbose` adds the causes. A mistake in a document is\n\
         `parse: file:line:column: class: message` with the line itself. A reader that went away ends the program\n\
         quietly, with 0; output that cannot be written for another reason is one message and 1.\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_every_command_is_on_its_page() {
        let page = commands();
        for flag in [
            "--home <PATH>",
            "--max-steps <N>",
            "--threads <N>",
            "--quant <",
            "## dlm base add",
        ] {
            assert!(page.contains(flag), "{flag} is missing in:\n{page}");
        }
        assert!(
            !page.contains("| `-h`") && !page.contains("`--help`"),
            "help is not repeated for every command"
        );
    }

    #[test]
    fn pages_do_not_depend_on_the_machine() {
        for (name, text) in pages() {
            assert!(
                text.ends_with('\n') && !text.ends_with("\n\n"),
                "{name} ends with one line end"
            );
            assert!(
                !text.contains(env!("CARGO_MANIFEST_DIR")),
                "{name} names a directory of this machine"
            );
        }
    }
}
