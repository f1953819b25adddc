//! The push destination `put:<address>`: the pack, its checksum and its signature, each by one HTTP `PUT`.
//!
//! Invariants: only the typed origin is asked; nothing that is there already is replaced unless the user forces it; the
//! checksum file goes last, so that a pack with one beside it is whole.

mod address;

use dlm_plugin::destination::{Destination, Info, Options, Pack, Receipt};
use dlm_plugin::http::{Answer, Method, Request};
use dlm_plugin::secrets::{self, Secret};
use dlm_plugin::{Error, artifacts, config, error, upload};

use address::Address;

const ANSWER_BYTES_MAX: u32 = 64 << 10;
const SMALL_TIMEOUT_MS: u32 = 60_000;

struct Put {
    address: Address,
    token: Option<Secret>,
}

impl Destination for Put {
    fn open(rest: &str) -> Result<Self, Error> {
        let address = Address::parse(rest)?;
        let token = config::text("token")?.map(|name| secrets::get(&name)).transpose()?;
        Ok(Put { address, token })
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity("put", "HTTP PUT to a web server"),
            contacts: vec![format!("http:{}", self.address.origin())],
            max_bytes: None,
        }
    }

    fn preview(&mut self, pack: &Pack, options: &Options) -> Result<Vec<String>, Error> {
        let url = self.address.file(&pack.file_name);
        let mut steps = Vec::new();
        if !options.force {
            steps.push(format!("GET {url}.sha256 (is it there already?)"));
        }
        steps.push(format!("PUT {url} ({} bytes)", pack.size));
        if pack.signature.is_some() {
            steps.push(format!("PUT {url}.minisig"));
        }
        steps.push(format!("PUT {url}.sha256"));
        Ok(steps)
    }

    fn push(&mut self, pack: &Pack, options: &Options) -> Result<Receipt, Error> {
        if options.private {
            return Err(error!(
                Unsupported,
                "`put` cannot make a file private; who may read it is up to the server"
            ));
        }
        let url = self.address.file(&pack.file_name);
        if !options.force && self.is_there(&url, pack)? {
            return Ok(Receipt {
                location: url,
                bytes_sent: 0,
                unchanged: true,
            });
        }
        let mut bytes_sent = self.send_file(&url, &pack.artifact)?;
        if let Some(signature) = &pack.signature {
            bytes_sent += self.send_file(&format!("{url}.minisig"), signature)?;
        }
        let line = format!("{}  {}\n", pack.sha256, pack.file_name);
        bytes_sent += line.len() as u64;
        let sum = self
            .request(Method::Put, &format!("{url}.sha256"))
            .bytes("text/plain", line.into_bytes());
        self.accepted(&sum.timeout_ms(SMALL_TIMEOUT_MS).send()?)?;
        Ok(Receipt {
            location: url,
            bytes_sent,
            unchanged: false,
        })
    }
}

impl Put {
    fn request(&self, method: Method, url: &str) -> Request<'_> {
        let request = Request::new(method, url).answer_bytes_max(ANSWER_BYTES_MAX);
        match &self.token {
            Some(token) => request.secret("authorization", "Bearer ", token),
            None => request,
        }
    }

    /// True when the same pack is there; another one under its name is a conflict.
    fn is_there(&self, url: &str, pack: &Pack) -> Result<bool, Error> {
        let sum = self
            .request(Method::Get, &format!("{url}.sha256"))
            .timeout_ms(SMALL_TIMEOUT_MS)
            .send()?;
        if sum.status == 200 {
            let text = String::from_utf8_lossy(&sum.body).into_owned();
            if text.split_whitespace().next() == Some(pack.sha256.as_str()) {
                return Ok(true);
            }
            return Err(error!(Conflict, "{url} holds another pack; pass --force to replace it"));
        }
        if !matches!(sum.status, 404 | 410) {
            return Err(sum.refusal(&self.address.origin()));
        }
        let head = self.request(Method::Head, url).timeout_ms(SMALL_TIMEOUT_MS).send()?;
        match head.status {
            200 => Err(error!(
                Conflict,
                "{url} is there already, without a checksum; pass --force to replace it"
            )),
            404 | 410 => Ok(false),
            // Some servers know no HEAD; then PUT decides.
            405 | 501 => Ok(false),
            _ => Err(head.refusal(&self.address.origin())),
        }
    }

    fn send_file(&self, url: &str, artifact: &str) -> Result<u64, Error> {
        let input = artifacts::open_input(artifact)?;
        let size = input.info().size;
        let request = self
            .request(Method::Put, url)
            .header("content-type", "application/octet-stream");
        let response = upload::send_file(&request.into_wire(), &input, 0, size)?;
        self.accepted(&Answer::read(&response, ANSWER_BYTES_MAX)?)?;
        Ok(size)
    }

    fn accepted(&self, answer: &Answer) -> Result<(), Error> {
        if answer.is_success() {
            return Ok(());
        }
        Err(answer.refusal(&self.address.origin()))
    }
}

dlm_plugin::export_destination!(Put);
