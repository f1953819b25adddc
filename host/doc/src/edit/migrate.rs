//! Migration of a file's text: `dlm_version` is raised and `training.dpo` becomes `training.preference`, nothing else.
//!
//! Invariants: the body stays byte for byte; every key the author wrote stays, with its comments and its order; the
//! result reads as the same values.

use super::{EditError, lines};
use crate::document::{parse, read_tree};
use crate::findings::Findings;
use crate::frontmatter::{SCHEMA_VERSION, WrittenKeys};
use crate::limits::Limits;
use crate::migrate::{DPO_VERSION, HYPER_KEYS, KEPT_KEYS, dpo_entry, entry};
use crate::text;
use crate::yaml::{Kind, Node, Value, resolve};

/// A migrated text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigratedText {
    /// The whole file.
    pub text: String,
    /// The frontmatter of it, with both `---` lines, for `--dry-run`.
    pub frontmatter: String,
    /// The version it declared; equal to [`SCHEMA_VERSION`] when nothing had to change.
    pub from: u32,
}

/// Raises the text of a document to the current schema version; a current document comes back as it is.
///
/// **Errors**: the text does not parse; the old block shares YAML nodes with others.
pub fn migrate_text(source: &str) -> Result<MigratedText, EditError> {
    let before = parse(source).map_err(EditError::Source)?;
    let mut warnings = Findings::default();
    let normal = text::normalize(source, &mut warnings);
    let layout = text::split(&normal).map_err(|error| EditError::Source(error.into()))?;
    let from = before.declared_version;
    if from == SCHEMA_VERSION {
        return Ok(MigratedText {
            text: source.to_owned(),
            frontmatter: head(source, layout.closer_line),
            from,
        });
    }
    let root = read_tree(layout.yaml, &Limits::default())
        .map_err(|errors| EditError::Source(crate::ParseErrors { errors, warnings }))?;
    let yaml = Yaml::new(layout.yaml);
    let mut new_lines = yaml.lines.clone();
    let dpo = dpo_entry(&root).filter(|_| from <= DPO_VERSION);
    let version_at = version_node(&root).map(|node| node.pos);
    // The later place first, so that the earlier one keeps its line and column.
    let is_version_first = dpo.is_none_or(|(key, _)| version_at >= Some(key.pos));
    if is_version_first {
        edit_version(&yaml, &mut new_lines, &root);
    }
    if let Some((key, value)) = dpo {
        edit_dpo(&yaml, &mut new_lines, &root, key, value)?;
    }
    if !is_version_first {
        edit_version(&yaml, &mut new_lines, &root);
    }

    let text = assemble(source, layout.closer_line, &yaml.lines, &new_lines);
    let after = parse(&text).map_err(EditError::Result)?;
    let is_equal = values(after.frontmatter()) == values(before.frontmatter())
        && after
            .sections()
            .iter()
            .map(|s| s.id())
            .eq(before.sections().iter().map(|s| s.id()));
    if !is_equal || after.declared_version != SCHEMA_VERSION {
        return Err(EditError::FrontmatterChanges);
    }
    let closer_line = after.body_line - (before.body_line - layout.closer_line);
    Ok(MigratedText {
        frontmatter: head(&text, closer_line),
        text,
        from,
    })
}

fn values(frontmatter: &crate::Frontmatter) -> crate::Frontmatter {
    crate::Frontmatter {
        written: WrittenKeys::default(),
        ..frontmatter.clone()
    }
}

/// The file's lines 1 to `closer_line`, without a byte order mark and with LF.
fn head(text: &str, closer_line: usize) -> String {
    let end = lines::ranges(text)
        .get(closer_line - 1)
        .map_or(text.len(), |range| range.end);
    let mut head = dlm_core::section::normalize_newlines(&text[..end]);
    if !head.ends_with('\n') {
        head.push('\n');
    }
    head
}

/// The YAML text by lines, with the places of nodes in it.
struct Yaml {
    lines: Vec<String>,
}

impl Yaml {
    fn new(text: &str) -> Self {
        let text = text.strip_suffix('\n').unwrap_or(text);
        Yaml {
            lines: text.split('\n').map(str::to_owned).collect(),
        }
    }
}

/// Index among the YAML lines of a file line.
fn index_of(line: usize) -> usize {
    line - 2
}

