//! The template source `dir`: a folder of this machine, whose files the host hands in.
//!
//! Invariants: it opens nothing by path; the host decides which files there are. A pair that is broken is left out of the
//! list with a warning, and refused when it is fetched.

use dlm_plugin::artifacts;
use dlm_plugin::gallery::{self, DOCUMENT_END, META_END};
use dlm_plugin::templates::{Bundle, File, Info, Meta, Templates};
use dlm_plugin::{Error, error, inputs, log};

const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
const META_BYTES_MAX: u64 = 64 << 10;
const FILE_BYTES_MAX: u64 = 8 << 20;

struct Dir {
    location: String,
}

impl Templates for Dir {
    fn open(location: &str) -> Result<Self, Error> {
        if location.trim().is_empty() {
            return Err(error!(
                InvalidInput,
                "template source `dir` needs a folder: set `location` under [template-sources.dir] in config.toml of dlm's home directory"
            ));
        }
        Ok(Dir {
            location: location.to_owned(),
        })
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity("dir", "a folder of this machine"),
            // A folder that one is working in changes all the time.
            cache_seconds: 0,
        }
    }

    fn list(&mut self) -> Result<Vec<Meta>, Error> {
        let names = names();
        let mut metas = Vec::new();
        for stem in stems(&names) {
            match self.pair(&names, stem) {
                Ok((meta, _)) => metas.push(meta),
                Err(broken) => log::warn(&format!("left out: {}", said(&broken))),
            }
        }
        Ok(metas)
    }

    fn fetch(&mut self, name: &str) -> Result<Bundle, Error> {
        let names = names();
        if !stems(&names).any(|stem| stem == name) {
            let known: Vec<&str> = stems(&names).collect();
            return Err(error!(
                NotFound,
                "`{}` has no template `{name}`; it has {}",
                self.location,
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            ));
        }
        let (meta, document) = self.pair(&names, name)?;
        let folder = format!("{name}/");
        let beside = names.iter().filter(|file| file.starts_with(&folder));
        let file = |file: &String| {
            Ok(File {
                name: file.clone(),
                contents: inputs::read(file, FILE_BYTES_MAX)?,
            })
        };
        Ok(Bundle {
            meta,
            document,
            files: beside.map(file).collect::<Result<_, Error>>()?,
        })
    }
}

impl Dir {
    /// Meta and document of one template.
    fn pair(&self, names: &[String], stem: &str) -> Result<(Meta, String), Error> {
        let (document_name, meta_name) = (format!("{stem}{DOCUMENT_END}"), format!("{stem}{META_END}"));
        if !names.contains(&meta_name) {
            return Err(error!(Corrupt, "template `{stem}` has no `{meta_name}` beside it"));
        }
        let text = |name: &str, bytes_max| {
            String::from_utf8(inputs::read(name, bytes_max)?).map_err(|_| error!(Corrupt, "`{name}` is not UTF-8"))
        };
        let document = text(&document_name, DOCUMENT_BYTES_MAX)?;
        let meta = gallery::meta(stem, &text(&meta_name, META_BYTES_MAX)?, document.as_bytes())?;
        match gallery::base_of(&document) {
            Some(base) if base == meta.recommended_base => Ok((meta, document)),
            found => Err(error!(
                Corrupt,
                "template `{stem}` recommends `{}`, its document names `{}`",
                meta.recommended_base,
                found.unwrap_or("no base")
            )),
        }
    }
}

/// Every file that the host handed in, sorted.
fn names() -> Vec<String> {
    artifacts::list_inputs().into_iter().map(|input| input.name).collect()
}

/// The names of the documents at the top of the folder.
fn stems(names: &[String]) -> impl Iterator<Item = &str> {
    let stems = names.iter().filter_map(|name| name.strip_suffix(DOCUMENT_END));
    stems.filter(|stem| !stem.contains('/') && !stem.is_empty())
}

fn said(error: &Error) -> String {
    match error {
        Error::Corrupt(text) | Error::Unsupported(text) => text.clone(),
        other => other.to_string(),
    }
}

dlm_plugin::export_templates!(Dir);
