//! Whatever a guest returns is a value that keeps the rules of the contract, or an error that is safe to show.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dlm_core::Cancel;
use dlm_core::event::Quiet;
use dlm_core::http_rule::HttpRule;
use dlm_core::ports::destination::{DestinationSource, PushOptions, PushPack};
use dlm_core::ports::guest_http::{GuestHttp, GuestHttpError, GuestRequest, GuestResponse};
use dlm_core::ports::judge::{JudgeItem, JudgeSource};
use dlm_core::ports::model::NoModels;
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::secrets::NoSecrets;
use dlm_core::ports::target::{Stage, TargetBase, TargetPlan, TargetSource};
use dlm_core::ports::teacher::{TeacherRequest, TeacherSource};
use dlm_core::ports::templates::TemplateSource;
use dlm_packages::{Kind, Limits, limits};
use dlm_plugins::{Compile, GrantFlags, LogLevel, NativeProcess, Plugins, Ports, RunFacts};

use crate::guest::{CONTACT, Chosen, KINDS, Leaf, argument, guest, honest};

/// Longest text of a report or an error: the host's own cut and its mark, and the words of the message around it.
const SHOWN_BYTES_MAX: usize = 20 * 1024;

struct Nowhere;

impl GuestHttp for Nowhere {
    fn send(&self, _: &GuestRequest, _: &[HttpRule], _: &Cancel) -> Result<GuestResponse, GuestHttpError> {
        Err(GuestHttpError::Invalid("nothing is reachable".to_owned()))
    }
}

/// The plugin host with all five guests on disk.
pub struct Host {
    plugins: Plugins,
    directory: PathBuf,
}

impl Host {
    /// Writes the guests into `directory`, which is this host's own.
    pub fn new(directory: &Path) -> Host {
        for kind in KINDS {
            std::fs::write(directory.join(format!("{kind}.wasm")), guest(kind)).expect("the directory can be written");
        }
        let facts = RunFacts {
            host_version: "1.2.3".to_owned(),
            seed: 7,
            unix_ms: 951_782_400_000,
            is_dry_run: false,
            log_level: LogLevel::Warn,
            directory: directory.to_owned(),
        };
        let ports = Ports {
            process: Arc::new(NativeProcess::new(Vec::new(), Vec::new())),
            http: Arc::new(Nowhere),
            models: Arc::new(NoModels),
            secrets: Arc::new(NoSecrets),
            free_port: || Err(std::io::Error::other("no port")),
            clock: None,
            progress: Arc::new(Quiet),
            cancel: Cancel::new(),
        };
        // A destination may name this one contact.
        let flags = GrantFlags {
            granted: vec![format!("hostile={CONTACT}")],
            ..GrantFlags::default()
        };
        let plugins = Plugins::new(facts, ports, Compile::InMemory, &flags).expect("the flags are good");
        let plugins = plugins.with_limits(Limits {
            transfer_bytes: 1 << 20,
            wall_time: Duration::from_secs(60),
            ..limits(Kind::Templates)
        });
        Host {
            plugins,
            directory: directory.to_owned(),
        }
    }

    fn path(&self, kind: Kind) -> String {
        self.directory.join(format!("{kind}.wasm")).display().to_string()
    }

    /// Calls every function of a guest whose memory is `argument`, and holds what comes back against the contract.
    ///
    /// **Errors**: what the host made of it, checked too.
    ///
    /// **Panics** when a value or an error breaks a promise.
    pub fn call(&self, kind: Kind, argument: &str) -> Result<(), PluginFailure> {
        let called = match kind {
            Kind::Judge => self.judge(argument),
            Kind::Teacher => self.teacher(argument),
            Kind::Target => self.target(argument),
            Kind::Destination => self.destination(argument),
            Kind::Templates => self.templates(argument),
        };
        if let Err(error) = &called {
            shown(&error.to_string());
            error.hints.iter().for_each(|hint| shown(hint));
            assert!(
                !error.subject.as_str().is_empty() && error.code.starts_with("plugin::"),
                "{error:?}"
            );
        }
        called
    }

    fn judge(&self, argument: &str) -> Result<(), PluginFailure> {
        let mut judge = self
            .plugins
            .open_judge(&format!("{}:{argument}", self.path(Kind::Judge)))?;
        let info = judge.info();
        shown_line(&info.identity.name);
        info.identity.detail.iter().for_each(|text| shown_line(text));
        assert!(info.suggested_threshold >= 0.0 && info.suggested_threshold.is_finite());
        assert!((1..=1024).contains(&info.batch_max));
        let item = JudgeItem {
            system: None,
            prompt: "Who?".to_owned(),
            candidates: vec!["one".to_owned()],
            reference: None,
        };
        let verdicts = judge.score(&[item])?;
        assert_eq!(verdicts.len(), 1);
        assert!(verdicts[0].scores.len() == 1 && verdicts[0].scores[0].is_finite());
        verdicts[0].reasoning.iter().for_each(|text| shown(text));
        Ok(())
    }

