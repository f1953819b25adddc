//! The hub's file list of one commit, reduced to what a base needs.

use dlm_core::digest::{Sha1, Sha256, is_hex};
use dlm_core::ports::BaseSourceError;
use serde_json::Value;

/// The longest file list that is read; a repository of ten thousand files has about 3 MB of it.
pub(super) const LISTING_BYTES_MAX: u64 = 16 << 20;
/// The longest `config.json` that is read into memory.
pub(super) const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Files in a repository.
const ENTRIES_MAX: usize = 20_000;
/// Names of pickled weights that a refusal shows.
const NAMES_SHOWN: usize = 4;

/// Files other than weights that a base consists of.
const TEXT_FILES: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
];
pub(super) const INDEX: &str = "model.safetensors.index.json";
pub(super) const SINGLE: &str = "model.safetensors";

/// One file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Name of its blob in the cache: the SHA-256 of a large file, the git id of a small one.
    pub blob: String,
    /// For large files only.
    pub sha256: Option<String>,
}

/// A digest that a file may have, being taken.
#[derive(Clone, Debug)]
pub(super) enum FileDigest {
    Sha256(Sha256),
    /// Git's name of the content, which is the name of a small file's blob.
    Git(Sha1),
}

impl FileDigest {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            FileDigest::Sha256(digest) => digest.update(bytes),
            FileDigest::Git(digest) => digest.update(bytes),
        }
    }

    pub(super) fn finish_hex(self) -> String {
        match self {
            FileDigest::Sha256(digest) => digest.finish_hex(),
            FileDigest::Git(digest) => digest.finish_hex(),
        }
    }
}

impl RemoteFile {
    /// The digest of none of its bytes yet.
    pub(super) fn digest(&self) -> FileDigest {
        match self.sha256 {
            Some(_) => FileDigest::Sha256(Sha256::new()),
            None => FileDigest::Git(Sha1::of_blob(self.size)),
        }
    }

    /// Whether it holds tensors.
    pub fn is_weights(&self) -> bool {
        self.name.ends_with(".safetensors")
    }
}

/// The files of one commit that a base needs, in path order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// 40 hex digits.
    pub commit: String,
    pub files: Vec<RemoteFile>,
}

impl Listing {
    /// Reads the hub's answer and keeps what the allow-list names.
    ///
    /// **Errors:** an answer of another form, no weights that are safe to read, a digest that is none.
    pub fn parse(hf_id: &str, body: &[u8]) -> Result<Listing, BaseSourceError> {
        let bad = |reason: String| BaseSourceError::BadAnswer {
            hf_id: hf_id.to_owned(),
            reason,
        };
        let answer: Value = serde_json::from_slice(body).map_err(|e| bad(format!("the file list is not JSON: {e}")))?;
        let commit = answer["sha"].as_str().filter(|sha| is_hex(sha, 40));
        let commit = commit
            .ok_or_else(|| bad("the file list names no commit".into()))?
            .to_owned();
        let siblings = answer["siblings"]
            .as_array()
            .ok_or_else(|| bad("the file list has no files".into()))?;
        if siblings.len() > ENTRIES_MAX {
            return Err(bad(format!("{} files, more than {ENTRIES_MAX}", siblings.len())));
        }
        let names: Vec<&str> = siblings
            .iter()
            .filter_map(|entry| entry["rfilename"].as_str())
            .collect();
        let mut files = Vec::new();
        for entry in siblings {
            let Some(name) = entry["rfilename"].as_str() else {
                continue;
            };
            if is_wanted(name, &names) {
                files.push(file(name, entry).map_err(bad)?);
            }
        }
        if !files.iter().any(RemoteFile::is_weights) {
            return Err(BaseSourceError::NoSafeWeights {
                hf_id: hf_id.to_owned(),
                found: found(&names),
            });
        }
        if !files.iter().any(|file| file.name == "config.json") {
            return Err(bad("the repository has no config.json".into()));
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Listing { commit, files })
    }

