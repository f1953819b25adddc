//! The ways in which a secret can stand in other text: as it is, percent-encoded, and in base64.
//!
//! Invariants: a value is looked for, not the shape of what carries it; nothing of it is shown. What a host that may have the
//! secret does with it in other ways (another key, another code) is out of reach.

/// A shorter secret stands in ordinary text by chance.
pub const SECRET_BYTES_MIN: usize = 8;

/// Everything that is looked for when a secret must not be somewhere.
#[derive(Clone)]
pub struct SecretForm {
    needles: Vec<Vec<u8>>,
}

/// Without the secret.
impl std::fmt::Debug for SecretForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretForm({} ways)", self.needles.len())
    }
}

impl SecretForm {
    /// The forms of a value; none of one that is too short to be told from other text.
    pub fn of(value: &str) -> Option<Self> {
        let value = value.as_bytes();
        if value.len() < SECRET_BYTES_MIN {
            return None;
        }
        let mut needles = vec![value.to_owned()];
        for alphabet in [STANDARD, URL_SAFE] {
            // What stands before the secret decides how its bits fall into letters.
            for before in 0..3 {
                let needle = base64_middle(value, before, alphabet);
                if !needles.contains(&needle) {
                    needles.push(needle);
                }
            }
        }
        Some(Self { needles })
    }

    /// Says whether the secret is in some bytes, in any form.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        (0..bytes.len()).any(|at| self.end_at(bytes, at).is_some())
    }

    /// The bytes with `shown` in the place of the secret, in any form.
    pub fn hidden(&self, bytes: &[u8], shown: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            match self.end_at(bytes, at) {
                Some(end) => {
                    out.extend_from_slice(shown);
                    at = end;
                }
                None => {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
        }
        out
    }

    /// Most bytes that a form takes where every one is percent-encoded twice.
    pub fn longest(&self) -> usize {
        self.needles.iter().map(Vec::len).max().unwrap_or_default() * TWICE_ENCODED
    }

    /// Where the form that begins at `at` ends.
    fn end_at(&self, bytes: &[u8], at: usize) -> Option<usize> {
        self.needles.iter().find_map(|needle| end_of(bytes, at, needle))
    }
}

/// `%2541`.
const TWICE_ENCODED: usize = 5;
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The letters of base64 that `value` alone decides, with `before` other bytes in front of it.
fn base64_middle(value: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bit = |index: usize| {
        let byte = value[index / 8];
        usize::from(byte >> (7 - index % 8) & 1)
    };
    // Letters begin at multiples of six bits from the start of what is in front.
    let first = (before * 8).div_ceil(6) * 6 - before * 8;
    (first..)
        .step_by(6)
        .take_while(|start| start + 6 <= value.len() * 8)
        .map(|start| alphabet[(start..start + 6).fold(0, |letter, index| letter << 1 | bit(index))])
        .collect()
}

/// Where `needle` ends if it begins at `at`, each of its bytes written plainly or percent-encoded once or twice.
fn end_of(bytes: &[u8], at: usize, needle: &[u8]) -> Option<usize> {
    needle.iter().try_fold(at, |at, wanted| {
        let first = *bytes.get(at)?;
        if first == b'%'
            && let Some(code) = hex(bytes, at + 1)
        {
            if code == b'%'
                && let Some(code) = hex(bytes, at + 3)
                && code == *wanted
            {
                return Some(at + TWICE_ENCODED);
            }
            if code == *wanted {
                return Some(at + 3);
            }
        }
        // A form writes a blank as a plus.
        let is_blank = first == b'+' && *wanted == b' ';
        (first == *wanted || is_blank).then_some(at + 1)
    })
}

/// The byte that two hex digits name.
fn hex(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "k-9f31 secret+value/xyz";

    /// Base64 as it is written, for comparison with the middle of it.
    fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> String {
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let mut word = [0u8; 3];
            word[..chunk.len()].copy_from_slice(chunk);
            let bits = u32::from(word[0]) << 16 | u32::from(word[1]) << 8 | u32::from(word[2]);
            for letter in 0..=chunk.len() {
                out.push(char::from(alphabet[(bits >> (18 - 6 * letter) & 63) as usize]));
            }
        }
        out
    }

    fn percent(text: &[u8]) -> String {
        text.iter().map(|byte| format!("%{byte:02x}")).collect()
    }

    #[test]
    fn every_form_is_found_and_hidden() {
        let form = SecretForm::of(SECRET).unwrap();
        let mut forms = vec![
            SECRET.to_owned(),
            SECRET.replace(' ', "+"),
            SECRET.replace(' ', "%20").replace('/', "%2F"),
            percent(SECRET.as_bytes()),
            percent(percent(SECRET.as_bytes()).as_bytes()).replace("%25%32", "%252"),
            SECRET.replace('-', "%252D"),
        ];
        for alphabet in [STANDARD, URL_SAFE] {
            for before in ["", "u", "us", "user:"] {
                for after in ["", "x", "xy", " x"] {
                    let text = base64(format!("{before}{SECRET}{after}").as_bytes(), alphabet);
                    forms.push(percent(text.as_bytes()));
                    forms.push(text);
                }
            }
        }
        for text in forms.iter().filter(|text| !text.starts_with("%25")) {
            let around = format!("before={text}&after");
            assert!(form.is_in(around.as_bytes()), "{text}");
            let hidden = form.hidden(around.as_bytes(), b"[secret]");
            assert!(!form.is_in(&hidden), "{text}");
            let hidden = String::from_utf8(hidden).unwrap();
            assert!(
                hidden.starts_with("before=") && hidden.contains("[secret]") && hidden.ends_with("&after"),
                "{hidden}"
            );
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        let form = SecretForm::of(SECRET).unwrap();
        for text in [
            "",
            "%",
            "%2",
            "%zz",
            "k-9f31 secret+value/xy",
            "K-9F31 SECRET+VALUE/XYZ",
            "ordinary words",
        ] {
            assert!(!form.is_in(text.as_bytes()), "{text}");
            assert_eq!(form.hidden(text.as_bytes(), b"x"), text.as_bytes());
        }
        assert!(SecretForm::of("short").is_none());
        assert_eq!(format!("{form:?}"), format!("SecretForm({} ways)", form.needles.len()));
        // A secret with percent signs is found as it is.
        assert!(SecretForm::of("a%41b%%cd").unwrap().is_in(b"xa%41b%%cdx"));
    }
}
