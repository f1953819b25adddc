//! Export targets: they turn a plan and its artefacts into something that a runtime serves.

pub use crate::bindings::target::exports::dlm::plugin::target::{
    Adapter, BaseModel, Chat, Endpoint, Guest, Info, Launch, Plan, Prepared, Probe, Registration, SmokePlan,
    SmokeReport,
};

use crate::Error;

/// A target that was opened for one argument.
pub trait Target: Sized {
    /// `argument` is the text after `name:` in the selector, empty if there is none.
    fn open(argument: &str) -> Result<Self, Error>;

    /// What the target says about itself.
    fn info(&self) -> Info;

    /// Writes files. No process and no network are available here.
    fn prepare(&mut self, plan: &Plan) -> Result<Prepared, Error>;

    /// Registers with the runtime, if it has a notion of that.
    fn install(&mut self, _plan: &Plan) -> Result<Option<Registration>, Error> {
        Ok(None)
    }

    /// Asks the result one question.
    fn smoke(&mut self, plan: &Plan, endpoint: Option<&Endpoint>) -> Result<SmokeReport, Error>;
}

/// The flags of servers that take sampling defaults as `--temp` and `--top-p`, for requests that name none.
pub fn sampling_words(plan: &Plan) -> Vec<String> {
    let given = [("--temp", plan.temperature), ("--top-p", plan.top_p)];
    let words = given
        .into_iter()
        .filter_map(|(flag, value)| Some([flag.to_owned(), value?.to_string()]));
    words.flatten().collect()
}

/// Exports a type as the component's target.
#[macro_export]
macro_rules! export_target {
    ($target:ty) => {
        const _: () = {
            use $crate::target as kind;
            ::std::thread_local! {
                static OPENED: ::std::cell::RefCell<Option<$target>> = const { ::std::cell::RefCell::new(None) };
            }
            struct Exported;
            impl kind::Guest for Exported {
                fn open(arg: String) -> Result<kind::Info, $crate::Error> {
                    let open = || <$target as kind::Target>::open(&arg);
                    $crate::slot::open(&OPENED, open, kind::Target::info)
                }
                fn prepare(plan: kind::Plan) -> Result<kind::Prepared, $crate::Error> {
                    $crate::slot::call(&OPENED, |target| kind::Target::prepare(target, &plan))
                }
                fn install(plan: kind::Plan) -> Result<Option<kind::Registration>, $crate::Error> {
                    $crate::slot::call(&OPENED, |target| kind::Target::install(target, &plan))
                }
                fn smoke(
                    plan: kind::Plan,
                    endpoint: Option<kind::Endpoint>,
                ) -> Result<kind::SmokeReport, $crate::Error> {
                    $crate::slot::call(&OPENED, |target| {
                        kind::Target::smoke(target, &plan, endpoint.as_ref())
                    })
                }
            }
    $crate::bindings::target::export!(Exported with_types_in $crate::bindings::target);
        };
    };
}
