//! What of a typed address is the server's base.

use dlm_plugin::{Error, error};

/// Cuts what people copy along: final slashes, the path of the chat protocol, a final `/v1`.
pub fn base(typed: &str) -> Result<String, Error> {
    let refuse = |why: &str| {
        Err(error!(
            InvalidInput,
            "`{typed}` is no address of a server: {why}; the form is `http://host:port` or `https://host/path`"
        ))
    };
    let lower = typed.to_ascii_lowercase();
    let Some(rest) = ["http://", "https://"]
        .iter()
        .find_map(|scheme| lower.starts_with(scheme).then(|| &typed[scheme.len()..]))
    else {
        return refuse("it begins with neither `http://` nor `https://`");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.starts_with(':') {
        return refuse("it names no host");
    }
    if authority.contains('@') {
        return refuse("it holds a user name, which would be recorded; keys are given as the secret `VLLM_API_KEY`");
    }
    if typed.contains(['?', '#']) || typed.contains(char::is_whitespace) {
        return refuse("it holds a query, a fragment or a blank");
    }
    let mut base = typed.trim_end_matches('/');
    for tail in ["/chat/completions", "/v1"] {
        base = base.strip_suffix(tail).unwrap_or(base).trim_end_matches('/');
    }
    Ok(base.to_owned())
}

/// The host of a base, as a grant names it.
pub fn host(base: &str) -> &str {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or_default();
    }
    authority.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_along_is_cut() {
        for typed in [
            "http://10.0.0.5:8000",
            "http://10.0.0.5:8000/",
            "http://10.0.0.5:8000/v1",
            "http://10.0.0.5:8000/v1/",
            "http://10.0.0.5:8000/v1/chat/completions",
            "http://10.0.0.5:8000/chat/completions",
            "http://10.0.0.5:8000/v1/chat/completions/",
        ] {
            assert_eq!(base(typed).unwrap(), "http://10.0.0.5:8000", "{typed}");
        }
        assert_eq!(base("https://example.com/llm/v1").unwrap(), "https://example.com/llm");
        assert_eq!(base("HTTP://example.com").unwrap(), "HTTP://example.com");
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for (typed, part) in [
            ("10.0.0.5:8000", "neither"),
            ("ftp://example.com", "neither"),
            ("http://", "no host"),
            ("http:///v1", "no host"),
            ("http://:8000", "no host"),
            ("http://me:secret@example.com", "user name"),
            ("http://example.com/?key=1", "query"),
            ("http://exam ple.com", "blank"),
        ] {
            let error = base(typed).unwrap_err();
            assert!(
                matches!(&error, Error::InvalidInput(text) if text.contains(part)),
                "{typed}: {error}"
            );
        }
    }

    #[test]
    fn the_host_is_what_a_grant_names() {
        assert_eq!(host("https://example.com/llm"), "example.com");
        assert_eq!(host("http://10.0.0.5:8000"), "10.0.0.5");
        assert_eq!(host("http://[::1]:8000"), "[::1]");
    }
}
