use proptest::prelude::*;

use super::*;
use crate::author::AuthorManifest;
use crate::error::{ComponentError, Diagnose};
use crate::manifest::section::{append, without};

const COMPONENT_HEAD: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
const GOOD: &str = r#"{"schema":1,"name":"good","version":"1.0.0","kinds":["target"]}"#;

fn component(manifests: &[&[u8]]) -> Vec<u8> {
    let mut out = COMPONENT_HEAD.to_vec();
    // A custom section of somebody else.
    out.extend([0, 6, 4, b'n', b'a', b'm', b'e', 7]);
    for manifest in manifests {
        append(&mut out, manifest);
    }
    out
}

#[test]
fn a_good_manifest_is_read() {
    let read = Manifest::of_component(&component(&[GOOD.as_bytes()])).unwrap();
    assert_eq!((read.name.as_str(), read.version.as_str()), ("good", "1.0.0"));
    assert_eq!(read.kinds, [Kind::Target]);
    assert!(read.requests.is_empty() && read.unknown_keys.is_empty());
}

#[track_caller]
fn refused(bytes: &[u8], code: &str, part: &str) {
    let error = Manifest::of_component(bytes).unwrap_err();
    let text = error.to_string();
    let error = ComponentError::of_manifest(std::path::Path::new("x"), error);
    assert_eq!(error.diagnosis().code, code, "{text}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn each_wrong_file_is_refused() {
    let good = GOOD.as_bytes();
    refused(b"", "plugin::malformed", "does not begin");
    refused(&MODULE_HEAD, "plugin::not-a-component", "core module");
    refused(&component(&[]), "plugin::manifest", "missing");
    refused(&component(&[good, good]), "plugin::manifest", "twice");
    refused(&component(&[b"{"]), "plugin::manifest", "EOF");
    refused(&component(&[&[b' '; 64 * 1024 + 1]]), "plugin::manifest", "64 KiB");
    refused(&component(&[b"{\"schema\":\"\xff\"}"]), "plugin::manifest", "UTF-8");
    let with = |section: &[u8]| [COMPONENT_HEAD.as_slice(), section].concat();
    refused(
        &with(&[0, 0x80, 0x80, 0x80, 0x80, 0x80]),
        "plugin::malformed",
        "ends after",
    );
    refused(&with(&[0, 9, 1]), "plugin::malformed", "ends after");
    refused(&with(&[0, 1, 9]), "plugin::malformed", "no name");
}

#[test]
fn each_wrong_field_is_refused_by_name() {
    for (from, to, part) in [
        ("\"good\"", "\"../x\"", "not a plugin name"),
        ("\"good\"", "\"a\"", "not a plugin name"),
        ("\"good\"", "\"Good\"", "not a plugin name"),
        ("\"1.0.0\"", "\"one\"", "version"),
        ("[\"target\"]", "[\"oracle\"]", "unknown variant"),
        ("[\"target\"]", "[]", "kinds is empty"),
        ("[\"target\"]", "[\"target\",\"target\"]", "twice"),
        ("\"schema\":1", "\"schema\":2", "schema is 2"),
        ("\"schema\":1", "\"schema\":1,\"schema\":1", "duplicate"),
        ("\"schema\":1", "\"schema\":1,\"homepage\":\"javascript:x\"", "homepage"),
        (
            "\"schema\":1",
            "\"schema\":1,\"description\":\"a\\nb\"",
            "control character",
        ),
        (
            "\"schema\":1",
            "\"schema\":1,\"description\":\"\\u001b[31m\"",
            "control character",
        ),
        (
            "\"schema\":1",
            "\"schema\":1,\"request\":[{\"capability\":\"clock\"},{\"capability\":\"clock\"}]",
            "requested twice",
        ),
        (
            "\"schema\":1",
            "\"schema\":1,\"config\":{\"a\":{\"type\":\"text\",\"minimum\":1}}",
            "has bounds",
        ),
        (
            "\"schema\":1",
            "\"schema\":1,\"config\":{\"a\":{\"type\":\"number\",\"minimum\":2,\"maximum\":1}}",
            "above the maximum",
        ),
        (
            "\"schema\":1",
            "\"schema\":1,\"config\":{\"a\":{\"type\":\"integer\",\"default\":0.5}}",
            "an integer was expected",
        ),
        (
            "\"schema\":1",
            "\"schema\":1,\"config\":{\"a\":{\"type\":\"integer\",\"default\":1,\"required\":true}}",
            "required and has a default",
        ),
        (
            "\"schema\":1",
            "\"schema\":1,\"config\":{\"A\":{\"type\":\"text\"}}",
            "is not a key",
        ),
    ] {
        refused(
            &component(&[GOOD.replace(from, to).as_bytes()]),
            "plugin::manifest",
            part,
        );
    }
}

#[test]
fn unknown_keys_are_told_apart_from_known_ones() {
    let text = GOOD.replace(
        "\"schema\":1",
        "\"schema\":1,\"color\":1,\"request\":[{\"capability\":\"clock\",\"shade\":1}],\
         \"config\":{\"a\":{\"type\":\"text\",\"hue\":1}}",
    );
    let read = Manifest::from_json(text.as_bytes()).unwrap();
    assert_eq!(read.unknown_keys, ["color", "request.shade", "config.a.hue"]);
}

const AUTHOR: &str = r#"
schema = 1
name = "rubric"
version = "1.2.0"
kinds = ["judge"]
description = "Scores answers against a rubric file"
authors = ["A. Person <a@example.com>"]
license = "MIT"
homepage = "https://example.com/rubric"
deterministic = true

[build]
command = "make"
wasm = "out/rubric.wasm"

[[request]]
capability = "model:current"
reason = "asks the model to grade each answer"

[[request]]
capability = "limit:memory=512MiB"
optional = true

[config.strictness]
type = "number"
default = 0.5
minimum = 0.0
maximum = 1.0
description = "0 forgives everything"

[config.rubric]
type = "text"
required = true
"#;

#[test]
fn the_authors_file_becomes_the_section_and_comes_back() {
    let author = AuthorManifest::parse(AUTHOR).unwrap();
    assert_eq!(author.build_command.as_deref(), Some("make"));
    assert_eq!(author.build_wasm.as_deref(), Some("out/rubric.wasm"));
    let json = author.manifest.to_json();
    assert!(!json.contains("build"));
    let back = Manifest::of_component(&component(&[json.as_bytes()])).unwrap();
    assert_eq!(back, author.manifest);
    assert!(back.requests[1].optional && back.deterministic);
}

#[test]
fn only_a_target_can_need_registration() {
    let of = |kind: &str| {
        let text = format!(
            "schema = 1\nname = \"shelf\"\nversion = \"1.0.0\"\nkinds = [\"{kind}\"]\nneeds_registration = true\n"
        );
        AuthorManifest::parse(&text)
    };
    assert!(of("target").unwrap().manifest.needs_registration);
    let refusal = of("judge").unwrap_err().to_string();
    assert!(
        refusal.contains("needs_registration is for export targets alone"),
        "{refusal}"
    );
}

#[test]
fn a_mistake_in_the_authors_file_is_an_error() {
    for (from, to, part) in [
        ("license", "licens", "`licens` is not known"),
        ("command", "comand", "`build.comand` is not known"),
        ("\"make\"", "1", "a text was expected"),
        ("\"rubric\"", "\"sway\"", "inside dlm"),
        ("optional", "optionel", "`request.optionel` is not known"),
        ("schema = 1", "schema = ", "TOML parse error"),
    ] {
        let error = AuthorManifest::parse(&AUTHOR.replacen(from, to, 1)).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

fn rubric() -> Manifest {
    AuthorManifest::parse(AUTHOR).unwrap().manifest
}

fn typed(key: &str, value: &str) -> (String, GivenValue) {
    (key.to_owned(), GivenValue::Typed(value.to_owned()))
}

#[test]
fn settings_get_their_type_and_their_default() {
    let resolved = rubric().resolve_config(&[typed("rubric", "7")]).unwrap();
    assert_eq!(
        resolved,
        [
            ("rubric".to_owned(), ConfigValue::Text("7".to_owned())),
            ("strictness".to_owned(), ConfigValue::Number(0.5)),
        ]
    );
    let later = [
        typed("rubric", "a"),
        typed("strictness", "0.1"),
        typed("strictness", "1"),
    ];
    let resolved = rubric().resolve_config(&later).unwrap();
    assert_eq!(resolved[1].1, ConfigValue::Number(1.0));
}

#[test]
fn a_wrong_setting_is_told_with_key_value_and_rule() {
    for (given, part) in [
        (vec![], "needs the setting `rubric`"),
        (
            vec![typed("rubrik", "a")],
            "no setting `rubrik`; it has rubric, strictness",
        ),
        (
            vec![typed("rubric", "a"), typed("strictness", "2")],
            "`strictness` of plugin `rubric` is `2`, at most 1",
        ),
        (
            vec![typed("rubric", "a"), typed("strictness", "much")],
            "is `much`, a number was expected",
        ),
        (
            vec![typed("rubric", "a"), typed("strictness", "NaN")],
            "a finite number was expected",
        ),
        (
            vec![("rubric".to_owned(), GivenValue::Stated(serde_json::json!(5)))],
            "is `5`, a text was expected",
        ),
    ] {
        let error = rubric().resolve_config(&given).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn every_type_of_setting_reads_both_forms() {
    let of = |kind, given: GivenValue| {
        let mut manifest = rubric();
        manifest.config.clear();
        let key = ConfigKey {
            kind,
            default: None,
            required: true,
            minimum: None,
            maximum: None,
            description: String::new(),
        };
        manifest.config.insert("k".to_owned(), key);
        manifest
            .resolve_config(&[("k".to_owned(), given)])
            .map(|mut all| all.remove(0).1)
    };
    let text = |text: &str| GivenValue::Typed(text.to_owned());
    let json = GivenValue::Stated;
    assert_eq!(of(ConfigKind::Integer, text("-3")), Ok(ConfigValue::Integer(-3)));
    assert_eq!(of(ConfigKind::Integer, json(4.into())), Ok(ConfigValue::Integer(4)));
    assert_eq!(of(ConfigKind::Number, json(4.into())), Ok(ConfigValue::Number(4.0)));
    assert_eq!(of(ConfigKind::Boolean, text("true")), Ok(ConfigValue::Boolean(true)));
    assert_eq!(
        of(ConfigKind::Boolean, json(false.into())),
        Ok(ConfigValue::Boolean(false))
    );
    assert_eq!(
        of(ConfigKind::Json, text("[1, 2]")),
        Ok(ConfigValue::Json("[1,2]".to_owned()))
    );
    assert!(of(ConfigKind::Boolean, text("yes")).is_err());
    assert!(of(ConfigKind::Integer, json(serde_json::json!(0.5))).is_err());
    assert!(of(ConfigKind::Json, text("[1,")).is_err());
}

#[test]
fn a_file_without_a_manifest_takes_the_name_of_its_file() {
    for (stem, name) in [
        ("rubric", "rubric"),
        ("My Judge", "my-judge"),
        ("7", "x7"),
        ("", "unnamed"),
        ("ü", "x-"),
    ] {
        assert_eq!(Manifest::absent(stem, vec![Kind::Judge]).name, name, "{stem}");
    }
    let long = Manifest::absent(&"ab".repeat(99), vec![]);
    assert!(is_name(&long.name));
}

#[test]
fn the_section_can_be_taken_out_again() {
    let bare = component(&[]);
    assert_eq!(without(&component(&[GOOD.as_bytes()])).unwrap(), bare);
    assert_eq!(without(&bare).unwrap(), bare);
}

#[test]
fn every_truncation_is_refused() {
    let whole = component(&[GOOD.as_bytes()]);
    for end in 0..whole.len() {
        assert!(Manifest::of_component(&whole[..end]).is_err(), "{end}");
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..200, byte: u8) {
        let _ = Manifest::of_component(&bytes);
        let _ = Manifest::from_json(&bytes);
        let mut changed = component(&[GOOD.as_bytes()]);
        let at = at % changed.len();
        changed[at] = byte;
        if let Ok(manifest) = Manifest::of_component(&changed) {
            // Whatever is accepted is written and read back alike.
            let again = Manifest::from_json(manifest.to_json().as_bytes()).unwrap();
            prop_assert_eq!(again.name, manifest.name);
        }
    }

    #[test]
    fn every_stem_makes_a_name(stem in ".{0,60}") {
        prop_assert!(is_name(&Manifest::absent(&stem, vec![]).name));
    }
}
