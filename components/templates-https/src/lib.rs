//! The template source `https`: an index at an address, and the files that it lists.
//!
//! Invariants: every file is held to the SHA-256 that the index gives before it is handed over; files come from the index's
//! own folder; only `https` is asked, or `http` on this machine.

mod index;

use dlm_plugin::http::Request;
use dlm_plugin::templates::{Bundle, File, Info, Meta, Templates};
use dlm_plugin::{Error, error, gallery};

use index::{Index, Listed};

const INDEX_BYTES_MAX: u32 = 4 << 20;
const FILE_BYTES_MAX: u32 = 16 << 20;
const TIMEOUT_MS: u32 = 30_000;
/// Redirects within what is granted, such as to a dated folder.
const REDIRECTS_MAX: u8 = 3;
const CACHE_SECONDS: u32 = 3_600;

struct Https {
    location: String,
    index: Option<Index>,
}

impl Templates for Https {
    fn open(location: &str) -> Result<Self, Error> {
        index::check_location(location)?;
        Ok(Https {
            location: location.to_owned(),
            index: None,
        })
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity("https", "an index with digests"),
            cache_seconds: CACHE_SECONDS,
        }
    }

    fn list(&mut self) -> Result<Vec<Meta>, Error> {
        Ok(self
            .index()?
            .templates
            .iter()
            .map(|listed| listed.meta.clone())
            .collect())
    }

    fn fetch(&mut self, name: &str) -> Result<Bundle, Error> {
        let location = self.location.clone();
        let index = self.index()?;
        let Some(listed) = index.templates.iter().find(|listed| listed.meta.name == name) else {
            let known: Vec<&str> = index.templates.iter().map(|listed| listed.meta.name.as_str()).collect();
            return Err(error!(
                NotFound,
                "{location} lists no template `{name}`; it lists {}",
                known.join(", ")
            ));
        };
        let document = fetch(&location, &listed.document)?;
        let document = String::from_utf8(document)
            .map_err(|_| error!(Corrupt, "`{}` of {location} is not UTF-8", listed.document.path))?;
        let file = |file: &Listed| {
            Ok(File {
                name: file.name.clone(),
                contents: fetch(&location, file)?,
            })
        };
        Ok(Bundle {
            meta: listed.meta.clone(),
            document,
            files: listed.files.iter().map(file).collect::<Result<_, Error>>()?,
        })
    }
}

impl Https {
    /// The index, fetched once.
    fn index(&mut self) -> Result<&Index, Error> {
        if self.index.is_none() {
            let bytes = get(&self.location, INDEX_BYTES_MAX)?;
            self.index = Some(Index::read(&self.location, &bytes)?);
        }
        self.index.as_ref().ok_or_else(|| error!(Failed, "the index was lost"))
    }
}

/// Fetches one file and holds it to its digest.
fn fetch(location: &str, file: &Listed) -> Result<Vec<u8>, Error> {
    let url = index::beside(location, &file.path);
    let bytes = get(&url, FILE_BYTES_MAX)?;
    let found = gallery::sha256(&bytes);
    if found == file.sha256 {
        return Ok(bytes);
    }
    Err(error!(
        Corrupt,
        "{url} is not the file that {location} lists: sha256 {} was expected, {found} was found", file.sha256
    ))
}

fn get(url: &str, bytes_max: u32) -> Result<Vec<u8>, Error> {
    let request = Request::get(url).timeout_ms(TIMEOUT_MS).redirects(REDIRECTS_MAX);
    let answer = request.answer_bytes_max(bytes_max).send()?;
    match answer.status {
        200 => Ok(answer.body),
        404 | 410 => Err(error!(NotFound, "{url} is not there (status {})", answer.status)),
        _ => Err(answer.refusal(url)),
    }
}

dlm_plugin::export_templates!(Https);
