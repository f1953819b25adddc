//! `cargo xtask <command>`: the chores of the repository, one file each.

mod authors;
mod base;
mod bench;
mod cases;
mod cuda;
mod demo;
mod deny;
mod docs;
mod edges;
mod fuzz;
mod golden;
mod guests;
mod interop;
mod kills;
mod pin;
mod program;
mod races;
mod repository;
mod teach;
mod test;
mod vocabulary;

use std::process::ExitCode;

/// One chore: its name, what it does in a line, and its entry point, which gets the arguments after the name.
struct Chore {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const CHORES: &[Chore] = &[
    Chore {
        name: "demo",
        about: "train the example on a real model and export it; ends with a page to read",
        run: demo::run,
    },
    Chore {
        name: "test",
        about: "everything that must hold: format, clippy, edges, plugins, tests, golden numbers",
        run: test::run,
    },
    Chore {
        name: "cases",
        about: "inputs from the field through the program: [DIR] [--binary PATH] [--only TEXT], a line a case",
        run: cases::run,
    },
    Chore {
        name: "kills",
        about: "every command that writes, killed at random moments: [--rounds N] [--seed S] [--binary PATH] [--only TEXT] [--keep]",
        run: kills::run,
    },
    Chore {
        name: "pin",
        about: "outputs that a refactoring must not change: --record keeps them, without it they are compared",
        run: pin::run,
    },
    Chore {
        name: "teach",
        about: "what the default recipe teaches; --seeds 42,43, --optimizer NAME",
        run: teach::run,
    },
    Chore {
        name: "bench",
        about: "speed and memory beside the peers that are installed; writes docs/internals/benchmarks.md; `bench plugins` for plugins alone",
        run: bench::run,
    },
    Chore {
        name: "golden",
        about: "golden numbers, a line a case; --dir DIR",
        run: golden::run,
    },
    Chore {
        name: "interop",
        about: "install llama.cpp and PEFT and let them read what is written here; `llama` or `peft` for one of them",
        run: interop::run,
    },
    Chore {
        name: "guests",
        about: "build the plugins of components/ into plugins/; --check compares what is there",
        run: guests::run,
    },
    Chore {
        name: "authors",
        about: "write, build and test a plugin of every language and kind, and the examples; LANGUAGE, KIND or `examples` for a part",
        run: authors::run,
    },
    Chore {
        name: "docs",
        about: "write docs/reference out of the program; --check compares what is there",
        run: docs::run,
    },
    Chore {
        name: "deny",
        about: "refuse licenses, duplicate versions and sources that deny.toml does not allow",
        run: deny::run,
    },
    Chore {
        name: "cuda",
        about: "fetch a CUDA toolkit from PyPI and run cargo with it: setup, env, check, build",
        run: cuda::run,
    },
    Chore {
        name: "edges",
        about: "refuse dependencies between crates that the design does not allow",
        run: edges::run,
    },
    Chore {
        name: "fuzz",
        about: "build the fuzz targets with the address sanitizer and run them: --minutes N [--only TARGET] [--jobs J]",
        run: fuzz::run,
    },
    Chore {
        name: "races",
        about: "run the tests of the kernels under the thread sanitizer",
        run: races::run,
    },
    Chore {
        name: "vocabulary",
        about: "refuse a second definition of a choice that dlm-core defines, and joins between two",
        run: vocabulary::run,
    },
];

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
