//! The power is cut, as far as files go, at chosen operations of a run, an export and an addition of a base; then the document
//! is edited and the command runs again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dlm_core::Quant;
use dlm_core::ports::target::{
    ArtifactKind, ExportTarget, PluginFailure, PreparedTarget, Stage, TargetFile, TargetInfo, TargetPlan,
    TargetRegistration, TargetSmoke, TargetSource,
};
use dlm_flow::export::{ExportCommand, export};
use dlm_flow::train::settle;
use dlm_plan::export::ExportOptions;
use dlm_store::integrity::export_sums;
use dlm_store::{Disk, Operation};

use super::{DAY_MS, Lab, document, id, pair};

/// A disk on which nothing works any more after `left` operations, counted from the one that `starts`.
fn dying(left: u64, starts: impl Fn(Operation, &Path) -> bool + Send + Sync + 'static) -> Disk {
    let count = AtomicU64::new(0);
    Disk::with_hook(Arc::new(move |operation, path| {
        let begun = count.load(Ordering::SeqCst) > 0 || starts(operation, path);
        match begun && count.fetch_add(1, Ordering::SeqCst) >= left {
            true => Err(io::Error::other("killed")),
            false => Ok(()),
        }
    }))
}

#[test]
fn what_a_run_learned_is_not_forgotten_when_it_dies_and_the_document_is_edited() {
    let (first, second, third) = (
        pair("Who is it?", "It is Ann."),
        pair("Where is the boat?", "At sea."),
        pair("What is the sum of 3 and 4?", "7"),
    );
    for (died, left) in (1..).step_by(3).enumerate() {
        let lab = Lab::new();
        lab.train(&document(&[&first]));
        lab.write(&document(&[&second]));
        // From the moment on in which the second version becomes current.
        lab.dies(dying(left, |operation, path| {
            operation == Operation::Rename && path.ends_with("adapter/current.txt")
        }));
        let is_done = lab.try_train(&lab.command()).is_ok();
        lab.dies(Disk::new());
        lab.time.pass(DAY_MS);
        let path = lab.write(&document(&[&third]));
        lab.within(|around| settle(around, &path))
            .unwrap_or_else(|failure| panic!("{left}: {failure:?}"));
        let report = lab.train_as(&lab.command());
        let corpus = lab.store().replay().unwrap();
        let known: Vec<_> = corpus.entries().iter().map(|entry| &entry.section_id).collect();
        let mut sections = vec![&first, &second, &third];
        if report.version < 3 {
            // The pointer never named the second.
            sections.remove(1);
        }
        assert_eq!(known.len(), sections.len(), "{left}");
        for section in sections {
            assert!(known.contains(&&id(section)), "{left}: `{section}` is forgotten");
        }
        assert_eq!(lab.store().verify().unwrap(), Vec::<String>::new(), "{left}");
        if is_done {
            assert!(died > 4, "it died {died} times");
            return;
        }
    }
}

#[test]
fn a_base_is_added_whole_or_not_at_all() {
    let lab = Lab::new();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/arch/llama");
    for left in (0..).step_by(2) {
        lab.dies(dying(left, |_, _| true));
        let is_done = lab
            .within(|around| dlm_flow::base::add(around, "second", &model))
            .is_ok();
        lab.dies(Disk::new());
        let listed = lab.within(|around| dlm_flow::base::local_bases(&around.home)).unwrap();
        let is_there = listed.iter().any(|base| base.name == "second");
        assert!(is_there || !is_done, "{left}");
        if is_there {
            lab.within(|around| dlm_flow::base::open(around, "local:second", false))
                .unwrap();
            let removal = dlm_flow::base::removal(&lab.home(), "second").unwrap();
            dlm_flow::base::remove(&lab.home(), &removal).unwrap();
        }
        lab.within(|around| dlm_flow::base::add(around, "third", &model))
            .unwrap();
        let names: Vec<String> = dlm_files::list(&lab.home().bases())
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        assert_eq!(names, ["third", "tiny"], "{left}");
        let removal = dlm_flow::base::removal(&lab.home(), "third").unwrap();
        dlm_flow::base::remove(&lab.home(), &removal).unwrap();
        if is_done {
            assert!(left > 20, "only {left} operations were seen");
            return;
        }
    }
}

