//! Teachers side by side: sections go out in order, answers come back in any order and are taken in order again.
//!
//! Invariants: no section is started that the taker has not allowed, so a cap on accepted pairs pays for no answer that
//! is surely not needed; a teacher that cannot be opened costs its place, not the run.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::teacher::Teacher;
use dlm_core::{Cancel, FailureKind, Subject};

use super::ask::{Asker, Call, SectionAnswer};

/// Longest wait without a look at Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);

/// What the taker says after each section.
pub(crate) enum Next {
    /// Go on; sections up to this number (not included) may be started.
    Allow(usize),
    /// Enough.
    Stop,
}

/// How the work is divided.
pub(crate) struct Crew<'a> {
    pub sections: &'a [Vec<Call>],
    pub teachers: usize,
    /// Sections that may be started before the first is taken.
    pub allowed: usize,
    pub cancel: &'a Cancel,
}

enum Message {
    Section(usize, Box<SectionAnswer>),
    /// A teacher could not be opened.
    Lost(PluginFailure),
}

struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

struct GateState {
    next: usize,
    allowed: usize,
    is_closed: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        // The state is three plain numbers: whole even if a thread died holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next section to work on; waits for permission, none when there is nothing left.
    fn take(&self, sections: usize) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.is_closed || state.next >= sections {
                return None;
            }
            if state.next < state.allowed {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn set(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Runs the crew: `take` gets every section's answer in order, on this thread; `lost` hears of teachers that could not be
/// opened. Returns whether the flag was raised.
pub(crate) fn run<'a>(
    crew: &Crew<'_>,
    first: Box<dyn Teacher>,
    open: &(dyn Fn() -> Result<Box<dyn Teacher>, PluginFailure> + Sync),
    asker: &(dyn Fn(Box<dyn Teacher>) -> Asker<'a> + Sync),
    lost: &mut dyn FnMut(PluginFailure),
    take: &mut dyn FnMut(usize, SectionAnswer) -> Next,
) -> bool {
    let gate = Gate {
        state: Mutex::new(GateState {
            next: 0,
            allowed: crew.allowed,
            is_closed: false,
        }),
        changed: Condvar::new(),
    };
    let (send, receive) = channel();
    let mut first = Some(first);
    std::thread::scope(|scope| {
        for index in 0..crew.teachers.clamp(1, crew.sections.len().max(1)) {
            let (gate, send, given) = (&gate, send.clone(), first.take());
            let unstarted = send.clone();
            let work = move || {
                let teacher = match given.map_or_else(open, Ok) {
                    Ok(teacher) => teacher,
                    Err(failure) => {
                        // The receiver is gone only when the run is over.
                        let _ = send.send(Message::Lost(failure));
                        return;
                    }
                };
                let mut asker = asker(teacher);
                while let Some(index) = gate.take(crew.sections.len()) {
                    let answer = asker.section(&crew.sections[index]);
                    if send.send(Message::Section(index, Box::new(answer))).is_err() {
                        return;
                    }
                }
            };
            let started = std::thread::Builder::new()
                .name("teacher".into())
                .spawn_scoped(scope, work);
            if let Err(error) = started {
                // Fewer teachers take longer; none at all is told.
                if index == 0 {
                    let _ = unstarted.send(Message::Lost(no_thread(&error)));
                }
                break;
            }
        }
        drop(send);
        let is_cancelled = collect(crew, &gate, &receive, lost, take);
        gate.set(|state| state.is_closed = true);
        is_cancelled
    })
}

fn no_thread(error: &std::io::Error) -> PluginFailure {
    PluginFailure {
        code: "plugin::unavailable",
        subject: Subject::Teacher,
        kind: FailureKind::Runtime,
        message: format!("no thread to ask the teacher on: {error}"),
        hints: vec!["close other programs, or raise the limit: `ulimit -u`, `ulimit -v`".to_owned()],
        detail: None,
    }
}

fn collect(
    crew: &Crew<'_>,
    gate: &Gate,
    receive: &Receiver<Message>,
    lost: &mut dyn FnMut(PluginFailure),
    take: &mut dyn FnMut(usize, SectionAnswer) -> Next,
) -> bool {
    let mut waiting: BTreeMap<usize, SectionAnswer> = BTreeMap::new();
    let mut wanted = 0;
    while wanted < crew.sections.len() {
        let is_cancelled = crew.cancel.is_cancelled();
        // After Ctrl-C what has arrived is still taken, and nothing is waited for.
        let message = match is_cancelled {
            true => receive.try_recv().map_err(|_| RecvTimeoutError::Timeout),
            false => receive.recv_timeout(LOOK),
        };
        match message {
            Ok(Message::Section(index, answer)) => {
                waiting.insert(index, *answer);
            }
            Ok(Message::Lost(failure)) => lost(failure),
            Err(RecvTimeoutError::Timeout) if is_cancelled => return true,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        while let Some(answer) = waiting.remove(&wanted) {
            // What a teacher said because it was interrupted is no answer.
            if answer.failure.is_some() && crew.cancel.is_cancelled() {
                return true;
            }
            match take(wanted, answer) {
                Next::Allow(allowed) => gate.set(|state| state.allowed = allowed),
                Next::Stop => return false,
            }
            wanted += 1;
        }
    }
    crew.cancel.is_cancelled()
}
