//! Getting bytes: small answers into memory, large files to disk with resume and verification.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use dlm_core::event::Event;
use dlm_core::ports::{BaseRequest, BaseSourceError};
use dlm_core::{Cancel, Progress};
use dlm_files::DiskError;
use ureq::Body;
use ureq::http::Response;

use super::Hub;
use super::cache::{RepoCache, io};
use super::listing::{FileDigest, Listing, RemoteFile};
use crate::client::{self, ClientError};
use crate::interrupt::{self, Pieces};

/// Bytes read at a time; also how often a cancelled download looks up.
const CHUNK_BYTES: usize = 128 << 10;
/// A try that brought at least this much is progress, and the count of tries begins again.
const PROGRESS_BYTES: u64 = 256 << 10;
/// The longest pause between two tries, whatever the server asks for.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A small answer that is wanted, for messages and limits.
pub(super) struct FileRequest<'a> {
    pub request: &'a BaseRequest,
    pub what: &'a str,
    pub limit: u64,
    pub cancel: &'a Cancel,
}

/// How one try at a file ended.
enum Try {
    Done,
    /// Broken off; the reason, and whether the part file may be continued.
    Broken(String),
}

impl Hub {
    /// Reads a small answer into memory.
    pub(super) fn small(&self, url: &str, wanted: &FileRequest) -> Result<Vec<u8>, BaseSourceError> {
        let mut attempt = 1;
        loop {
            let failure = match self.follow(url, None, wanted.cancel) {
                Ok(response) if response.status().is_success() => {
                    let limit = wanted.limit;
                    match interrupt::until(wanted.cancel, move || read_limited(response, limit)) {
                        Ok(Some(body)) => return Ok(body),
                        Ok(None) => {
                            return Err(self.too_large(wanted.request, wanted.what, limit + 1, limit));
                        }
                        Err(error) => error,
                    }
                }
                Ok(response) if is_busy(&response) && attempt < self.settings.attempts => {
                    self.pause(attempt, retry_after(&response), wanted.cancel);
                    attempt += 1;
                    continue;
                }
                Ok(response) => return Err(self.refused(wanted.request, wanted.what, &response, attempt)),
                Err(error) => error,
            };
            if !failure.is_transient() || attempt >= self.settings.attempts {
                return Err(self.unreachable(wanted.request, failure, attempt));
            }
            self.pause(attempt, None, wanted.cancel);
            attempt += 1;
        }
    }

    /// One GET that a raised flag ends.
    fn follow(&self, url: &str, from: Option<u64>, cancel: &Cancel) -> Result<Response<Body>, ClientError> {
        let (agent, url, token) = (self.agent.clone(), url.to_owned(), self.settings.token.clone());
        interrupt::until(cancel, move || client::follow(&agent, &url, token.as_deref(), from))
    }

    /// Refuses a repository whose files are larger than allowed, before any is fetched.
    pub(super) fn check_sizes(&self, request: &BaseRequest, listing: &Listing) -> Result<(), BaseSourceError> {
        for file in &listing.files {
            let limit = if file.is_weights() {
                self.settings.weight_bytes_max
            } else {
                self.settings.text_bytes_max
            };
            if file.size > limit {
                return Err(self.too_large(request, &file.name, file.size, limit));
            }
        }
        Ok(())
    }

