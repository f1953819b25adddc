//! `plugin-toml.md`: the keys that the reader of `plugin.toml` knows.

use dlm_packages::manifest::keys::{BUILD, CONFIG, Key, MANIFEST, REQUEST};

const HEAD: &str = "# plugin.toml\n\nWritten by `cargo xtask docs` out of the tables of its reader. `dlm plugin pack` puts everything but \
`[build]` into the component, as JSON of the same keys. A key that is not listed here is a mistake in the author's file, and a warning in \
a component that is installed. [Writing plugins](../guides/plugins-write.md) has examples.\n";

/// The page.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    for (title, keys) in [
        ("At the top", &MANIFEST[..]),
        ("`[[request]]`", &REQUEST),
        ("`[config.NAME]`", &CONFIG),
        ("`[build]`", &BUILD),
    ] {
        out.push_str(&format!(
            "\n## {title}\n\n| key | value | | meaning |\n|---|---|---|---|\n"
        ));
        keys.iter().for_each(|key| out.push_str(&row(key)));
    }
    out.push_str("\nThe capabilities of a request are in [capabilities](capabilities.md).\n");
    out
}

fn row(key: &Key) -> String {
    let required = if key.is_required { "required" } else { "" };
    format!("| `{}` | {} | {required} | {} |\n", key.name, key.value, key.meaning)
}
