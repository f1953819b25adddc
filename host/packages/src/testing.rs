//! Components for tests, written as text.

use crate::manifest::append;

/// A component whose imports have one function each, and whose exports are empty, and, where it is not empty, a manifest.
pub(crate) fn component(imports: &[&str], exports: &[&str], manifest: &str) -> Vec<u8> {
    let mut text = "(component ".to_owned();
    for import in imports {
        text.push_str(&format!("(import \"{import}\" (instance (export \"use\" (func)))) "));
    }
    text.push_str("(instance $empty) ");
    for export in exports {
        text.push_str(&format!("(export \"{export}\" (instance $empty)) "));
    }
    text.push(')');
    let mut bytes = wat::parse_str(&text).unwrap();
    if !manifest.is_empty() {
        append(&mut bytes, manifest.as_bytes());
    }
    bytes
}

/// A judge that imports what its requests need.
pub(crate) fn judge(name: &str, version: &str, requests: &[(&str, bool)]) -> Vec<u8> {
    let requests: Vec<serde_json::Value> = requests
        .iter()
        .map(|(capability, optional)| serde_json::json!({ "capability": capability, "reason": "to test", "optional": optional }))
        .collect();
    let manifest = serde_json::json!({
        "schema": 1, "name": name, "version": version, "kinds": ["judge"], "description": "A judge", "request": requests,
    });
    component(
        &[
            "dlm:plugin/model@1.0.0",
            "dlm:plugin/http@1.0.0",
            "dlm:plugin/process@1.0.0",
        ],
        &["dlm:plugin/judge@1.0.0"],
        &manifest.to_string(),
    )
}

/// A minisign key that signs in the older way, without a hash before.
pub(crate) struct Signer {
    pair: ring::signature::Ed25519KeyPair,
    id: [u8; 8],
}

impl Signer {
    pub(crate) fn new(seed: u8) -> Signer {
        Signer {
            pair: ring::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(),
            id: [seed; 8],
        }
    }

    /// The public key file.
    pub(crate) fn public(&self) -> String {
        use ring::signature::KeyPair;
        let key = [b"Ed", self.id.as_slice(), self.pair.public_key().as_ref()].concat();
        format!("untrusted comment: minisign public key\n{}\n", base64(&key))
    }

    /// The signature file.
    pub(crate) fn sign(&self, file: &[u8], comment: &str) -> Vec<u8> {
        let signature = self.pair.sign(file);
        let whole = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let line = [b"Ed", self.id.as_slice(), signature.as_ref()].concat();
        format!(
            "untrusted comment: by a test\n{}\ntrusted comment: {comment}\n{}\n",
            base64(&line),
            base64(whole.as_ref())
        )
        .into_bytes()
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) & 63;
            out.push(if digit <= part.len() {
                char::from(DIGITS[index as usize])
            } else {
                '='
            });
        }
    }
    out
}
