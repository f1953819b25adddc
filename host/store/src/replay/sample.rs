//! Weighted sampling of remembered sections without replacement.
//!
//! Invariants: pure; the same entries, time and seed give the same draw on every machine. **Source**: Efraimidis and
//! Spirakis, "Weighted random sampling with a reservoir" (2006), algorithm A.

use dlm_core::random::Rng;
use dlm_core::stamp::Stamp;

use super::index::IndexEntry;

/// No entry becomes rarer than this, so that nothing is forgotten for good.
const WEIGHT_MIN: f64 = 0.01;
const SECONDS_PER_DAY: f64 = 86_400.0;
/// Fewest entries drawn for a run on sections.
const SECTIONS_MIN: usize = 32;
/// Fewest entries drawn for a run on preferences.
const PREFERENCES_MIN: usize = 8;

/// How age counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleScheme {
    /// Weight over 1 + age in days.
    Recency,
    /// Weight alone.
    Uniform,
}

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleRequest {
    /// Number of entries to draw.
    pub count: usize,
    /// The present.
    pub now: Stamp,
    /// Run seed plus the manifest's adapter version.
    pub seed: i64,
    /// How age counts.
    pub scheme: SampleScheme,
}

/// Number of entries for a run with this many new sections.
pub fn section_count(new_sections: usize) -> usize {
    new_sections.saturating_mul(2).max(SECTIONS_MIN)
}

/// Number of entries for a preference run with this many preference rows.
pub fn preference_count(rows: usize) -> usize {
    rows.saturating_mul(2).max(PREFERENCES_MIN)
}

/// The sampling weight of an entry.
pub fn weight(entry: &IndexEntry, now: Stamp, scheme: SampleScheme) -> f64 {
    let age_seconds = (now.unix_seconds() - entry.added_at.unix_seconds()).max(0);
    let factor = match scheme {
        SampleScheme::Recency => 1.0 / (1.0 + age_seconds as f64 / SECONDS_PER_DAY),
        SampleScheme::Uniform => 1.0,
    };
    (entry.weight * factor).max(WEIGHT_MIN)
}

/// Draws entries and returns them by id; all of them when there are no more than asked for.
pub fn sample(entries: &[IndexEntry], request: &SampleRequest) -> Vec<IndexEntry> {
    let mut ordered: Vec<_> = entries.to_vec();
    ordered.sort_by(|left, right| left.section_id.cmp(&right.section_id));
    if request.count >= ordered.len() {
        return ordered;
    }
    let mut drawn = draw_order(entries, request);
    drawn.truncate(request.count);
    drawn.sort_by(|left, right| left.section_id.cmp(&right.section_id));
    drawn
}

/// Puts all entries into the order in which they are drawn; a draw of any number takes them from the front.
pub fn draw_order(entries: &[IndexEntry], request: &SampleRequest) -> Vec<IndexEntry> {
    let mut ordered: Vec<_> = entries.to_vec();
    ordered.sort_by(|left, right| left.section_id.cmp(&right.section_id));
    let mut random = Rng::new(request.seed as u64);
    let mut keyed: Vec<(f64, IndexEntry)> = ordered
        .into_iter()
        .map(|entry| {
            let key = random.unit_open().ln() / weight(&entry, request.now, request.scheme);
            (key, entry)
        })
        .collect();
    // The sort is stable, so equal keys keep the order of their ids.
    keyed.sort_by(|left, right| right.0.total_cmp(&left.0));
    keyed.into_iter().map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlm_core::{SectionId, SectionKind};

    const DAY_MS: i64 = 86_400_000;

    fn entry(number: i64, age_days: i64, weight: f64) -> IndexEntry {
        IndexEntry {
            section_id: SectionId::of_content(SectionKind::Prose, &number.to_string()),
            byte_offset: 0,
            length: 1,
            added_at: Stamp::from_unix_ms((1000 - age_days) * DAY_MS),
            weight,
        }
    }

    fn request(count: usize, seed: i64) -> SampleRequest {
        SampleRequest {
            count,
            now: Stamp::from_unix_ms(1000 * DAY_MS),
            seed,
            scheme: SampleScheme::Recency,
        }
    }

    #[test]
    fn weights_of_the_specification() {
        let now = request(1, 0).now;
        for (age, expected) in [(0, 1.0), (1, 0.5), (9, 0.1), (99, 0.01), (500, 0.01), (-5, 1.0)] {
            let found = weight(&entry(1, age, 1.0), now, SampleScheme::Recency);
            assert!((found - expected).abs() < 1e-12, "{age}: {found}");
            assert_eq!(weight(&entry(1, age, 1.0), now, SampleScheme::Uniform), 1.0);
        }
        assert_eq!(weight(&entry(1, 0, 0.0), now, SampleScheme::Uniform), 0.01);
    }

    #[test]
    fn counts_of_the_specification() {
        assert_eq!((section_count(0), section_count(16), section_count(17)), (32, 32, 34));
        assert_eq!(
            (preference_count(0), preference_count(4), preference_count(5)),
            (8, 8, 10)
        );
    }

    #[test]
    fn same_seed_same_draw_and_all_when_enough() {
        let entries: Vec<_> = (0..50).map(|number| entry(number, number, 1.0)).collect();
        let first = sample(&entries, &request(10, 7));
        assert_eq!(first, sample(&entries, &request(10, 7)));
        assert_ne!(first, sample(&entries, &request(10, 8)));
        assert_eq!(first.len(), 10);
        assert!(first.is_sorted_by(|left, right| left.section_id < right.section_id));
        assert_eq!(sample(&entries, &request(50, 7)).len(), 50);
        assert_eq!(sample(&entries, &request(99, 7)).len(), 50);
        assert_eq!(sample(&[], &request(5, 7)), []);
        let mut shuffled = entries.clone();
        shuffled.reverse();
        assert_eq!(
            first,
            sample(&shuffled, &request(10, 7)),
            "the order of the index does not matter"
        );
    }

    #[test]
    fn a_draw_takes_the_front_of_the_order() {
        let entries: Vec<_> = (0..50).map(|number| entry(number, number, 1.0)).collect();
        let order = draw_order(&entries, &request(0, 7));
        assert_eq!(order.len(), 50);
        for count in [1, 10, 49] {
            let mut front = order[..count].to_vec();
            front.sort_by(|left, right| left.section_id.cmp(&right.section_id));
            assert_eq!(sample(&entries, &request(count, 7)), front);
        }
    }

    /// With weights 1, 2 and 5 the first draw falls on each in proportion, within five standard deviations.
    #[test]
    fn draws_follow_the_weights() {
        const DRAWS: i64 = 20_000;
        let entries = [entry(0, 0, 1.0), entry(1, 0, 2.0), entry(2, 0, 5.0)];
        let mut hits = [0f64; 3];
        for seed in 0..DRAWS {
            let drawn = sample(&entries, &request(1, seed));
            let index = entries
                .iter()
                .position(|entry| *entry == drawn[0])
                .expect("one of them");
            hits[index] += 1.0;
        }
        for (hit, weight) in hits.iter().zip([1.0, 2.0, 5.0]) {
            let p: f64 = weight / 8.0;
            let deviation = (DRAWS as f64 * p * (1.0 - p)).sqrt();
            assert!((hit - DRAWS as f64 * p).abs() < 5.0 * deviation, "{hits:?}");
        }
    }
}
