//! `cargo xtask teach quantized`: the example on the base as floats, in four bits, and as the file that llama.cpp would run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Example, HEAD, one_run, print_row};
use crate::program::{Program, build_release};

/// The file that the base is taken from, and the kind of adapter; on blocks `qlora` is `lora` without copies beside them.
const CASES: [(&str, &str); 4] = [
    ("F16", "lora"),
    ("F16", "qlora"),
    ("Q4_K_M", "lora"),
    ("Q4_K_M", "qlora"),
];

/// Trains the example in every case and prints a table; `base` is a file of the real base, `is_built` says that the programs are.
pub fn run(program: &Program, base: &Path, seeds: &[u64], is_built: bool) -> Result<()> {
    if !is_built {
        build_release(&["--package", "dlm-tests", "--bins"])?;
    }
    let (floats, blocks) = (program.home.join("F16.gguf"), program.home.join("Q4_K_M.gguf"));
    written(program, base, &floats, "F16")?;
    written(program, &floats, &blocks, "Q4_K_M")?;
    for (name, file) in [("F16", &floats), ("Q4_K_M", &blocks)] {
        let file = file.to_str().context("the path of the target directory is not UTF-8")?;
        program.run(&["base", "add", &name.to_lowercase(), "--from", file], false)?;
    }
    let mut rows = Vec::new();
    for (file, kind) in CASES {
        let example = Example::copy_to(&program.home)?;
        example.write_head(
            &format!("base_model: {}", file.to_lowercase()),
            &format!("adapter: {kind}"),
        )?;
        let before = example.score(program, true)?;
        for seed in seeds {
            let figures = one_run(program, &example, &before, *seed)?;
            print!("{file}, {kind} ");
            print_row(&figures);
            rows.push((format!("{file}, {kind}"), figures));
        }
    }
    println!("\n| base, adapter {}", HEAD.replace("\n", "\n|---"));
    for (name, figures) in &rows {
        print!("| {name} ");
        print_row(figures);
    }
    Ok(())
}

/// Writes a base in another type with the program that `cargo xtask bench` measures with.
fn written(program: &Program, from: &Path, to: &Path, quant: &str) -> Result<()> {
    let measure: PathBuf = program.path.with_file_name("measure");
    ensure!(
        measure.is_file(),
        "{} is not there: cargo build --package dlm-tests --bins",
        measure.display()
    );
    let status = Command::new(&measure)
        .arg("quantize")
        .args([from, to])
        .args([quant, "2"])
        .status()?;
    ensure!(status.success(), "measure quantize ended with {status}");
    Ok(())
}