    /// Brings every file of the listing into the cache and links the snapshot; returns the bytes that were fetched.
    pub(super) fn download_all(
        &self,
        request: &BaseRequest,
        listing: &Listing,
        cache: &RepoCache,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<u64, BaseSourceError> {
        let phase = format!("download {}", request.hf_id);
        let total = listing.files.iter().map(|file| file.size).sum();
        progress.event(Event::PhaseStarted {
            phase: phase.clone(),
            total: Some(total),
            unit: "bytes",
        });
        let mut meter = Meter {
            progress,
            phase: &phase,
            done: 0,
            fetched: 0,
        };
        // A snapshot counts as whole when its weights are there, so they come last.
        let (weights, others): (Vec<_>, Vec<_>) = listing.files.iter().partition(|file| file.is_weights());
        for file in others.into_iter().chain(weights) {
            let blob = cache.blob(&file.blob);
            // A blob got its name after verification, so its size is enough to know it again.
            if fs::metadata(&blob).is_ok_and(|meta| meta.len() == file.size) {
                meter.skip(file.size);
            } else {
                Download {
                    hub: self,
                    request,
                    file,
                    commit: &listing.commit,
                    cache,
                    cancel,
                }
                .run(&mut meter)?;
            }
            cache.link(&listing.commit, &file.name, &file.blob)?;
        }
        let fetched = meter.fetched;
        progress.event(Event::PhaseEnded { phase });
        Ok(fetched)
    }

    fn pause(&self, attempt: u32, asked: Option<Duration>, cancel: &Cancel) {
        let doubled = self.settings.retry_pause.saturating_mul(1 << (attempt - 1).min(10));
        let pause = asked.unwrap_or(doubled).min(PAUSE_MAX);
        interrupt::pause(pause, cancel);
    }

    fn too_large(&self, request: &BaseRequest, file: &str, bytes: u64, limit: u64) -> BaseSourceError {
        BaseSourceError::TooLarge {
            hf_id: request.hf_id.clone(),
            file: file.to_owned(),
            bytes,
            limit,
        }
    }

    fn unreachable(&self, request: &BaseRequest, error: ClientError, attempts: u32) -> BaseSourceError {
        let hf_id = request.hf_id.clone();
        match error {
            ClientError::InsecureRedirect(url) => BaseSourceError::InsecureRedirect { hf_id, url },
            ClientError::Cancelled => BaseSourceError::Cancelled { hf_id },
            ClientError::Untrusted(reason) => BaseSourceError::Untrusted {
                endpoint: self.settings.endpoint.clone(),
                reason,
            },
            other => BaseSourceError::Unreachable {
                endpoint: self.settings.endpoint.clone(),
                hf_id,
                attempts,
                reason: other.reason(),
            },
        }
    }

    /// What a status that is no success means. The hub answers 401 for what it does not want to name.
    fn refused(&self, request: &BaseRequest, what: &str, response: &Response<Body>, attempts: u32) -> BaseSourceError {
        let hf_id = request.hf_id.clone();
        let status = response.status().as_u16();
        let code = response
            .headers()
            .get("x-error-code")
            .and_then(|code| code.to_str().ok())
            .unwrap_or("");
        let revision = request.revision.clone().unwrap_or_else(|| "main".into());
        match (status, code) {
            (_, "RepoNotFound" | "RevisionNotFound") | (404, _) => BaseSourceError::NotFound { hf_id, revision },
            (401 | 403, _) => BaseSourceError::Gated {
                license_url: Some(match &request.license_url {
                    Some(url) => url.replace("{hub}", &self.settings.endpoint),
                    None => format!("{}/{hf_id}", self.settings.endpoint),
                }),
                hf_id,
                status,
                has_token: self.settings.token.is_some(),
            },
            _ => BaseSourceError::Status {
                hf_id,
                what: what.to_owned(),
                status,
                attempts,
            },
        }
    }
}

/// Counts bytes for the progress display.
struct Meter<'a> {
    progress: &'a dyn Progress,
    phase: &'a str,
    done: u64,
    fetched: u64,
}

impl Meter<'_> {
    /// Bytes that were there already.
    fn skip(&mut self, bytes: u64) {
        self.done += bytes;
        self.progress.event(Event::PhaseAdvanced {
            phase: self.phase.to_owned(),
            done: self.done,
        });
    }

    fn fetched(&mut self, bytes: u64) {
        self.fetched += bytes;
        self.skip(bytes);
    }

    fn undo(&mut self, bytes: u64) {
        self.done = self.done.saturating_sub(bytes);
    }
}

/// One file on its way to its blob.
struct Download<'a> {
    hub: &'a Hub,
    request: &'a BaseRequest,
    file: &'a RemoteFile,
    commit: &'a str,
    cache: &'a RepoCache,
    cancel: &'a Cancel,
}