    fn teacher(&self, argument: &str) -> Result<(), PluginFailure> {
        let mut teacher = self
            .plugins
            .open_teacher(&format!("{}:{argument}", self.path(Kind::Teacher)))?;
        shown_line(&teacher.info().identity.name);
        assert!((1..=16).contains(&teacher.info().concurrency_max));
        let request = TeacherRequest {
            system: String::new(),
            user: "Who?".to_owned(),
            new_tokens_max: 8,
            temperature: 0.0,
            top_p: None,
            seed: None,
        };
        let answer = teacher.complete(&request)?;
        assert!(!answer.text.trim().is_empty());
        Ok(())
    }

    fn target(&self, argument: &str) -> Result<(), PluginFailure> {
        let around = self.directory.join("around");
        let directory = around.join("export");
        // Left by the call before, if anything is.
        let _gone = std::fs::remove_dir_all(&around);
        std::fs::create_dir_all(&directory).expect("the directory can be written");
        let called = self.export(argument, &directory);
        assert_eq!(names(&around), ["export"], "something was written beside the export");
        called
    }

    fn export(&self, argument: &str, directory: &Path) -> Result<(), PluginFailure> {
        let selector = format!("{}:{argument}", self.path(Kind::Target));
        let mut target = TargetSource::open(&self.plugins, &selector)?;
        let info = target.info();
        info.detail.iter().for_each(|text| shown_line(text));
        info.programs
            .iter()
            .chain(&info.platforms)
            .for_each(|text| shown_line(text));
        let stage = Stage {
            directory: directory.to_owned(),
            artifacts: Vec::new(),
            reserved: vec!["export_manifest.json".to_owned()],
            is_draft: false,
        };
        let prepared = match target.prepare(&plan(), &stage) {
            Ok(prepared) => prepared,
            Err(error) => {
                assert_eq!(names(directory), [""; 0], "a failed `prepare` left something");
                return Err(error);
            }
        };
        for file in &prepared.files {
            let found = std::fs::symlink_metadata(directory.join(&file.name)).expect("a listed file is there");
            assert!(found.is_file() && found.len() == file.size, "{file:?}");
            assert!(!file.name.eq_ignore_ascii_case("export_manifest.json"));
            shown_line(&file.name);
        }
        prepared
            .usage
            .iter()
            .chain(&prepared.install_preview)
            .for_each(|text| shown_line(text));
        if let Some(registration) = target.install(&plan(), &stage)? {
            shown_line(&registration.name);
        }
        shown(&format!("{:?}", target.smoke(&plan(), &stage)?));
        Ok(())
    }

    fn destination(&self, argument: &str) -> Result<(), PluginFailure> {
        let mut destination = self.plugins.open_destination(&self.path(Kind::Destination), argument)?;
        shown_line(&destination.info().identity.name);
        for contact in &destination.info().contacts {
            assert!(contact.starts_with(CONTACT), "{contact}");
            shown_line(contact);
        }
        let pack = PushPack {
            path: self.directory.join("judge.wasm"),
            file_name: "a.pack".to_owned(),
            size: 1,
            sha256: "00".repeat(32),
            document_id: "01HQ".to_owned(),
            document_name: "a".to_owned(),
            base_model: "b".to_owned(),
            adapter_version: None,
            license: None,
            signature: None,
            readme: String::new(),
        };
        for step in destination.preview(&pack, &PushOptions::default())? {
            shown_line(&step);
        }
        shown_line(&destination.push(&pack, &PushOptions::default())?.location);
        Ok(())
    }

