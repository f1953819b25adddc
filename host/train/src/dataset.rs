//! The rows of a run, made once: examples with their origin, their side of the split and their tokens.
//!
//! Invariants: an example is tokenized when it enters the dataset and never again, save where its question is reworded; the
//! document's own examples come first, in the document's order, those of earlier versions after them; pairs survive a
//! change of the window untouched.

mod example;
mod facts;

use dlm_core::random::Rng;
use dlm_model::text::{LossRow, TextModel};
use dlm_plan::train::recipe::PROSE_OVERLAP;

pub(crate) use example::Place;
pub use example::{Body, Example, Origin, RowError, SPLIT_PAIRS_MIN, Source, SourceContent, Split, SplitRule};

use crate::augment::{Augment, Questions, reword};
use crate::rows::{Row, RowKind, answer_tokens};
use crate::windows::windows;

/// How sections become examples, and examples tokens.
#[derive(Clone, Debug)]
pub struct DatasetOptions {
    /// Rendered as the system turn; `None` leaves the template's own default.
    pub system_prompt: Option<String>,
    /// Tokens of a window of prose.
    pub window: usize,
    pub split: SplitRule,
}

/// An example with its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub example: Example,
    pub tokens: LossRow,
}

/// All examples of a run.
#[derive(Clone, Debug)]
pub struct Dataset {
    options: DatasetOptions,
    /// The document's sections; their prose is what [`Dataset::rewindow`] cuts again.
    sources: Vec<Source>,
    entries: Vec<Entry>,
    /// Entries that are the document's own.
    own: usize,
    /// What all entries ask, for rewordings.
    questions: Questions,
}

impl Dataset {
    /// Makes the examples of a document's sections and tokenizes each.
    ///
    /// **Errors:** an answer without a token, text that cannot be encoded.
    pub fn new(sources: Vec<Source>, options: DatasetOptions, text: &TextModel) -> Result<Self, RowError> {
        let mut dataset = Self {
            options,
            sources,
            entries: Vec::new(),
            own: 0,
            questions: Questions::default(),
        };
        dataset.fill(text)?;
        Ok(dataset)
    }

    /// Cuts the document's prose into windows of another length; its pairs stay as they are, and what was rehearsed is
    /// dropped, because how much is rehearsed depends on the document's tokens.
    ///
    /// **Errors:** as [`Dataset::new`].
    pub fn rewindow(&mut self, window: usize, text: &TextModel) -> Result<(), RowError> {
        self.options.window = window;
        self.fill(text)
    }

    /// Makes the document's entries; pairs that were tokenized before are taken over.
    fn fill(&mut self, text: &TextModel) -> Result<(), RowError> {
        self.entries.truncate(self.own);
        let old = std::mem::take(&mut self.entries);
        let mut pairs = old.into_iter().filter(|entry| entry.example.kind() == RowKind::Sft);
        for source in &self.sources {
            for example in self.options.examples(source, text) {
                let known = match example.body {
                    Body::Pair { .. } => pairs.next(),
                    Body::Prose { .. } => None,
                };
                self.entries.push(match known {
                    Some(entry) => Entry {
                        example,
                        tokens: entry.tokens,
                    },
                    None => self.options.entry(example, text)?,
                });
            }
        }
        self.own = self.entries.len();
        let mut examples = self.entries.iter_mut().map(|entry| &mut entry.example);
        // A document whose every row would be for validation teaches nothing; then all of them train.
        if examples.all(|example| example.split == Split::Validation) {
            self.entries
                .iter_mut()
                .for_each(|entry| entry.example.split = Split::Train);
        }
        self.collect_questions();
        Ok(())
    }

    fn collect_questions(&mut self) {
        let pairs = self.entries.iter().filter_map(|entry| match &entry.example.body {
            Body::Pair { question, answer } => Some((question.as_str(), answer.as_str())),
            Body::Prose { .. } => None,
        });
        self.questions = Questions::new(pairs);
    }

