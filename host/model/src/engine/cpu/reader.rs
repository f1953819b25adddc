//! Reading on the processor: the sessions of one model and adapter behind their ids.

use dlm_core::Cancel;
use dlm_kernels::PrecisionPath;

use super::{CpuEngine, ReaderOptions};
use crate::adapter::Adapter;
use crate::batch::Batch;
use crate::engine::{EngineError, EngineFacts, Logprobs, Reader, SessionId};
use crate::model::Model;
use crate::pass::Forward;
use crate::session::{PrecisionPaths, Session, SessionError, prefill_batch, read_batch, step_batch};

pub(super) struct CpuReader<'m> {
    model: &'m Model,
    facts: &'m EngineFacts,
    adapter: Option<&'m Adapter>,
    precision_paths: PrecisionPaths,
    cancel: Cancel,
    /// Starts the sessions, which share what depends on the adapter alone.
    empty: Session<'m>,
    /// By id; closed ones leave a gap that the next one fills.
    open: Vec<Option<Session<'m>>>,
}

impl<'m> CpuReader<'m> {
    pub(super) fn new(engine: &'m CpuEngine, adapter: Option<&'m Adapter>, options: ReaderOptions) -> Self {
        let model = &engine.model;
        let ReaderOptions {
            precision_paths,
            cancel,
        } = options;
        Self {
            model,
            facts: &engine.facts,
            adapter,
            precision_paths,
            empty: Session::on_precision_paths(model, adapter, 0, precision_paths).until(cancel.clone()),
            cancel,
            open: Vec::new(),
        }
    }

    /// Reads a whole batch.
    fn forward(&self, batch: &Batch) -> Result<Forward, EngineError> {
        let forward = self
            .model
            .forward_until(&self.cancel, self.adapter, batch, self.batch_path())?;
        self.unless_cancelled()?;
        Ok(forward)
    }

    /// Refuses what a pass gave that may have ended early.
    fn unless_cancelled(&self) -> Result<(), SessionError> {
        match self.cancel.is_cancelled() {
            true => Err(SessionError::Cancelled),
            false => Ok(()),
        }
    }

    /// The products of whole batches: batches are not streamed.
    fn batch_path(&self) -> PrecisionPath {
        match self.precision_paths.read {
            path @ (PrecisionPath::Packed | PrecisionPath::PackedF32) => path,
            PrecisionPath::ByRows | PrecisionPath::Streamed => PrecisionPath::ByRows,
        }
    }

    fn keep(&mut self, session: Session<'m>) -> SessionId {
        let gap = self.open.iter().position(Option::is_none);
        let id = gap.unwrap_or(self.open.len());
        match gap {
            Some(gap) => self.open[gap] = Some(session),
            None => self.open.push(Some(session)),
        }
        SessionId(id)
    }

    /// Does something with several sessions at once: they are taken out of the table and put back.
    fn with<R>(
        &mut self,
        ids: &[SessionId],
        work: impl FnOnce(&mut [&mut Session<'m>]) -> Result<R, SessionError>,
    ) -> Result<R, EngineError> {
        let mut taken = Vec::with_capacity(ids.len());
        for id in ids {
            match self.open.get_mut(id.0).and_then(Option::take) {
                Some(session) => taken.push(session),
                None => {
                    self.give_back(ids, taken);
                    return Err(SessionError::NotOpen { session: id.0 }.into());
                }
            }
        }
        let result = work(&mut taken.iter_mut().collect::<Vec<_>>());
        self.give_back(ids, taken);
        let result = result?;
        self.unless_cancelled()?;
        Ok(result)
    }

    fn give_back(&mut self, ids: &[SessionId], taken: Vec<Session<'m>>) {
        for (id, session) in ids.iter().zip(taken) {
            self.open[id.0] = Some(session);
        }
    }
}

impl Logprobs for CpuReader<'_> {
    fn logprobs(&mut self, batch: &Batch, pairs: &[(usize, u32)]) -> Result<Vec<f32>, EngineError> {
        let forward = self.forward(batch)?;
        Ok(self.model.logprobs_on(self.batch_path(), forward.hidden(), pairs))
    }
}

impl Reader for CpuReader<'_> {
    fn facts(&self) -> &EngineFacts {
        self.facts
    }

    fn hidden(&mut self, batch: &Batch, rows: &[usize]) -> Result<Vec<f32>, EngineError> {
        let forward = self.forward(batch)?;
        let d = self.model.config.d_model;
        Ok(rows
            .iter()
            .flat_map(|row| &forward.hidden()[row * d..][..d])
            .copied()
            .collect())
    }

    fn logits(&mut self, batch: &Batch, rows: &[usize]) -> Result<Vec<f32>, EngineError> {
        let hidden = self.hidden(batch, rows)?;
        let mut logits = vec![0.0; rows.len() * self.model.config.vocab];
        self.model.logits_on(self.batch_path(), &hidden, &mut logits);
        Ok(logits)
    }

    fn on_threads(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        self.model.ctx.pool.run(parts, work);
    }

    fn open(&mut self, context: usize) -> Result<SessionId, EngineError> {
        let session = self.empty.sibling(context);
        Ok(self.keep(session))
    }

    fn fork(&mut self, session: SessionId, context: usize) -> Result<SessionId, EngineError> {
        let fork = self.with(&[session], |sessions| sessions[0].fork(context))?;
        Ok(self.keep(fork))
    }

    fn close(&mut self, session: SessionId) {
        if let Some(place) = self.open.get_mut(session.0) {
            *place = None;
        }
    }

    fn read(&mut self, sessions: &[SessionId], tokens: &[&[u32]], logits: &mut Vec<f32>) -> Result<(), EngineError> {
        let precision_path = self.precision_paths.read;
        self.with(sessions, |sessions| match sessions {
            // Where the number of rows chooses the products, one prompt is read in chunks, and several short ones together.
            [session] if precision_path == PrecisionPath::ByRows => {
                let [tokens] = tokens else {
                    return Err(SessionError::Mixed);
                };
                let last = session.prefill(tokens)?;
                logits.clear();
                logits.extend_from_slice(last);
                Ok(())
            }
            _ if precision_path == PrecisionPath::ByRows && sessions.iter().all(|session| session.is_empty()) => {
                prefill_batch(sessions, tokens, logits)
            }
            _ => read_batch(sessions, tokens, logits),
        })
    }

    fn step(&mut self, sessions: &[SessionId], tokens: &[u32], logits: &mut Vec<f32>) -> Result<(), EngineError> {
        self.with(sessions, |sessions| match (sessions, tokens) {
            ([session], [token]) => {
                let last = session.step(*token)?;
                logits.clear();
                logits.extend_from_slice(last);
                Ok(())
            }
            (sessions, tokens) => step_batch(sessions, tokens, logits),
        })
    }
}
