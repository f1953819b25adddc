//! Embeds the plugins that `src/builtin/grants.txt` names, in its order, and refuses a plugin that it does not name.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let grants = here.join("src/builtin/grants.txt");
    let plugins = here.join("../../plugins");
    println!("cargo::rerun-if-changed={}", grants.display());
    println!("cargo::rerun-if-changed={}", plugins.display());
    let text = fs::read_to_string(&grants).expect("grants.txt can be read");
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    names.dedup();
    check(&names, &plugins);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("builtins.rs"), table(&names, &plugins)).expect("the table can be written");
}

/// Stops the build where the list and the directory of built plugins differ.
fn check(names: &[&str], plugins: &Path) {
    let mut built: Vec<String> = fs::read_dir(plugins)
        .expect("the directory of plugins can be listed")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.join("plugin.wasm").is_file())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    built.sort();
    let mut named: Vec<&str> = names.to_vec();
    named.sort_unstable();
    assert_eq!(
        built, named,
        "plugins/ holds other plugins (left) than src/builtin/grants.txt names (right): add a line for each new one"
    );
}

/// The table as Rust.
fn table(names: &[&str], plugins: &Path) -> String {
    let mut out =
        "/// The built-in plugins, in the order in which messages list them.\nconst BUILTINS: &[Builtin] = &[\n"
            .to_owned();
    for name in names {
        let file = |file: &str| plugins.join(name).join(file).display().to_string();
        writeln!(
            out,
            "    Builtin {{ name: {name:?}, wasm: include_bytes!({:?}), record: include_str!({:?}) }},",
            file("plugin.wasm"),
            file("plugin.toml"),
        )
        .expect("writing to a string");
    }
    out.push_str("];\n");
    out
}
