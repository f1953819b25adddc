//! Any bytes are a hub's list of files, or an index of shards, or an error.
//!
//! What is checked: nothing panics, and every name and digest that is taken is safe in a path and an address.

use dlm_net::hub::{Listing, shards};

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    let named = shards(bytes);
    let Ok(mut listing) = Listing::parse("org/name", bytes) else {
        return;
    };
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hex(&listing.commit) && listing.commit.len() == 40);
    for file in &listing.files {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        assert!(
            file.name.chars().all(is_plain) && !file.name.starts_with('.'),
            "{:?}",
            file.name
        );
        assert!(is_hex(&file.blob), "{:?}", file.blob);
        assert!(
            file.sha256
                .as_deref()
                .is_none_or(|digest| is_hex(digest) && digest.len() == 64)
        );
        assert!(!file.is_weights() || file.sha256.is_some());
    }
    assert!(listing.files.iter().any(|file| file.name == "config.json"));
    let _ = listing.needs_index();
    let named = named.unwrap_or_default();
    listing.keep_named(&named);
    assert!(
        listing
            .files
            .iter()
            .all(|file| !file.is_weights() || named.contains(&file.name))
    );
}