    /// Whether only the index can say which weights belong to the model: some have other names than shards usually have.
    pub fn needs_index(&self) -> bool {
        let mut weights = self.files.iter().filter(|file| file.is_weights());
        self.files.iter().any(|file| file.name == INDEX) && weights.any(|file| !file.name.starts_with("model-"))
    }

    /// Leaves out the weights that the index does not name; that it names any is the caller's business.
    pub fn keep_named(&mut self, named: &[String]) {
        self.files
            .retain(|file| !file.is_weights() || named.contains(&file.name));
    }
}

/// The files that an index of weights names; none where it cannot be read.
pub fn shards(index: &[u8]) -> Option<Vec<String>> {
    let index: Value = serde_json::from_slice(index).ok()?;
    let map = index["weight_map"].as_object()?;
    let mut shards: Vec<String> = map.values().filter_map(Value::as_str).map(str::to_owned).collect();
    shards.sort_unstable();
    shards.dedup();
    Some(shards)
}

fn file(name: &str, entry: &Value) -> Result<RemoteFile, String> {
    let lfs = &entry["lfs"];
    let sha256 = lfs["sha256"].as_str().or(lfs["oid"].as_str()).map(str::to_lowercase);
    if let Some(sha256) = &sha256
        && !is_hex(sha256, 64)
    {
        return Err(format!("the digest of `{name}` is `{sha256}`, not a SHA-256"));
    }
    let size = entry["size"].as_u64().or(lfs["size"].as_u64());
    let size = size.ok_or_else(|| format!("the file list gives no size for `{name}`"))?;
    let blob = sha256
        .clone()
        .or_else(|| entry["blobId"].as_str().map(str::to_lowercase));
    let digits = if sha256.is_some() { 64 } else { 40 };
    let blob = blob.filter(|blob| is_hex(blob, digits));
    let blob = blob.ok_or_else(|| format!("the file list gives no content id for `{name}`"))?;
    if name.ends_with(".safetensors") && sha256.is_none() {
        return Err(format!("the file list gives no SHA-256 for `{name}`"));
    }
    Ok(RemoteFile {
        name: name.to_owned(),
        size,
        blob,
        sha256,
    })
}

/// Whether a file belongs to a base: known text files, and one set of safetensors weights at the top level.
///
/// Some repositories hold the same weights twice (`consolidated.safetensors` beside shards): the usual single name
/// decides, as it does for the reference, and an index beside it is stale; without it the index names the shards.
fn is_wanted(name: &str, all: &[&str]) -> bool {
    if !is_plain(name) {
        return false;
    }
    if TEXT_FILES.contains(&name) {
        return true;
    }
    if name == INDEX {
        return !all.contains(&SINGLE);
    }
    if name.starts_with("tokenizer") && name.ends_with(".json") || name.starts_with("LICENSE") {
        return true;
    }
    if !name.ends_with(".safetensors") {
        return false;
    }
    !all.contains(&SINGLE) || name == SINGLE
}

