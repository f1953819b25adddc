//! Whether a base's license must be accepted, has been, or may be asked about now.
//!
//! Pure: the caller says what is stored and at which moment the question comes up; it stamps the time on the record and
//! stores it. **Source**: `spec/bases.md` section 6.

use dlm_core::base::{AcceptedVia, BaseRecord, LicenseAcceptance};
use dlm_core::{Hints, Subject};

/// The command that needs the base, with the ways to accept a license that it has. `accepts_license` stands for
/// `--i-accept-license`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LicenseMoment {
    Init {
        accepts_license: bool,
        /// A person can answer a question.
        has_terminal: bool,
    },
    Train {
        accepts_license: bool,
    },
    /// Only what was stored counts (prompt, export, preference).
    Use,
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
    fn subject(&self) -> Subject {
        Subject::License
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

/// Decides what to do about a base's license; `hub_root` is the web root that `{hub}` in addresses stands for.
///
/// **Errors** when it is not accepted and this is not the moment to ask.
pub fn decide(
    record: &BaseRecord,
    stored: Option<&LicenseAcceptance>,
    moment: LicenseMoment,
    hub_root: &str,
) -> Result<LicenseDecision, LicenseError> {
    if !record.requires_acceptance {
        return Ok(LicenseDecision::NotNeeded);
    }
    let key = record.key.clone();
    let url = record
        .license_link(hub_root)
        .ok_or(LicenseError::NoAddress { key: key.clone() })?;
    let spdx = record.license_spdx.clone();
    // A record for other terms (the base was changed in the document) does not count.
    if stored.is_some_and(|stored| stored.license_spdx == spdx && stored.license_url == url) {
        return Ok(LicenseDecision::AlreadyAccepted);
    }
    let moment = match moment {
        LicenseMoment::Init { accepts_license, .. } | LicenseMoment::Train { accepts_license } if accepts_license => {
            let via = AcceptedVia::CliFlag;
            return Ok(LicenseDecision::Record { url, spdx, via });
        }
        LicenseMoment::Init { has_terminal: true, .. } => return Ok(LicenseDecision::Ask { url, spdx }),
        LicenseMoment::Init { .. } => "init <path>",
        LicenseMoment::Train { .. } | LicenseMoment::Use => "train <path>",
    };
    Err(LicenseError::NotAccepted { key, spdx, url, moment })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::registry::{DEFAULT_HUB_ROOT, Registry};

    fn gated() -> &'static BaseRecord {
        Registry::builtin().get("llama-3.2-1b").unwrap()
    }

    fn decide(record: &BaseRecord, moment: LicenseMoment) -> Result<LicenseDecision, LicenseError> {
        super::decide(record, None, moment, DEFAULT_HUB_ROOT)
    }

    fn init(accepts_license: bool, has_terminal: bool) -> LicenseMoment {
        LicenseMoment::Init {
            accepts_license,
            has_terminal,
        }
    }

    #[test]
    fn free_bases_need_nothing() {
        let record = Registry::builtin().get("smollm2-135m").unwrap();
        assert_eq!(decide(record, LicenseMoment::Use), Ok(LicenseDecision::NotNeeded));
    }

    #[test]
    fn the_flag_records_at_init_and_train() {
        for moment in [init(true, false), LicenseMoment::Train { accepts_license: true }] {
            let decision = decide(gated(), moment).unwrap();
            assert!(matches!(
                decision,
                LicenseDecision::Record {
                    via: AcceptedVia::CliFlag,
                    ..
                }
            ));
        }
        let error = decide(gated(), LicenseMoment::Use).unwrap_err();
        assert!(error.hints()[0].contains("dlm train <path> --i-accept-license"));
    }

    #[test]
    fn only_init_on_a_terminal_asks() {
        assert!(matches!(
            decide(gated(), init(false, true)),
            Ok(LicenseDecision::Ask { .. })
        ));
        assert!(decide(gated(), LicenseMoment::Train { accepts_license: false }).is_err());
        let error = decide(gated(), init(false, false)).unwrap_err();
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
        let with =
            |stored: &LicenseAcceptance| super::decide(gated(), Some(stored), LicenseMoment::Use, DEFAULT_HUB_ROOT);
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
        let decision = decide(&record, LicenseMoment::Use);
        assert!(matches!(decision, Err(LicenseError::NoAddress { .. })));
    }
}
