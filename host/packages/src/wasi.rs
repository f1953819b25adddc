//! WASI 0.1 for core modules that ask for it, as those of Go do: an adapter that becomes a part of their component.
//!
//! Invariants: the component then asks for no more of WASI 0.2 than `wasi/adapter.wit` says; the adapter calls nothing outside of the
//! component where the host hands something over. `wasi/adapter.wasm` is `wasi/adapter.wat`, which says the rest.

use wit_component::StringEncoding;
use wit_parser::{Resolve, SourceMap};

/// What modules call WASI 0.1.
pub(crate) const NAME: &str = "wasi_snapshot_preview1";
const MODULE: &[u8] = include_bytes!("wasi/adapter.wasm");
const WORLD: &str = include_str!("wasi/adapter.wit");

/// Says whether a core module imports anything of WASI 0.1.
pub(crate) fn is_asked_by(module: &[u8]) -> bool {
    let sections = wasmparser::Parser::new(0).parse_all(module).flatten();
    sections.into_iter().any(|payload| match payload {
        wasmparser::Payload::ImportSection(section) => {
            section.into_imports().flatten().any(|import| import.module == NAME)
        }
        _ => false,
    })
}

/// Says whether a module that asks for WASI is a program, which runs once from its beginning, and no library.
pub(crate) fn is_program(module: &[u8]) -> bool {
    let exports = |name: &str| {
        let sections = wasmparser::Parser::new(0).parse_all(module).flatten();
        sections.into_iter().any(|payload| match payload {
            wasmparser::Payload::ExportSection(section) => {
                section.into_iter().flatten().any(|export| export.name == name)
            }
            _ => false,
        })
    };
    is_asked_by(module) && exports("_start") && !exports("_initialize")
}

/// The adapter, with its world inside.
pub(crate) fn adapter() -> Vec<u8> {
    let mut texts = SourceMap::default();
    texts.push_str("adapter.wit", WORLD);
    let group = texts.parse().map_err(|(_, error)| error);
    let mut resolve = Resolve::default();
    let package = resolve
        .push_group(group.expect("its world can be read"))
        .expect("its world names only what is beside it");
    let world = resolve.select_world(&[package], None).expect("it has one world");
    let mut module = MODULE.to_vec();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("its world can be written down");
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_what_its_text_says() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wasi");
        let built = wat::parse_file(directory.join("adapter.wat")).unwrap();
        if std::env::var_os("DLM_UPDATE_ADAPTER").is_some() {
            std::fs::write(directory.join("adapter.wasm"), &built).unwrap();
        }
        let kept = std::fs::read(directory.join("adapter.wasm")).unwrap();
        assert_eq!(
            built, kept,
            "the text changed: DLM_UPDATE_ADAPTER=1 cargo test -p dlm-packages writes adapter.wasm"
        );
    }

    #[test]
    fn every_function_of_the_standard_is_there() {
        let functions = |module: &[u8]| {
            let mut names: Vec<String> = Vec::new();
            for payload in wasmparser::Parser::new(0).parse_all(module) {
                if let wasmparser::Payload::ExportSection(section) = payload.unwrap() {
                    names.extend(section.into_iter().map(|export| export.unwrap().name.to_owned()));
                }
            }
            names.sort();
            names
        };
        // Those of `wasi_snapshot_preview1.witx`.
        let standard = "args_get args_sizes_get clock_res_get clock_time_get environ_get environ_sizes_get fd_advise fd_allocate \
             fd_close fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights fd_filestat_get fd_filestat_set_size \
             fd_filestat_set_times fd_pread fd_prestat_dir_name fd_prestat_get fd_pwrite fd_read fd_readdir fd_renumber fd_seek \
             fd_sync fd_tell fd_write path_create_directory path_filestat_get path_filestat_set_times path_link path_open \
             path_readlink path_remove_directory path_rename path_symlink path_unlink_file poll_oneoff proc_exit proc_raise \
             random_get sched_yield sock_accept sock_recv sock_send sock_shutdown";
        assert_eq!(functions(MODULE), standard.split_whitespace().collect::<Vec<_>>());
    }
}