/// Puts the new YAML lines into the source; a line that did not change keeps its own bytes and line end.
fn assemble(source: &str, closer_line: usize, old: &[String], new: &[String]) -> String {
    let ranges = lines::ranges(source);
    let newline = lines::newline_of(source);
    let body_from = ranges[closer_line - 1].start;
    let mut text = source[ranges[0].clone()].to_owned();
    let raw = |index: usize| &source[ranges[index + 1].clone()];
    let prefix = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let suffix_max = old.len().min(new.len()) - prefix;
    let suffix = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(suffix_max)
        .take_while(|(old, new)| old == new)
        .count();
    (0..prefix).for_each(|index| text.push_str(raw(index)));
    for line in &new[prefix..new.len() - suffix] {
        text.push_str(line);
        text.push_str(newline);
    }
    (old.len() - suffix..old.len()).for_each(|index| text.push_str(raw(index)));
    text.push_str(&source[body_from..]);
    text
}

/// Replaces part of a line, counted in characters from 0.
fn splice(line: &mut String, from: usize, len: usize, with: &str) {
    let tail: String = line.chars().skip(from + len).collect();
    *line = line.chars().take(from).chain(with.chars()).collect::<String>() + &tail;
}

/// The node at which the version is written: its value, or the id that it is put beside.
fn version_node(root: &Node) -> Option<&Node> {
    entry(root, "dlm_version")
        .map(|(_, value)| value)
        .or_else(|| entry(root, "dlm_id").map(|(key, _)| key))
}

fn edit_version(yaml: &Yaml, lines: &mut Vec<String>, root: &Node) {
    if let Some((_, value)) = entry(root, "dlm_version") {
        let at = index_of(value.pos.line);
        splice(
            &mut lines[at],
            value.pos.col - 1,
            node_text(value).chars().count(),
            &SCHEMA_VERSION.to_string(),
        );
        return;
    }
    let new = format!("dlm_version: {SCHEMA_VERSION}");
    let Some((key, value)) = entry(root, "dlm_id") else {
        return;
    };
    if root.is_flow(yaml) {
        splice(
            &mut lines[index_of(key.pos.line)],
            key.pos.col - 1,
            0,
            &format!("{new}, "),
        );
    } else {
        lines.insert(
            index_of(value.pos.line) + 1,
            format!("{}{new}", " ".repeat(key.pos.col - 1)),
        );
    }
}

fn node_text(node: &Node) -> &str {
    match &node.kind {
        Kind::Scalar { text, .. } => text,
        _ => "",
    }
}

impl Node {
    fn is_flow(&self, yaml: &Yaml) -> bool {
        let line = yaml.lines.get(index_of(self.pos.line));
        line.and_then(|line| line.chars().nth(self.pos.col - 1))
            .is_some_and(|c| matches!(c, '{' | '['))
    }

    fn is_tangled(&self) -> bool {
        self.is_shared
            || match &self.kind {
                Kind::Scalar { .. } => false,
                Kind::List(items) => items.iter().any(Node::is_tangled),
                Kind::Map(entries) => entries
                    .iter()
                    .any(|(key, value)| key.is_tangled() || value.is_tangled()),
            }
    }
}

fn edit_dpo(yaml: &Yaml, lines: &mut Vec<String>, root: &Node, key: &Node, value: &Node) -> Result<(), EditError> {
    let shared = EditError::SharedYaml { line: key.pos.line };
    let training = &entry(root, "training").ok_or(EditError::FrontmatterChanges)?.1;
    if key.is_tangled() || value.is_tangled() || training.is_shared {
        return Err(shared);
    }
    let at = index_of(key.pos.line);
    if resolve(value) == Value::Null {
        // `preference: {}` means the same as nothing and keeps `training` a mapping.
        let word = node_text(value).chars().count();
        if word > 0 && value.pos.line == key.pos.line {
            splice(&mut lines[at], value.pos.col - 1, word, "{}");
        } else {
            let colon = lines[at].chars().skip(key.pos.col - 1).position(|c| c == ':');
            let after = key.pos.col + colon.ok_or(EditError::FrontmatterChanges)?;
            splice(&mut lines[at], after, 0, " {}");
        }
        splice(
            &mut lines[at],
            key.pos.col - 1,
            node_text(key).chars().count(),
            "preference",
        );
        return Ok(());
    }
    let Kind::Map(children) = &value.kind else {
        return Err(EditError::FrontmatterChanges);
    };
    if let Some((old, _)) = entry(training, "preference") {
        if old.pos.line <= key.pos.line {
            return Err(EditError::FrontmatterChanges);
        }
        let (from, indent) = (index_of(old.pos.line), old.pos.col - 1);
        let end = block_end(lines, from + 1, indent + 1);
        lines.drain(from..end);
    }
    if value.is_flow(yaml) {
        return edit_flow(lines, key, value, children);
    }
    edit_block(lines, key, children)
}

