//! Bodies that lie in a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use dlm_core::ports::guest_http::GuestHttpError;

/// A part of a file; a file that has become shorter ends the request, not the body.
pub(super) fn part(path: &Path, offset: u64, length: u64) -> Result<impl Read + use<>, GuestHttpError> {
    let bad = |error: io::Error| GuestHttpError::Invalid(format!("cannot read `{}`: {error}", path.display()));
    let mut file = File::open(path).map_err(bad)?;
    let size = file.metadata().map_err(bad)?.len();
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(GuestHttpError::Invalid(format!(
            "`{}` has {size} bytes; {length} from byte {offset} are asked for",
            path.display()
        )));
    }
    file.seek(SeekFrom::Start(offset)).map_err(bad)?;
    Ok(file.take(length))
}
