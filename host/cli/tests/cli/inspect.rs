//! `dlm plugin inspect` on files that are made to break it.

use dlm_packages::manifest::append;

use crate::lab::Lab;

/// A component whose types no tool of the contract makes: printing them as WIT meets what "cannot be".
const UNPRINTABLE: &str =
    "0061736d0d000100070501400001000a060100016601000b1c010016646c6d3a706c7567696e2f6a7564676540312e302e30010000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

/// A component with these manifests behind it.
fn with(component: &[u8], manifests: &[&str]) -> Vec<u8> {
    let mut bytes = component.to_owned();
    manifests.iter().for_each(|json| append(&mut bytes, json.as_bytes()));
    bytes
}

#[test]
fn a_component_that_cannot_be_written_as_wit_is_an_error() {
    let lab = Lab::new();
    lab.write("in.wasm", bytes(UNPRINTABLE));
    let ran = lab.run(&["plugin", "inspect", "in.wasm", "--wit"]).exits(1);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    assert!(ran.err.contains("in.wasm"), "{}", ran.err);
}

#[test]
fn a_broken_manifest_is_not_called_a_missing_one() {
    let lab = Lab::new();
    let plain = bytes(UNPRINTABLE);
    let cases = [
        ("twice", &["{}", "{}"][..], "it is there twice"),
        ("no json", &["{"], "EOF"),
        (
            "a version that is none",
            &[r#"{"schema": 1, "name": "x", "version": "../1"}"#],
            "",
        ),
    ];
    for (name, manifests, says) in cases {
        lab.write("in.wasm", with(&plain, manifests));
        let seen = lab.run(&["plugin", "inspect", "in.wasm"]).ok().out;
        assert!(
            seen.contains("broken, so that it does not run: ") && seen.contains(says),
            "{name}: {seen}"
        );
        assert!(!seen.contains("runs by path only"), "{name}: {seen}");
        let audit = lab.run(&["plugin", "inspect", "in.wasm", "--audit"]).ok().out;
        assert!(
            audit.contains("broken manifest: ") && !audit.contains("no manifest"),
            "{name}: {audit}"
        );
        assert!(lab.json(&["plugin", "inspect", "in.wasm", "--json"])["manifest_flaw"].is_string());
    }
    lab.write("in.wasm", plain);
    let seen = lab.run(&["plugin", "inspect", "in.wasm"]).ok().out;
    assert!(seen.contains("none: it runs by path only"), "{seen}");
}
