//! Plugins by name: an index is made, signed, searched, installed from and kept current; an old or changed one is refused.

use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::lab::Lab;
use crate::plugin::pack;

/// A minisign key that signs in the older way, without a hash before.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Signer {
        Signer(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap())
    }

    fn key(&self) -> String {
        base64(&[b"Ed", [7; 8].as_slice(), self.0.public_key().as_ref()].concat())
    }

    fn sign(&self, file: &[u8], comment: &str) -> String {
        let signature = self.0.sign(file);
        let whole = self.0.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let line = base64(&[b"Ed", [7; 8].as_slice(), signature.as_ref()].concat());
        format!(
            "untrusted comment: a test's\n{line}\ntrusted comment: {comment}\n{}\n",
            base64(whole.as_ref())
        )
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for digit in 0..4 {
            match digit <= part.len() {
                true => out.push(char::from(DIGITS[(word >> (18 - 6 * digit) & 63) as usize])),
                false => out.push('='),
            }
        }
    }
    out
}

const CLOCK: &str = "[[request]]\ncapability = \"clock\"\nreason = \"tells the time\"\n";

/// Packs a version of `shelf` into `dist`, and makes and signs the index there.
fn publish(lab: &Lab, version: &str, requests: &str) {
    let file = pack(lab, version, requests);
    std::fs::create_dir_all(lab.path("dist")).unwrap();
    std::fs::copy(file, lab.path(&format!("dist/shelf-{version}.wasm"))).unwrap();
    lab.run(&["plugin", "index", "dist"])
        .ok()
        .says(&["nobody can use it before it is signed"]);
    sign(lab);
}

fn sign(lab: &Lab) {
    let index = lab.read("dist/index.json");
    let serial = serde_json::from_str::<serde_json::Value>(&index).unwrap()["serial"].clone();
    let signature = Signer::new().sign(index.as_bytes(), &format!("dlm-index {serial}"));
    lab.write("dist/index.json.minisig", signature);
}

fn installed(lab: &Lab) -> String {
    let listed = lab.json(&["plugin", "list", "--json"]);
    let row = listed["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "shelf");
    row.map_or("nothing".to_owned(), |row| row["version"].as_str().unwrap().to_owned())
}

/// A lab that trusts the publisher and knows where the index lies.
fn subscribed() -> Lab {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("home/trusted-keys")).unwrap();
    lab.write(
        "home/trusted-keys/acme.pub",
        format!("untrusted comment: x\n{}\n", Signer::new().key()),
    );
    // Relative to the settings, not to where one stands.
    lab.write("home/config.toml", "[plugins]\nindex = \"../dist\"\n");
    lab
}

/// A lab with version 1.0.0 installed out of an index in `dist`, which has a 1.1.0 that asks for a program. No settings name it.
pub fn outdated_shelf() -> Lab {
    let lab = subscribed();
    publish(&lab, "1.0.0", "");
    lab.run(&["plugin", "add", "shelf"]).ok();
    publish(&lab, "1.1.0", "[[request]]\ncapability = \"exec:ollama\"\n");
    lab.write("home/config.toml", "");
    lab
}

