//! Push destinations: they upload packs.

pub use crate::bindings::destination::exports::dlm::plugin::destination::{Guest, Info, Options, Pack, Receipt, Step};

use crate::Error;

/// A destination that was opened for one place.
pub trait Destination: Sized {
    /// `rest` is the text after `scheme:`.
    fn open(rest: &str) -> Result<Self, Error>;

    /// What the destination says about itself and the place.
    fn info(&self) -> Info;

    /// What `push` would do, one line a step, without doing it.
    fn preview(&mut self, pack: &Pack, options: &Options) -> Result<Vec<String>, Error>;

    /// Uploads.
    fn push(&mut self, pack: &Pack, options: &Options) -> Result<Receipt, Error>;
}

/// Exports a type as the component's destination.
#[macro_export]
macro_rules! export_destination {
    ($destination:ty) => {
        const _: () = {
            use $crate::destination as kind;
            ::std::thread_local! {
                static OPENED: ::std::cell::RefCell<Option<$destination>> = const { ::std::cell::RefCell::new(None) };
            }
            struct Exported;
            impl kind::Guest for Exported {
                fn open(rest: String) -> Result<kind::Info, $crate::Error> {
                    let open = || <$destination as kind::Destination>::open(&rest);
                    $crate::slot::open(&OPENED, open, kind::Destination::info)
                }
                fn preview(pack: kind::Pack, options: kind::Options) -> Result<Vec<kind::Step>, $crate::Error> {
                    $crate::slot::call(&OPENED, |to| {
                        let lines = kind::Destination::preview(to, &pack, &options)?;
                        Ok(lines.into_iter().map(|text| kind::Step { text }).collect())
                    })
                }
                fn push(pack: kind::Pack, options: kind::Options) -> Result<kind::Receipt, $crate::Error> {
                    $crate::slot::call(&OPENED, |to| kind::Destination::push(to, &pack, &options))
                }
            }
    $crate::bindings::destination::export!(Exported with_types_in $crate::bindings::destination);
        };
    };
}
