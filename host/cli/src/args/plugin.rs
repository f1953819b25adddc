//! Arguments of `dlm plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use dlm_packages::Kind;

/// `dlm plugin`.
#[derive(Debug, Subcommand)]
pub enum Plugin {
    /// List the plugins inside dlm, installed ones, and those in the project's and the system's directories
    List(List),
    /// Check a plugin, ask for its grants, pin its hash and install it
    Install(Install),
    /// Remove an installed plugin with its grants and compiled code
    Remove(Remove),
    /// Show everything about a plugin without running it
    Inspect(Inspect),
    /// Embed plugin.toml into a module or component
    Pack(Pack),
    /// Change grants, trust a file where it lies, or trust a signer's key
    Trust(Trust),
    /// Compare every file of the lock with its pinned hash and signature
    Verify(Verify),
    /// Start the project of a plugin
    New(New),
    /// Run a plugin's cases with a scripted host, and the checks that every plugin must pass
    Test(Test),
}

impl Plugin {
    /// True where the answer, a failure included, is wanted as JSON.
    pub fn is_json(&self) -> bool {
        match self {
            Plugin::List(args) => args.json,
            Plugin::Install(args) => args.json,
            Plugin::Inspect(args) => args.json,
            Plugin::Verify(args) => args.json,
            Plugin::Test(args) => args.json,
            Plugin::Remove(_) | Plugin::Pack(_) | Plugin::Trust(_) | Plugin::New(_) => false,
        }
    }
}

#[derive(Debug, Args)]
pub struct List {
    /// Only plugins of this kind
    #[arg(long, value_enum, value_name = "KIND")]
    pub kind: Option<KindChoice>,
    /// Only plugins that were built for an older plugin API than that of this dlm
    #[arg(long)]
    pub outdated_api: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Install {
    /// A file or an https: address
    #[arg(value_name = "SRC")]
    pub source: String,
    /// Refuse any file but the one with this hash
    #[arg(long, value_name = "HASH", value_parser = parse_sha256)]
    pub sha256: Option<String>,
    /// Grant a capability that the plugin requests, such as model:current (repeatable)
    #[arg(long = "grant", value_name = "CAP")]
    pub grants: Vec<String>,
    /// Grant everything that the plugin requests, optional ones too
    #[arg(long)]
    pub grant_requested: bool,
    /// Install without a signature where one is needed
    #[arg(long)]
    pub allow_unsigned: bool,
    /// Install it under this name instead of its own
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Show what would be asked and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print as JSON; nothing is asked
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Remove {
    /// Name of an installed plugin
    pub name: String,
    /// Leave its settings in config.toml
    #[arg(long)]
    pub keep_config: bool,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// Name of a plugin, or a file
    #[arg(value_name = "NAME|FILE")]
    pub plugin: String,
    /// Print its types as WIT
    #[arg(long, conflicts_with_all = ["imports", "audit"])]
    pub wit: bool,
    /// Print its imports with the functions that it uses
    #[arg(long, conflicts_with = "audit")]
    pub imports: bool,
    /// Print one line per risk
    #[arg(long)]
    pub audit: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Pack {
    /// Directory of plugin.toml
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// The module or component [default: `wasm` under [build] in plugin.toml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub wasm: Option<PathBuf>,
    /// Where to write [default: <name>.wasm in the directory]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Sign with minisign and the key minisign.key of dlm's home
    #[arg(long)]
    pub sign: bool,
}

#[derive(Debug, Args)]
pub struct Trust {
    /// Name of an installed plugin, a .wasm file, or a minisign public key (text or .pub file)
    #[arg(value_name = "NAME|FILE|KEY")]
    pub subject: String,
    /// Grant a capability that the plugin requests (repeatable)
    #[arg(long = "grant", value_name = "CAP")]
    pub grants: Vec<String>,
    /// Take a grant back (repeatable)
    #[arg(long = "revoke", value_name = "CAP")]
    pub revoked: Vec<String>,
    /// Let the key sign only plugins whose name fits, such as 'acme-*' (repeatable)
    #[arg(long = "for-names", value_name = "GLOB", conflicts_with_all = ["grants", "revoked"])]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct New {
    /// What the plugin is
    #[arg(value_enum)]
    pub kind: KindChoice,
    /// Its name
    pub name: String,
    /// Language of the sources
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    pub lang: Language,
    /// Where to write [default: the name]
    #[arg(long, value_name = "D", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Test {
    /// A .wasm file with cases/ beside it, or the name of a plugin
    #[arg(value_name = "NAME|FILE")]
    pub plugin: String,
    /// Run this case instead of those beside the plugin (repeatable)
    #[arg(long = "case", value_name = "F", value_hint = ValueHint::FilePath)]
    pub cases: Vec<PathBuf>,
    /// Write what was found into the cases
    #[arg(long, conflicts_with = "bench")]
    pub update: bool,
    /// Build, pack and test again at every change of the project
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Measure start and call of each case
    #[arg(long)]
    pub bench: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// The kinds of plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindChoice {
    Judge,
    Teacher,
    Target,
    Destination,
    Templates,
}

impl KindChoice {
    /// The kind of the plugin host.
    pub fn kind(self) -> Kind {
        match self {
            KindChoice::Judge => Kind::Judge,
            KindChoice::Teacher => Kind::Teacher,
            KindChoice::Target => Kind::Target,
            KindChoice::Destination => Kind::Destination,
            KindChoice::Templates => Kind::Templates,
        }
    }
}

/// Languages that projects are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    Rust,
    Python,
    Js,
    C,
}

fn parse_sha256(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("expected 64 hex digits".to_owned()),
    }
}
