//! Teachers: they produce synthetic training text.

pub use crate::bindings::teacher::exports::dlm::plugin::teacher::{Completion, Guest, Info, Request, Usage};

use crate::model::{GenerateRequest, Handle, Sampling, Weights};
use crate::{Error, error, secrets};

/// A teacher that was opened for one argument.
pub trait Teacher: Sized {
    /// `argument` is the text after `name:` in the selector, empty if there is none.
    fn open(argument: &str) -> Result<Self, Error>;

    /// What the teacher says about itself.
    fn info(&self) -> Info;

    /// Answers one prompt. The host retries `rate-limited`, `unavailable` and `timed-out`.
    fn complete(&mut self, request: &Request) -> Result<Completion, Error>;
}

/// Asks a model of this machine.
///
/// **Errors**: a blank answer is one.
pub fn generate(who: &str, model: &Handle, weights: Weights, request: &Request) -> Result<Completion, Error> {
    let sampling = Sampling {
        max_new_tokens: request.max_new_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: None,
        seed: request.seed,
        stop: Vec::new(),
    };
    let answers = model.generate(&[GenerateRequest {
        prompt: crate::model::chat(Some(&request.system), &request.user),
        weights,
        sampling,
    }])?;
    let Some(answer) = answers.into_iter().next() else {
        return Err(error!(Failed, "the model gave no answer"));
    };
    if answer.text.trim().is_empty() {
        return Err(error!(Failed, "the answer of `{who}` is blank"));
    }
    Ok(Completion {
        text: answer.text,
        truncated: answer.finish == crate::model::Finish::Length,
        usage: Usage {
            prompt_tokens: u64::from(answer.prompt_tokens),
            completion_tokens: u64::from(answer.completion_tokens),
            requests: 1,
        },
    })
}

/// The key of a service, which the teacher cannot do without.
pub fn key(teacher: &str, name: &str) -> Result<secrets::Secret, Error> {
    secrets::get(name).map_err(|error| match error {
        Error::NotFound(why) => error!(Unavailable, "the teacher `{teacher}` needs a key: {why}"),
        other => other,
    })
}

/// The argument of a teacher that needs one.
pub fn needed<'a>(teacher: &str, what: &str, example: &str, argument: &'a str) -> Result<&'a str, Error> {
    match argument.trim() {
        "" => Err(error!(
            InvalidInput,
            "teacher `{teacher}` needs {what}: `--teacher {teacher}:{example}`"
        )),
        given => Ok(given),
    }
}

/// Exports a type as the component's teacher.
#[macro_export]
macro_rules! export_teacher {
    ($teacher:ty) => {
        const _: () = {
            ::std::thread_local! {
                static OPENED: ::std::cell::RefCell<Option<$teacher>> = const { ::std::cell::RefCell::new(None) };
            }
            struct Exported;
            impl $crate::teacher::Guest for Exported {
                fn open(arg: String) -> Result<$crate::teacher::Info, $crate::Error> {
                    let open = || <$teacher as $crate::teacher::Teacher>::open(&arg);
                    $crate::slot::open(&OPENED, open, $crate::teacher::Teacher::info)
                }
                fn complete(request: $crate::teacher::Request) -> Result<$crate::teacher::Completion, $crate::Error> {
                    $crate::slot::call(&OPENED, |teacher| {
                        $crate::teacher::Teacher::complete(teacher, &request)
                    })
                }
            }
    $crate::bindings::teacher::export!(Exported with_types_in $crate::bindings::teacher);
        };
    };
}
