//! Examples and their tokens: made once, cut again where prose asks for it, counted for the plan.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;

use dlm_core::Hints;
use dlm_core::random::Rng;
use dlm_core::stamp::Stamp;
use dlm_core::training::{Checkpointing, MomentType};
use dlm_model::base::{OpenedBase, open_base};
use dlm_model::chat::{Message, Thinking};
use dlm_model::{AdapterKind, AdapterSpec};
use dlm_train::augment::Augment;
use dlm_train::dataset::{Entry, RowError};
use dlm_train::rows::question_messages;
use dlm_train::schedule::ScheduleKind;
use dlm_train::{
    Body, Dataset, DatasetOptions, Origin, Recipe, RowKind, Schedule, Source, SourceContent, Split, SplitRule,
    WarmupStart, run_digest,
};

/// A seed under which none of the first windows below is held out.
const SEED: i64 = 1;
const PROSE: &str = "The boat is at sea. It is Ann. The sum of 3 and 4 is 7. Where is the boat? It is at sea, and Ann \
                     is at sea. What is it? It is the boat. The boat is at sea. It is Ann.";

fn base() -> OpenedBase {
    open_base(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/arch/llama")).unwrap()
}

fn section(number: u64) -> Origin {
    Origin::Section {
        id: format!("{number:016}").parse().unwrap(),
        line: 7,
    }
}

fn replay(number: u64) -> Origin {
    Origin::Replay {
        id: format!("{number:016}").parse().unwrap(),
        last_seen: Stamp::from_unix_ms(1_776_623_414_000),
    }
}

fn pairs(origin: Origin, pairs: &[(&str, &str)]) -> Source {
    let own = |(question, answer): &(&str, &str)| ((*question).to_owned(), (*answer).to_owned());
    Source {
        origin,
        content: SourceContent::Pairs(pairs.iter().map(own).collect()),
        is_synthesized: false,
    }
}

fn prose(origin: Origin, text: &str) -> Source {
    Source {
        origin,
        content: SourceContent::Prose(text.to_owned()),
        is_synthesized: false,
    }
}

fn sources() -> Vec<Source> {
    vec![
        pairs(
            section(1),
            &[("Who is it?", "It is Ann."), ("Where is the boat?", "At sea.")],
        ),
        prose(section(2), PROSE),
    ]
}

fn options(window: usize) -> DatasetOptions {
    DatasetOptions {
        system_prompt: None,
        window,
        split: SplitRule::new(SEED, false, &[]),
    }
}

fn dataset(base: &OpenedBase, window: usize) -> Dataset {
    Dataset::new(sources(), options(window), base.text()).unwrap()
}

#[test]
fn a_row_is_what_the_base_renders() {
    let base = base();
    let dataset = dataset(&base, 4096);
    assert_eq!(dataset.len(), 3);
    let mut messages = question_messages(None, "Who is it?");
    messages.push(Message::assistant("It is Ann."));
    let rendered = base.text().answer_row(&messages, Thinking::default()).unwrap();
    let row = dataset.row(0, 0.5);
    assert_eq!(row.ids, rendered.ids[..rendered.loss.end]);
    let learned: Vec<usize> = row.targets.iter().map(|target| target.position + 1).collect();
    assert_eq!(learned, rendered.loss.collect::<Vec<_>>());
    assert!(row.targets.iter().all(|target| target.weight == 1.0));
    let row = dataset.row(2, 0.5);
    assert_eq!(row.ids, base.text().prose_row(PROSE).unwrap().ids);
    assert!(row.targets.iter().all(|target| target.weight == 0.5));
    let kinds: Vec<RowKind> = dataset.examples().map(|example| example.kind()).collect();
    assert_eq!(kinds, [RowKind::Sft, RowKind::Sft, RowKind::Cpt]);
}

#[test]
fn the_repeated_beginning_of_a_window_is_read_and_not_learned() {
    let base = base();
    let dataset = dataset(&base, 64);
    let mut repeated = 0;
    for index in 2..dataset.len() {
        let example = dataset.example(index);
        assert_eq!(example.index as usize, index - 2);
        let Body::Prose { text, context } = &example.body else {
            panic!("{example:?}");
        };
        let whole = base.text().prose_row(text).unwrap();
        let row = dataset.row(index, 1.0);
        assert_eq!(row.ids, whole.ids);
        assert!(row.ids.len() <= 64);
        let (_, spans) = base.text().tokenizer.encode_with_spans(text).unwrap();
        let read = spans.iter().filter(|(_, end)| end <= context).count();
        let bos = usize::from(base.text().tokenizer.specials.add_bos);
        // Without a context the first target is the second token of the row.
        assert_eq!(row.targets[0].position + 1, (read + bos).max(1));
        repeated += usize::from(*context > 0);
    }
    assert!(repeated > 0, "no window begins with the end of the one before");
}

#[test]
fn another_window_cuts_the_prose_again_and_leaves_the_pairs() {
    let base = base();
    let mut dataset = dataset(&base, 4096);
    dataset.rehearse(vec![entry(&dataset, &base, &pairs(replay(9), &[("What?", "That.")]))]);
    let before: Vec<_> = (0..2).map(|i| dataset.row(i, 1.0)).collect();
    dataset.rewindow(64, base.text()).unwrap();
    assert_eq!(dataset.window(), 64);
    let fresh = self::dataset(&base, 64);
    assert!(dataset.len() > 3 && dataset.examples().eq(fresh.examples()));
    for index in 0..dataset.len() {
        assert_eq!(dataset.row(index, 1.0), fresh.row(index, 1.0));
    }
    assert_eq!(before, [dataset.row(0, 1.0), dataset.row(1, 1.0)]);
    assert!(dataset.examples().all(|example| !example.origin.is_replay()));
}

fn entry(dataset: &Dataset, base: &OpenedBase, source: &Source) -> Entry {
    dataset.entries_of(source, base.text()).next().unwrap().unwrap()
}

#[test]
fn rehearsed_entries_stand_behind_the_documents_and_are_counted_apart() {
    let base = base();
    let mut dataset = dataset(&base, 4096);
    let alone = dataset.facts();
    let own = dataset.own_tokens();
    for question in ["What?", "Who?"] {
        let entry = entry(&dataset, &base, &pairs(replay(9), &[(question, "That.")]));
        dataset.rehearse(vec![entry]);
    }
    assert_eq!((dataset.len(), dataset.own_tokens()), (4, own));
    let last = dataset.example(3);
    assert_eq!(last.origin.to_string(), "replay:0000000000000009:2026-04-19T18:30:14");
    assert!(matches!(&last.body, Body::Pair { question, .. } if question == "Who?"));
    let both = dataset.facts();
    assert_eq!((both.replay_rows, both.instruction_rows), (1, 2));
    assert_eq!(both.instruction_tokens, alone.instruction_tokens);

    // What all pairs begin with is counted once, of the rehearsed ones too.
    let len = |index: usize| dataset.row(index, 1.0).ids.len() as u64;
    assert_eq!(
        alone.instruction_tokens + 2 * alone.shared_prefix_tokens,
        len(0) + len(1)
    );
    assert_eq!(
        alone.instruction_tokens_max + alone.shared_prefix_tokens,
        len(0).max(len(1))
    );
    assert!(alone.shared_prefix_tokens > 0 && both.replay_tokens <= len(3) - alone.shared_prefix_tokens);
    assert_eq!((alone.prose_sections, alone.prose_tokens), (1, len(2)));
}

#[test]
fn pairs_by_hand_are_held_out_when_they_are_many_and_the_author_asks() {
    let base = base();
    let many: Vec<Source> = (0..64)
        .map(|i| pairs(section(i), &[("Who is it?", "It is Ann.")]))
        .collect();
    let held_out = |wants_pairs: bool, sources: &[Source]| {
        let split = SplitRule::new(SEED, wants_pairs, sources);
        let options = DatasetOptions { split, ..options(64) };
        let dataset = Dataset::new(sources.to_vec(), options, base.text()).unwrap();
        dataset.indices(Split::Validation).len()
    };
    assert!(held_out(true, &many) > 0);
    assert_eq!(held_out(false, &many), 0);
    assert_eq!(held_out(true, &many[..63]), 0);
    let synthesized = |source: &Source| Source {
        is_synthesized: true,
        ..source.clone()
    };
    let synthesized: Vec<Source> = many.iter().map(synthesized).collect();
    assert_eq!(held_out(false, &synthesized), held_out(true, &many));
}

#[test]
fn a_document_that_would_be_held_out_whole_is_trained() {
    let base = base();
    // Some of these windows are on the validation side; alone, each trains.
    let of = |sources: Vec<Source>| Dataset::new(sources, options(4096), base.text()).unwrap();
    let all: Vec<Source> = (0..40).map(|i| prose(section(i), "The boat is at sea.")).collect();
    let held_out = of(all.clone()).indices(Split::Validation);
    assert!(!held_out.is_empty() && held_out.len() < 40);
    let only = of(vec![all[held_out[0]].clone()]);
    assert_eq!((only.indices(Split::Validation).len(), only.len()), (0, 1));
}

#[test]
fn a_row_that_is_too_long_and_an_empty_answer_are_refused_by_their_place() {
    let base = base();
    let dataset = dataset(&base, 4096);
    let longest = (0..3).map(|i| dataset.row(i, 1.0).ids.len()).max().unwrap();
    assert!(dataset.check_lengths(longest, longest).is_ok());
    let error = dataset.check_lengths(longest - 1, longest).unwrap_err();
    assert!(matches!(&error, RowError::TooLong { line: 7, pair: 1, .. }), "{error}");
    assert!(
        error.hints()[0].contains("training.sequence_len"),
        "{:?}",
        error.hints()
    );
    // No setting helps where the base itself reads no more.
    let error = dataset.check_lengths(longest - 1, longest - 1).unwrap_err();
    assert!(error.to_string().contains("the base reads"), "{error}");
    assert!(!error.hints()[0].contains("sequence_len"), "{:?}", error.hints());
}

#[test]
fn rewording_changes_questions_alone() {
    let base = base();
    let dataset = dataset(&base, 4096);
    let augment = Augment {
        share: 0.7,
        drop_function: 0.3,
        drop_content: 0.1,
    };
    let (mut reworded, mut unchanged) = (0, 0);
    for visit in 0..40 {
        let row = |index: usize, longest: usize| {
            let mut rng = Rng::stream(1, "test", &[visit]);
            dataset
                .reworded(index, base.text(), &augment, longest, &mut rng)
                .unwrap()
        };
        assert_eq!(row(2, 4096), None, "prose has no question");
        assert_eq!(row(0, 8), None, "too long is as written");
        match row(0, 4096) {
            Some(row) => {
                let written = dataset.row(0, 1.0);
                assert_ne!(row.ids, written.ids);
                assert_eq!(row.targets.len(), written.targets.len());
                reworded += 1;
            }
            None => unchanged += 1,
        }
    }
    assert!(reworded > 10 && unchanged > 2, "{reworded} and {unchanged}");
}

/// The digest changes with what a step does, and only then: a state that an earlier build kept goes on in the same steps, or
/// not at all. It last changed with `steps_min`, together with how questions are reworded and anchors are asked.
#[test]
fn the_digest_of_a_run_is_that_of_earlier_builds_with_the_same_steps() {
    let base = base();
    let mut dataset = dataset(&base, 4096);
    let entry = entry(&dataset, &base, &pairs(replay(9), &[("What?", "\"That.\"")]));
    dataset.rehearse(vec![entry]);
    let recipe = Recipe {
        seed: 5,
        lr: 5e-3,
        schedule: Schedule::new(ScheduleKind::Cosine, 12, 0.1, WarmupStart::First),
        rows_per_step: 3,
        batch_tokens_max: 4096,
        clip: Some(1.0),
        weight_decay: 0.0,
        moments: MomentType::F32,
        augment: None,
        noise_share: 0.2,
        clean_share: 0.2,
        anchors_per_step: 2,
        anchor_weight: 1.5,
        loss_stop: Some(0.01),
        steps_min: 0,
        eval_every: 4,
        eval_patience: 3,
        obeys_eval: false,
        checkpointing: Checkpointing::default(),
        system_prompt: Some("Be brief.".to_owned()),
        sequence_len_max: 512,
        prose_weight: 0.5,
        preference: None,
    };
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        r: 4,
        alpha: 8.0,
        dropout: 0.1,
        targets: vec!["all-linear".into()],
    };
    assert_eq!(run_digest(&recipe, &dataset, &spec, "base"), DIGEST);
}

/// SHA-256 of the text that the first version hashed for these rows.
const DIGEST: &str = "9e728b92182739405e134dea7d6814cc7eb66cd8c019b27644bbf5215982fe2c";
