//! Template sources: they list and fetch `.dlm` templates.

pub use crate::bindings::templates::exports::dlm::plugin::templates::{Bundle, File, Guest, Info, Meta};

use crate::Error;

/// A source that was opened for one location.
pub trait Templates: Sized {
    /// `location` is where the source was configured to look, empty if nowhere.
    fn open(location: &str) -> Result<Self, Error>;

    /// What the source says about itself.
    fn info(&self) -> Info;

    /// Everything there is; the macro's export filters by the query.
    fn list(&mut self) -> Result<Vec<Meta>, Error>;

    /// Fetches one template.
    fn fetch(&mut self, name: &str) -> Result<Bundle, Error>;
}

/// Says whether a template speaks of every word of a query, in its name, title, summary or tags; letter case is ignored.
pub fn matches(meta: &Meta, query: &str) -> bool {
    let text = format!("{} {} {} {}", meta.name, meta.title, meta.summary, meta.tags.join(" ")).to_lowercase();
    query.to_lowercase().split_whitespace().all(|word| text.contains(word))
}

/// Exports a type as the component's template source.
#[macro_export]
macro_rules! export_templates {
    ($templates:ty) => {
        const _: () = {
            use $crate::templates as kind;
            ::std::thread_local! {
                static OPENED: ::std::cell::RefCell<Option<$templates>> = const { ::std::cell::RefCell::new(None) };
            }
            struct Exported;
            impl kind::Guest for Exported {
                fn open(arg: String) -> Result<kind::Info, $crate::Error> {
                    let open = || <$templates as kind::Templates>::open(&arg);
                    $crate::slot::open(&OPENED, open, kind::Templates::info)
                }
                fn list(query: Option<String>) -> Result<Vec<kind::Meta>, $crate::Error> {
                    $crate::slot::call(&OPENED, |source| {
                        let mut metas = kind::Templates::list(source)?;
                        metas.retain(|meta| query.as_deref().is_none_or(|query| kind::matches(meta, query)));
                        Ok(metas)
                    })
                }
                fn fetch(name: String) -> Result<kind::Bundle, $crate::Error> {
                    $crate::slot::call(&OPENED, |source| kind::Templates::fetch(source, &name))
                }
            }
    $crate::bindings::templates::export!(Exported with_types_in $crate::bindings::templates);
        };
    };
}
