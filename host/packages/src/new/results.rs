//! What the functions of a kind take and return, out of the contract, in forms that guests of languages without static types can
//! hold their values against.
//!
//! A shape is a word (`string`, `u32`, `bytes`, `any`), or an object with one key: `list` and `option` hold a shape, `record` a list
//! of names with shapes, `enum` a list of names, `variant` its own name and a list of cases with shapes; `null` is nothing at all.

use serde_json::{Value, json};
use wit_parser::{Function, InterfaceId, Resolve, Type, TypeDefKind, WorldItem};

use crate::contract;
use crate::kind::Kind;

/// The shapes of a kind, as JSON: `arguments` by function, a list of names with shapes; `results` by function; `error`.
pub(super) fn shapes(kind: Kind) -> Value {
    let (resolve, world) = contract::world(kind);
    let mut arguments = serde_json::Map::new();
    let mut results = serde_json::Map::new();
    let mut error = Value::Null;
    for item in resolve.worlds[world].exports.values() {
        let WorldItem::Interface { id, .. } = item else {
            continue;
        };
        for (name, function) in &resolve.interfaces[*id].functions {
            let taken = function
                .params
                .iter()
                .map(|param| json!([param.name, shape(&resolve, &param.ty)]));
            arguments.insert(name.clone(), taken.collect());
            let (result, failed) = result(&resolve, function);
            results.insert(name.clone(), result);
            error = failed;
        }
    }
    json!({ "arguments": arguments, "results": results, "error": error })
}

/// What a function returns, and how it fails.
fn result(resolve: &Resolve, function: &Function) -> (Value, Value) {
    let whole = |ty: &Type| (shape(resolve, ty), Value::Null);
    let Some(ty) = &function.result else {
        return (Value::Null, Value::Null);
    };
    let Type::Id(id) = ty else { return whole(ty) };
    match &resolve.types[*id].kind {
        TypeDefKind::Result(result) => {
            let part = |ty: &Option<Type>| ty.as_ref().map_or(Value::Null, |ty| shape(resolve, ty));
            (part(&result.ok), part(&result.err))
        }
        _ => whole(ty),
    }
}

fn shape(resolve: &Resolve, ty: &Type) -> Value {
    let word = match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 | Type::F64 => "float",
        Type::Char | Type::String => "string",
        Type::Id(id) => return of_type(resolve, &resolve.types[*id]),
        Type::ErrorContext => "any",
    };
    json!(word)
}

fn of_type(resolve: &Resolve, ty: &wit_parser::TypeDef) -> Value {
    let name = ty.name.as_deref().unwrap_or_default();
    match &ty.kind {
        TypeDefKind::Type(ty) => shape(resolve, ty),
        TypeDefKind::List(Type::U8) => json!("bytes"),
        TypeDefKind::List(ty) => json!({ "list": shape(resolve, ty) }),
        TypeDefKind::Option(ty) => json!({ "option": shape(resolve, ty) }),
        TypeDefKind::Record(record) => {
            let fields = record
                .fields
                .iter()
                .map(|field| json!([field.name, shape(resolve, &field.ty)]));
            json!({ "record": fields.collect::<Vec<_>>() })
        }
        TypeDefKind::Enum(cases) => json!({ "enum": cases.cases.iter().map(|case| &case.name).collect::<Vec<_>>() }),
        TypeDefKind::Variant(variant) => {
            let shape = |ty: &Option<Type>| ty.as_ref().map_or(Value::Null, |ty| shape(resolve, ty));
            let cases = variant.cases.iter().map(|case| json!([case.name, shape(&case.ty)]));
            json!({ "variant": [name, cases.collect::<Vec<_>>()] })
        }
        // A handle is what the host gave; nothing that a guest could write down wrongly.
        _ => json!("any"),
    }
}

/// The types of a kind's world for TypeScript: a module for each import, and the functions of the export.
pub(super) fn typescript(kind: Kind) -> String {
    let (resolve, world) = contract::world(kind);
    let mut text =
        String::from("// The contract in types, written by `dlm plugin new`; `wit/` says what everything means.\n");
    let world = &resolve.worlds[world];
    for item in world.imports.values().chain(world.exports.values()) {
        if let WorldItem::Interface { id, .. } = item {
            text.push_str(&module(&resolve, *id));
        }
    }
    text
}

fn module(resolve: &Resolve, id: InterfaceId) -> String {
    let interface = &resolve.interfaces[id];
    let own = interface.name.as_deref().unwrap_or_default();
    let mut text = format!("\ndeclare module \"dlm:plugin/{own}@1.0.0\" {{\n");
    for (name, id) in &interface.types {
        let ty = &resolve.types[*id];
        let name = pascal(name);
        match &ty.kind {
            TypeDefKind::Type(Type::Id(used)) => {
                let from = match resolve.types[*used].owner {
                    wit_parser::TypeOwner::Interface(from) => resolve.interfaces[from].name.clone(),
                    _ => None,
                };
                let from = from.unwrap_or_default();
                text.push_str(&format!(
                    "  export type {name} = import(\"dlm:plugin/{from}@1.0.0\").{name};\n"
                ));
            }
            TypeDefKind::Resource => {
                text.push_str(&format!("  export class {name} {{\n"));
                for function in interface.functions.values() {
                    text.push_str(&method(resolve, *id, function));
                }
                text.push_str("  }\n");
            }
            _ => text.push_str(&format!("  export type {name} = {};\n", definition(resolve, ty))),
        }
    }
    for function in interface
        .functions
        .values()
        .filter(|function| function.kind.resource().is_none())
    {
        text.push_str(&format!(
            "  export function {}{};\n",
            camel(&function.name),
            signature(resolve, function)
        ));
    }
    text.push_str("}\n");
    text
}

