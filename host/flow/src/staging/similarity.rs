//! How alike two texts are: the ratio of Ratcliff and Obershelp.
//!
//! Invariants: the plain algorithm without popularity heuristics, on characters; texts are cut to a fixed length, so
//! that one comparison is bounded.

/// Texts are compared up to this many characters.
const CHARS_MAX: usize = 4096;
/// Two texts that are more alike than this count as the same.
pub const NEAR_DUPLICATE: f64 = 0.95;

/// The ratio `2 M / (|a| + |b|)`, where M counts the characters matched by taking the longest common block and going on
/// to its left and right. Two empty texts are alike.
///
/// **Cost**: the product of the lengths for each block that is taken.
pub fn ratio(a: &str, b: &str) -> f64 {
    let (a, b) = (cut(a), cut(b));
    share(matched(&a, &b, 0), a.len() + b.len())
}

/// Says whether [`ratio`] is above [`NEAR_DUPLICATE`]; most texts that differ are told apart without aligning them.
pub fn is_near_duplicate(a: &str, b: &str) -> bool {
    let (a, b) = (cut(a), cut(b));
    let total = a.len() + b.len();
    if share(a.len().min(b.len()), total) <= NEAR_DUPLICATE || share(common(&a, &b), total) <= NEAR_DUPLICATE {
        return false;
    }
    let needed = (NEAR_DUPLICATE * total as f64 / 2.0).floor() as usize;
    share(matched(&a, &b, needed), total) > NEAR_DUPLICATE
}

fn cut(text: &str) -> Vec<char> {
    text.chars().take(CHARS_MAX).collect()
}

fn share(matched: usize, total: usize) -> f64 {
    match total {
        0 => 1.0,
        total => 2.0 * matched as f64 / total as f64,
    }
}

/// Characters that both texts have, wherever they stand: never fewer than can be matched.
fn common(a: &[char], b: &[char]) -> usize {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    a.sort_unstable();
    b.sort_unstable();
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                (i, j, count) = (i + 1, j + 1, count + 1);
            }
        }
    }
    count
}

/// Counts the matched characters; gives up with fewer when no more than `needed` can be reached.
fn matched(a: &[char], b: &[char], needed: usize) -> usize {
    let mut open = vec![(a, b)];
    let mut bound = a.len().min(b.len());
    let mut count = 0;
    while let Some((a, b)) = open.pop() {
        bound -= a.len().min(b.len());
        let (at_a, at_b, length) = longest_block(a, b);
        if length > 0 {
            count += length;
            let left = (&a[..at_a], &b[..at_b]);
            let right = (&a[at_a + length..], &b[at_b + length..]);
            for (a, b) in [left, right] {
                if !a.is_empty() && !b.is_empty() {
                    bound += a.len().min(b.len());
                    open.push((a, b));
                }
            }
        }
        if count + bound <= needed && needed > 0 {
            return count;
        }
    }
    count
}

/// The longest common block: of equally long ones the first in `a`, then the first in `b`.
fn longest_block(a: &[char], b: &[char]) -> (usize, usize, usize) {
    let mut best = (0, 0, 0);
    // `before[j + 1]` is the length of the common block that ends before a[i] and at b[j].
    let (mut before, mut now) = (vec![0usize; b.len() + 1], vec![0usize; b.len() + 1]);
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            now[j + 1] = if x == y { before[j] + 1 } else { 0 };
            if now[j + 1] > best.2 {
                best = (i + 1 - now[j + 1], j + 1 - now[j + 1], now[j + 1]);
            }
        }
        std::mem::swap(&mut before, &mut now);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str, expected: f64) {
        assert!((ratio(a, b) - expected).abs() < 5e-4, "{a:?} {b:?}: {}", ratio(a, b));
        assert_eq!(is_near_duplicate(a, b), ratio(a, b) > NEAR_DUPLICATE, "{a:?} {b:?}");
    }

    /// Values of Python's `difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()`.
    #[test]
    fn ratios_of_the_reference_algorithm() {
        check("The cat sat on the mat.", "The cat sat on a mat.", 0.909);
        check("", "", 1.0);
        check("a", "", 0.0);
        check("abcd", "bcde", 0.75);
        check("WIKIMEDIA", "WIKIMANIA", 0.7778);
        check("private volatile", "private void", 0.7857);
        check("ä€𝄞", "ä€𝄞", 1.0);
    }

    #[test]
    fn long_texts_are_cut_and_decided_alike() {
        let long: String = (0..4000u32).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
        let mut other = long.clone();
        other.replace_range(100..140, &"-".repeat(40));
        assert!(is_near_duplicate(&long, &other));
        other.replace_range(1000..1400, &"-".repeat(400));
        assert!(!is_near_duplicate(&long, &other));
        // What lies beyond the cut does not count.
        let (a, b) = (
            format!("{}x", "s".repeat(CHARS_MAX)),
            format!("{}yyyyyy", "s".repeat(CHARS_MAX)),
        );
        assert_eq!(ratio(&a, &b), 1.0);
    }
}
