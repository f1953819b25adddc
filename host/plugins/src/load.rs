//! From a component to something that can be instantiated: its imports, exports and API version are checked before
//! anything of it runs.

use dlm_core::inert::inert;
use dlm_packages::Kind;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::error::LoadError;
use crate::host::{API_VERSION, State, WASI_ALLOWED, add_to_linker, add_wasi_to_linker};

const PACKAGE: &str = "dlm:plugin/";

/// A component that passed every check which needs no instance.
#[derive(Clone)]
pub(crate) struct Ready {
    pub pre: InstancePre<State>,
    /// It imports WASI, so its calls may wait.
    pub has_wasi: bool,
    /// Set when it was built for a newer minor version than this host has.
    pub newer_api: Option<semver::Version>,
    /// Time to compile it, where that was necessary now.
    pub compiled: Option<std::time::Duration>,
}

/// What a component's type says.
struct Shape {
    kinds: Vec<Kind>,
    has_wasi: bool,
    newest: semver::Version,
    /// Imported functions of the contract: interface, version as written, function.
    functions: Vec<(String, String)>,
}

/// Checks a component for use as `kind` and links it.
///
/// **Errors**: an import or a version that this host has not, or not the kind asked for.
pub(crate) fn ready(plugin: &str, engine: &Engine, component: &Component, kind: Kind) -> Result<Ready, LoadError> {
    let shape = shape(plugin, engine, component)?;
    if !shape.kinds.contains(&kind) {
        return Err(LoadError::WrongKind {
            plugin: plugin.to_owned(),
            wanted: kind,
            found: shape.kinds,
        });
    }
    let malformed = |error: wasmtime::Error| LoadError::Malformed {
        plugin: plugin.to_owned(),
        cause: inert(&format!("{error:#}")),
    };
    let host = version(plugin, API_VERSION)?;
    let is_newer = (shape.newest.major, shape.newest.minor) > (host.major, host.minor);
    let mut linker: Linker<State> = Linker::new(engine);
    add_to_linker(&mut linker, &shape.kinds).map_err(malformed)?;
    if shape.has_wasi {
        add_wasi_to_linker(&mut linker).map_err(malformed)?;
    }
    if is_newer {
        trap_missing(&mut linker, &shape).map_err(malformed)?;
    }
    // Exports and imports are matched by type here, before anything of the guest runs.
    let pre = linker.instantiate_pre(component).map_err(malformed)?;
    Ok(Ready {
        pre,
        has_wasi: shape.has_wasi,
        newer_api: is_newer.then_some(shape.newest),
        compiled: None,
    })
}

/// Gives a guest of a newer minor version a function that traps for each one this host lacks: guests from Python and
/// JavaScript import every function, called or not.
fn trap_missing(linker: &mut Linker<State>, shape: &Shape) -> wasmtime::Result<()> {
    for (interface, function) in &shape.functions {
        let mut instance = linker.instance(&format!("{PACKAGE}{interface}@{API_VERSION}"))?;
        let text = format!("{NEWER} {} ({interface}.{function}); upgrade dlm", shape.newest);
        // A function that the host has is already there and stays.
        let _there = instance.func_new(function, move |_, _, _, _| Err(wasmtime::Error::msg(text.clone())));
    }
    Ok(())
}

/// Begins the message of a call to a function that only a newer dlm has.
pub(crate) const NEWER: &str = "needs plugin API";

fn shape(plugin: &str, engine: &Engine, component: &Component) -> Result<Shape, LoadError> {
    let of_component = component.component_type();
    let mut newest = version(plugin, API_VERSION)?;
    let mut kinds = Vec::new();
    for (export, _) in of_component.exports(engine) {
        let Some((interface, text)) = of_contract(export) else {
            continue;
        };
        newest = newest.max(version(plugin, text)?);
        kinds.extend(Kind::parse(interface));
    }
    let mut has_wasi = false;
    let mut functions = Vec::new();
    for (import, item) in of_component.imports(engine) {
        let refused = || LoadError::Import {
            plugin: plugin.to_owned(),
            import: inert(import),
            kinds: kinds.clone(),
        };
        if let Some((interface, text)) = of_contract(import) {
            if !kinds.iter().all(|kind| kind.may_import(interface)) {
                return Err(refused());
            }
            newest = newest.max(version(plugin, text)?);
            if let ComponentItem::ComponentInstance(instance) = item.ty {
                let names = instance.exports(engine);
                let of_functions = names.filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
                functions.extend(of_functions.map(|(name, _)| (interface.to_owned(), name.to_owned())));
            }
        } else if is_wasi(import) {
            has_wasi = true;
        } else {
            return Err(refused());
        }
    }
    Ok(Shape {
        kinds,
        has_wasi,
        newest,
        functions,
    })
}

/// Splits `dlm:plugin/<interface>@<version>`.
fn of_contract(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

/// Says whether an import is one of the inert WASI 0.2 interfaces.
fn is_wasi(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else {
        return false;
    };
    version.starts_with("0.2.") && WASI_ALLOWED.contains(&interface)
}

fn version(plugin: &str, text: &str) -> Result<semver::Version, LoadError> {
    let api = || LoadError::Api {
        plugin: plugin.to_owned(),
        found: inert(text),
    };
    let version = semver::Version::parse(text).map_err(|_| api())?;
    if version.major == 1 { Ok(version) } else { Err(api()) }
}