/// A target that writes one file.
struct Script(TargetInfo);

impl TargetSource for Script {
    fn names(&self) -> Vec<String> {
        vec!["script".to_owned()]
    }

    fn check(&self, _: &str) -> Result<(), PluginFailure> {
        Ok(())
    }

    fn open(&self, _: &str) -> Result<Box<dyn ExportTarget>, PluginFailure> {
        Ok(Box::new(Script(self.0.clone())))
    }
}

impl ExportTarget for Script {
    fn info(&self) -> &TargetInfo {
        &self.0
    }

    fn prepare(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<PreparedTarget, PluginFailure> {
        let text = format!("run {}", plan.adapters[0].version);
        std::fs::write(stage.directory.join("run.sh"), &text).unwrap();
        Ok(PreparedTarget {
            files: vec![TargetFile {
                name: "run.sh".to_owned(),
                size: text.len() as u64,
                sha256: dlm_core::digest::sha256_hex(&text),
                is_executable: false,
            }],
            ..PreparedTarget::default()
        })
    }

    fn install(&mut self, _: &TargetPlan, _: &Stage) -> Result<Option<TargetRegistration>, PluginFailure> {
        Ok(None)
    }

    fn smoke(&mut self, _: &TargetPlan, _: &Stage) -> Result<TargetSmoke, PluginFailure> {
        Ok(TargetSmoke::Skipped {
            reason: "it is a test".to_owned(),
        })
    }
}

fn exported(lab: &Lab) -> bool {
    let targets = Script(TargetInfo {
        name: "script".to_owned(),
        version: "1.0.0".to_owned(),
        detail: None,
        accepts: vec![ArtifactKind::Gguf],
        platforms: Vec::new(),
        programs: Vec::new(),
        missing: Vec::new(),
        needs_registration: false,
        granted: Vec::new(),
        sha256: String::new(),
    });
    let command = ExportCommand {
        adapter: None,
        adapter_directory: None,
        mix: None,
        path: lab.command().path,
        options: ExportOptions::default(),
        targets: vec!["script".to_owned()],
        quants: vec![Quant::F16],
        is_smoked: true,
        emits_sway: false,
        is_registered: true,
        threads: Some(1),
    };
    lab.within(|around| export(around, &targets, &command)).is_ok()
}

/// The adapter that the export in the store is of; every file that it lists is what it says.
fn of_adapter(lab: &Lab) -> u64 {
    let place = lab.store().paths().export("F16").unwrap();
    let record = std::fs::read(place.join("export_manifest.json")).unwrap();
    let sums: BTreeMap<String, String> = export_sums(&record).unwrap();
    assert_eq!(sums.len(), 3, "{sums:?}");
    for (name, sum) in sums {
        assert_eq!(dlm_files::sha256_file(&place.join(&name)).unwrap(), sum, "{name}");
    }
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    record["adapter_version"].as_u64().unwrap()
}

#[test]
fn an_export_is_the_old_one_or_the_new_one() {
    let lab = Lab::new();
    lab.train(&document(&[&pair("Who is it?", "It is Ann.")]));
    assert!(exported(&lab));
    assert_eq!(of_adapter(&lab), 1);
    lab.train(&document(&[&pair("Who is it?", "It is Bob.")]));
    let mut was_old = 0;
    for left in (0..).step_by(3) {
        lab.dies(dying(left, |_, _| true));
        let is_done = exported(&lab);
        lab.dies(Disk::new());
        let version = of_adapter(&lab);
        was_old += u32::from(version == 1);
        assert!((1..=2).contains(&version) && (version == 2 || !is_done), "{left}");
        if is_done {
            break;
        }
    }
    assert!(was_old > 4, "the old one stayed {was_old} times");
    assert!(exported(&lab));
    let exports = lab.store().paths().root().join("exports");
    let names: Vec<String> = dlm_files::list(&exports).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["F16"]);
    assert_eq!(lab.store().verify().unwrap(), Vec::<String>::new());
}