/// The part file with the digest of what it holds.
struct Part {
    file: File,
    have: u64,
    digest: FileDigest,
}

impl Download<'_> {
    fn run(&self, meter: &mut Meter) -> Result<(), BaseSourceError> {
        let path = self.cache.part(&self.file.blob);
        let mut part = self.open(&path)?;
        let was_resumed = part.have > 0;
        meter.skip(part.have);
        self.fill(&mut part, &path, meter)?;
        let mut found = self.mismatch(&part);
        if found.is_some() && was_resumed {
            // What an earlier run left may be what is wrong: one clean try decides.
            meter.undo(part.have);
            self.restart(&mut part, &path)?;
            self.fill(&mut part, &path, meter)?;
            found = self.mismatch(&part);
        }
        if let Some((expected, found)) = found {
            self.cache
                .disk
                .remove_file(&path)
                .map_err(|e| io(&path, "cannot remove the damaged file", e.into_io()))?;
            let (hf_id, file) = (self.request.hf_id.clone(), self.file.name.clone());
            return Err(BaseSourceError::Digest {
                hf_id,
                file,
                expected,
                found,
            });
        }
        part.file.sync_all().map_err(|e| io(&path, "cannot write it", e))?;
        let blob = self.cache.blob(&self.file.blob);
        let moved = self.cache.disk.rename(&path, &blob);
        moved.map_err(|e| io(&blob, "cannot move the finished file there", e.into_io()))
    }

    /// Opens the part file, alone, and digests what it holds.
    fn open(&self, path: &Path) -> Result<Part, BaseSourceError> {
        let opened = self.cache.disk.open_alone(path).map_err(DiskError::into_io);
        let mut file = opened.map_err(|e| match e.kind() {
            ErrorKind::WouldBlock => io(path, "another download of this file is running", e),
            _ => io(path, "cannot create it", e),
        })?;
        let mut part = Part {
            have: 0,
            digest: self.file.digest(),
            file: file.try_clone().map_err(|e| io(path, "cannot open it", e))?,
        };
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = file.read(&mut buffer).map_err(|e| io(path, "cannot read it", e))?;
            if count == 0 {
                break;
            }
            self.check_cancelled()?;
            part.digest.update(&buffer[..count]);
            part.have += count as u64;
        }
        if part.have > self.file.size {
            self.restart(&mut part, path)?;
        }
        Ok(part)
    }

    fn restart(&self, part: &mut Part, path: &Path) -> Result<(), BaseSourceError> {
        let rewound = part.file.set_len(0).and_then(|()| part.file.seek(SeekFrom::Start(0)));
        rewound.map_err(|e| io(path, "cannot empty it", e))?;
        part.have = 0;
        part.digest = self.file.digest();
        Ok(())
    }

    /// Fetches until the part file has the whole size, or gives up after the allowed tries without progress.
    fn fill(&self, part: &mut Part, path: &Path, meter: &mut Meter) -> Result<(), BaseSourceError> {
        let mut attempt = 1;
        while part.have < self.file.size {
            let before = part.have;
            let reason = match self.attempt(part, path, meter, attempt)? {
                Try::Done => continue,
                Try::Broken(reason) => reason,
            };
            if part.have >= before + PROGRESS_BYTES {
                attempt = 0;
            }
            if attempt >= self.hub.settings.attempts {
                return Err(BaseSourceError::Interrupted {
                    hf_id: self.request.hf_id.clone(),
                    file: self.file.name.clone(),
                    have: part.have,
                    want: self.file.size,
                    attempts: attempt,
                    reason,
                });
            }
            attempt += 1;
            self.hub.pause(attempt.max(2) - 1, None, self.cancel);
            self.check_cancelled()?;
        }
        Ok(())
    }

    fn attempt(&self, part: &mut Part, path: &Path, meter: &mut Meter, attempt: u32) -> Result<Try, BaseSourceError> {
        let url = self.hub.file_url(self.request, self.commit, &self.file.name);
        let from = (part.have > 0).then_some(part.have);
        let response = match self.hub.follow(&url, from, self.cancel) {
            Ok(response) => response,
            Err(error) if error.is_transient() => return Ok(Try::Broken(error.reason())),
            Err(error) => return Err(self.hub.unreachable(self.request, error, attempt)),
        };
        let is_continued = response.status().as_u16() == 206 && starts_at(&response, part.have);
        match response.status().as_u16() {
            206 if is_continued => {}
            // The server begins anew, or does not know where we are: so do we.
            200 | 206 | 416 => {
                meter.undo(part.have);
                self.restart(part, path)?;
                if response.status().as_u16() != 200 {
                    return Ok(Try::Broken("the server cannot continue the file".into()));
                }
            }
            _ if is_busy(&response) => {
                return Ok(Try::Broken(format!("the hub answered {}", response.status().as_u16())));
            }
            _ => return Err(self.hub.refused(self.request, &self.file.name, &response, attempt)),
        }
        self.copy(response, part, path, meter)
    }

    fn copy(
        &self,
        response: Response<Body>,
        part: &mut Part,
        path: &Path,
        meter: &mut Meter,
    ) -> Result<Try, BaseSourceError> {
        let pieces = match Pieces::of(response, CHUNK_BYTES) {
            Ok(pieces) => pieces,
            Err(error) => return Err(self.hub.unreachable(self.request, error, 1)),
        };
        loop {
            self.check_cancelled()?;
            let piece = match pieces.next(self.cancel) {
                Ok(None) if part.have < self.file.size => {
                    return Ok(Try::Broken("the connection was closed early".into()));
                }
                Ok(None) => return Ok(Try::Done),
                Ok(Some(piece)) => piece,
                Err(error @ ClientError::Cancelled) => return Err(self.hub.unreachable(self.request, error, 1)),
                Err(error) => return Ok(Try::Broken(error.reason())),
            };
            let count = piece.len();
            if part.have + count as u64 > self.file.size {
                let limit = self.file.size;
                return Err(self
                    .hub
                    .too_large(self.request, &self.file.name, part.have + count as u64, limit));
            }
            part.file
                .write_all(&piece)
                .map_err(|e| io(path, "cannot write it", e))?;
            part.digest.update(&piece);
            part.have += count as u64;
            meter.fetched(count as u64);
        }
    }

    /// Expected and found digest, when they differ.
    fn mismatch(&self, part: &Part) -> Option<(String, String)> {
        let (kind, expected) = match &self.file.sha256 {
            Some(sha256) => ("sha256", sha256),
            None => ("git", &self.file.blob),
        };
        let found = part.digest.clone().finish_hex();
        (found != *expected).then(|| (format!("{kind} {expected}"), format!("{kind} {found}")))
    }

    fn check_cancelled(&self) -> Result<(), BaseSourceError> {
        if self.cancel.is_cancelled() {
            return Err(BaseSourceError::Cancelled {
                hf_id: self.request.hf_id.clone(),
            });
        }
        Ok(())
    }
}

/// A whole body, or none when it is longer than the limit.
fn read_limited(mut response: Response<Body>, limit: u64) -> Result<Option<Vec<u8>>, ClientError> {
    let mut body = Vec::new();
    let mut reader = response.body_mut().as_reader().take(limit + 1);
    reader.read_to_end(&mut body).map_err(client::read_error)?;
    Ok((body.len() as u64 <= limit).then_some(body))
}

/// A status that is worth another try.
fn is_busy(response: &Response<Body>) -> bool {
    let status = response.status().as_u16();
    status == 429 || status == 408 || (500..600).contains(&status)
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response
        .headers()
        .get("retry-after")?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// Whether a `Content-Range` begins where we are.
fn starts_at(response: &Response<Body>, have: u64) -> bool {
    let range = response
        .headers()
        .get("content-range")
        .and_then(|value| value.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()) == Some(have)
}
