//! Where a pack goes.

use dlm_plugin::{Error, error};

/// A folder on a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    scheme: String,
    authority: String,
    /// Begins and ends with a slash.
    folder: String,
}

impl Address {
    /// Reads `https://host/folder/`, also without its scheme, which then is `https`.
    pub fn parse(rest: &str) -> Result<Address, Error> {
        let refuse = |why: &str| {
            Err(error!(
                InvalidInput,
                "`put:{rest}` is no place to push to: {why}; the form is `put:https://example.com/packs/`"
            ))
        };
        let (scheme, after) = match rest.split_once("://") {
            Some((scheme @ ("http" | "https"), after)) => (scheme, after),
            Some(_) => return refuse("it begins with neither `http://` nor `https://`"),
            None => ("https", rest.trim_start_matches('/')),
        };
        let (authority, path) = after.split_once('/').unwrap_or((after, ""));
        if authority.is_empty() || authority.starts_with(':') {
            return refuse("it names no host");
        }
        if after.contains(['?', '#', '@', '\\', '%']) || after.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return refuse("it holds a query, a fragment, a user name, an escape or a blank");
        }
        if path.split('/').any(|part| part == ".." || part == ".") {
            return refuse("it holds `.` or `..`");
        }
        let path = path.trim_matches('/');
        Ok(Address {
            scheme: scheme.to_owned(),
            authority: authority.to_ascii_lowercase(),
            folder: if path.is_empty() {
                "/".to_owned()
            } else {
                format!("/{path}/")
            },
        })
    }

    /// `https://host:port`.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// The address of a file; characters that mean something in an address are escaped.
    pub fn file(&self, name: &str) -> String {
        let escaped: String = name
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        format!("{}{}{escaped}", self.origin(), self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder() {
        for (rest, file) in [
            ("https://example.com/packs/", "https://example.com/packs/a.dlm.pack"),
            ("https://example.com/packs", "https://example.com/packs/a.dlm.pack"),
            ("//Example.com", "https://example.com/a.dlm.pack"),
            ("http://127.0.0.1:8000/x/y", "http://127.0.0.1:8000/x/y/a.dlm.pack"),
        ] {
            assert_eq!(Address::parse(rest).unwrap().file("a.dlm.pack"), file);
        }
        let address = Address::parse("https://example.com").unwrap();
        assert_eq!(address.file("ü b/../c"), "https://example.com/%C3%BC%20b%2F..%2Fc");
        assert_eq!(address.origin(), "https://example.com");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for rest in [
            "",
            "ftp://example.com",
            "https://",
            "https://:80/",
            "https://a@b/",
            "https://a/?x",
            "https://a/../b",
        ] {
            assert!(Address::parse(rest).is_err(), "{rest}");
        }
    }
}