#[test]
fn a_plugin_is_found_added_and_kept_current_by_name() {
    let lab = subscribed();
    publish(&lab, "1.0.0", "");
    let found = lab.run(&["plugin", "search", "SHELF"]).ok().out;
    assert!(found.contains("shelf 1.0.0   target"), "{found}");
    assert!(
        found.contains("Puts models on a shelf") && found.contains("asks for nothing"),
        "{found}"
    );
    assert!(
        lab.run(&["plugin", "search", "--kind", "judge"])
            .ok()
            .out
            .contains("nothing")
    );
    lab.run(&["plugin", "add", "shelf", "--dry-run"]).ok();
    assert_eq!(installed(&lab), "nothing");
    lab.run(&["plugin", "add", "shelf"])
        .ok()
        .says(&["plugin: installed shelf 1.0.0"]);
    assert!(
        lab.run(&["plugin", "outdated"])
            .ok()
            .out
            .contains("as new as in this index")
    );

    publish(&lab, "1.1.0", CLOCK);
    let outdated = lab.run(&["plugin", "outdated"]).ok().out;
    assert!(
        outdated.contains("1.0.0 -> 1.1.0") && outdated.contains("would also ask for clock"),
        "{outdated}"
    );
    let rows = lab.json(&["plugin", "outdated", "--json"]);
    assert_eq!(rows["plugins"][0]["new_requests"], serde_json::json!(["clock"]));
    // Nobody is here to say yes to what is new.
    let refused = lab.run(&["plugin", "update"]).exits(1);
    refused.says(&["shelf stays at 1.0.0", "new in 1.1.0: clock", "--grant-requested"]);
    assert_eq!(installed(&lab), "1.0.0");
    lab.run(&["plugin", "update", "shelf", "--grant", "clock"]).ok();
    assert_eq!(installed(&lab), "1.1.0");
    lab.run(&["plugin", "add", "shelf@1.0.0"])
        .exits(1)
        .says(&["1.1.0", "--allow-downgrade"]);
    assert_eq!(installed(&lab), "1.1.0");
    lab.copy()
        .run(&["plugin", "add", "shelf@1.0.0", "--allow-downgrade"])
        .ok();
    lab.run(&["plugin", "update", "shelf"])
        .exits(2)
        .says(&["`shelf` 1.1.0 is not older"]);
    lab.run(&["plugin", "update"])
        .ok()
        .says(&["nothing that was installed from this index"]);
    lab.run(&["plugin", "add", "shelf@^9"])
        .exits(2)
        .says(&["no version ^9", "it has: 1.1.0, 1.0.0"]);
    lab.run(&["plugin", "add", "shelv"])
        .exits(2)
        .says(&["no plugin `shelv`; did you mean shelf?"]);
    lab.run(&["plugin", "add", "./shelf.wasm"])
        .exits(2)
        .says(&["dlm plugin install ./FILE.wasm"]);
}

#[test]
fn what_came_from_elsewhere_is_updated_by_name_alone() {
    let lab = subscribed();
    let file = pack(&lab, "1.0.0", "");
    lab.run(&["plugin", "install", file.to_str().unwrap()]).ok();
    publish(&lab, "1.1.0", "");
    assert!(
        lab.run(&["plugin", "outdated"])
            .ok()
            .out
            .contains("installed from elsewhere")
    );
    lab.run(&["plugin", "update"])
        .ok()
        .says(&["was installed from elsewhere and stays"]);
    assert_eq!(installed(&lab), "1.0.0");
    lab.run(&["plugin", "update", "shelf"]).ok();
    assert_eq!(installed(&lab), "1.1.0");
}

#[test]
fn an_index_that_is_unsigned_old_or_wrong_gives_nothing() {
    let lab = subscribed();
    publish(&lab, "1.0.0", "");
    let (index, signature) = (lab.read("dist/index.json"), lab.read("dist/index.json.minisig"));
    publish(&lab, "1.1.0", "");
    lab.run(&["plugin", "search"]).ok();
    let newer = (lab.read("dist/index.json"), lab.read("dist/index.json.minisig"));
    lab.write("dist/index.json", &index);
    lab.write("dist/index.json.minisig", &signature);
    lab.run(&["plugin", "add", "shelf"])
        .exits(1)
        .says(&["is number 1 of", "number 2 of", "an old index"]);
    lab.write("dist/index.json", newer.0.replace("1.1.0", "1.2.0"));
    lab.write("dist/index.json.minisig", &newer.1);
    lab.run(&["plugin", "search"])
        .exits(1)
        .says(&["was changed after it was signed"]);
    std::fs::remove_file(lab.path("dist/index.json.minisig")).unwrap();
    lab.run(&["plugin", "search"])
        .exits(1)
        .says(&["is not signed", "dlm plugin trust KEY"]);
    lab.write("dist/index.json", &newer.0);
    lab.write("dist/index.json.minisig", &newer.1);
    // The bytes of another version under the listed name.
    std::fs::copy(lab.path("dist/shelf-1.0.0.wasm"), lab.path("dist/shelf-1.1.0.wasm")).unwrap();
    lab.run(&["plugin", "add", "shelf"])
        .exits(1)
        .says(&["is not the file that the index lists"]);
    assert_eq!(installed(&lab), "nothing");
    let json = lab.run(&["plugin", "add", "shelf", "--json"]).exits(1).out;
    assert!(json.contains("\"code\": \"plugin::tampered\""), "{json}");

    lab.write("home/config.toml", "");
    lab.run(&["plugin", "search"])
        .exits(2)
        .says(&["no index of plugins is known", "--index"]);
    lab.run(&["plugin", "search", "--index", "http://p.example/"])
        .exits(2)
        .says(&["open line"]);
    lab.run(&["plugin", "search", "--index", "nowhere"])
        .exits(1)
        .says(&["there is no index.json at"]);
    let foreign = Lab::new();
    std::fs::create_dir(foreign.path("dist")).unwrap();
    foreign.write("dist/index.json", &newer.0);
    foreign.write("dist/index.json.minisig", &newer.1);
    foreign
        .run(&["plugin", "search", "--index", "dist"])
        .exits(1)
        .says(&["is signed by a key that you do not trust"]);
}

