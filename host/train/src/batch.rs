//! Packs rows behind one shared copy of what they all begin with, without padding.
//!
//! Invariants: a step costs the tokens that exist; a row sees the shared beginning and itself, never another row; the
//! loss is the same as that of the rows one by one (tested in `dlm-model` and below).

use dlm_model::{Batch, Target};

use crate::rows::Row;

/// Shortest common beginning that is worth sharing; below it the extra segment costs more than it saves.
const SHARED_LEN_MIN: usize = 8;

/// A batch with its targets; `targets[i]` belongs to row `owners[i]`.
pub struct PackedBatch {
    pub batch: Batch,
    pub targets: Vec<Target>,
    /// For every target the index of its row.
    pub owners: Vec<usize>,
}

/// Packs the rows; target weights are multiplied by `scale`.
pub fn pack(rows: &[Row], scale: f32) -> PackedBatch {
    let shared = shared_prefix(rows);
    let prefix: &[u32] = shared.map_or(&[], |i| &rows[i].ids[..prefix_len(rows, i)]);
    let mut batch = Batch::default();
    let head = if prefix.is_empty() {
        0..0
    } else {
        batch.push(prefix, 0..0)
    };
    let (mut targets, mut owners) = (Vec::new(), Vec::new());
    for (owner, row) in rows.iter().enumerate() {
        let (used, after) = if row.ids.starts_with(prefix) {
            (prefix.len(), head.clone())
        } else {
            (0, 0..0)
        };
        let start = batch.len();
        if row.ids.len() > used {
            batch.push(&row.ids[used..], after);
        }
        for target in &row.targets {
            let at = if target.position < used {
                target.position
            } else {
                start + target.position - used
            };
            targets.push(Target {
                row: at,
                kind: target.kind.clone(),
                weight: target.weight * scale,
            });
            owners.push(owner);
        }
    }
    PackedBatch { batch, targets, owners }
}

/// Splits rows into groups of at most `limit` tokens each, keeping their order; `bond` consecutive rows stay together, and
/// those that are longer than the limit stand alone.
pub fn split_by_tokens(rows: Vec<Row>, limit: usize, bond: usize) -> Vec<Vec<Row>> {
    let mut groups: Vec<Vec<Row>> = Vec::new();
    let mut used = 0;
    let mut rows = rows.into_iter();
    loop {
        let mut bonded: Vec<Row> = rows.by_ref().take(bond).collect();
        if bonded.is_empty() {
            return groups;
        }
        let len: usize = bonded.iter().map(|row| row.ids.len()).sum();
        match groups.last_mut() {
            Some(group) if used + len <= limit => {
                used += len;
                group.append(&mut bonded);
            }
            _ => {
                used = len;
                groups.push(bonded);
            }
        }
    }
}

/// Sums the weights of all targets.
pub fn weight_sum(rows: &[Row]) -> f64 {
    rows.iter().flat_map(|r| &r.targets).map(|t| f64::from(t.weight)).sum()
}

/// Returns the row whose beginning is shared: the first one that another row agrees with for long enough.
fn shared_prefix(rows: &[Row]) -> Option<usize> {
    (0..rows.len()).find(|&i| prefix_len(rows, i) >= SHARED_LEN_MIN)
}

/// Returns how long a beginning row `i` shares with every row that shares at least the shortest useful one with it.
fn prefix_len(rows: &[Row], i: usize) -> usize {
    let partners: Vec<usize> = (0..rows.len())
        .filter(|&j| j != i)
        .map(|j| common(&rows[i].ids, &rows[j].ids))
        .filter(|&len| len >= SHARED_LEN_MIN)
        .collect();
    partners.into_iter().min().unwrap_or(0)
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use dlm_model::TargetKind;

    use super::*;
    use crate::rows::RowTarget;

    fn row(ids: &[u32]) -> Row {
        let targets = (1..ids.len())
            .map(|t| RowTarget {
                position: t - 1,
                kind: TargetKind::Token(ids[t]),
                weight: 1.0,
            })
            .collect();
        Row {
            ids: ids.to_vec(),
            targets,
        }
    }

    /// What the row's tokens are when read through its segments.
    fn seen(packed: &PackedBatch, index: usize) -> Vec<u32> {
        let s = &packed.batch.segments[index];
        let mut out = packed.batch.tokens[s.prefix.clone()].to_vec();
        out.extend_from_slice(&packed.batch.tokens[s.q.clone()]);
        out
    }

    #[test]
    fn a_shared_beginning_is_stored_once() {
        let head = [9, 8, 7, 6, 5, 4, 3, 2, 1];
        let make = |tail: &[u32]| row(&[&head[..], tail].concat());
        let rows = [make(&[10, 11]), row(&[50, 51]), make(&[12, 13, 14])];
        let packed = pack(&rows, 1.0);
        assert_eq!(packed.batch.tokens.len(), 9 + 2 + 2 + 3);
        assert_eq!(seen(&packed, 1), rows[0].ids);
        assert_eq!(seen(&packed, 2), rows[1].ids);
        assert_eq!(seen(&packed, 3), rows[2].ids);
        assert_eq!(packed.batch.positions[9..11], [9, 10]);
    }

    #[test]
    fn every_target_follows_its_input() {
        let rows = [row(&[1, 2, 3]), row(&[4, 5])];
        let packed = pack(&rows, 0.5);
        let got: Vec<(u32, f32)> = packed
            .targets
            .iter()
            .map(|t| (packed.batch.tokens[t.row], t.weight))
            .collect();
        assert_eq!(got, vec![(1, 0.5), (2, 0.5), (4, 0.5)]);
        assert_eq!(packed.owners, vec![0, 0, 1]);
    }

    #[test]
    fn groups_keep_order_and_limit() {
        let rows: Vec<Row> = (1..6).map(|n| row(&vec![n; n as usize])).collect();
        let groups = split_by_tokens(rows.clone(), 6, 1);
        let lens: Vec<Vec<usize>> = groups.iter().map(|g| g.iter().map(|r| r.ids.len()).collect()).collect();
        assert_eq!(lens, vec![vec![1, 2, 3], vec![4], vec![5]]);
        let pairs = split_by_tokens(rows, 11, 2);
        let lens: Vec<usize> = pairs.iter().map(Vec::len).collect();
        assert_eq!(lens, vec![4, 1]);
    }
}
