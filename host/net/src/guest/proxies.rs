//! Which proxy a request goes through. The values come in as settings, in the form of `HTTPS_PROXY`, `HTTP_PROXY` and
//! `NO_PROXY`.

use dlm_core::http_rule::{ParsedUrl, Scheme, UrlHost};
use ureq::Proxy;

use crate::client::SettingError;

#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    /// Lower-case names without a leading dot; `*` for every host.
    exceptions: Vec<String>,
}

impl Proxies {
    /// **Errors** on a proxy address that is not `http://…` or `https://…`.
    pub fn new(https: Option<&str>, http: Option<&str>, exceptions: Option<&str>) -> Result<Proxies, SettingError> {
        let exceptions = exceptions.unwrap_or_default().split(',').map(str::trim);
        let exceptions = exceptions.filter(|name| !name.is_empty());
        Ok(Proxies {
            https: proxy("https proxy", https)?,
            http: proxy("http proxy", http)?,
            exceptions: exceptions
                .map(|name| name.trim_start_matches('.').to_ascii_lowercase())
                .collect(),
        })
    }

    /// The ports on which proxies are reached.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.https.iter().chain(&self.http).map(Proxy::port)
    }

    /// The proxy for an address; none where it is asked directly, which this machine always is.
    pub fn of(&self, url: &ParsedUrl) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            Scheme::Https => self.https.as_ref(),
            Scheme::Http => self.http.as_ref(),
        };
        let is_direct = match url.host() {
            UrlHost::Name(name) => {
                name == "localhost" || name.ends_with(".localhost") || self.exceptions.iter().any(|e| is_in(name, e))
            }
            UrlHost::Address(address) => {
                address.is_loopback() || self.exceptions.iter().any(|e| e == "*" || *e == address.to_string())
            }
        };
        proxy.filter(|_| !is_direct)
    }
}

fn is_in(name: &str, exception: &str) -> bool {
    let below = name.strip_suffix(exception);
    exception == "*" || below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn proxy(setting: &'static str, value: Option<&str>) -> Result<Option<Proxy>, SettingError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    Proxy::new(value).map(Some).map_err(|_| SettingError {
        setting,
        reason: "expected http://<host>:<port>".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_have_their_own_proxy_and_exceptions_none() {
        let proxies = Proxies::new(Some("http://p:3128"), None, Some("b.example, .c.example,10.0.0.5")).unwrap();
        let is_used = |url: &str| proxies.of(&ParsedUrl::parse(url).unwrap()).is_some();
        assert!(is_used("https://a.example/"));
        assert!(!is_used("http://a.example/"));
        assert!(!is_used("https://b.example/"));
        assert!(!is_used("https://x.b.example/"));
        assert!(is_used("https://xb.example/"));
        assert!(!is_used("https://x.c.example/"));
        assert!(!is_used("https://10.0.0.5/"));
        assert!(is_used("https://10.0.0.6/"));
        for local in [
            "https://localhost/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://x.localhost/",
        ] {
            assert!(!is_used(local), "{local}");
        }
        let none = Proxies::new(Some("http://p:3128"), None, Some("*")).unwrap();
        assert!(none.of(&ParsedUrl::parse("https://a.example/").unwrap()).is_none());
    }

    #[test]
    fn a_bad_proxy_is_named_without_its_password() {
        let error = Proxies::new(None, Some("socks9://user:hunter2@p"), None).unwrap_err();
        assert_eq!(error.setting, "http proxy");
        assert!(!error.reason.contains("hunter2"));
    }
}
