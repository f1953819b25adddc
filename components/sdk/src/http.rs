//! Requests over the host's HTTP.

use serde_json::Value;

use crate::bindings::host::dlm::plugin::http as wire;
use crate::secrets::Secret;
use crate::types::Field;
use crate::{Error, error};

pub use wire::Method;

/// Longest answer that is read unless a request says otherwise.
const ANSWER_BYTES_MAX: u32 = 1 << 20;
/// Longest part of a foreign answer in a message.
const SHOWN_CHARS: usize = 300;

/// A request that is being put together.
pub struct Request<'a> {
    method: Method,
    url: String,
    headers: Vec<Field>,
    secrets: Vec<wire::SecretHeader<'a>>,
    body: Vec<u8>,
    timeout_ms: Option<u32>,
    redirects: u8,
    answer_bytes_max: u32,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<Field>,
    pub body: Vec<u8>,
}

impl<'a> Request<'a> {
    /// Begins a request.
    pub fn new(method: Method, url: &str) -> Request<'a> {
        Request {
            method,
            url: url.to_owned(),
            headers: Vec::new(),
            secrets: Vec::new(),
            body: Vec::new(),
            timeout_ms: None,
            redirects: 0,
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    /// Begins a `GET`.
    pub fn get(url: &str) -> Request<'a> {
        Request::new(Method::Get, url)
    }

    /// Begins a `POST`.
    pub fn post(url: &str) -> Request<'a> {
        Request::new(Method::Post, url)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Request<'a> {
        self.headers.push(Field {
            name: name.to_owned(),
            value: value.to_owned(),
        });
        self
    }

    /// Adds a header whose value is `prefix` and a secret; the plugin never sees the value.
    pub fn secret(mut self, name: &str, prefix: &str, secret: &'a Secret) -> Request<'a> {
        self.secrets.push(wire::SecretHeader {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            secret,
            suffix: String::new(),
        });
        self
    }

    /// Sets a JSON body.
    pub fn json(self, body: &Value) -> Request<'a> {
        let text = body.to_string();
        self.bytes("application/json", text.into_bytes())
    }

    /// Sets a body of any type.
    pub fn bytes(mut self, content_type: &str, body: Vec<u8>) -> Request<'a> {
        self.body = body;
        self.header("content-type", content_type)
    }

    /// Sets the longest time that the whole exchange may take.
    pub fn timeout_ms(mut self, timeout_ms: u32) -> Request<'a> {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// Follows up to this many redirects, at most 5; each hop needs the grant.
    pub fn redirects(mut self, hops_max: u8) -> Request<'a> {
        self.redirects = hops_max;
        self
    }

    /// Sets the longest answer that is read; a longer one is an error.
    pub fn answer_bytes_max(mut self, bytes_max: u32) -> Request<'a> {
        self.answer_bytes_max = bytes_max;
        self
    }

    /// The request in the contract's form, for [`crate::upload`].
    pub fn into_wire(self) -> wire::Request<'a> {
        wire::Request {
            method: self.method,
            url: self.url,
            headers: self.headers,
            secret_headers: self.secrets,
            body: self.body,
            timeout_ms: self.timeout_ms,
            follow_redirects: self.redirects,
        }
    }

    /// Sends it and reads the answer to its end, whatever the status.
    pub fn send(self) -> Result<Answer, Error> {
        let bytes_max = self.answer_bytes_max;
        Answer::read(&wire::send(&self.into_wire())?, bytes_max)
    }
}

impl Answer {
    /// Reads a response to its end.
    pub fn read(response: &wire::Response, bytes_max: u32) -> Result<Answer, Error> {
        Ok(Answer {
            status: response.status(),
            headers: response.headers(),
            body: response.read_all(bytes_max)?,
        })
    }