    fn templates(&self, argument: &str) -> Result<(), PluginFailure> {
        let mut templates = self.plugins.open_templates(&self.path(Kind::Templates), argument)?;
        let listed = templates.list(None)?;
        let mut seen = std::collections::BTreeSet::new();
        for meta in &listed {
            assert!(!meta.name.is_empty() && meta.name.len() <= 64 && seen.insert(&meta.name));
            for text in [&meta.title, &meta.summary, &meta.recommended_base, &meta.revision] {
                shown_line(text);
            }
            meta.tags
                .iter()
                .chain(&meta.sample_prompts)
                .for_each(|text| shown_line(text));
        }
        let bundle = templates.fetch("a")?;
        let mut seen = std::collections::BTreeSet::new();
        for (name, _) in &bundle.files {
            shown_line(name);
            let parts: Vec<&str> = name.split('/').collect();
            assert!(
                parts
                    .iter()
                    .all(|part| !part.is_empty() && *part != "." && *part != ".."),
                "{name}"
            );
            assert!(
                !name.contains(['\\', ':']) && seen.insert(name.to_ascii_lowercase()),
                "{name}"
            );
        }
        Ok(())
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("it can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

fn plan() -> TargetPlan {
    TargetPlan {
        name: "a".to_owned(),
        document_id: "01HQ".to_owned(),
        source: None,
        base: TargetBase {
            reference: "b".to_owned(),
            hub_id: None,
            revision: None,
            architecture: "llama".to_owned(),
            layers: 1,
            context_length: 1,
            license: None,
        },
        adapters: Vec::new(),
        quant: "Q8_0".to_owned(),
        is_merged: false,
        context_length: 1,
        chat: None,
        system_prompt: None,
        temperature: None,
        top_p: None,
        draft: None,
        platform: "linux/x86_64".to_owned(),
        options: Vec::new(),
        probe: None,
    }
}

/// Panics when a terminal would obey a text, or when it is too long to read.
fn shown(text: &str) {
    let is_obeyed = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || ('\u{200b}'..='\u{200f}').contains(&c)
            || ('\u{2028}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    assert!(!text.contains(is_obeyed), "a terminal would obey {text:?}");
    // An escape such as `\u{1b}` takes up to ten bytes in the place of one or more.
    assert!(text.len() <= 10 * SHOWN_BYTES_MAX, "{} bytes are shown", text.len());
}

/// The same for a text that is one line.
fn shown_line(text: &str) {
    shown(text);
    assert!(!text.contains('\n'), "{text:?} fakes a line");
}

thread_local! {
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// Runs `with` on this thread's host, whose guests are compiled once.
pub fn on_host<T>(with: impl FnOnce(&Host) -> T) -> T {
    HOST.with_borrow_mut(|host| {
        let host = host.get_or_insert_with(|| {
            let name = format!("dlm-values-{}-{:?}", std::process::id(), std::thread::current().id());
            let directory = std::env::temp_dir().join(name.replace(['(', ')'], ""));
            std::fs::create_dir_all(&directory).expect("the directory for temporary files can be written");
            Host::new(&directory)
        });
        with(host)
    })
}

impl Drop for Host {
    fn drop(&mut self) {
        // A directory for temporary files; what is left there harms nobody.
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

/// Bytes that choose.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    /// The next byte; ever 0 at the end, so that every value ends.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn number(&mut self, size: usize) -> u64 {
        (0..size).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }

    fn choose(&mut self, of: Kind, leaf: Leaf) -> Chosen {
        // Values of an honest guest are likely, so that what lies behind a check is reached.
        let kind = self.byte();
        if kind < 0xa0 {
            return honest(of, leaf, kind & 1 == 1);
        }
        let raw = |source: &mut Source<'_>| {
            let (pointer, length) = (source.number(4), source.number(4));
            Chosen::Raw(u32::try_from(pointer).unwrap_or(0), u32::try_from(length).unwrap_or(0))
        };
        match leaf {
            Leaf::Bool | Leaf::Option => Chosen::Bits(u64::from(self.byte())),
            Leaf::Integer(size) | Leaf::Float(size) => Chosen::Bits(self.number(size)),
            Leaf::Case(count) if kind < 0xf8 => Chosen::Bits(u64::from(self.byte()) % u64::from(count)),
            Leaf::Case(_) => Chosen::Bits(u64::from(self.byte())),
            Leaf::Text if kind < 0xf8 => {
                let count = usize::from(self.byte());
                Chosen::Text(self.bytes(count))
            }
            Leaf::List(_) if kind < 0xf8 => Chosen::Count(u32::from(self.byte()) % 4),
            Leaf::Text | Leaf::List(_) => raw(self),
        }
    }
}

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    let mut source = Source(bytes);
    let kind = KINDS[usize::from(source.byte()) % KINDS.len()];
    let files: Vec<(Vec<u8>, Vec<u8>)> = (0..source.byte() % 3)
        .map(|_| {
            let count = usize::from(source.byte());
            (source.bytes(count), b"x".to_vec())
        })
        .collect();
    let argument = argument(kind, &files, &mut |leaf| source.choose(kind, leaf));
    // An error is as good as a value; both were checked.
    let _answer = on_host(|host| host.call(kind, &argument));
}
