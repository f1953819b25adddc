//! Where a plugin is installed from: a file or an `https:` address.
//!
//! Invariants: only the port for guest HTTP reaches the network, one hop at a time under a rule for that hop's host;
//! nothing but `https:` is fetched; a body has a limit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dlm_core::Cancel;
use dlm_core::http_rule::{HostPattern, HttpRule, ParsedUrl, Scheme, UrlHost};
use dlm_core::ports::guest_http::{GuestBody, GuestHttp, GuestHttpError, GuestMethod, GuestRequest, GuestResponse};

use crate::disk;
use crate::error::{FetchError, FilesError, PackageError, SourceError};
use crate::keys::TEXT_BYTES_MAX;
use crate::manifest::COMPONENT_BYTES_MAX;
use crate::signature::signature_path;
use dlm_core::inert::{cut, inert_line};

/// Most redirects.
const HOPS_MAX: usize = 5;
/// For one whole download.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What was typed as SRC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Web(String),
}

/// A plugin file with its signature, as they came.
#[derive(Clone, Debug)]
pub struct FetchedPlugin {
    pub bytes: Vec<u8>,
    pub signature: Option<Vec<u8>>,
    /// For the lock: an absolute path or an address.
    pub source: String,
    pub is_from_network: bool,
}

impl Source {
    /// Reads SRC; `resolve` turns a typed path into a real one.
    ///
    /// **Errors**: `http:`, a scheme that is not built, or an unknown one.
    pub fn parse(text: &str, resolve: impl Fn(&str) -> PathBuf) -> Result<Source, SourceError> {
        let refused = |cause: &str, hint: &str| {
            Err(SourceError {
                text: inert_line(&cut(text, 120)),
                cause: cause.to_owned(),
                hint: hint.to_owned(),
            })
        };
        let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("https") => Ok(Source::Web(text.to_owned())),
            Some("http") => refused(
                "would come over an open line",
                "fetch it yourself, then: dlm plugin install ./FILE --sha256 HASH",
            ),
            Some("hf" | "oci") => refused(
                "is of a kind that this version of dlm does not fetch",
                "fetch the file with the registry's own tool, then: dlm plugin install ./FILE --sha256 HASH",
            ),
            Some(scheme) if scheme.len() > 1 && text.contains("://") => refused(
                "is neither a file nor an https: address",
                "such as: dlm plugin install ./rubric.wasm",
            ),
            _ => Ok(Source::File(resolve(text))),
        }
    }
}

/// Reads or downloads a plugin file and the signature beside it.
///
/// **Errors**: it is not there, is too large, or cannot be reached.
pub fn fetch(
    source: &Source,
    http: &dyn GuestHttp,
    user_agent: &str,
    cancel: &Cancel,
) -> Result<FetchedPlugin, PackageError> {
    match source {
        Source::File(path) => Ok(from_file(path)?),
        Source::Web(url) => {
            let get = Get {
                http,
                user_agent,
                cancel,
            };
            let bytes = get.body(url, COMPONENT_BYTES_MAX)?;
            let bytes = bytes.ok_or_else(|| unreachable(url, "the server has no such file (404)"))?;
            Ok(FetchedPlugin {
                bytes,
                signature: get.body(&signature_url(url), TEXT_BYTES_MAX)?,
                source: url.clone(),
                is_from_network: true,
            })
        }
    }
}

/// Reads a plugin file and the signature beside it.
///
/// **Errors**: it is not there or too large.
pub fn from_file(path: &Path) -> Result<FetchedPlugin, FilesError> {
    Ok(FetchedPlugin {
        bytes: crate::discover::read_file(path)?,
        signature: disk::read(&signature_path(path), TEXT_BYTES_MAX)?,
        source: crate::discover::place_of(path).to_string_lossy().into_owned(),
        is_from_network: false,
    })
}

/// What a body is fetched with.
pub(crate) struct Get<'a> {
    pub http: &'a dyn GuestHttp,
    pub user_agent: &'a str,
    pub cancel: &'a Cancel,
}

impl Get<'_> {
    /// The body at an address, or nothing where the server has none.
    pub fn body(&self, url: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, PackageError> {
        let parse = |text: &str| ParsedUrl::parse(text).map_err(|bad| unreachable(&bad.url, &bad.reason));
        let typed = parse(url)?;
        let mut at = url.to_owned();
        for _ in 0..=HOPS_MAX {
            let parsed = parse(&at)?;
            // Only the host that was typed may lie in a private network.
            let rule = rule(&parsed, parsed.is_same_origin(&typed)).map_err(|cause| unreachable(&at, &cause))?;
            let answer = self.send(&at, rule, bytes_max)?;
            match answer.status {
                200 => return Ok(Some(answer.body)),
                404 | 410 => return Ok(None),
                301 | 302 | 303 | 307 | 308 => {
                    let location = answer
                        .headers
                        .iter()
                        .find(|(name, _)| name.eq_ignore_ascii_case("location"))
                        .map(|(_, value)| value.as_str());
                    at = next(&parsed, location).map_err(|cause| unreachable(url, &cause))?;
                }
                status => return Err(unreachable(&at, &format!("the server answered with status {status}")).into()),
            }
        }
        Err(unreachable(url, &format!("more than {HOPS_MAX} redirects")).into())
    }

    fn send(&self, url: &str, rule: HttpRule, bytes_max: u64) -> Result<GuestResponse, PackageError> {
        let request = GuestRequest {
            method: GuestMethod::Get,
            url: url.to_owned(),
            headers: Vec::new(),
            secret_headers: Vec::new(),
            secrets: Vec::new(),
            body: GuestBody::Bytes(Vec::new()),
            timeout: TIMEOUT,
            follow_redirects: 0,
            response_bytes_max: bytes_max,
            user_agent: self.user_agent.to_owned(),
        };
        self.http
            .send(&request, &[rule], self.cancel)
            .map_err(|error| match error {
                GuestHttpError::Cancelled => PackageError::Cancelled,
                error => unreachable(url, &error.to_string()).into(),
            })
    }
}