/// A name at the top level that is safe in a path and an address.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && name.len() <= 200 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn found(names: &[&str]) -> String {
    let pickled = |name: &&&str| {
        [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf"]
            .iter()
            .any(|ext| name.ends_with(ext))
    };
    let shown: Vec<&str> = names.iter().filter(pickled).take(NAMES_SHOWN).copied().collect();
    if shown.is_empty() {
        format!("{} files", names.len())
    } else {
        shown.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn weights(name: &str) -> Value {
        json!({"rfilename": name, "size": 10, "blobId": "a".repeat(40), "lfs": {"sha256": "b".repeat(64), "size": 10}})
    }

    fn text(name: &str) -> Value {
        json!({"rfilename": name, "size": 3, "blobId": "c".repeat(40)})
    }

    fn check(siblings: Vec<Value>) -> Result<String, String> {
        let body = json!({"sha": "d".repeat(40), "siblings": siblings}).to_string();
        match Listing::parse("org/name", body.as_bytes()) {
            Ok(listing) => Ok(listing
                .files
                .iter()
                .map(|f| f.name.as_str())
                .collect::<Vec<_>>()
                .join(" ")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn only_the_allow_list_is_taken() {
        let files = check(vec![
            text("README.md"),
            text("config.json"),
            text("tokenizer.json"),
            text("tokenizer_config.json"),
            text("LICENSE"),
            text("evil.py"),
            text(".gitattributes"),
            text("onnx/config.json"),
            weights("model.safetensors"),
            weights("consolidated.safetensors"),
            weights("pytorch_model.bin"),
            weights("training_args.pt"),
        ]);
        assert_eq!(
            files.unwrap(),
            "LICENSE config.json model.safetensors tokenizer.json tokenizer_config.json"
        );
    }

    #[test]
    fn the_index_decides_for_shards_whatever_their_names() {
        let body = |names: [&str; 2]| {
            let siblings = [
                text("config.json"),
                text("model.safetensors.index.json"),
                weights(names[0]),
                weights(names[1]),
                weights("consolidated.safetensors"),
            ];
            json!({"sha": "d".repeat(40), "siblings": siblings}).to_string()
        };
        let index = |names: [&str; 2]| json!({"weight_map": {"a": names[0], "b": names[1], "c": names[1]}}).to_string();
        for names in [
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            // CoSER#3: shards that kept the names of the pickled ones.
            [
                "pytorch_model-00001-of-00002.safetensors",
                "pytorch_model-00002-of-00002.safetensors",
            ],
        ] {
            let mut listing = Listing::parse("o/n", body(names).as_bytes()).unwrap();
            assert!(listing.needs_index());
            listing.keep_named(&shards(index(names).as_bytes()).unwrap());
            let kept: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
            let mut expected = vec!["config.json", "model.safetensors.index.json", names[0], names[1]];
            expected.sort_unstable();
            assert_eq!(kept, expected);
            assert_eq!(shards(b"{}"), None);
        }
    }

    #[test]
    fn an_index_beside_the_whole_file_is_stale() {
        let files = check(vec![
            text("config.json"),
            text("model.safetensors.index.json"),
            weights("model.safetensors"),
        ]);
        assert_eq!(files.unwrap(), "config.json model.safetensors");
    }

    #[test]
    fn pickles_alone_are_refused_by_name() {
        let error = check(vec![text("config.json"), weights("pytorch_model.bin")]).unwrap_err();
        assert_eq!(
            error,
            "`org/name` holds no safetensors weights (pytorch_model.bin); pickled weights are never loaded"
        );
    }

    #[test]
    fn hostile_lists_are_refused() {
        let mut bad_digest = weights("model.safetensors");
        bad_digest["lfs"]["sha256"] = json!("../../../etc/passwd");
        assert!(
            check(vec![text("config.json"), bad_digest])
                .unwrap_err()
                .contains("not a SHA-256")
        );
        let mut bad_blob = text("config.json");
        bad_blob["blobId"] = json!("../x");
        assert!(
            check(vec![bad_blob, weights("model.safetensors")])
                .unwrap_err()
                .contains("content id")
        );
        let no_size = json!({"rfilename": "config.json", "blobId": "c".repeat(40)});
        assert!(
            check(vec![no_size, weights("model.safetensors")])
                .unwrap_err()
                .contains("no size")
        );
        let traversal = check(vec![
            text("config.json"),
            weights("model.safetensors"),
            text("../tokenizer.json"),
        ]);
        assert_eq!(traversal.unwrap(), "config.json model.safetensors");
        assert!(
            Listing::parse("o/n", b"<html>")
                .unwrap_err()
                .to_string()
                .contains("not JSON")
        );
        assert!(
            Listing::parse("o/n", b"{\"sha\":\"main\"}")
                .unwrap_err()
                .to_string()
                .contains("no commit")
        );
    }
}
