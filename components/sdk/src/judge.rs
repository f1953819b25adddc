//! Judges: they score candidate answers.

pub use crate::bindings::judge::exports::dlm::plugin::judge::{Guest, Info, Item, Mode, Verdict};

use crate::Error;

/// A judge that was opened for one argument.
pub trait Judge: Sized {
    /// `argument` is the text after `name:` in the selector, empty if there is none.
    fn open(argument: &str) -> Result<Self, Error>;

    /// What the judge says about itself.
    fn info(&self) -> Info;

    /// Scores the candidates of one item.
    fn score(&mut self, item: &Item) -> Result<Verdict, Error>;

    /// Scores a batch; worth writing where several items cost little more than one.
    fn score_all(&mut self, items: &[Item]) -> Result<Vec<Verdict>, Error> {
        items.iter().map(|item| self.score(item)).collect()
    }
}

/// Items in one call unless a judge says otherwise.
const BATCH_MAX: u32 = 64;
/// Margin that counts unless a judge says otherwise.
const THRESHOLD: f64 = 0.1;

impl Info {
    /// A deterministic judge that scores each candidate by itself, with the threshold 0.1.
    pub fn pointwise(name: impl Into<String>) -> Info {
        Info {
            identity: crate::identity(name, ""),
            mode: Mode::Pointwise,
            suggested_threshold: THRESHOLD,
            deterministic: true,
            max_batch: BATCH_MAX,
        }
    }

    /// Adds a text for `dlm plugin inspect`.
    pub fn detail(mut self, detail: &str) -> Info {
        self.identity.detail = Some(detail.to_owned());
        self
    }

    /// Sets the smallest margin that counts as a preference.
    pub fn threshold(mut self, threshold: f64) -> Info {
        self.suggested_threshold = threshold;
        self
    }
}

impl Verdict {
    /// Scores without a reason.
    pub fn new(scores: impl IntoIterator<Item = f64>) -> Verdict {
        Verdict {
            scores: scores.into_iter().collect(),
            reasoning: None,
        }
    }
}

/// Joins what is said about each candidate: `a: … | b: …`. Candidates without a reason are left out.
pub fn joined(reasons: &[Option<String>]) -> Option<String> {
    let said = reasons.iter().enumerate().filter_map(|(index, reason)| {
        let reason = reason.as_deref()?;
        Some(format!("{}: {reason}", label(index)))
    });
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| said.join(" | "))
}

/// `a` to `z`, then `candidate 27` and on.
fn label(index: usize) -> String {
    match u8::try_from(index) {
        Ok(small @ 0..26) => char::from(b'a' + small).to_string(),
        _ => format!("candidate {}", index + 1),
    }
}

/// Exports a type as the component's judge.
#[macro_export]
macro_rules! export_judge {
    ($judge:ty) => {
        const _: () = {
            ::std::thread_local! {
                static OPENED: ::std::cell::RefCell<Option<$judge>> = const { ::std::cell::RefCell::new(None) };
            }
            struct Exported;
            impl $crate::judge::Guest for Exported {
                fn open(arg: String) -> Result<$crate::judge::Info, $crate::Error> {
                    let open = || <$judge as $crate::judge::Judge>::open(&arg);
                    $crate::slot::open(&OPENED, open, $crate::judge::Judge::info)
                }
                fn score(items: Vec<$crate::judge::Item>) -> Result<Vec<$crate::judge::Verdict>, $crate::Error> {
                    $crate::slot::call(&OPENED, |judge| $crate::judge::Judge::score_all(judge, &items))
                }
            }
    $crate::bindings::judge::export!(Exported with_types_in $crate::bindings::judge);
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_carry_the_letter_of_their_candidate() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(joined(&[some("x"), None, some("y")]).as_deref(), Some("a: x | c: y"));
        assert_eq!(joined(&[None, None]), None);
        assert_eq!(label(26), "candidate 27");
    }
}
