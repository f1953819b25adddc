//! Whether a base's license must be accepted, has been, or may be asked about now.
//!
//! Pure: the caller says what is stored, what was given on the command line and whether a person can be asked; it
//! stamps the time on the record and stores it. **Source**: `spec/bases.md` section 6.

use dlm_core::Hints;
use dlm_core::base::{AcceptedVia, BaseRecord, LicenseAcceptance};

/// The command that needs the base, as far as licenses care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LicenseMoment {
    /// May accept by flag, or ask when there is a terminal.
    Init,
    /// May accept by flag.
    Train,
    /// May only replay what was stored (prompt, export, preference).
    Use,
}

/// What is known when the question comes up.
#[derive(Clone, Copy, Debug)]
pub struct LicenseInput<'a> {
    pub moment: LicenseMoment,
    pub stored: Option<&'a LicenseAcceptance>,
    /// `--i-accept-license` was given.
    pub is_flag_given: bool,
    /// A person can answer a question.
    pub has_terminal: bool,
    /// The web root that `{hub}` stands for.
    pub hub_root: &'a str,
}

/// What to do about the license.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LicenseDecision {
    NotNeeded,
    /// Accepted before; nothing to store.
    AlreadyAccepted,
    /// Store this acceptance with the present time.
    Record {
        url: String,
        spdx: String,
        via: AcceptedVia,
    },
    /// Show the link and ask; on yes, store with [`AcceptedVia::Interactive`].
    Ask {
        url: String,
        spdx: String,
    },
}

/// Why a base may not be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LicenseError {
    #[error("`{key}` ({spdx}) needs its license accepted: {url}")]
    NotAccepted {
        key: String,
        spdx: String,
        url: String,
        moment: &'static str,
    },
    #[error("`{key}` needs its license accepted but the registry has no address for it: a bug in the registry")]
    NoAddress { key: String },
}

impl Hints for LicenseError {
    fn subject(&self) -> &str {
        "license"
    }

    fn hints(&self) -> Vec<String> {
        match self {
            LicenseError::NotAccepted { moment, .. } => {
                vec![format!(
                    "read it, then run `dlm {moment} --i-accept-license`, with your other flags as before; the acceptance is stored once"
                )]
            }
            LicenseError::NoAddress { .. } => Vec::new(),
        }
    }
}

/// The question that a terminal shows for [`LicenseDecision::Ask`]; only `y` and `yes` accept.
pub fn question(key: &str, spdx: &str, url: &str) -> String {
    format!("{key} is licensed under {spdx}: {url}\nDo you accept this license? [y/N] ")
}

/// Decides what to do about a base's license.
pub fn decide(record: &BaseRecord, input: &LicenseInput) -> Result<LicenseDecision, LicenseError> {
    if !record.requires_acceptance {
        return Ok(LicenseDecision::NotNeeded);
    }
    let key = record.key.clone();
    let url = record
        .license_link(input.hub_root)
        .ok_or(LicenseError::NoAddress { key: key.clone() })?;
    let spdx = record.license_spdx.clone();
    // A record for other terms (the base was changed in the document) does not count.
    if input
        .stored
        .is_some_and(|stored| stored.license_spdx == spdx && stored.license_url == url)
    {
        return Ok(LicenseDecision::AlreadyAccepted);
    }
    match input.moment {
        LicenseMoment::Init | LicenseMoment::Train if input.is_flag_given => Ok(LicenseDecision::Record {
            url,
            spdx,
            via: AcceptedVia::CliFlag,
        }),
        LicenseMoment::Init if input.has_terminal => Ok(LicenseDecision::Ask { url, spdx }),
        moment => {
            let moment = if moment == LicenseMoment::Init {
                "init <path>"
            } else {
                "train <path>"
            };
            Err(LicenseError::NotAccepted { key, spdx, url, moment })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::registry::{DEFAULT_HUB_ROOT, Registry};

    fn input(moment: LicenseMoment) -> LicenseInput<'static> {
        LicenseInput {
            moment,
            stored: None,
            is_flag_given: false,
            has_terminal: false,
            hub_root: DEFAULT_HUB_ROOT,
        }
    }

    fn gated() -> &'static BaseRecord {
        Registry::builtin().get("llama-3.2-1b").unwrap()
    }

    #[test]
    fn free_bases_need_nothing() {
        let record = Registry::builtin().get("smollm2-135m").unwrap();
        assert_eq!(
            decide(record, &input(LicenseMoment::Use)),
            Ok(LicenseDecision::NotNeeded)
        );
    }

    #[test]
    fn the_flag_records_at_init_and_train_only() {
        for moment in [LicenseMoment::Init, LicenseMoment::Train] {
            let decision = decide(
                gated(),
                &LicenseInput {
                    is_flag_given: true,
                    ..input(moment)
                },
            )
            .unwrap();
            assert!(matches!(
                decision,
                LicenseDecision::Record {
                    via: AcceptedVia::CliFlag,
                    ..
                }
            ));
        }
        let error = decide(
            gated(),
            &LicenseInput {
                is_flag_given: true,
                ..input(LicenseMoment::Use)
            },
        )
        .unwrap_err();
        assert!(error.hints()[0].contains("dlm train <path> --i-accept-license"));
    }

    #[test]
    fn only_init_on_a_terminal_asks() {
        let ask = |moment| {
            decide(
                gated(),
                &LicenseInput {
                    has_terminal: true,
                    ..input(moment)
                },
            )
        };
        assert!(matches!(ask(LicenseMoment::Init), Ok(LicenseDecision::Ask { .. })));
        assert!(ask(LicenseMoment::Train).is_err());
        let error = decide(gated(), &input(LicenseMoment::Init)).unwrap_err();
        assert!(error.to_string().contains("https://www.llama.com/llama3_2/license/"));
        assert!(error.hints()[0].contains("dlm init <path> --i-accept-license"));
    }

    #[test]
    fn a_stored_record_counts_for_its_own_terms_only() {
        let mut stored = LicenseAcceptance {
            accepted_at: "2026-04-19T18:30:14".into(),
            license_url: "https://www.llama.com/llama3_2/license/".into(),
            license_spdx: "Other".into(),
            via: AcceptedVia::CliFlag,
        };
        let with = |stored: &LicenseAcceptance| {
            decide(
                gated(),
                &LicenseInput {
                    stored: Some(stored),
                    ..input(LicenseMoment::Use)
                },
            )
        };
        assert_eq!(with(&stored), Ok(LicenseDecision::AlreadyAccepted));
        stored.license_url = "https://ai.google.dev/gemma/terms".into();
        assert!(with(&stored).is_err());
    }

    #[test]
    fn a_gated_record_without_address_is_a_registry_bug() {
        let record = BaseRecord {
            license_url: None,
            ..gated().clone()
        };
        assert!(matches!(
            decide(&record, &input(LicenseMoment::Use)),
            Err(LicenseError::NoAddress { .. })
        ));
    }
}