    /// True for 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The value of a header; letter case of the name is ignored.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value.trim())
    }

    /// The body as JSON.
    pub fn json(&self, who: &str) -> Result<Value, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            error!(
                Corrupt,
                "the answer of {who} is not JSON ({error}): `{}`",
                self.excerpt()
            )
        })
    }

    /// The beginning of the body, for messages.
    pub fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let mut shown: String = text.trim().chars().take(SHOWN_CHARS).collect();
        if text.trim().chars().count() > SHOWN_CHARS {
            shown.push('…');
        }
        shown
    }

    /// How long the far side asked to be left alone: `retry-after-ms`, or `retry-after` in seconds or as a date, which is
    /// held against the answer's own `date`.
    pub fn retry_after_ms(&self) -> Option<u32> {
        let milliseconds = |seconds: f64| (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1000.0) as u32);
        if let Some(ms) = self.header("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
            return milliseconds(ms / 1000.0);
        }
        let after = self.header("retry-after")?;
        if let Ok(seconds) = after.parse::<f64>() {
            return milliseconds(seconds);
        }
        let (until, now) = (http_date(after)?, http_date(self.header("date")?)?);
        milliseconds(until.saturating_sub(now) as f64)
    }

    /// Turns a status that is no success into the error that says what to do about it: wait, or give up.
    ///
    /// 408, 409, 425 and 5xx are `unavailable`, which the host tries again; with 429, or where the far side said how long to
    /// wait, it is `rate-limited`; any other status is `rejected`.
    pub fn refusal(&self, who: &str) -> Error {
        let said = self.message();
        let message = format!("{who} answered with status {}: {said}", self.status);
        let after = self.retry_after_ms();
        match self.status {
            429 => Error::rate_limited(after, message),
            408 | 409 | 425 | 500..=599 if after.is_some() => Error::rate_limited(after, message),
            408 | 409 | 425 | 500..=599 => Error::Unavailable(message),
            status => Error::rejected(i32::from(status), message),
        }
    }

    /// What an error answer says: `error.message`, `error`, `message` or `detail` of its JSON, else its beginning.
    fn message(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        let places = [
            json.pointer("/error/message"),
            json.get("error"),
            json.get("message"),
            json.get("detail"),
        ];
        let said = places.into_iter().flatten().find_map(Value::as_str);
        match said {
            Some(text) => text.trim().chars().take(SHOWN_CHARS).collect(),
            None if self.body.trim_ascii().is_empty() => "(no text)".to_owned(),
            None => self.excerpt(),
        }
    }
}

/// Seconds since 1970 of `Wed, 21 Oct 2026 07:28:00 GMT`.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else {
        return None;
    };
    let month = (MONTHS.find(month).filter(|_| month.len() == 3)? / 3) as u64 + 1;
    let (year, day): (u64, u64) = (year.parse().ok()?, day.parse().ok()?);
    let clock: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = clock.as_slice() else {
        return None;
    };
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || *hours > 23 || *minutes > 59 || *seconds > 60 {
        return None;
    }
    // Days from civil, years beginning in March (Howard Hinnant, chrono-compatible low-level date algorithms).
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted / 400, shifted % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hours * 3_600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let field = |(name, value): &(&str, &str)| Field {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        Answer {
            status,
            headers: headers.iter().map(field).collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_wait_is_read_in_each_form() {
        let wait = |headers: &[(&str, &str)]| answer(429, headers, "").retry_after_ms();
        assert_eq!(wait(&[("Retry-After", "7")]), Some(7_000));
        assert_eq!(wait(&[("retry-after-ms", "250"), ("retry-after", "9")]), Some(250));
        let date = ("Date", "Sat, 28 Feb 2026 23:59:30 GMT");
        assert_eq!(
            wait(&[date, ("Retry-After", "Sun, 01 Mar 2026 00:00:15 GMT")]),
            Some(45_000)
        );
        assert_eq!(wait(&[("Retry-After", "Sun, 01 Mar 2026 00:00:15 GMT")]), None);
        assert_eq!(wait(&[("Retry-After", "-3")]), None);
        assert_eq!(wait(&[("Retry-After", "soon")]), None);
    }

    #[test]
    fn dates_are_seconds() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Tue, 29 Feb 2000 23:59:59 GMT"), Some(951_868_799));
        assert_eq!(http_date("Wed, 21 Oct 2026 07:28:00 GMT"), Some(1_792_567_680));
        assert_eq!(http_date("Wed, 21 Foo 2026 07:28:00 GMT"), None);
    }

    #[test]
    fn each_status_has_its_class() {
        let class = |status: u16, headers: &[(&str, &str)]| answer(status, headers, "").refusal("x");
        for status in [408, 409, 425, 500, 502, 529] {
            assert!(matches!(class(status, &[]), Error::Unavailable(_)), "{status}");
        }
        let waits = class(503, &[("retry-after", "2")]);
        assert!(matches!(waits, Error::RateLimited(retry) if retry.after_ms == Some(2_000)));
        assert!(matches!(class(429, &[]), Error::RateLimited(retry) if retry.after_ms.is_none()));
        for status in [301, 400, 401, 403, 404, 422] {
            let error = class(status, &[]);
            assert!(matches!(error, Error::Rejected(refused) if refused.status == Some(i32::from(status))));
        }
    }

    #[test]
    fn a_refusal_says_what_the_far_side_said() {
        let said = |body: &str| answer(400, &[], body).message();
        assert_eq!(said(r#"{"error": {"message": " no such model "}}"#), "no such model");
        assert_eq!(said(r#"{"error": "plain"}"#), "plain");
        assert_eq!(said(r#"{"detail": "Not Found"}"#), "Not Found");
        assert_eq!(said("<html>oops"), "<html>oops");
        assert_eq!(said(" \n"), "(no text)");
    }
}