fn method(resolve: &Resolve, resource: wit_parser::TypeId, function: &Function) -> String {
    if function.kind.resource() != Some(resource) {
        return String::new();
    }
    let name = camel(function.item_name());
    match &function.kind {
        wit_parser::FunctionKind::Constructor(_) => {
            let signature = signature(resolve, function);
            let taken = signature
                .rsplit_once(": ")
                .map_or(signature.as_str(), |(taken, _)| taken);
            format!("    constructor{taken};\n")
        }
        wit_parser::FunctionKind::Static(_) => format!("    static {name}{};\n", signature(resolve, function)),
        _ => format!("    {name}{};\n", signature(resolve, function)),
    }
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let taken = function.params.iter().filter(|param| param.name != "self");
    let taken: Vec<String> = taken
        .map(|param| format!("{}: {}", camel(&param.name), named(resolve, &param.ty)))
        .collect();
    let fails = |id: &wit_parser::TypeId| match &resolve.types[*id].kind {
        TypeDefKind::Result(result) => Some(result.ok.as_ref().map_or("void".to_owned(), |ty| named(resolve, ty))),
        _ => None,
    };
    let gives = match &function.result {
        None => "void".to_owned(),
        Some(Type::Id(id)) => fails(id).unwrap_or_else(|| named(resolve, &Type::Id(*id))),
        Some(ty) => named(resolve, ty),
    };
    format!("({}): {gives}", taken.join(", "))
}

/// A type by its name, where it has one.
fn named(resolve: &Resolve, ty: &Type) -> String {
    match ty {
        Type::Id(id) => match &resolve.types[*id].name {
            Some(name) => pascal(name),
            None => definition(resolve, &resolve.types[*id]),
        },
        Type::Bool => "boolean".to_owned(),
        Type::String | Type::Char => "string".to_owned(),
        Type::U64 | Type::S64 => "number | bigint".to_owned(),
        _ => "number".to_owned(),
    }
}

fn definition(resolve: &Resolve, ty: &wit_parser::TypeDef) -> String {
    match &ty.kind {
        TypeDefKind::Type(ty) => named(resolve, ty),
        TypeDefKind::List(Type::U8) => "Uint8Array".to_owned(),
        TypeDefKind::List(ty) => format!("Array<{}>", named(resolve, ty)),
        TypeDefKind::Option(ty) => format!("{} | undefined", named(resolve, ty)),
        TypeDefKind::Handle(wit_parser::Handle::Own(id) | wit_parser::Handle::Borrow(id)) => {
            named(resolve, &Type::Id(*id))
        }
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<String> = tuple.types.iter().map(|ty| named(resolve, ty)).collect();
            format!("[{}]", types.join(", "))
        }
        TypeDefKind::Enum(cases) => {
            let cases: Vec<String> = cases.cases.iter().map(|case| format!("\"{}\"", case.name)).collect();
            cases.join(" | ")
        }
        TypeDefKind::Record(record) => {
            let field = |field: &wit_parser::Field| {
                let is_optional =
                    matches!(&field.ty, Type::Id(id) if matches!(resolve.types[*id].kind, TypeDefKind::Option(_)));
                let mark = if is_optional { "?" } else { "" };
                format!("{}{mark}: {}", camel(&field.name), named(resolve, &field.ty))
            };
            let fields: Vec<String> = record.fields.iter().map(field).collect();
            format!("{{ {} }}", fields.join("; "))
        }
        TypeDefKind::Variant(variant) => {
            let case = |case: &wit_parser::Case| match &case.ty {
                None => format!("{{ tag: \"{}\" }}", case.name),
                Some(ty) => format!("{{ tag: \"{}\"; val: {} }}", case.name, named(resolve, ty)),
            };
            let cases: Vec<String> = variant.cases.iter().map(case).collect();
            cases.join(" | ")
        }
        _ => "unknown".to_owned(),
    }
}

pub(super) fn pascal(name: &str) -> String {
    let part = |part: &str| {
        let mut letters = part.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(part).collect()
}

fn camel(name: &str) -> String {
    let pascal = pascal(name);
    let mut letters = pascal.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_of_a_judge_have_the_shapes_of_the_contract() {
        let shapes = shapes(Kind::Judge);
        assert_eq!(
            shapes["results"]["score"],
            json!({ "list": { "record": [["scores", { "list": "float" }], ["reasoning", { "option": "string" }]] } })
        );
        assert_eq!(shapes["arguments"]["open"], json!([["arg", "string"]]));
        assert_eq!(shapes["error"]["variant"][1][0], json!(["invalid-input", "string"]));
        assert_eq!(
            shapes["error"]["variant"][1][3],
            json!(["denied", { "record": [["capability", "string"], ["message", "string"]] }])
        );
    }

    #[test]
    fn types_name_everything_that_a_world_holds() {
        let text = typescript(Kind::Target);
        for part in [
            "declare module \"dlm:plugin/target@1.0.0\" {",
            "  export function prepare(plan: Plan): Prepared;",
            "  export function install(plan: Plan): Registration | undefined;",
            "  export type SmokePlan = { tag: \"skip\"; val: string } | { tag: \"openai-chat\" }",
            "  export type Kind = import(\"dlm:plugin/artifacts@1.0.0\").Kind;",
            "  export class Input {",
            "read(offset: number | bigint, max: number): Uint8Array;",
            "  export type Kind = \"gguf\" | \"adapter\" |",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("unknown"), "{text}");
    }
}