#[test]
fn a_signed_index_with_hostile_strings_is_shown_or_refused_as_text() {
    let lab = subscribed();
    publish(&lab, "1.0.0", CLOCK);
    let good: serde_json::Value = serde_json::from_str(&lab.read("dist/index.json")).unwrap();
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}31m\rgood";
    for place in [
        "/date",
        "/plugins/0/name",
        "/plugins/0/releases/0/version",
        "/plugins/0/releases/0/api",
        "/plugins/0/releases/0/description",
        "/plugins/0/releases/0/file",
        "/plugins/0/releases/0/sha256",
        "/plugins/0/releases/0/kinds/0",
        "/plugins/0/releases/0/request/0/capability",
        "/plugins/0/releases/0/request/0/reason",
    ] {
        let mut index = good.clone();
        *index.pointer_mut(place).unwrap() = hostile.into();
        // Otherwise the second of them would be refused for its number alone.
        let _forgotten = std::fs::remove_file(lab.path("home/plugins/indexes.toml"));
        lab.write("dist/index.json", index.to_string());
        sign(&lab);
        for line in [
            &["plugin", "search", "-v"][..],
            &["plugin", "add", "shelf", "--dry-run"],
            &["plugin", "outdated"],
        ] {
            let ran = lab.run(line);
            let text = format!("{}{}", ran.out, ran.err);
            let harmful = text.chars().find(|c| dlm_core::inert::is_harmful(*c));
            assert_eq!(harmful, None, "{place} in {line:?}: {text:?}");
            assert!(!ran.err.contains("panicked"), "{place}: {}", ran.err);
        }
    }
}

#[test]
fn a_publisher_signs_with_their_own_key() {
    let lab = Lab::new();
    let file = pack(&lab, "1.0.0", "");
    std::fs::create_dir(lab.path("dist")).unwrap();
    std::fs::copy(file, lab.path("dist/shelf.wasm")).unwrap();
    lab.run(&["plugin", "index", "dist", "--sign"])
        .exits(1)
        .says(&["there is no key", "minisign -G"]);
    assert!(!lab.path("dist/index.json").exists(), "it was written all the same");
    std::fs::create_dir(lab.path("home")).unwrap();
    lab.write("home/minisign.key", "a key");
    std::fs::create_dir(lab.path("bin")).unwrap();
    lab.script("bin/minisign", "echo \"$@\" > signed-with");
    let mut signing = lab.command();
    signing.env("PATH", format!("{}:/usr/bin:/bin", lab.path("bin").display()));
    lab.finish(signing.args(["plugin", "index", "dist", "--sign"]))
        .ok()
        .says(&["number 1, 1 plugin(s)", "not signed themselves", "plugin: signed"]);
    let words = lab.read("signed-with");
    assert!(words.contains("-t dlm-index 1 -x dist/index.json.minisig"), "{words}");
    std::fs::create_dir(lab.path("empty")).unwrap();
    lab.run(&["plugin", "index", "empty"])
        .exits(2)
        .says(&["has no packed plugin to list"]);
}
