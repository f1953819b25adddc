//! The worked cases of the specification, and the checks of attributes in their order.

use super::*;

fn check(line: &str, expected: &str) {
    let found = match classify(line) {
        Line::Fence(fence) => write(fence.kind, fence.adapter.as_deref(), fence.media.as_ref()),
        Line::Broken(error) => format!("error: {error}"),
        Line::NearMiss(kind) => format!("near miss: {kind}"),
        Line::Text => "text".to_owned(),
    };
    assert_eq!(found, expected, "{line:?}");
}

fn check_error(line: &str, words: &[&str]) {
    let Line::Broken(error) = classify(line) else {
        panic!("{line:?} is {:?}", classify(line))
    };
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{line:?}: {message}");
    }
}

#[test]
fn fences() {
    check("::instruction::", "::instruction::");
    check("  ::instruction::  ", "::instruction::");
    check("\t::prose::\t", "::prose::");
    check("::preference#tone::", "::preference#tone::");
    check("::prose#a1_b::", "::prose#a1_b::");
    check("::image path=\"a.png\"::", "::image path=\"a.png\"::");
    check(
        "::image  alt=\"x :: y\"\tpath=\"a.png\"  ::",
        "::image path=\"a.png\" alt=\"x :: y\"::",
    );
    check("::image path=\"a.png\" alt=\"\"::", "::image path=\"a.png\" alt=\"\"::");
    check(
        "::audio transcript=\"t\" path=\"a.wav\"::",
        "::audio path=\"a.wav\" transcript=\"t\"::",
    );
}

#[test]
fn text_and_near_misses() {
    for text in [
        "::instruction:: now",
        "see ::instruction::",
        "::",
        "::::",
        "std::prose",
        "::a b::",
        ":instruction:",
    ] {
        check(text, "text");
    }
    check(":: instruction ::", "near miss: instruction");
    check("::instruction ::", "near miss: instruction");
    check("  :: Preference ::", "near miss: preference");
    check("::image path='a.png'::", "near miss: image");
    check("::image path=\"a\"alt=\"b\"::", "near miss: image");
    check("::image#a path=\"a\"::", "near miss: image");
    check("::Video path=\"a\"::", "text");
    check("\u{a0}::instruction::", "text");
}

#[test]
fn bare_fences_that_are_refused() {
    check_error("::Instruction::", &["::Instruction::", "`prose`", "`audio`"]);
    check_error("::note::", &["unknown section type", "::note::"]);
    check_error("::#a::", &["unknown section type"]);
    check_error("::instruction#::", &["empty adapter name", "[a-z][a-z0-9_]{0,31}"]);
    for name in ["a#b", "Tone", "1x", "house-style", "abcdefghijklmnopqrstuvwxyz0123456"] {
        check_error(&format!("::instruction#{name}::"), &[name, "[a-z][a-z0-9_]{0,31}"]);
    }
    // The suffix is judged before the type.
    check_error("::note#::", &["empty adapter"]);
    check_error("::image::", &["needs attributes", "::image path="]);
    check_error("::image#a::", &["needs attributes"]);
    check_error("::audio::", &["needs attributes", "transcript="]);
}

#[test]
fn attribute_fences_that_are_refused() {
    check_error("::Image path=\"a.png\"::", &["`Image`", "`image`, `audio`"]);
    check_error("::instruction path=\"a\"::", &["`instruction` takes no attributes"]);
    check_error("::video path=\"a\"::", &["`video`"]);
    check_error("::image path=\"a\" path=\"b\"::", &["repeated", "`path`"]);
    check_error(
        "::image path=\"a\" transcript=\"b\"::",
        &["unknown attribute `transcript`", "`path`, `alt`"],
    );
    check_error("::image path=\"caf\u{e9}.png\"::", &["non-ASCII", "`path`"]);
    check_error("::image alt=\"b\"::", &["lacks `path`"]);
    check_error("::audio path=\"b\"::", &["lacks `transcript`"]);
    check_error("::image path=\" \"::", &["`path`", "empty"]);
    check_error("::audio path=\"a\" transcript=\"\"::", &["`transcript`", "empty"]);
    // In source order, attribute by attribute; missing ones last.
    check_error("::image size=\"1\" alt=\"\u{e9}\"::", &["unknown attribute `size`"]);
    check_error("::image alt=\"\u{e9}\" size=\"1\"::", &["non-ASCII"]);
}

#[test]
fn hints_name_the_edit() {
    let hint = |line: &str| match classify(line) {
        Line::Broken(error) => error.hint(),
        _ => None,
    };
    assert_eq!(hint("::instructoin::").as_deref(), Some("write `::instruction::`"));
    assert_eq!(
        hint("::prose#house-style::").as_deref(),
        Some("name the adapter `house_style`")
    );
}
