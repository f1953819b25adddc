//! Answers of remote teachers, kept under the store by the hash of what was asked, so that none is paid for twice.
//!
//! Invariants: only answers that would come again are kept (no temperature, or a seed); the key covers teacher,
//! component and request, so another model or another prompt never finds them; a damaged file counts as none.

use dlm_core::digest::sha256_hex;
use dlm_core::ports::plugin::PluginIdentity;
use dlm_core::ports::teacher::{TeacherCompletion, TeacherRequest, TeacherUsage};
use dlm_store::{Disk, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;

/// How a grant to reach a host begins.
const HTTP: &str = "http:";
/// How a grant to ask a model begins.
const MODEL: &str = "model:";
/// Largest kept answer that is read.
const BYTES_MAX: u64 = 4 << 20;

/// The directory of kept answers for one teacher.
pub(crate) struct KeptAnswers {
    directory: PathBuf,
    teacher: PluginIdentity,
}

#[derive(Serialize, Deserialize)]
struct StoredAnswer {
    teacher: String,
    text: String,
    is_truncated: bool,
}

impl KeptAnswers {
    pub(crate) fn new(store: &Store, teacher: &PluginIdentity) -> Self {
        Self {
            directory: store.paths().teacher_answers(),
            teacher: teacher.clone(),
        }
    }

    /// Finds the answer to a request; it costs nothing.
    pub(crate) fn find(&self, request: &TeacherRequest) -> Option<TeacherCompletion> {
        let bytes = dlm_files::read(&self.path(request)?, BYTES_MAX).ok()??;
        let kept: StoredAnswer = serde_json::from_slice(&bytes).ok()?;
        Some(TeacherCompletion {
            text: kept.text,
            is_truncated: kept.is_truncated,
            usage: TeacherUsage::default(),
        })
    }

    /// Keeps an answer.
    ///
    /// **Errors**: the disk; the answer itself is not lost by it.
    pub(crate) fn keep(
        &self,
        request: &TeacherRequest,
        completion: &TeacherCompletion,
    ) -> Result<(), dlm_store::DiskError> {
        let Some(path) = self.path(request) else {
            return Ok(());
        };
        let kept = StoredAnswer {
            teacher: self.teacher.name.clone(),
            text: completion.text.clone(),
            is_truncated: completion.is_truncated,
        };
        let disk = Disk::new().private();
        disk.create_directories(&self.directory)?;
        let text = serde_json::to_string_pretty(&kept).expect("an answer is plain data");
        disk.write(&path, format!("{text}\n").as_bytes())
    }

    /// None for a request whose answer may be another one next time.
    fn path(&self, request: &TeacherRequest) -> Option<PathBuf> {
        if request.temperature > 0.0 && request.seed.is_none() {
            return None;
        }
        let asked = json!({
            "teacher": self.teacher.name,
            "plugin": self.teacher.plugin,
            "sha256": self.teacher.sha256,
            "detail": self.teacher.detail,
            "system": request.system,
            "user": request.user,
            "new_tokens_max": request.new_tokens_max,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        });
        let hash = sha256_hex(asked.to_string());
        Some(self.directory.join(format!("{hash}.json")))
    }
}

/// Says whether a teacher reaches over the network.
pub(crate) fn is_remote(teacher: &PluginIdentity) -> bool {
    teacher.granted.iter().any(|capability| capability.starts_with(HTTP))
}

/// Says whether a teacher is a model of this machine: what that cannot do now it cannot do a minute later.
pub(crate) fn is_local(teacher: &PluginIdentity) -> bool {
    !is_remote(teacher) && teacher.granted.iter().any(|capability| capability.starts_with(MODEL))
}

/// Where a teacher's requests may go, as granted; `http:arg` is the address in its selector.
pub(crate) fn hosts<'a>(teacher: &'a PluginIdentity, selector: &'a str) -> Vec<&'a str> {
    let granted = teacher
        .granted
        .iter()
        .filter_map(|capability| capability.strip_prefix(HTTP));
    let argument = selector.split_once(':').map_or(selector, |(_, argument)| argument);
    granted
        .map(|host| if host == "arg" { argument } else { host })
        .collect()
}
