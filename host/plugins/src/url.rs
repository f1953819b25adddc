//! The one form of address that a target may use: `http://127.0.0.1:<port>[/path]`, spelled exactly so.
//!
//! Every other spelling of the same address (names, other number bases, user info, IPv6 forms) is refused by not being
//! understood, which leaves nothing to bypass.

/// A checked loopback address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub port: u16,
    /// Empty, or begins with `/`; the query is part of it.
    pub path: String,
}

const ORIGIN: &str = "http://127.0.0.1:";

impl Url {
    pub fn parse(text: &str) -> Option<Url> {
        let rest = text.strip_prefix(ORIGIN)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (port, path) = rest.split_at_checked(digits)?;
        let is_plain = path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"#\\".contains(&byte));
        let has_steps = path.split(['/', '?']).any(|part| {
            let part = part.to_ascii_lowercase().replace("%2e", ".");
            part == "." || part == ".."
        });
        let port: u16 = port.parse().ok()?;
        let is_path = path.is_empty() || path.starts_with('/');
        (is_plain && is_path && !has_steps && port != 0).then(|| Url {
            port,
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_understood() {
        let url = Url::parse("http://127.0.0.1:8000/v1/models?x=1").unwrap();
        assert_eq!((url.port, url.path.as_str()), (8000, "/v1/models?x=1"));
        assert!(Url::parse("http://127.0.0.1:1").is_some());
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for text in [
            "https://127.0.0.1:8000/",
            "http://localhost:8000/",
            "http://0177.0.0.1:8000/",
            "http://2130706433:8000/",
            "http://[::1]:8000/",
            "http://127.0.0.1/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:80@example.com/",
            "http://127.0.0.1:80.example.com/",
            "http://127.0.0.1:8000/a b",
            "http://127.0.0.1:8000/\r\nHost: x",
            "http://127.0.0.1:8000/v1/../x",
            "http://127.0.0.1:8000/v1/%2E%2e/x",
            "http://127.0.0.1:8000/#x",
            "http://127.0.0.1:8000\\@x/",
            "",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }
}