    /// Makes the entries of a section of an earlier version as the document's are made; they join by
    /// [`Dataset::rehearse`].
    ///
    /// **Errors** belong to single entries: what was fitting once need not fit this base.
    pub fn entries_of<'a>(
        &'a self,
        source: &Source,
        text: &'a TextModel,
    ) -> impl Iterator<Item = Result<Entry, RowError>> + 'a {
        let examples = self.options.examples(source, text);
        examples.into_iter().map(|example| self.options.entry(example, text))
    }

    /// Puts entries of earlier versions behind the document's own, in the place of those that were there.
    pub fn rehearse(&mut self, entries: Vec<Entry>) {
        self.entries.truncate(self.own);
        self.entries.extend(entries);
        self.collect_questions();
    }

    /// Tokens of a window of prose.
    pub fn window(&self) -> usize {
        self.options.window
    }

    /// Tokens of the document's own examples on the training side.
    pub fn own_tokens(&self) -> usize {
        let own = self.entries[..self.own].iter();
        own.filter(|entry| entry.example.split == Split::Train)
            .map(|entry| entry.tokens.ids.len())
            .sum()
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Lists every example.
    pub fn examples(&self) -> impl Iterator<Item = &Example> {
        self.entries.iter().map(|entry| &entry.example)
    }

    /// Returns one example.
    pub fn example(&self, index: usize) -> &Example {
        &self.entries[index].example
    }

    /// Lists the indices of the examples on one side of the split.
    pub fn indices(&self, split: Split) -> Vec<usize> {
        let is_there = |index: &usize| self.example(*index).split == split;
        (0..self.len()).filter(is_there).collect()
    }

    /// Refuses an example that is longer than a row may be; `readable` is what the base reads at most.
    ///
    /// **Errors** name the first one.
    pub fn check_lengths(&self, sequence_len_max: usize, readable: usize) -> Result<(), RowError> {
        let check = |entry: &Entry| {
            let tokens = entry.tokens.ids.len();
            entry.example.place().check_length(tokens, sequence_len_max, readable)
        };
        self.entries.iter().try_for_each(check)
    }

    /// Returns an example's row as it is written.
    pub fn row(&self, index: usize, prose_weight: f32) -> Row {
        self.entries[index].row(prose_weight)
    }

    /// Returns a pair's row with its question reworded by `rng`; none where the question stays as it is, the reworded row
    /// would be longer than `sequence_len_max`, or the example is no pair.
    ///
    /// **Errors:** text that cannot be encoded.
    pub fn reworded(
        &self,
        index: usize,
        text: &TextModel,
        augment: &Augment,
        sequence_len_max: usize,
        rng: &mut Rng,
    ) -> Result<Option<Row>, RowError> {
        let example = self.example(index);
        let Body::Pair { question, answer } = &example.body else {
            return Ok(None);
        };
        let changed = reword(question, answer, &self.questions, augment, rng);
        if changed == *question {
            return Ok(None);
        }
        let tokens = answer_tokens(self.options.system_prompt.as_deref(), &changed, answer, text);
        let tokens = tokens.map_err(|cause| example.place().text_error(cause))?;
        if tokens.loss.is_empty() {
            return Err(example.place().empty_answer());
        }
        let fits = tokens.ids.len() <= sequence_len_max;
        Ok(fits.then(|| Row::new(&tokens, PAIR_WEIGHT)))
    }
}

/// Weight of a token of an answer; that of running text is the recipe's.
const PAIR_WEIGHT: f32 = 1.0;

impl Entry {
    /// Returns the row as it is written.
    pub fn row(&self, prose_weight: f32) -> Row {
        let weight = match self.example.kind() {
            RowKind::Sft => PAIR_WEIGHT,
            RowKind::Cpt => prose_weight,
        };
        Row::new(&self.tokens, weight)
    }
}

impl DatasetOptions {
    /// Cuts a section into examples, each on its side of the split.
    fn examples(&self, source: &Source, text: &TextModel) -> Vec<Example> {
        let bodies: Vec<Body> = match &source.content {
            SourceContent::Pairs(pairs) => pairs
                .iter()
                .map(|(question, answer)| Body::Pair {
                    question: question.clone(),
                    answer: answer.clone(),
                })
                .collect(),
            SourceContent::Prose(prose) => self.cut(prose, text),
        };
        let example = |(index, body)| Example {
            origin: source.origin.clone(),
            index: index as u32,
            split: self.split.side(source, index, &body),
            body,
        };
        bodies.into_iter().enumerate().map(example).collect()
    }

    fn cut(&self, prose: &str, text: &TextModel) -> Vec<Body> {
        // A text that cannot be encoded is refused when its row is made, with the section's name.
        let count = |piece: &str| text.text_ids(piece).map_or(usize::MAX, |ids| ids.len());
        // The tokens that a row has beside its text.
        let around = text.prose_row("").map_or(0, |row| row.ids.len());
        let limit = self.window.saturating_sub(around).max(1);
        let overlap = (limit as f64 * PROSE_OVERLAP) as usize;
        let body = |window: crate::windows::Window| Body::Prose {
            text: window.text,
            context: window.context,
        };
        windows(prose, limit, overlap, &count).into_iter().map(body).collect()
    }

    /// Tokenizes an example.
    fn entry(&self, example: Example, text: &TextModel) -> Result<Entry, RowError> {
        let tokens = match &example.body {
            Body::Pair { question, answer } => answer_tokens(self.system_prompt.as_deref(), question, answer, text),
            Body::Prose { text: prose, context } => text.prose_row_after(prose, *context),
        };
        let tokens = tokens.map_err(|cause| example.place().text_error(cause))?;
        if tokens.loss.is_empty() && example.kind() == RowKind::Sft {
            return Err(example.place().empty_answer());
        }
        Ok(Entry { example, tokens })
    }
}
