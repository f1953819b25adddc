//! Whether a base's licence must be accepted, has been, or may be asked about now.
//!
//! Pure: the caller says what is stored, what was given on the command line and whether a person can be asked; it
//! stamps the time on the record and stores it. **Source**: `spec/bases.md` section 6.

use dlm_core::Hints;
use dlm_core::base::{AcceptedVia, BaseRecord, LicenseAcceptance};

/// The command that needs the base, as far as licences care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LicenceMoment {
    /// May accept by flag, or ask when there is a terminal.
    Init,
    /// May accept by flag.
    Train,
    /// May only replay what was stored (prompt, export, preference).
    Use,
}

/// What is known when the question comes up.
#[derive(Clone, Copy, Debug)]
pub struct LicenceInput<'a> {
    pub moment: LicenceMoment,
    pub stored: Option<&'a LicenseAcceptance>,
    /// `--i-accept-license` was given.
    pub is_flag_given: bool,
    /// A person can answer a question.
    pub has_terminal: bool,
    /// The web root that `{hub}` stands for.
    pub hub_root: &'a str,
}

/// What to do about the licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LicenceDecision {
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
pub enum LicenceError {
    #[error("`{key}` ({spdx}) needs its licence accepted: {url}")]
    NotAccepted {
        key: String,
        spdx: String,
        url: String,
        moment: &'static str,
    },
    #[error("`{key}` needs its licence accepted but the registry has no address for it: a bug in the registry")]
    NoAddress { key: String },
}

impl Hints for LicenceError {
    fn subject(&self) -> &str {
        "license"
    }

    fn hints(&self) -> Vec<String> {
        match self {
            LicenceError::NotAccepted { moment, .. } => {
                vec![format!(
                    "read it, then run `dlm {moment} --i-accept-license`, with your other flags as before; the acceptance is stored once"
                )]
            }
            LicenceError::NoAddress { .. } => Vec::new(),
        }
    }
}

/// The question that a terminal shows for [`LicenceDecision::Ask`]; only `y` and `yes` accept.
pub fn question(key: &str, spdx: &str, url: &str) -> String {
    format!("{key} is licensed under {spdx}: {url}\nDo you accept this licence? [y/N] ")
}

/// Decides what to do about a base's licence.
pub fn decide(record: &BaseRecord, input: &LicenceInput) -> Result<LicenceDecision, LicenceError> {
    if !record.requires_acceptance {
        return Ok(LicenceDecision::NotNeeded);
    }
    let key = record.key.clone();
    let url = record
        .license_link(input.hub_root)
        .ok_or(LicenceError::NoAddress { key: key.clone() })?;
    let spdx = record.license_spdx.clone();
    // A record for other terms (the base was changed in the document) does not count.
    if input
        .stored
        .is_some_and(|stored| stored.license_spdx == spdx && stored.license_url == url)
    {
        return Ok(LicenceDecision::AlreadyAccepted);
    }
    match input.moment {
        LicenceMoment::Init | LicenceMoment::Train if input.is_flag_given => Ok(LicenceDecision::Record {
            url,
            spdx,
            via: AcceptedVia::CliFlag,
        }),
        LicenceMoment::Init if input.has_terminal => Ok(LicenceDecision::Ask { url, spdx }),
        moment => {
            let moment = if moment == LicenceMoment::Init {
                "init <path>"
            } else {
                "train <path>"
            };
            Err(LicenceError::NotAccepted { key, spdx, url, moment })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::registry::{DEFAULT_HUB_ROOT, Registry};

    fn input(moment: LicenceMoment) -> LicenceInput<'static> {
        LicenceInput {
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
            decide(record, &input(LicenceMoment::Use)),
            Ok(LicenceDecision::NotNeeded)
        );
    }

    #[test]
    fn the_flag_records_at_init_and_train_only() {
        for moment in [LicenceMoment::Init, LicenceMoment::Train] {
            let decision = decide(
                gated(),
                &LicenceInput {
                    is_flag_given: true,
                    ..input(moment)
                },
            )
            .unwrap();
            assert!(matches!(
                decision,
                LicenceDecision::Record {
                    via: AcceptedVia::CliFlag,
                    ..
                }
            ));
        }
        let error = decide(
            gated(),
            &LicenceInput {
                is_flag_given: true,
                ..input(LicenceMoment::Use)
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
                &LicenceInput {
                    has_terminal: true,
                    ..input(moment)
                },
            )
        };
        assert!(matches!(ask(LicenceMoment::Init), Ok(LicenceDecision::Ask { .. })));
        assert!(ask(LicenceMoment::Train).is_err());
        let error = decide(gated(), &input(LicenceMoment::Init)).unwrap_err();
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
                &LicenceInput {
                    stored: Some(stored),
                    ..input(LicenceMoment::Use)
                },
            )
        };
        assert_eq!(with(&stored), Ok(LicenceDecision::AlreadyAccepted));
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
            decide(&record, &input(LicenceMoment::Use)),
            Err(LicenceError::NoAddress { .. })
        ));
    }
}
