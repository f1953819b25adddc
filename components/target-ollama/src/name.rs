//! The rule for Ollama's model names: `[namespace/]name[:tag]`.

use dlm_plugin::Error;

const NAME_CHARS_MAX: usize = 128;

/// Checks a name; also keeps anything that begins with `-` away from Ollama's command line.
pub fn check(name: &str) -> Result<(), Error> {
    let refuse = |why: &str| {
        Err(Error::InvalidInput(format!(
            "`{name}` is not a model name for ollama: {why}; the form is `[namespace/]name[:tag]`"
        )))
    };
    if name.len() > NAME_CHARS_MAX {
        return refuse("it is longer than 128 characters");
    }
    if name.contains("..") {
        return refuse("it contains `..`");
    }
    let (path, tag) = match name.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (name, None),
    };
    let parts: Vec<&str> = path.split('/').collect();
    if parts.len() > 2 {
        return refuse("it has more than one `/`");
    }
    for part in parts.into_iter().chain(tag) {
        let mut bytes = part.bytes();
        let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !starts_well || !bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return refuse("each part begins with a letter or digit, followed by letters, digits, `.`, `_` and `-`");
        }
    }
    Ok(())
}
