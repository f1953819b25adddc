//! `cargo xtask <command>`: the chores of the repository, one file each.

mod guests;
mod repository;

use std::process::ExitCode;

/// One chore: its name, what it does in a line, and its entry point, which gets the arguments after the name.
struct Chore {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const CHORES: &[Chore] = &[Chore {
    name: "guests",
    about: "build the plugins of components/ into plugins/; --check compares what is there",
    run: guests::run,
}];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        return usage("no command given");
    };
    let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else {
        return usage(&format!("there is no command `{name}`"));
    };
    match (chore.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("xtask: {problem}\n\ncommands:");
    for chore in CHORES {
        eprintln!("  {:<10} {}", chore.name, chore.about);
    }
    ExitCode::from(2)
}