/// Index of the first line from `from` on that holds YAML at less than `indent` blanks.
fn block_end(lines: &[String], from: usize, indent: usize) -> usize {
    let ends = |line: &String| {
        let trimmed = line.trim_start();
        !trimmed.is_empty() && !trimmed.starts_with('#') && line.len() - trimmed.len() < indent
    };
    let mut end = from + lines[from..].iter().position(ends).unwrap_or(lines.len() - from);
    // Comments and blank lines before what follows belong to it.
    while end > from && matches!(lines[end - 1].trim_start().chars().next(), None | Some('#')) {
        end -= 1;
    }
    end
}

fn edit_flow(lines: &mut [String], key: &Node, value: &Node, children: &[(Node, Node)]) -> Result<(), EditError> {
    let from = index_of(value.pos.line);
    let is_simple = |child: &Node| index_of(child.pos.line) == from && matches!(child.kind, Kind::Scalar { .. });
    if key.pos.line != value.pos.line || !children.iter().all(|(_, child)| is_simple(child)) {
        return Err(EditError::FrontmatterChanges);
    }
    let line: Vec<char> = lines[from].chars().collect();
    let source_of = |child: &Node| -> String {
        let text: String = line.iter().skip(child.pos.col - 1).take(child.chars.len()).collect();
        text.trim().to_owned()
    };
    let start = value.pos.col - 1;
    let last = children
        .last()
        .map_or(start, |(_, child)| child.pos.col - 1 + source_of(child).chars().count());
    let Some(length) = line
        .iter()
        .skip(last)
        .position(|c| *c == '}')
        .map(|at| last + at + 1 - start)
    else {
        return Err(EditError::FrontmatterChanges);
    };
    let mut kept = vec!["method: dpo".to_owned()];
    let mut hyper = Vec::new();
    for (key, child) in children {
        let name = node_text(key);
        if name == "reference" && node_text(child) == "pre_dpo_adapter" {
            kept.push("reference: pre_adapter".to_owned());
        } else if KEPT_KEYS.contains(&name) {
            kept.push(format!("{name}: {}", source_of(child)));
        } else if HYPER_KEYS.contains(&name) {
            hyper.push(format!("{name}: {}", source_of(child)));
        }
    }
    if !hyper.is_empty() {
        kept.push(format!("hyperparams: {{{}}}", hyper.join(", ")));
    }
    splice(&mut lines[from], start, length, &format!("{{{}}}", kept.join(", ")));
    splice(
        &mut lines[index_of(key.pos.line)],
        key.pos.col - 1,
        node_text(key).chars().count(),
        "preference",
    );
    Ok(())
}

/// Rewrites a block mapping line by line: comments above a key move with it.
fn edit_block(lines: &mut Vec<String>, key: &Node, children: &[(Node, Node)]) -> Result<(), EditError> {
    let Some((first, _)) = children.first() else {
        return Err(EditError::FrontmatterChanges);
    };
    let indent = " ".repeat(first.pos.col - 1);
    let key_at = index_of(key.pos.line);
    let end = block_end(lines, key_at + 1, first.pos.col - 1);
    splice(
        &mut lines[key_at],
        key.pos.col - 1,
        node_text(key).chars().count(),
        "preference",
    );
    let mut kept = vec![format!("{indent}method: dpo")];
    let mut hyper = Vec::new();
    let mut from = key_at + 1;
    for (index, (child_key, child)) in children.iter().enumerate() {
        let to = match children.get(index + 1) {
            Some((next, _)) => comment_start(lines, index_of(child_key.pos.line) + 1, index_of(next.pos.line)),
            None => end,
        };
        let mut chunk: Vec<String> = lines[from..to].to_vec();
        let name = node_text(child_key);
        if name == "reference" && node_text(child) == "pre_dpo_adapter" {
            let at = index_of(child.pos.line) - from;
            chunk[at] = chunk[at].replacen("pre_dpo_adapter", "pre_adapter", 1);
        }
        if HYPER_KEYS.contains(&name) {
            hyper.extend(
                chunk
                    .into_iter()
                    .map(|line| if line.is_empty() { line } else { format!("  {line}") }),
            );
        } else if KEPT_KEYS.contains(&name) {
            kept.extend(chunk);
        } else {
            kept.extend(chunk.into_iter().filter(|line| line.trim_start().starts_with('#')));
        }
        from = to;
    }
    if !hyper.is_empty() {
        kept.push(format!("{indent}hyperparams:"));
        kept.append(&mut hyper);
    }
    lines.splice(key_at + 1..end, kept);
    Ok(())
}

/// First line of the comments that stand directly above line `to`, but not before `from`.
fn comment_start(lines: &[String], from: usize, to: usize) -> usize {
    let mut at = to;
    while at > from && matches!(lines[at - 1].trim_start().chars().next(), None | Some('#')) {
        at -= 1;
    }
    at
}