/// `.minisig` after the path, before a query.
fn signature_url(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let (path, query) = url.split_at(end);
    format!("{path}.minisig{query}")
}

/// The address that a redirect points to.
fn next(from: &ParsedUrl, location: Option<&str>) -> Result<String, String> {
    let location = location.ok_or("a redirect without an address")?;
    let to = from.join(location).map_err(|bad| bad.reason)?;
    match to.scheme() {
        Scheme::Https => Ok(to.as_str().to_owned()),
        Scheme::Http => Err(format!(
            "a redirect to `{}`, which is not https:",
            inert_line(&cut(location, 120))
        )),
    }
}

/// The rule that allows exactly the origin of an address.
fn rule(url: &ParsedUrl, is_typed: bool) -> Result<HttpRule, String> {
    if url.scheme() != Scheme::Https {
        return Err("it is no https: address".to_owned());
    }
    Ok(HttpRule {
        scheme: Scheme::Https,
        host: match url.host() {
            UrlHost::Name(name) => HostPattern::Name(name.clone()),
            UrlHost::Address(address) => HostPattern::Address(*address),
        },
        port: url.port(),
        prefix: String::new(),
        is_typed,
        is_own_server: false,
    })
}

fn unreachable(url: &str, cause: &str) -> FetchError {
    FetchError {
        url: inert_line(&cut(url, 200)),
        cause: inert_line(cause),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::error::Diagnose;

    /// Answers from a list; remembers what was asked for.
    struct Script {
        answers: Mutex<Vec<(&'static str, u16, Option<&'static str>)>>,
    }

    impl Script {
        fn of(answers: &[(&'static str, u16, Option<&'static str>)]) -> Script {
            Script {
                answers: Mutex::new(answers.to_vec()),
            }
        }
    }

    impl GuestHttp for Script {
        fn send(
            &self,
            request: &GuestRequest,
            rules: &[HttpRule],
            _cancel: &Cancel,
        ) -> Result<GuestResponse, GuestHttpError> {
            let (url, status, location) = self.answers.lock().unwrap().remove(0);
            assert_eq!(request.url, url);
            assert_eq!(rules.len(), 1);
            assert!(url.starts_with(&rules[0].to_string()), "{url} under {}", rules[0]);
            let is_first = !url.contains("elsewhere");
            assert_eq!(rules[0].is_typed, is_first);
            Ok(GuestResponse {
                status,
                headers: location
                    .map(|to| ("Location".to_owned(), to.to_owned()))
                    .into_iter()
                    .collect(),
                url: url.to_owned(),
                body: url.as_bytes().to_vec(),
            })
        }
    }

    fn run(answers: &[(&'static str, u16, Option<&'static str>)], url: &str) -> Result<FetchedPlugin, PackageError> {
        let source = Source::parse(url, |text| PathBuf::from(text)).unwrap();
        fetch(&source, &Script::of(answers), "dlm/0", &Cancel::new())
    }

    #[test]
    fn a_file_and_its_signature_are_fetched_over_checked_hops() {
        let fetched = run(
            &[
                ("https://a.example/r.wasm?x", 302, Some("https://elsewhere.example/r")),
                ("https://elsewhere.example/r", 200, None),
                ("https://a.example/r.wasm.minisig?x", 404, None),
            ],
            "https://a.example/r.wasm?x",
        )
        .unwrap();
        assert_eq!(fetched.bytes, b"https://elsewhere.example/r");
        assert!(fetched.signature.is_none() && fetched.is_from_network);
        assert_eq!(fetched.source, "https://a.example/r.wasm?x");
    }

    #[test]
    fn a_wrong_answer_is_refused() {
        for (answers, part) in [
            (&[("https://a.example/r", 404, None)][..], "404"),
            (&[("https://a.example/r", 500, None)], "status 500"),
            (&[("https://a.example/r", 302, None)], "without an address"),
            (&[("https://a.example/r", 302, Some("http://a.example/"))], "not https:"),
        ] {
            let error = run(answers, "https://a.example/r").unwrap_err();
            assert_eq!(error.code(), "plugin::unavailable");
            assert!(error.to_string().contains(part), "{error}");
        }
        for (url, part) in [
            ("https://user@a.example/r", "user name"),
            ("https://a.example:x/r", "port"),
            ("https://", "host"),
        ] {
            let error = run(&[], url).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn sources_that_are_not_built_say_so() {
        for (text, part) in [
            ("http://a.example/r.wasm", "open line"),
            ("hf:org/repo", "does not fetch"),
            ("oci:ghcr.io/x:y", "does not fetch"),
            ("ftp://x", "neither"),
        ] {
            let error = Source::parse(text, |text| PathBuf::from(text)).unwrap_err();
            assert_eq!(error.code(), "plugin::unsupported");
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(
            Source::parse("C:\\r.wasm", |text| PathBuf::from(text)).unwrap(),
            Source::File("C:\\r.wasm".into())
        );
        assert_eq!(
            Source::parse("r.wasm", |text| PathBuf::from(text)).unwrap(),
            Source::File("r.wasm".into())
        );
    }
}
