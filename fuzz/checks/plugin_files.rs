//! Any bytes are a selector, lock, index, manifest, case or component, or an error; what is accepted is written and read back alike.

use std::path::Path;

use dlm_packages::author::AuthorManifest;
use dlm_packages::check::check as check_file;
use dlm_packages::index::Index;
use dlm_packages::inspect::wit;
use dlm_packages::lockfile::Lock;
use dlm_packages::manifest::Manifest;
use dlm_packages::selector::{Selector, TemplateChoice, To};

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(selector) = Selector::parse(text) {
            assert_eq!(Selector::parse(&selector.to_string()).expect("written by us"), selector);
        }
        // What they refuse is an error like any other.
        let _ = (To::parse(text), TemplateChoice::parse(text));
        if let Ok(author) = AuthorManifest::parse(text) {
            let json = author.manifest.to_json();
            assert_eq!(
                Manifest::from_json(json.as_bytes()).expect("written by us"),
                author.manifest
            );
        }
    }
    if let Ok(lock) = Lock::parse(bytes) {
        assert_eq!(Lock::parse(lock.to_text().as_bytes()).expect("written by us"), lock);
    }
    if let Ok(index) = Index::parse(bytes) {
        assert_eq!(Index::parse(index.to_text().as_bytes()).expect("written by us"), index);
    }
    let _ = Manifest::from_json(bytes);
    let path = Path::new("fuzzed.wasm");
    if check_file(path, bytes).is_ok() {
        let _ = wit(path, bytes);
    }
}
