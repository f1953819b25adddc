//! Where an exported plugin lives between the calls of the host; used by the `export_…!` macros.

use std::cell::RefCell;
use std::thread::LocalKey;

use crate::Error;

/// The opened plugin, once `open` went well.
pub type Slot<T> = LocalKey<RefCell<Option<T>>>;

/// Opens a plugin and keeps it; gives what it says about itself.
pub fn open<T, I>(
    slot: &'static Slot<T>,
    open: impl FnOnce() -> Result<T, Error>,
    info: impl FnOnce(&T) -> I,
) -> Result<I, Error> {
    crate::explain_panics();
    let opened = open()?;
    let info = info(&opened);
    slot.with_borrow_mut(|kept| *kept = Some(opened));
    Ok(info)
}

/// Calls the opened plugin.
pub fn call<T, R>(slot: &'static Slot<T>, call: impl FnOnce(&mut T) -> Result<R, Error>) -> Result<R, Error> {
    slot.with_borrow_mut(|kept| match kept {
        Some(opened) => call(opened),
        None => Err(Error::Failed("called before `open`".to_owned())),
    })
}
