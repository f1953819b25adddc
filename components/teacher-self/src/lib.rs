//! The teacher `self`: the document's own model, base and adapter; `self:base` is the bare base, for a document that was
//! never trained.

use dlm_plugin::guided::Guide;
use dlm_plugin::model::{self, Handle, Weights};
use dlm_plugin::teacher::{Completion, Info, Request, Teacher};
use dlm_plugin::{Error, error};

struct Own {
    weights: Weights,
    /// The run's model, from the first request on.
    model: Option<Handle>,
    guide: Guide,
}

impl Teacher for Own {
    fn open(argument: &str) -> Result<Self, Error> {
        let weights = match argument {
            "" => Weights::Adapter,
            "base" => Weights::Base,
            other => {
                return Err(error!(
                    InvalidInput,
                    "teacher `self` takes no argument, or `base` for the bare base; found `{other}`"
                ));
            }
        };
        Ok(Own {
            weights,
            model: None,
            guide: Guide::default(),
        })
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity(self.name(), "the document's own model"),
            supports_seed: true,
            // One model, one answer at a time.
            max_concurrency: 1,
        }
    }

    fn complete(&mut self, request: &Request) -> Result<Completion, Error> {
        let (who, weights) = (self.name(), self.weights);
        self.open_model()?;
        match &self.model {
            Some(model) => self.guide.complete(who, model, weights, request),
            None => Err(error!(Failed, "the model was lost")),
        }
    }
}

impl Own {
    fn name(&self) -> &'static str {
        match self.weights {
            Weights::Adapter => "self",
            Weights::Base => "self:base",
        }
    }

    /// Opens the run's model, refused where its adapter is wanted and there is none.
    fn open_model(&mut self) -> Result<(), Error> {
        if self.model.is_some() {
            return Ok(());
        }
        let found = model::current()?;
        if self.weights == Weights::Adapter && !found.info().has_adapter {
            return Err(error!(
                Unavailable,
                "the teacher `self` is the trained document, and it has no adapter yet; run `dlm train` first, or use \
                 `--teacher self:base` for the bare base"
            ));
        }
        self.model = Some(found);
        Ok(())
    }
}

dlm_plugin::export_teacher!(Own);
