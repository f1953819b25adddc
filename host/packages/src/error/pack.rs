//! What keeps an author's plugin from being started or packed.

use std::path::PathBuf;

use super::{Diagnose, Diagnosis, FilesError, SelectorError, quoted};

/// Why nothing was packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be packed: {cause}", path.display())]
pub struct PackError {
    pub path: PathBuf,
    pub cause: String,
    pub hint: Option<String>,
}

impl Diagnose for PackError {
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis::runtime("plugin::pack").hints(self.hint.clone())
    }
}

/// Why no project was started.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    #[error("`{}` is already there", path.display())]
    Exists { path: PathBuf },
    #[error(transparent)]
    Name(#[from] SelectorError),
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl Diagnose for NewError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            NewError::Exists { path } => Diagnosis::runtime("plugin::conflict")
                .hint(format!("choose another place, or remove it: rm -r {}", quoted(path))),
            NewError::Name(error) => error.diagnosis(),
            NewError::Files(error) => error.diagnosis(),
        }
    }
}
