//! Any text is a grant or an error; what is accepted is written and read back alike, and taking grants away never allows more.
//!
//! One capability a line. A line that begins with `-` is a denial, one with `=` the plugin's argument.

use dlm_packages::ask::power;
use dlm_packages::{Capability, Grants};

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (mut granted, mut denied, mut argument) = (Vec::new(), Vec::new(), "");
    for line in text.split('\n').take(16) {
        if let Some(line) = line.strip_prefix('=') {
            argument = line;
        } else if let Some(line) = line.strip_prefix('-') {
            denied.extend(read(line));
        } else {
            granted.extend(read(line));
        }
    }
    let allowed = |granted: &[Capability], denied: &[Capability]| {
        Grants::new(granted.to_vec(), denied.to_vec(), argument).texts()
    };
    let all = allowed(&granted, &denied);
    assert!(
        all.iter()
            .all(|text| granted.iter().any(|held| held.to_string() == *text))
    );
    assert!(denied.iter().all(|denial| !all.contains(&denial.to_string())));
    for index in 0..granted.len() {
        let mut fewer = granted.clone();
        fewer.remove(index);
        assert!(allowed(&fewer, &denied).iter().all(|text| all.contains(text)));
    }
    for index in 0..denied.len() {
        let mut fewer = denied.clone();
        fewer.remove(index);
        assert!(all.iter().all(|text| allowed(&granted, &fewer).contains(text)));
    }
}

fn read(line: &str) -> Option<Capability> {
    match Capability::parse(line) {
        Ok(capability) => {
            let written = capability.to_string();
            assert_eq!(
                Capability::parse(&written).expect("written by us"),
                capability,
                "{line}"
            );
            // What a manifest asks for is sorted by what it may do.
            power(&written).expect("a capability has a power");
            Some(capability)
        }
        Err(bad) => {
            assert!(!bad.text.contains(|c: char| c.is_control()), "{bad:?}");
            None
        }
    }
}
