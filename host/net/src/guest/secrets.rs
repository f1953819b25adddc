//! Where secrets may go: everything that a hop sends is searched for the text of every secret in use.
//!
//! Invariants: values are looked for, not the headers that carry them; a secret leaves for hosts of its own grant alone, and on
//! the way that a server sends its visitors it never is in the address of another origin.

use std::io::{self, Read};

use dlm_core::http_rule::{HostPattern, ParsedUrl};
use dlm_core::ports::guest_http::{GuestBody, GuestHttpError, GuestRequest};
use dlm_core::secret_form::{SECRET_BYTES_MIN, SecretForm};

use super::body::part;

/// Bytes of a file that are searched at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// The secrets that a plugin holds while it sends a request.
#[derive(Clone, Debug)]
pub(super) struct Secrets(Vec<Secret>);

#[derive(Clone, Debug)]
struct Secret {
    name: String,
    /// None of one that is too short to be told from other text.
    form: Option<SecretForm>,
    hosts: Vec<HostPattern>,
    /// Whether a header of the request has it.
    is_attached: bool,
}

impl Secrets {
    pub fn new(request: &GuestRequest) -> Secrets {
        let one = |secret: &dlm_core::ports::guest_http::SecretInUse| Secret {
            name: secret.name.clone(),
            form: SecretForm::of(&secret.value),
            // What is no host covers none.
            hosts: secret
                .hosts
                .iter()
                .filter_map(|host| HostPattern::parse(host).ok())
                .collect(),
            is_attached: request.secret_headers.iter().any(|header| header.secret == secret.name),
        };
        Secrets(request.secrets.iter().map(one).collect())
    }

    /// Whether everything that is sent to `url` may go there.
    ///
    /// **Errors**: `Denied` with the secret and where it stands.
    pub fn check(
        &self,
        url: &ParsedUrl,
        headers: &[(String, String)],
        body: Option<&GuestBody>,
    ) -> Result<(), GuestHttpError> {
        for secret in &self.0 {
            let Some(form) = secret.form.as_ref().filter(|_| !secret.may_go_to(url)) else {
                continue;
            };
            let place = if form.is_in(url.as_str().as_bytes()) {
                Some("in the address")
            } else if headers
                .iter()
                .any(|(name, value)| form.is_in(name.as_bytes()) || form.is_in(value.as_bytes()))
            {
                Some("in a header")
            } else if body.map_or(Ok(false), |body| is_in_body(form, body))? {
                Some("in the body")
            } else {
                None
            };
            if let Some(place) = place {
                return Err(GuestHttpError::Denied {
                    capability: format!("secret:{}@{}", secret.name, url.host()),
                    message: format!(
                        "secret `{}` may not be sent to {}, and is {place}",
                        secret.name,
                        url.host()
                    ),
                });
            }
        }
        Ok(())
    }

    /// Whether a redirect from `from` may lead to another origin.
    ///
    /// **Errors**: `Denied`; no grant lifts it, as the server of `from` writes the address.
    pub fn check_redirect(&self, from: &ParsedUrl, to: &ParsedUrl) -> Result<(), GuestHttpError> {
        for secret in &self.0 {
            let why = match &secret.form {
                Some(form) if form.is_in(to.as_str().as_bytes()) => "in the address".to_owned(),
                None if secret.is_attached => {
                    format!("which, with fewer than {SECRET_BYTES_MIN} bytes, could be there unseen")
                }
                _ => continue,
            };
            return Err(GuestHttpError::Denied {
                capability: String::new(),
                message: format!("{from} sends on to {} with secret `{}` {why}", to.origin(), secret.name),
            });
        }
        Ok(())
    }
}

impl Secret {
    fn may_go_to(&self, url: &ParsedUrl) -> bool {
        self.hosts.iter().any(|host| host.covers(url.host()))
    }
}

fn is_in_body(form: &SecretForm, body: &GuestBody) -> Result<bool, GuestHttpError> {
    match body {
        GuestBody::Bytes(bytes) => Ok(form.is_in(bytes)),
        GuestBody::File { path, offset, length } => {
            let unread =
                |error: io::Error| GuestHttpError::Invalid(format!("cannot read `{}`: {error}", path.display()));
            is_in_reader(form, part(path, *offset, *length)?).map_err(unread)
        }
    }
}

/// Searches a stream in windows that overlap by the longest form.
fn is_in_reader(form: &SecretForm, mut reader: impl Read) -> io::Result<bool> {
    let mut window = Vec::new();
    loop {
        let read = (&mut reader).take(WINDOW_BYTES as u64).read_to_end(&mut window)?;
        if form.is_in(&window) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        let kept = window.len().min(form.longest());
        window.drain(..window.len() - kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_across_two_windows_is_found() {
        let form = SecretForm::of("sk-hunter2hunter2").unwrap();
        for before in [0, WINDOW_BYTES - 5, WINDOW_BYTES, 2 * WINDOW_BYTES - 16] {
            let mut bytes = vec![b'x'; before];
            assert!(!is_in_reader(&form, bytes.as_slice()).unwrap());
            bytes.extend(b"sk%2Dhunter2hunter2!");
            assert!(is_in_reader(&form, bytes.as_slice()).unwrap(), "{before}");
        }
    }
}
