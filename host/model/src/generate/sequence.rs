//! One sequence of a reader, as the loop for one answer wants it.

use super::NextToken;
use crate::engine::{EngineError, Reader, SessionId};

/// A session of a reader that is read by nobody else; dropping it closes the session.
pub struct Sequence<'r> {
    reader: &'r mut dyn Reader,
    session: SessionId,
    context: usize,
    len: usize,
    /// After the last token.
    logits: Vec<f32>,
}

impl<'r> Sequence<'r> {
    /// Opens an empty session of at most `context` tokens.
    ///
    /// **Errors:** no room on the device.
    pub fn open(reader: &'r mut dyn Reader, context: usize) -> Result<Sequence<'r>, EngineError> {
        let session = reader.open(context)?;
        Ok(Sequence {
            reader,
            session,
            context,
            len: 0,
            logits: Vec::new(),
        })
    }
}

impl NextToken for Sequence<'_> {
    type Error = EngineError;

    fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], EngineError> {
        let sessions = &[self.session];
        match tokens {
            [_] if self.len > 0 => self.reader.step(sessions, tokens, &mut self.logits)?,
            _ => self.reader.read(sessions, &[tokens], &mut self.logits)?,
        }
        self.len += tokens.len();
        Ok(&self.logits)
    }

    fn room(&self) -> usize {
        self.context - self.len
    }
}

impl Drop for Sequence<'_> {
    fn drop(&mut self) {
        self.reader.close(self.session);
    }
}
