//! Waiting for a server while somebody may press Ctrl-C: what blocks runs in a thread of its own.
//!
//! Invariants: a raised flag is seen within a tenth of a second; a thread that is left alone ends by the client's own time
//! limits, and changes nothing.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use dlm_core::Cancel;
use ureq::Body;
use ureq::http::Response;

use crate::client::{self, ClientError};

/// Time between two looks at the flag.
const LOOK: Duration = Duration::from_millis(100);
/// Pieces of a body that are read ahead.
const AHEAD: usize = 4;

fn start(work: impl FnOnce() + Send + 'static) -> Result<(), ClientError> {
    let started = thread::Builder::new().name("dlm-net".to_owned()).spawn(work);
    started
        .map(drop)
        .map_err(|error| ClientError::Fatal(format!("no thread can be started: {error}")))
}

/// The next thing that a thread sends; none when it has ended.
fn receive<T>(from: &Receiver<T>, cancel: &Cancel) -> Result<Option<T>, ClientError> {
    loop {
        match from.recv_timeout(LOOK) {
            Ok(sent) => return Ok(Some(sent)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => return Err(ClientError::Cancelled),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Does blocking work until it is done or the flag is raised.
///
/// **Errors:** those of the work, or [`ClientError::Cancelled`].
pub(crate) fn until<T: Send + 'static>(
    cancel: &Cancel,
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    if cancel.is_cancelled() {
        return Err(ClientError::Cancelled);
    }
    let (send, done) = sync_channel(1);
    start(move || {
        // Nobody listens any more where the flag was raised.
        let _ = send.send(work());
    })?;
    match receive(&done, cancel)? {
        Some(result) => result,
        None => Err(ClientError::Fatal("the request ended without a result".to_owned())),
    }
}

/// Sleeps, or less where the flag is raised.
pub(crate) fn pause(length: Duration, cancel: &Cancel) {
    let end = Instant::now() + length;
    while !cancel.is_cancelled() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(LOOK));
    }
}

/// The body of a response, piece by piece.
pub(crate) struct Pieces(Receiver<Result<Vec<u8>, ClientError>>);

impl Pieces {
    /// Begins to read a body in pieces of at most `bytes`.
    pub(crate) fn of(response: Response<Body>, bytes: usize) -> Result<Pieces, ClientError> {
        let (send, pieces) = sync_channel(AHEAD);
        start(move || read(response, bytes, &send))?;
        Ok(Pieces(pieces))
    }

    /// The next piece; none at the end.
    ///
    /// **Errors:** a broken connection, or [`ClientError::Cancelled`].
    pub(crate) fn next(&self, cancel: &Cancel) -> Result<Option<Vec<u8>>, ClientError> {
        receive(&self.0, cancel)?.transpose()
    }
}

fn read(mut response: Response<Body>, bytes: usize, send: &SyncSender<Result<Vec<u8>, ClientError>>) {
    let mut reader = response.body_mut().as_reader();
    loop {
        let mut piece = vec![0; bytes];
        let read = match reader.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                piece.truncate(count);
                Ok(piece)
            }
            Err(error) => Err(client::read_error(error)),
        };
        let is_last = read.is_err();
        if send.send(read).is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_flag_ends_the_waiting_and_not_the_work_of_others() {
        let cancel = Cancel::new();
        assert_eq!(until(&cancel, || Ok(1)).unwrap(), 1);
        let raised = cancel.clone();
        let (begun, has_begun) = sync_channel(1);
        let waiting = thread::spawn(move || {
            until(&raised, move || {
                begun.send(()).unwrap();
                thread::sleep(Duration::from_secs(600));
                Ok(())
            })
        });
        has_begun.recv().unwrap();
        cancel.cancel();
        assert!(matches!(waiting.join().unwrap(), Err(ClientError::Cancelled)));
        pause(Duration::from_secs(600), &cancel);
    }
}
